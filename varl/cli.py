"""The command line: `varl train | resume | eval | render | list | presets | doctor`.

Parsing comes first and imports nothing heavy: a mistyped name is answered at once.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

from varl import __version__, agents
from varl.envs import catalog, registry
from varl.loop.settings import check_given


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit status (0, 1 for a run that failed, 2 for bad input)."""
  if argv is None and "" not in sys.path:
    sys.path.insert(0, "")  # as under `python -m varl`: package.module:factory of the working directory
  argv = list(sys.argv[1:] if argv is None else argv)
  warnings.showwarning = _show_warning
  try:
    try:
      arguments, rest = _parser().parse_known_args(argv)
      if rest and arguments.command != "train":
        raise ValueError(f"varl {arguments.command} takes no {' '.join(rest)}; see `varl {arguments.command} --help`")
      return _COMMANDS[arguments.command](arguments, rest)
    finally:
      sys.stdout.flush()  # here, where a pipe that is closed can still be answered
  except BrokenPipeError:  # whoever read the output has seen enough, as in `varl list | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    return 1
  except ValueError as error:
    print(f"varl: error: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("varl: interrupted", file=sys.stderr)
    return 130
  except (OSError, RuntimeError) as error:
    print(f"varl: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
  """argparse, whose errors are ours: one line, exit status 2."""

  def error(self, message: str) -> Any:
    raise ValueError(message)


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(prog="varl", description="Variational reinforcement learning in JAX.")
  parser.add_argument("--version", action="version", version=f"varl {__version__}")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

  train = commands.add_parser(
    "train",
    help="train an algorithm on an environment",
    description="Train an algorithm on an environment, from its tuned preset. "
    "`varl train ALGORITHM --env ENV --help` lists every setting with the value it has there.",
    add_help=False,
  )
  train.add_argument(
    "algorithm", nargs="?", metavar="ALGORITHM", help=f"one of: {', '.join(agents.names())}; or package.module:factory"
  )
  train.add_argument("--env", help="an environment (`varl list`), or package.module:factory")
  train.add_argument("--backend", help="physics backend of a Brax environment")
  train.add_argument("--seed", type=int, default=0)
  train.add_argument("--out", help="directory of the run (default: runs/ALGORITHM-ENV-seedN)")
  train.add_argument("--overwrite", action="store_true", help="replace the run that OUT holds")
  train.add_argument("--no-preset", action="store_true", help="start from the bare defaults")
  train.add_argument("-h", "--help", action="store_true", help="show this help, and every setting once ENV is given")

  resume = commands.add_parser("resume", help="go on with an interrupted run, or extend a finished one")
  resume.add_argument("out", metavar="OUT")
  resume.add_argument(
    "--num-timesteps", type=int, help="environment steps in all (default: as the run was started with)"
  )

  evaluate = commands.add_parser("eval", help="evaluate a run's policy")
  evaluate.add_argument("out", metavar="OUT")
  evaluate.add_argument("--episodes", type=int, default=32)
  evaluate.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
  evaluate.add_argument("--seed", type=int, default=0)

  render = commands.add_parser("render", help="write an episode as an HTML page (Brax environments)")
  render.add_argument("run", metavar="OUT")
  render.add_argument("--out", required=True, metavar="FILE.html")
  render.add_argument("--seed", type=int, default=0)

  commands.add_parser("list", help="algorithms and environments")
  presets = commands.add_parser("presets", help="the tuned settings")
  presets.add_argument("algorithm", nargs="?", metavar="ALGORITHM")
  commands.add_parser("doctor", help="versions, devices, and what is wrong with them")
  train.set_defaults(parser=train)
  return parser


def _train(arguments: argparse.Namespace, rest: list[str]) -> int:
  if arguments.algorithm is None or (arguments.help and arguments.env is None):
    if not arguments.help:
      raise ValueError(f"varl train needs an algorithm: {', '.join(agents.names())}")
    arguments.parser.print_help()
    return 0
  agents.check_name(arguments.algorithm)
  if arguments.env is None:
    raise ValueError("varl train needs --env; `varl list` shows the environments")
  registry.check_name(arguments.env, arguments.backend)

  from varl.run import configure

  run = configure.resolve(
    arguments.algorithm,
    arguments.env,
    backend=arguments.backend,
    seed=arguments.seed,
    preset=not arguments.no_preset,
  )
  run = _flags(run, ["--help"] if arguments.help else rest)

  from varl.run.progress import Console
  from varl.run.training import train

  out = arguments.out or f"runs/{run.algorithm}-{run.env}-seed{run.seed}".replace(":", ".")
  values = {**dataclasses.asdict(run.config), **dataclasses.asdict(run.settings)}
  report = Console()
  try:
    done = train(
      run.algorithm,
      run.env,
      seed=run.seed,
      backend=run.backend,
      out=out,
      overwrite=arguments.overwrite,
      preset=False,
      report=report,
      **values,
    )
  finally:
    report.close()
  return 0 if done.finished else 130


def _flags(run: Any, rest: list[str]) -> Any:
  """Typed flags for every field of the algorithm's Config and of Settings, the preset's values as defaults."""
  import tyro

  parts = {"config": run.config, "settings": run.settings}
  fields = [
    (name, Annotated[type(part), tyro.conf.OmitArgPrefixes], dataclasses.field(default=part))
    for name, part in parts.items()
  ]
  flags = dataclasses.make_dataclass("Flags", fields)
  flags.__doc__ = f"Settings of {run.algorithm} on {run.env}; the defaults shown are its preset's."
  prog = f"varl train {run.algorithm} --env {run.env} [--seed --backend --out --overwrite --no-preset]"
  errors = io.StringIO()
  try:
    with contextlib.redirect_stderr(errors):
      parsed: Any = tyro.cli(flags, args=rest, prog=prog)
  except SystemExit as error:
    if error.code:
      raise ValueError(_plain(errors.getvalue())) from None
    raise
  given = [token.removeprefix("--").partition("=")[0].replace("-", "_") for token in rest if token.startswith("--")]
  check_given(given, parsed.settings)
  return run._replace(config=parsed.config, settings=parsed.settings)


def _plain(box: str) -> str:
  """The first paragraph of a parser's framed error message, and its suggestion, as one line."""
  lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()]
  lines = [line for line in lines[1:] if line]
  kept = list(itertools.takewhile(lambda line: not line.startswith(("Argument helptext", "For full helptext")), lines))
  return "; ".join(kept[:3]) or "the flags could not be read"


def _resume(arguments: argparse.Namespace, rest: list[str]) -> int:
  _run_directory(arguments.out)
  from varl.run.progress import Console
  from varl.run.training import resume

  report = Console()
  try:
    done = resume(arguments.out, num_timesteps=arguments.num_timesteps, report=report)
  finally:
    report.close()
  return 0 if done.finished else 130


def _eval(arguments: argparse.Namespace, rest: list[str]) -> int:
  _run_directory(arguments.out)
  if arguments.episodes < 1:
    raise ValueError(f"--episodes is at least 1, got {arguments.episodes}")
  from varl.run.inspect import evaluate

  metrics = evaluate(arguments.out, episodes=arguments.episodes, stochastic=arguments.stochastic, seed=arguments.seed)
  for name, value in metrics.items():
    print(f"{name} {value:.6g}")
  return 0


def _render(arguments: argparse.Namespace, rest: list[str]) -> int:
  _run_directory(arguments.run)
  from varl.run.inspect import render

  length, total = render(arguments.run, arguments.out, seed=arguments.seed)
  print(f"{arguments.out}: {length} steps, return {total:.2f}")
  return 0


def _list(arguments: argparse.Namespace, rest: list[str]) -> int:
  print("algorithms")
  for name, text in agents.descriptions().items():
    print(f"  {name:26} {text}")
  print("environments")
  for name, entry in catalog.CATALOG.items():
    backends = f" [{', '.join(entry.backends)}]" if entry.backends else ""
    print(f"  {name:26} {entry.description}{backends}")
  return 0


def _presets(arguments: argparse.Namespace, rest: list[str]) -> int:
  from varl import presets

  names = agents.names() if arguments.algorithm is None else [agents.check_name(arguments.algorithm)]
  for name in names:
    for env, values in presets.load(name).items():
      print(f"[{name} {env}]")
      for key, value in values.items():
        print(f"  {key} = {value}")
  return 0


def _doctor(arguments: argparse.Namespace, rest: list[str]) -> int:
  from varl.run import doctor

  return 0 if doctor.print_report() else 1


def _run_directory(out: str) -> None:
  """Answers at once where a directory is no run."""
  if not (pathlib.Path(out) / "config.json").is_file():
    raise ValueError(f"{out} is no run: it has no config.json")


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
  if not issubclass(category, DeprecationWarning | FutureWarning):
    print(f"varl: warning: {message}", file=sys.stderr)


_COMMANDS = {
  "train": _train,
  "resume": _resume,
  "eval": _eval,
  "render": _render,
  "list": _list,
  "presets": _presets,
  "doctor": _doctor,
}

if __name__ == "__main__":
  sys.exit(main())
