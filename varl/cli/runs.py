"""What is done with a run that is there: `varl eval`, `varl rollout`, `varl render` and `varl export`."""

import pathlib

from varl import files
from varl.cli.shared import COUNT, SEED, command, run_directory


def evaluate(tokens: list[str]) -> int:
  """`varl eval`: a run's policy, evaluated."""
  parser = command(
    "eval",
    """  varl eval runs/pendulum
  varl eval runs/pendulum --episodes 100 --stochastic""",
  )
  parser.add_argument("out", metavar="OUT", help="directory of the run")
  parser.add_argument("--episodes", type=COUNT, default=32, metavar="N", help="in parallel (default: 32)")
  parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
  parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="of the evaluation's key (default: 0)")
  arguments = parser.parse(tokens)
  run_directory(arguments.out)
  from varl.run import inspect

  metrics = inspect.evaluate(
    arguments.out, episodes=arguments.episodes, stochastic=arguments.stochastic, seed=arguments.seed
  )
  for name, value in metrics.items():
    print(f"{name} {value:.6g}")
  return 0


def rollout(tokens: list[str]) -> int:
  """`varl rollout`: episodes of a run's policy, written as demonstrations."""
  parser = command(
    "rollout",
    """  varl rollout runs/pendulum --out demos.npz
  varl rollout runs/pendulum --episodes 25 --stochastic --out demos.npz""",
    description="Write episodes of a run's policy as demonstrations, for algorithms that take --demonstrations FILE.",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE.npz", help="the file to write")
  parser.add_argument("--overwrite", action="store_true", help="replace a file that has this name")
  parser.add_argument("--episodes", type=COUNT, default=10, metavar="N", help="in parallel (default: 10)")
  parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
  parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="of the episodes' key (default: 0)")
  arguments = parser.parse(tokens)
  path = pathlib.Path(arguments.out)
  if path.suffix != ".npz":
    raise ValueError(f"demonstrations are a file FILE.npz, got {arguments.out!r}")
  files.check_new(path, overwrite=arguments.overwrite and path.is_file())
  run_directory(arguments.run)
  from varl import demonstrations
  from varl.run import inspect

  found = inspect.rollout(
    arguments.run, episodes=arguments.episodes, stochastic=arguments.stochastic, seed=arguments.seed
  )
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    demonstrations.save(path, found)
  except OSError as error:
    raise ValueError(f"cannot write {path}: {error.strerror}") from None
  returns = found.returns
  print(f"{path}: {len(found.obs)} transitions, {found.episodes} episodes, mean return {returns.mean():.2f}")
  return 0


def render(tokens: list[str]) -> int:
  """`varl render`: an episode as a page or a film."""
  parser = command(
    "render",
    """  varl render runs/pendulum --out episode.html
  varl render runs/pendulum --out films/seed1.gif --seed 1""",
    description="Write an episode of a run's policy as an HTML page, which any browser plays without a network (Brax "
    "environments), or as a film, GIF or MP4 (all environments that can be drawn).",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE", help="FILE.html, FILE.gif or FILE.mp4")
  parser.add_argument("--overwrite", action="store_true", help="replace any file, not only another page of varl's")
  parser.add_argument("--width", type=COUNT, default=480, metavar="PIXELS", help="of a film (default: 480)")
  parser.add_argument("--fps", type=float, metavar="X", help="a film's pictures a second (default: real time, to 30)")
  parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="of the episode's key (default: 0)")
  arguments = parser.parse(tokens)
  from varl.report import film

  film.check(arguments.out, overwrite=arguments.overwrite, width=arguments.width, fps=arguments.fps)
  run_directory(arguments.run)
  film.choose_opengl(arguments.out)
  from varl.run import inspect

  length, total = inspect.render(
    arguments.run, arguments.out, seed=arguments.seed, overwrite=arguments.overwrite, width=arguments.width,
    fps=arguments.fps,
  )  # fmt: skip
  print(f"{arguments.out}: {length} steps, return {total:.2f}")
  return 0


def export(tokens: list[str]) -> int:
  """`varl export`: a run's policy as one file."""
  parser = command(
    "export",
    """  varl export runs/pendulum --out policy.jax
  varl export runs/pendulum --out policy.onnx
  varl export runs/pendulum --out policy.jax --stochastic""",
    description="Write a run's policy as one file: a program that JAX alone runs (.jax), ONNX (.onnx, with the extra "
    "varl[onnx]), or its arrays (.npz). It takes observations as the environment gives them and gives actions in its "
    "own units.",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE", help="the file to write")
  parser.add_argument("--format", choices=["jax", "onnx", "npz"], help="of the file (default: by its ending)")
  parser.add_argument("--overwrite", action="store_true", help="replace a file that has this name")
  parser.add_argument("--stochastic", action="store_true", help="a policy that explores, and takes a key")
  parser.add_argument("--batch", type=COUNT, metavar="N", help="rows, for policies that have to know how many")
  arguments = parser.parse(tokens)
  from varl.run import artifact

  kind = artifact.check(arguments.out, arguments.format)
  path = files.check_new(arguments.out, overwrite=arguments.overwrite)
  directory = pathlib.Path(arguments.run)
  if not (directory / "policy").is_dir():  # of a run, or the best one of a population
    run_directory(arguments.run)
  try:
    artifact.export(directory, path, format=kind, stochastic=arguments.stochastic, batch=arguments.batch)
  except OSError as error:
    raise ValueError(f"cannot write {path}: {error.strerror}") from None
  print(f"{path}: {path.stat().st_size:,} bytes")
  return 0
