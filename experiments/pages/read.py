"""Reading records, and the Markdown that pages are made of."""

import csv
import json
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"


def record(path: str) -> dict[str, Any]:
  """The JSON record at this path below `experiments/results/`."""
  found: dict[str, Any] = json.loads((RESULTS / path).read_text())
  return found


def lines(path: str) -> list[dict[str, Any]]:
  """The records of a file with one a line."""
  return [json.loads(line) for line in (RESULTS / path).read_text().splitlines()]


class Curve(NamedTuple):
  """The evaluations of one run: steps and mean returns."""

  steps: list[int]
  returns: list[float]

  @property
  def best(self) -> float:
    return max(self.returns)

  @property
  def last(self) -> float:
    return self.returns[-1]

  def first(self, target: float) -> int | None:
    """Steps at the first evaluation at or above the target."""
    return next((step for step, value in zip(self.steps, self.returns, strict=True) if value >= target), None)

  def below_after(self, target: float) -> int | None:
    """Evaluations below the target after that; None where it was never reached."""
    reached = self.first(target)
    if reached is None:
      return None
    return sum(1 for step, value in zip(self.steps, self.returns, strict=True) if step > reached and value < target)


class Recorded(NamedTuple):
  """The runs of one algorithm on one environment.

  Attributes:
    algorithm, env: whose.
    folder: where, below `experiments/results/`.
    command: the command that makes them.
    target: a return that counts as solved; None where there is none.
    curves: by seed.
    metrics: the rows of each seed's `metrics.csv`.
  """

  algorithm: str
  env: str
  folder: str
  command: str
  target: float | None
  curves: dict[str, Curve]
  metrics: dict[str, list[dict[str, float]]]


def runs(folder: str, env: str) -> dict[str, Recorded]:
  """Everything recorded below `<folder>/<env>/`, by algorithm."""
  found = {}
  for summary in sorted((RESULTS / folder / env).glob("*/summary.json")):
    body = json.loads(summary.read_text())
    tables = {seed: _table(summary.parent / f"seed{seed}" / "metrics.csv") for seed in body["seeds"]}
    curves = {
      seed: Curve([int(row["env_steps"]) for row in rows], [row["eval/episode_reward"] for row in rows])
      for seed, rows in tables.items()
    }
    name = summary.parent.name
    found[name] = Recorded(name, env, f"{folder}/{env}/{name}", body["command"], body["target"], curves, tables)
  return found


def _table(path: pathlib.Path) -> list[dict[str, float]]:
  with open(path, newline="") as file:
    return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def machine(body: dict[str, Any]) -> str:
  """Versions and device of a record, as a clause."""
  device, versions = body["device"], body["versions"]
  what = device["kind"] if device["platform"] != "cpu" else f"{device['cpu_cores']} CPU cores"
  return f"{what}, JAX {versions['jax']}, Python {versions['python']}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A Markdown table."""
  out = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
  return "\n".join([*out, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def each(values: Iterable[Any], form: str = ",.0f") -> str:
  """Numbers side by side, "never" for None."""
  return ", ".join("never" if value is None else format(value, form) for value in values)


def percent(share: float, digits: int = 1) -> str:
  """A share as a percentage."""
  return "–" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def picture(path: str, text: str, *, depth: int = 2) -> str:
  """A picture below `experiments/results/`, for a page `depth` folders below the root."""
  return f"![{text}]({'../' * depth}experiments/results/{path})\n"


def shell(command: str) -> str:
  """A command as a block."""
  return f"```\n{command}\n```\n"
