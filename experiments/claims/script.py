"""What the scripts of claims take on the command line, and the record that they leave."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from varl.run import doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results"


class Asked(NamedTuple):
  """What the command line asks for.

  Attributes:
    seeds: to be run.
    smoke: whether few steps are enough.
    recorded: whether a record is to be written: of all steps, and of the record's own seeds.
  """

  seeds: list[int]
  smoke: bool
  recorded: bool


def parser(doc: str | None) -> argparse.ArgumentParser:
  """With `--seeds` and `--smoke`; for a script that takes more."""
  made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
  made.add_argument("--seeds", type=int, nargs="+", help="others than the record's: prints, and writes nothing")
  made.add_argument("--smoke", action="store_true", help="one seed, few steps: prints, and writes nothing")
  return made


def asked(args: argparse.Namespace, seeds: Sequence[int]) -> Asked:
  """Of arguments of `parser`, and the seeds of the record."""
  wanted = args.seeds or ([0] if args.smoke else list(seeds))
  return Asked(wanted, args.smoke, not args.smoke and wanted == list(seeds))


def ask(doc: str | None, seeds: Sequence[int]) -> Asked:
  """The command line of a script that takes no more than `--seeds` and `--smoke`."""
  return asked(parser(doc).parse_args(), seeds)


def write(script: str, body: dict[str, Any], path: str | None = None) -> None:
  """The record with its command, versions and device, as `experiments/results/<path>`; by default `<script>.json`."""
  file = RESULTS / (path or f"{script}.json")
  file.parent.mkdir(parents=True, exist_ok=True)
  command = " ".join([f"python -m experiments.claims.{script}", *sys.argv[1:]])
  file.write_text(json.dumps({"command": command, **body, **doctor.device_summary()}, indent=1) + "\n")
