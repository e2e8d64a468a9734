"""What is done with several runs: `varl plot` and `varl compare`."""

import json
import pathlib

from varl.cli.shared import command, run_directory
from varl.flags import Parser
from varl.report import compare as scores
from varl.report import plots


def plot(tokens: list[str]) -> int:
  """`varl plot`: curves of runs."""
  parser = command(
    "plot",
    """  varl plot runs/* --out curves.png
  varl plot runs/sac* runs/ppo* --out curves.svg --x walltime --band iqm""",
    description="Draw curves of runs. Runs that differ in nothing but their seed are one line, with a band.",
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
  path = plots.check_picture(arguments.out)
  if path.exists() and not arguments.overwrite:
    raise ValueError(f"{path} exists already; choose another name, or pass --overwrite")
  groups = scores.group(_checked(arguments.runs))
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
    "bootstrap, and the probability that one beats another. Runs that differ in nothing but their seed are one group.",
  )
  _add_runs(parser)
  parser.add_argument(
    "--score", choices=scores.SCORES, default="last", help="of a run: the last evaluation, the best, or the mean of all"
  )
  parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
  arguments = parser.parse(tokens)
  groups = scores.group(_checked(arguments.runs))
  found = scores.compare(groups, metric=arguments.metric, score=arguments.score)
  print(json.dumps(found, indent=1) if arguments.json else scores.table(found))
  return 0


def _add_runs(parser: Parser) -> None:
  parser.add_argument("runs", nargs="+", metavar="OUT", help="directories of runs")
  parser.add_argument(
    "--metric", default="eval/episode_reward", metavar="NAME", help="of metrics.csv (default: eval/episode_reward)"
  )


def _checked(runs: list[str]) -> list[pathlib.Path]:
  for run in runs:
    run_directory(run)
  return [pathlib.Path(run) for run in runs]
