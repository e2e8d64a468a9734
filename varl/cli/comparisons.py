"""What runs are looked at with: `varl plot`, `varl compare`, `varl report` and `varl map`."""

import json

from varl import files
from varl.cli.shared import COUNT, SEED, command, joined, numbers, run_directory
from varl.flags import Parser, whole_number
from varl.report import compare as scores
from varl.report import plots
from varl.report.render import check_path


def plot(tokens: list[str]) -> int:
  """`varl plot`: curves of runs."""
  parser = command(
    "plot",
    """  varl plot runs/* --out curves.png
  varl plot runs/sac* runs/ppo* --out curves.svg --x walltime --band iqm""",
    description="Draw curves of runs. Runs that differ in nothing but their seed are one line, with a band. "
    "A population stands for its members.",
  )
  _add_runs(parser)
  parser.add_argument("--out", required=True, metavar="FILE", help="the picture, FILE.png or FILE.svg")
  parser.add_argument("--overwrite", action="store_true", help="replace a file that has this name")
  parser.add_argument(
    "--x", choices=list(plots.X_AXES), default="env_steps", help="what is drawn over (default: env_steps)"
  )
  parser.add_argument(
    "--band", choices=plots.BANDS, default="minmax", help="over seeds: all, or the 95 %% interval of mean or IQM"
  )
  parser.add_argument("--log", action="store_true", help="a logarithmic axis of the metric")
  arguments = parser.parse(tokens)
  path = files.check_new(plots.check_picture(arguments.out), overwrite=arguments.overwrite)
  groups = scores.group(arguments.runs)
  x, band = arguments.x, arguments.band
  plots.curves(groups, path, metric=arguments.metric, band=band, x=x, log=arguments.log)
  for label, outs in groups.items():
    print(f"{label}: {len(outs)} seed{'s' if len(outs) > 1 else ''}")
  print(path)
  return 0


def compare(tokens: list[str]) -> int:
  """`varl compare`: a table of runs."""
  parser = command(
    "compare",
    """  varl compare runs/*
  varl compare runs/sac* runs/ppo* --score mean --json""",
    description="Compare runs by their scores: mean and interquartile mean over seeds with 95 % intervals by "
    "bootstrap, and the probability that one beats another on the same environment. Runs that differ in nothing but "
    "their seed are one group.",
  )
  _add_runs(parser)
  parser.add_argument(
    "--score", choices=scores.SCORES, default="last", help="of a run: the last evaluation, the best, or the mean of all"
  )
  parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
  arguments = parser.parse(tokens)
  groups = scores.group(arguments.runs)
  found = scores.compare(groups, metric=arguments.metric, score=arguments.score)
  print(json.dumps(found, indent=1) if arguments.json else scores.table(found))
  return 0


def report(tokens: list[str]) -> int:
  """`varl report`: a run as one page."""
  parser = command(
    "report",
    """  varl report runs/pendulum --out pendulum.html
  varl report runs/pendulum --out pendulum.html --episodes 0""",
    description="Write one self-contained HTML page of a run: curves, temperature, entropy, divergence, values against "
    "realised return, speed, configuration.",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE.html", help="the page; another page of varl's is replaced")
  parser.add_argument("--overwrite", action="store_true", help="replace any file that has the page's name")
  parser.add_argument(
    "--episodes", type=whole_number(0), default=8, metavar="N", help="acted for values against returns (default: 8)"
  )
  parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="of these episodes' key (default: 0)")
  arguments = parser.parse(tokens)
  check_path(arguments.out, overwrite=arguments.overwrite, what="a report is a page FILE.html")
  run_directory(arguments.run)
  from varl.run import inspect

  path = inspect.report(
    arguments.run, arguments.out, episodes=arguments.episodes, seed=arguments.seed, overwrite=arguments.overwrite
  )
  print(f"{path}: {path.stat().st_size:,} bytes")
  return 0


def draw_map(tokens: list[str]) -> int:
  """`varl map`: what a run's value and policy say of states."""
  parser = command(
    "map",
    """  varl map runs/point-mass --out map.png
  varl map runs/pendulum --out map.svg --entries 1,2 --low -3,-8 --high 3,8 --of action
  varl map runs/grid --out grid.png""",
    description="Draw what a run takes states to be worth, and what its policy does there: of a grid, or of two "
    "entries of the observation.",
  )
  parser.add_argument("run", metavar="OUT", help="directory of the run")
  parser.add_argument("--out", required=True, metavar="FILE", help="the picture, FILE.png or FILE.svg")
  parser.add_argument("--overwrite", action="store_true", help="replace a file that has this name")
  parser.add_argument("--of", choices=["value", "action"], default="value", help="the colours (default: value)")
  parser.add_argument(
    "--entries", type=numbers(int, 2), default=[0, 1], metavar="I,J", help="of the observation that vary (default: 0,1)"
  )
  parser.add_argument("--low", type=numbers(float, 2), metavar="X,Y", help="smallest values (default: as seen)")
  parser.add_argument("--high", type=numbers(float, 2), metavar="X,Y", help="largest values (default: as seen)")
  parser.add_argument(
    "--at", type=numbers(float), metavar="X,...", help="an observation, for the other entries (default: the mean seen)"
  )
  parser.add_argument("--resolution", type=COUNT, default=64, metavar="N", help="points a side (default: 64)")
  arguments = parser.parse(joined(tokens, "--low", "--high", "--at"))
  path = files.check_new(plots.check_picture(arguments.out), overwrite=arguments.overwrite)
  run_directory(arguments.run)
  from varl.run import maps

  print(
    maps.value_map(
      arguments.run, path, of=arguments.of, entries=arguments.entries, low=arguments.low, high=arguments.high,
      at=arguments.at, resolution=arguments.resolution, overwrite=arguments.overwrite,
    )
  )  # fmt: skip
  return 0


def _add_runs(parser: Parser) -> None:
  parser.add_argument("runs", nargs="+", metavar="OUT", help="directories of runs, or of populations")
  parser.add_argument(
    "--metric", default="eval/episode_reward", metavar="NAME", help="of metrics.csv (default: eval/episode_reward)"
  )
