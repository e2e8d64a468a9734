"""What the commands share: their parsers, common flags, and the table of what each does."""

import argparse
import pathlib
import re
from collections.abc import Callable
from typing import Any

from varl.flags import Parser, whole_number
from varl.report import records

SEED = whole_number(0, 2**32)
"""The `type` of a seed's flag."""

COUNT = whole_number(1)
"""The `type` of a count's flag."""

HELP = {
  "train": "train an algorithm on an environment",
  "sweep": "train seeds and hyper-parameters together, in one program",
  "resume": "go on with an interrupted run or population, or extend a finished run",
  "eval": "evaluate a run's policy",
  "rollout": "write episodes of a run's policy as demonstrations",
  "render": "write an episode as an HTML page or as a film",
  "export": "write a run's policy as one file: a JAX program, ONNX or arrays",
  "plot": "draw curves of runs, seeds of one configuration together",
  "compare": "compare runs: scores over seeds with intervals, and which one beats which",
  "report": "write a run as one page: curves, inference, values, configuration",
  "map": "draw what a run takes states to be worth, and what its policy does there",
  "list": "list the algorithms and the environments",
  "presets": "show the tuned settings",
  "check-env": "look at every contract of an environment, by tracing and by running it",
  "doctor": "show versions and devices, and what is wrong with them",
}
"""The commands, and what each does."""


def numbers(kind: Callable[[str], Any], count: int | None = None) -> Callable[[str], list[Any]]:
  """The `type` of a flag that takes numbers, separated by commas; so many of them."""

  def of_text(text: str) -> list[Any]:
    try:
      found = [kind(part) for part in text.split(",")]
    except ValueError:
      found = []
    if not found or (count is not None and len(found) != count):
      raise argparse.ArgumentTypeError(
        f"{'numbers' if count is None else f'{count} numbers'} with commas between; got {text!r}"
      )
    return found

  return of_text


def joined(tokens: list[str], *flags: str) -> list[str]:
  """The tokens, those of `flags` one with what follows, which else would be a flag where it begins with a minus."""
  found: list[str] = []
  for token in tokens:
    if found and found[-1] in flags and re.match(r"-[\d.]", token):
      found[-1] += f"={token}"
    else:
      found.append(token)
  return found


def command(name: str, examples: str, **kwargs: Any) -> Parser:
  """The parser of one command."""
  text = kwargs.pop("description", HELP[name][0].upper() + HELP[name][1:] + ".")
  return Parser(prog=f"varl {name}", description=text, epilog=f"examples:\n{examples}", **kwargs)


def add_cache(parser: Parser) -> None:
  """Adds the flag that keeps no compiled programs."""
  parser.add_argument("--no-compile-cache", action="store_true", help="keep no compiled programs for the next start")


def run_directory(out: str) -> None:
  """Answers at once where a directory is no run."""
  if not (pathlib.Path(out) / records.CONFIG).is_file():
    raise ValueError(records.no_run(out))
