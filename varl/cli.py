"""The command line: `varl train | resume | eval | render | list | presets | doctor`.

Parsing comes first and imports nothing heavy: a mistyped name is answered at once.
"""

import argparse
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from varl import __version__, agents
from varl.checks import nearest
from varl.envs import catalog, registry
from varl.flags import Parser, add_fields, whole_number
from varl.loop.settings import Settings
from varl.report.render import check_path

SYNONYMS = {
  "train": ("run", "fit", "learn", "start"),
  "resume": ("continue", "restart", "extend", "restore"),
  "eval": ("evaluate", "evaluation", "test", "score"),
  "rollout": ("collect", "demonstrate", "demonstrations", "demos", "sample", "generate"),
  "render": ("play", "show", "view", "watch", "visualize", "visualise", "video", "record", "enjoy"),
  "list": ("ls", "envs", "environments", "algorithms", "algos", "agents"),
  "presets": ("preset", "config", "configs", "settings", "defaults", "hyperparameters"),
  "doctor": ("info", "env", "diagnose", "devices", "versions"),
  "--help": ("help",),
  "--version": ("version",),
}
"""What a command is called elsewhere."""

_SEED = whole_number(0, 2**32)
_COUNT = whole_number(1)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit status (0, 1 for a run that failed, 2 for bad input, 130 for an interrupt)."""
  if argv is None and "" not in sys.path:
    sys.path.insert(0, "")  # as under `python -m varl`: package.module:factory of the working directory
  argv = list(sys.argv[1:] if argv is None else argv)
  warnings.showwarning = _show_warning
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
      stream.reconfigure(errors="replace")  # an encoding without Greek letters is no reason to fail
  try:
    try:
      return _run(argv)
    finally:
      if sys.stdout is not None:
        sys.stdout.flush()  # here, where a pipe that is closed can still be answered
  except BrokenPipeError:  # whoever read the output has seen enough, as in `varl list | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    return 1
  except ValueError as error:
    return _fail("error", error, 2)
  except KeyboardInterrupt:
    print("varl: interrupted", file=sys.stderr)
    return 130
  except (OSError, RuntimeError) as error:
    return _fail(type(error).__name__, error, 1)


def _fail(what: str, error: Exception, status: int) -> int:
  print(f"varl: {what}: {' '.join(str(error).split())}", file=sys.stderr)
  return status


def _run(argv: list[str]) -> int:
  if not argv:
    _parser().print_help()
    return 0
  name, *tokens = argv
  if name in _COMMANDS:
    return _COMMANDS[name](tokens)
  if name in ("-h", "--help", "--version"):
    _parser().parse_args([name])
  if name.startswith("-"):
    command = next((token for token in tokens if token in _COMMANDS), "COMMAND")
    raise ValueError(f"{name} comes before the command; flags follow it: varl {command} ... {name}")
  meant = next((command for command, others in SYNONYMS.items() if name.lower() in others), None)
  hint = nearest(name.lower(), _COMMANDS) if meant is None else f" (did you mean {meant!r}?)"
  raise ValueError(f"unknown command {name!r}{hint}; commands: {', '.join(_COMMANDS)}")


def _parser() -> Parser:
  """The page of all commands."""
  parser = Parser(
    prog="varl",
    description="Variational reinforcement learning in JAX.",
    epilog="""examples:
  varl train sac --env inverted_pendulum --out runs/pendulum
  varl eval runs/pendulum
  varl render runs/pendulum --out episode.html

exit status:
  0 for success, 1 for a failure, 2 for bad input, 130 for an interrupted run""",
  )
  parser.add_argument("--version", action="version", version=f"varl {__version__}")
  commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
  for name, text in _HELP.items():
    commands.add_parser(name, help=text)
  return parser


def _command(name: str, examples: str, **kwargs: Any) -> Parser:
  """The parser of one command."""
  text = kwargs.pop("description", _HELP[name][0].upper() + _HELP[name][1:] + ".")
  return Parser(prog=f"varl {name}", description=text, epilog=f"examples:\n{examples}", **kwargs)


def _train_parser(algorithm: str = "", config: Any = None, settings: Settings | None = None, note: str = "") -> Parser:
  """The flags of `varl train`, those of an algorithm's Config among them once that is known."""
  parser = _command(
    "train",
    """  varl train sac --env inverted_pendulum --seed 1 --out runs/pendulum
  varl train sac --env halfcheetah --num-timesteps 1e6 --hidden 256,256
  varl train ppo --env inverted_pendulum --epochs 4
  varl train my_module:make_agent --env my_module:MyEnvironment""",
    usage="varl train ALGORITHM --env ENV [flags]",
    description=f"Train an algorithm on an environment, from its tuned preset.\n\n{note or _TRAIN_NOTE}",
    add_help=False,
  )
  parser.add_argument("-h", "--help", action="store_true", help="show this help")
  parser.add_argument("--env", help="an environment (`varl list`), or package.module:factory")
  parser.add_argument("--backend", help="physics backend of a Brax environment (default: its own)")
  parser.add_argument("--seed", type=_SEED, default=0, metavar="N", help="of the run's key (default: 0)")
  parser.add_argument("--out", help="directory of the run (default: runs/ALGORITHM-ENV-seedN)")
  parser.add_argument("--overwrite", action="store_true", help="replace the run that OUT holds")
  parser.add_argument("--reward", metavar="RUN", help="pay the reward that this run has learned")
  parser.add_argument("--no-preset", action="store_true", help="start from the bare defaults")
  _add_cache(parser)
  if config is not None:
    add_fields(parser, config, f"hyper-parameters of {algorithm}")
  add_fields(parser, Settings() if settings is None else settings, "settings of the loop")
  return parser


_TRAIN_NOTE = f"""ALGORITHM is one of {", ".join(agents.names()[:8])},
{", ".join(agents.names()[8:])}, or package.module:factory.
`varl train ALGORITHM --help` lists its hyper-parameters, too."""


def _train(tokens: list[str]) -> int:
  parser = _train_parser()
  algorithm, tokens = _take_algorithm(tokens, parser)
  own, _ = parser.parse_known_args(tokens)
  if algorithm is None:
    if not own.help:
      raise ValueError(f"varl train needs an algorithm: {', '.join(agents.names())}")
    parser.print_help()
    return 0
  agents.check_name(algorithm)
  if own.env is not None:
    registry.check_name(own.env, own.backend)
  elif not own.help:
    raise ValueError("varl train needs --env; `varl list` shows the environments")
  found = agents.load(algorithm)
  if own.help:
    _train_help(found, own)
    return 0
  config = found.config
  given = _train_parser(algorithm, config).parse(tokens)

  from varl.run.progress import Console
  from varl.run.training import train

  out = own.out or f"runs/{found.name}-{own.env}-seed{own.seed}".replace(":", ".")
  values = {name: getattr(given, name) for name in given.given if hasattr(config, name) or hasattr(Settings, name)}
  report = Console()
  try:
    done = train(
      algorithm,
      own.env,
      seed=own.seed,
      backend=own.backend,
      out=out,
      overwrite=own.overwrite,
      preset=not own.no_preset,
      reward=own.reward,
      compile_cache=not own.no_compile_cache,
      report=report,
      **values,
    )
  finally:
    report.close()
  return 0 if done.finished else 130


def _add_cache(parser: Parser) -> None:
  parser.add_argument("--no-compile-cache", action="store_true", help="keep no compiled programs for the next start")


def _take_algorithm(tokens: Sequence[str], parser: Parser) -> tuple[str | None, list[str]]:
  """The algorithm among the tokens, and the others: the first that is no flag's value.

  Of the algorithm's own flags, which are not known yet, every word that is no algorithm's name is taken for a value.
  """
  at = 0
  while at < len(tokens):
    flag, equals, _ = tokens[at].partition("=")
    if not flag.startswith("-"):
      return tokens[at], [*tokens[:at], *tokens[at + 1 :]]
    at += 1
    count = 0 if equals else parser.values(flag.replace("_", "-"))
    if count is not None:
      at += count
      continue
    while at < len(tokens) and not tokens[at].startswith("-") and not _is_algorithm(tokens[at]):
      at += 1
  return None, list(tokens)


def _is_algorithm(token: str) -> bool:
  return ":" in token or token in agents.names()


def _train_help(algorithm: Any, own: argparse.Namespace) -> None:
  """Every flag, with the values of the preset where the environment is known."""
  config, settings = algorithm.config, Settings()
  note = "The defaults shown are the bare ones; with --env ENV they are those of its preset, from which a run starts."
  if own.env is not None:
    from varl.run import configure

    run = configure.resolve(algorithm, own.env, backend=own.backend, preset=not own.no_preset)
    config, settings = run.config, run.settings
    which = "the bare ones" if own.no_preset else f"those of the preset of {algorithm.name} on {own.env}"
    note = f"The defaults shown are {which}."
  _train_parser(algorithm.name, config, settings, note).print_help()


def _resume(tokens: list[str]) -> int:
  parser = _command(
    "resume",
    """  varl resume runs/pendulum
  varl resume runs/pendulum --num-timesteps 2e6""",
  )
  parser.add_argument("out", metavar="OUT", help="directory of the run")
  parser.add_argument(
    "--num-timesteps", type=_COUNT, metavar="N", help="environment steps in all (default: as the run was started with)"
  )
  _add_cache(parser)
  arguments = parser.parse(tokens)
  _run_directory(arguments.out)
  from varl.run.progress import Console
  from varl.run.training import resume

  report = Console()
  try:
    done = resume(
      arguments.out,
      num_timesteps=arguments.num_timesteps,
      report=report,
      compile_cache=not arguments.no_compile_cache,
    )
  finally:
    report.close()
  return 0 if done.finished else 130


def _eval(tokens: list[str]) -> int:
  parser = _command(
    "eval",
    """  varl eval runs/pendulum
  varl eval runs/pendulum --episodes 100 --stochastic""",
  )
  parser.add_argument("out", metavar="OUT", help="directory of the run")
  parser.add_argument("--episodes", type=_COUNT, default=32, metavar="N", help="in parallel (default: 32)")
  parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
  parser.add_argument("--seed", type=_SEED, default=0, metavar="N", help="of the evaluation's key (default: 0)")
  arguments = parser.parse(tokens)
  _run_directory(arguments.out)
  from varl.run.inspect import evaluate

  metrics = evaluate(arguments.out, episodes=arguments.episodes, stochastic=arguments.stochastic, seed=arguments.seed)
  for name, value in metrics.items():
    print(f"{name} {value:.6g}")
  return 0


def _rollout(tokens: list[str]) -> int:
  parser = _command(
    "rollout",
    """  varl rollout runs/pendulum --out demos.npz
  varl rollout runs/pendulum --episodes 25 --stochastic --out demos.npz""",
    description="Write episodes of a run's policy as demonstrations, for algorithms that take --demonstrations FILE.",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE.npz", help="the file to write")
  parser.add_argument("--overwrite", action="store_true", help="replace a file that has this name")
  parser.add_argument("--episodes", type=_COUNT, default=10, metavar="N", help="in parallel (default: 10)")
  parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
  parser.add_argument("--seed", type=_SEED, default=0, metavar="N", help="of the episodes' key (default: 0)")
  arguments = parser.parse(tokens)
  path = pathlib.Path(arguments.out)
  if path.suffix != ".npz":
    raise ValueError(f"demonstrations are a file FILE.npz, got {arguments.out!r}")
  if path.exists() and not (arguments.overwrite and path.is_file()):
    raise ValueError(f"{path} exists already; choose another name, or pass --overwrite")
  _run_directory(arguments.run)
  from varl import demonstrations
  from varl.run.inspect import rollout

  found = rollout(arguments.run, episodes=arguments.episodes, stochastic=arguments.stochastic, seed=arguments.seed)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    demonstrations.save(path, found)
  except OSError as error:
    raise ValueError(f"cannot write {path}: {error.strerror}") from None
  returns = found.returns
  print(f"{path}: {len(found.obs)} transitions, {found.episodes} episodes, mean return {returns.mean():.2f}")
  return 0


def _render(tokens: list[str]) -> int:
  parser = _command(
    "render",
    """  varl render runs/pendulum --out episode.html
  varl render runs/pendulum --out pages/seed1.html --seed 1""",
    description="Write an episode of a run's policy as an HTML page, which any browser plays without a network. Brax "
    "environments only.",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE.html", help="the page; another page of varl's is replaced")
  parser.add_argument("--overwrite", action="store_true", help="replace any file that has the page's name")
  parser.add_argument("--seed", type=_SEED, default=0, metavar="N", help="of the episode's key (default: 0)")
  arguments = parser.parse(tokens)
  check_path(arguments.out, overwrite=arguments.overwrite)
  _run_directory(arguments.run)
  from varl.run.inspect import render

  length, total = render(arguments.run, arguments.out, seed=arguments.seed, overwrite=arguments.overwrite)
  print(f"{arguments.out}: {length} steps, return {total:.2f}")
  return 0


def _list(tokens: list[str]) -> int:
  _command("list", "  varl list\n  varl list | grep discrete").parse(tokens)
  print("algorithms")
  for name, text in agents.descriptions().items():
    print(f"  {name:26} {text}")
  print("environments")
  for name, entry in catalog.CATALOG.items():
    backends = f" [{', '.join(entry.backends)}]" if entry.backends else ""
    lacks = f" ({lacks})" if (lacks := catalog.missing(name)) else ""
    print(f"  {name:26} {entry.description}{backends}{lacks}")
  return 0


def _presets(tokens: list[str]) -> int:
  parser = _command("presets", "  varl presets\n  varl presets sac")
  parser.add_argument("algorithm", nargs="?", metavar="ALGORITHM", help="one of `varl list` (default: all)")
  arguments = parser.parse(tokens)
  from varl import presets

  names = agents.names() if arguments.algorithm is None else [agents.check_name(arguments.algorithm)]
  for name in names:
    for env, values in presets.load(name).items():
      print(f"[{name} {env}]")
      for key, value in values.items():
        print(f"  {key} = {value}")
  return 0


def _check_env(tokens: list[str]) -> int:
  parser = _command(
    "check-env",
    """  varl check-env reacher
  varl check-env my_module:MyEnvironment""",
    description="Look at every contract that varl has with an environment, by tracing it and by running it for some "
    "seconds. Exit status 1 where one is broken.",
  )
  parser.add_argument("env", metavar="ENV", help="an environment (`varl list`), or package.module:factory")
  parser.add_argument("--backend", help="physics backend of a Brax environment (default: its own)")
  parser.add_argument("--seed", type=_SEED, default=0, metavar="N", help="of the keys (default: 0)")
  arguments = parser.parse(tokens)
  registry.check_name(arguments.env, arguments.backend)
  from varl.envs.door import check

  report = check(arguments.env, arguments.backend, seed=arguments.seed)
  print(report)
  return 0 if report.kept else 1


def _doctor(tokens: list[str]) -> int:
  _command("doctor", "  varl doctor").parse(tokens)
  from varl.run import doctor

  return 0 if doctor.print_report() else 1


def _run_directory(out: str) -> None:
  """Answers at once where a directory is no run."""
  if not (pathlib.Path(out) / "config.json").is_file():
    raise ValueError(f"{out} is no run: it has no config.json")


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
  if not issubclass(category, DeprecationWarning | FutureWarning):
    print(f"varl: warning: {message}", file=sys.stderr)


_HELP = {
  "train": "train an algorithm on an environment",
  "resume": "go on with an interrupted run, or extend a finished one",
  "eval": "evaluate a run's policy",
  "rollout": "write episodes of a run's policy as demonstrations",
  "render": "write an episode as an HTML page (Brax environments)",
  "list": "list the algorithms and the environments",
  "presets": "show the tuned settings",
  "check-env": "look at every contract of an environment, by tracing and by running it",
  "doctor": "show versions and devices, and what is wrong with them",
}
_COMMANDS = {
  "train": _train,
  "resume": _resume,
  "eval": _eval,
  "rollout": _rollout,
  "render": _render,
  "list": _list,
  "presets": _presets,
  "check-env": _check_env,
  "doctor": _doctor,
}

if __name__ == "__main__":
  sys.exit(main())
