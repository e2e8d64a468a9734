"""The commands that train: `varl train` and `varl resume`."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from varl import agents
from varl.cli import configs
from varl.cli.shared import COUNT, SEED, add_cache, command, run_directory
from varl.envs import registry
from varl.flags import Parser, add_fields
from varl.loop.settings import Settings
from varl.run.watch import LOGS


def _train_parser(
  algorithm: str = "", config: Any = None, settings: Settings | None = None, note: str = "", *, sweep: bool = False
) -> Parser:
  """The flags of `varl train` or `varl sweep`, those of an algorithm's Config among them once that is known."""
  parser = (
    command(
      "sweep",
      """  varl sweep sac --env pendulum --seeds 4 --grid learning-rate=3e-4,1e-3
  varl sweep sac --env pendulum --seeds 2 --range learning-rate=1e-4,3e-3 --draws 8
  varl sweep sac --env pendulum --resume-if-possible --stop-after 8h
  varl resume runs/sweep-sac-pendulum""",
      usage="varl sweep ALGORITHM --env ENV [flags]",
      description="Train every combination of seeds and hyper-parameters in one program, each a run of its own below "
      f"OUT/members.\n\n{note or _TRAIN_NOTE}",
      add_help=False,
    )
    if sweep
    else command(
      "train",
      """  varl train sac --env inverted_pendulum --seed 1 --out runs/pendulum
  varl train sac --env halfcheetah --num-timesteps 1e6 --hidden 256,256
  varl train ppo --env inverted_pendulum --epochs 4
  varl train my_module:make_agent --env my_module:MyEnvironment""",
      usage="varl train ALGORITHM --env ENV [flags]",
      description=f"Train an algorithm on an environment, from its tuned preset.\n\n{note or _TRAIN_NOTE}",
      add_help=False,
    )
  )
  parser.add_argument("-h", "--help", action="store_true", help="show this help")
  parser.add_argument("--env", help="an environment (`varl list`), or package.module:factory")
  parser.add_argument("--backend", help="physics backend of a Brax environment (default: its own)")
  if sweep:
    parser.add_argument("--seeds", type=COUNT, default=8, metavar="N", help="how many, from 0 (default: 8)")
    parser.add_argument("--grid", action="append", default=[], metavar="FIELD=A,B,...", help="values of a number")
    parser.add_argument("--range", action="append", default=[], metavar="FIELD=LOW,HIGH", help="to draw a number from")
    parser.add_argument("--draws", type=COUNT, default=0, metavar="N", help="how many draws from the ranges")
    parser.add_argument("--search-seed", type=SEED, default=0, metavar="N", help="of these draws (default: 0)")
    parser.add_argument("--chunk", type=COUNT, metavar="N", help="members at a time (default: as many as fit)")
    parser.add_argument("--out", help="directory of the population (default: runs/sweep-ALGORITHM-ENV)")
  else:
    parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="of the run's key (default: 0)")
    parser.add_argument("--out", help="directory of the run (default: runs/ALGORITHM-ENV-seedN)")
  parser.add_argument("--overwrite", action="store_true", help="replace the run that OUT holds")
  parser.add_argument(
    "--resume-if-possible", action="store_true", help="go on with the run that OUT holds, if it is this one"
  )
  if sweep:
    _add_stop_after(parser)
  else:
    parser.add_argument(
      "--config", metavar="FILE", help="settings from a .toml file, or a run's config.json; flags win"
    )
    _add_watch(parser)
  parser.add_argument("--reward", metavar="RUN", help="pay the reward that this run has learned")
  parser.add_argument("--no-preset", action="store_true", help="start from the bare defaults")
  add_cache(parser)
  if config is not None:
    add_fields(parser, config, f"hyper-parameters of {algorithm}")
  add_fields(parser, Settings() if settings is None else settings, "settings of the loop")
  return parser


_TRAIN_NOTE = f"""ALGORITHM is one of {", ".join(agents.names()[:8])},
{", ".join(agents.names()[8:])}, or package.module:factory.
`varl train ALGORITHM --help` lists its hyper-parameters, too."""


def _add_watch(parser: Parser) -> None:
  """Adds the flags that say what a run does beside training."""
  parser.add_argument("--log", choices=LOGS, default="tensorboard", help="where metrics go, too (default: tensorboard)")
  parser.add_argument("--save-best", action="store_true", help="keep the policy of the highest return in OUT/best")
  parser.add_argument("--stop-at", type=float, metavar="RETURN", help="end at an evaluation of this return")
  _add_stop_after(parser)
  parser.add_argument(
    "--distributed", metavar="WHERE", help="one of several processes: auto (SLURM and others), or HOST:PORT,N,I"
  )
  parser.add_argument("--profile", metavar="DIR", help="trace one call of the trainer, for Perfetto")


def _add_stop_after(parser: Parser) -> None:
  parser.add_argument("--stop-after", metavar="TIME", help="end after a time, such as 90s, 30m or 8h; resume goes on")


def _watched(own: argparse.Namespace) -> dict[str, Any]:
  return {name: getattr(own, name) for name in ("log", "save_best", "stop_at", "stop_after", "profile")}


def _shared(own: argparse.Namespace) -> dict[str, Any]:
  """What a run and a population take alike."""
  return {
    "backend": own.backend, "overwrite": own.overwrite, "preset": not own.no_preset, "reward": own.reward,
    "compile_cache": not own.no_compile_cache,
  }  # fmt: skip


STATUS = {"time": 124, "SIGTERM": 143, "SIGINT": 130, "return": 0}
"""The exit status of a run that ended before its last step, by what ended it."""


def _status(done: Any) -> int:
  return 0 if done.finished else STATUS.get(done.stopped, 130)


def _population_status(done: Any) -> int:
  """As `_status`; raises Diverged where nothing was learned by any member."""
  if all(member.diverged for member in done.members):
    from varl.run.safeguards import Diverged

    raise Diverged(
      f"all {len(done.members)} members turned non-finite; metrics and checkpoints before are in {done.out}"
    )
  return _status(done)


def _asked(tokens: list[str], verb: str) -> tuple[Any, argparse.Namespace, argparse.Namespace, dict[str, Any]] | None:
  """The algorithm, the flags of the command, all flags, and the fields among them; None where help was shown."""
  sweep = verb == "sweep"
  parser = _train_parser(sweep=sweep)
  algorithm, tokens = _take_algorithm(tokens, parser)
  own, _ = parser.parse_known_args(tokens)
  written: dict[str, Any] = {}
  if getattr(own, "config", None) is not None and not own.help:
    written = configs.read(own.config)
    algorithm = written.pop("algorithm", None) if algorithm is None else algorithm
    written.pop("algorithm", None)
    for name in ("env", "backend"):
      found = written.pop(name, None)
      if getattr(own, name) is None:
        setattr(own, name, found)
    seed = written.pop("seed", None)
    if seed is not None and not any(token.split("=")[0] == "--seed" for token in tokens):
      own.seed = seed
  if algorithm is None:
    if not own.help:
      raise ValueError(f"varl {verb} needs an algorithm: {', '.join(agents.names())}")
    parser.print_help()
    return None
  agents.check_name(algorithm)
  if own.env is not None:
    registry.check_name(own.env, own.backend)
  elif not own.help:
    raise ValueError(f"varl {verb} needs --env; `varl list` shows the environments")
  found = agents.load(algorithm)
  if own.help:
    _train_help(found, own, sweep=sweep)
    return None
  config = found.config
  given = _train_parser(algorithm, config, sweep=sweep).parse(tokens)
  values = {name: getattr(given, name) for name in given.given if hasattr(config, name) or hasattr(Settings, name)}
  return found, own, given, {**written, **values}


def sweep(tokens: list[str]) -> int:
  """`varl sweep`: a population; status as `train`."""
  asked = _asked(tokens, "sweep")
  if asked is None:
    return 0
  found, own, _, values = asked
  grid, ranges = (_numbers(flag, getattr(own, flag)) for flag in ("grid", "range"))
  from varl.run import members
  from varl.run.population import planned, population, resume_population
  from varl.run.progress import Console

  out = pathlib.Path(own.out or f"runs/sweep-{found.name}-{own.env}".replace(":", "."))
  which = {
    "seeds": own.seeds, "grid": grid, "ranges": ranges, "draws": own.draws, "search_seed": own.search_seed, **values
  }  # fmt: skip
  how = {"chunk": own.chunk, "stop_after": own.stop_after}
  report = Console()
  try:
    if own.resume_if_possible and (out / members.FILE).is_file():
      wanted = planned(found, own.env, backend=own.backend, preset=not own.no_preset, reward=own.reward, **which)
      configs.same_members(out, wanted)
      steps = next(iter(wanted.values())).settings.num_timesteps
      done = resume_population(out, num_timesteps=steps, report=report, compile_cache=not own.no_compile_cache, **how)
    else:
      done = population(found, own.env, out=out, report=report, **_shared(own), **how, **which)
  finally:
    report.close()
  return _population_status(done)


def _numbers(flag: str, given: list[str]) -> dict[str, Any]:
  """`FIELD=A,B,...` as numbers by field."""
  found: dict[str, Any] = {}
  for text in given:
    name, equals, numbers = text.partition("=")
    name = name.strip().replace("-", "_")
    try:
      values = tuple(float(number) for number in numbers.split(","))
    except ValueError:
      values = ()
    if not equals or not name or not values:
      raise ValueError(f"--{flag} is FIELD=NUMBER,NUMBER,..., such as learning-rate=3e-4,1e-3; got {text!r}")
    if name in found:
      raise ValueError(f"--{flag} names {name} twice")
    found[name] = values
  return found


def train(tokens: list[str]) -> int:
  """`varl train`: an algorithm on an environment; status 130 where it was ended early."""
  asked = _asked(tokens, "train")
  if asked is None:
    return 0
  found, own, _, values = asked
  from varl.run import configure, processes, training
  from varl.run.progress import Console

  if own.distributed is not None:
    values.setdefault("num_devices", processes.join(own.distributed))
  out = own.out or f"runs/{found.name}-{own.env}-seed{own.seed}".replace(":", ".")
  report = Console()
  try:
    there = own.resume_if_possible and (pathlib.Path(out) / "config.json").is_file()
    if processes.team(own.distributed is not None).anywhere(there):  # before one of them begins it
      wanted = configure.resolve(
        found, own.env, seed=own.seed, backend=own.backend, preset=not own.no_preset, reward=own.reward, **values
      )
      configs.same(out, wanted)
      steps = wanted.settings.num_timesteps
      done = training.resume(
        out, num_timesteps=steps, report=report, compile_cache=not own.no_compile_cache, **_watched(own)
      )
      return _status(done)
    done = training.train(
      found,
      own.env,
      seed=own.seed,
      out=out,
      report=report,
      **_shared(own),
      **_watched(own),
      **values,
    )
  finally:
    report.close()
  return _status(done)


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


def _train_help(algorithm: Any, own: argparse.Namespace, *, sweep: bool) -> None:
  """Every flag, with the values of the preset where the environment is known."""
  config, settings = algorithm.config, Settings()
  note = "The defaults shown are the bare ones; with --env ENV they are those of its preset, from which a run starts."
  if own.env is not None:
    from varl.run import configure

    run = configure.resolve(algorithm, own.env, backend=own.backend, preset=not own.no_preset)
    config, settings = run.config, run.settings
    which = "the bare ones" if own.no_preset else f"those of the preset of {algorithm.name} on {own.env}"
    note = f"The defaults shown are {which}."
  _train_parser(algorithm.name, config, settings, note, sweep=sweep).print_help()


def resume(tokens: list[str]) -> int:
  """`varl resume`: a run or a population, taken on; status as `train`."""
  parser = command(
    "resume",
    """  varl resume runs/pendulum
  varl resume runs/pendulum --num-timesteps 2e6
  varl resume runs/sweep-sac-pendulum --num-timesteps 2e6""",
  )
  parser.add_argument("out", metavar="OUT", help="directory of the run, or of the population")
  parser.add_argument(
    "--num-timesteps", type=COUNT, metavar="N", help="environment steps in all (default: as the run was started with)"
  )
  add_cache(parser)
  _add_watch(parser)
  arguments = parser.parse(tokens)
  several = (pathlib.Path(arguments.out) / "population.json").is_file()
  if not several:
    run_directory(arguments.out)
  elif arguments.distributed is not None or any(
    value != parser.get_default(name) for name, value in _watched(arguments).items() if name != "stop_after"
  ):
    raise ValueError(
      "--log, --save-best, --stop-at, --distributed and --profile are of single runs, not of a population"
    )
  from varl.run import population, processes, training
  from varl.run.progress import Console

  if arguments.distributed is not None:
    processes.join(arguments.distributed)
  report = Console()
  cached, steps = not arguments.no_compile_cache, arguments.num_timesteps
  done: Any
  try:
    if several:
      done = population.resume_population(
        arguments.out, num_timesteps=steps, report=report, compile_cache=cached, stop_after=arguments.stop_after
      )
    else:
      done = training.resume(
        arguments.out, num_timesteps=steps, report=report, compile_cache=cached, **_watched(arguments)
      )
  finally:
    report.close()
  return _population_status(done) if several else _status(done)
