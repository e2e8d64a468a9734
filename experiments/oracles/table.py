"""The table: rows of every algorithm, in Markdown and as records."""

import functools
import json
import pathlib
import zlib
from collections.abc import Sequence

import jax
import numpy as np

from experiments.oracles import finite, regulators
from experiments.oracles.entries import ORACLES
from experiments.oracles.rows import Row, Scale
from varl.run import doctor


def measure(algorithms: Sequence[str], scale: Scale) -> list[Row]:
  """All rows of these algorithms.

  Raises:
    ValueError: an algorithm without an oracle.
  """
  for name in algorithms:
    if name not in ORACLES:
      raise ValueError(f"{name!r} has no oracle; those with one are {', '.join(ORACLES)}")
  return [row for name in algorithms for oracle in ORACLES[name] for row in oracle(name, scale)]


def table(rows: Sequence[Row]) -> str:
  """The rows in Markdown."""
  lines = [
    "| algorithm | problem | quantity | got | exact | error, mean ± 95 % | worst seed | tolerance | |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for row in rows:
    interval = "" if np.isnan(row.interval) else f" ± {row.interval:.4f}"
    cells = [row.algorithm, row.problem, row.quantity]
    cells += [f"{row.got:.4g}", f"{row.exact:.4g}"] if row.got or row.exact else ["", ""]
    cells += [f"{row.error:.4f}{interval}", f"{max(row.errors):.4f}", f"{row.tolerance:.3g}"]
    lines.append(f"| {' | '.join([*cells, 'holds' if row.holds else 'MISS'])} |")
  return "\n".join(lines) + "\n"


def record(algorithm: str, rows: Sequence[Row], seeds: Sequence[int], seconds: float, out: pathlib.Path) -> None:
  """Writes an algorithm's rows; those that miss their tolerance stand there like all others."""
  out.mkdir(parents=True, exist_ok=True)
  body = {
    "command": " ".join(["python -m experiments.oracles --algorithms", algorithm, "--seeds", *map(str, seeds)]),
    "problems": problem_set(),
    "seconds": seconds,
    "seeds": list(seeds),
    "rows": [{**row._asdict(), "error": row.error, "interval": row.interval, "holds": row.holds} for row in rows],
    **doctor.device_summary(),
  }
  (out / f"{algorithm}.json").write_text(json.dumps(body, indent=1) + "\n")


def recorded(algorithm: str, out: pathlib.Path, seeds: Sequence[int] | None = None) -> list[Row]:
  """The rows recorded in that folder for the present problems (and for these seeds); none where there is no record."""
  path = out / f"{algorithm}.json"
  if not path.exists():
    return []
  body = json.loads(path.read_text())
  if body.get("problems") != problem_set() or (seeds is not None and body["seeds"] != list(seeds)):
    return []
  return [
    Row(**{field: row[field] for field in Row._fields} | {"errors": tuple(row["errors"])}) for row in body["rows"]
  ]


@functools.cache
def problem_set() -> str:
  """Eight digits that say which problems a record is of; the numbers in them count to four decimals."""
  leaves = jax.tree.leaves((regulators.problems(), finite.processes()))
  text = repr([np.round(np.asarray(leaf, np.float64), 4).tolist() for leaf in leaves])
  return f"{zlib.crc32(text.encode()):08x}"
