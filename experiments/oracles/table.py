"""The table: rows of every algorithm, in Markdown and as records."""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

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
    lines.append(f"| {' | '.join([*cells, 'holds' if row.holds else 'FAILS'])} |")
  return "\n".join(lines) + "\n"


def record(algorithm: str, rows: Sequence[Row], seeds: Sequence[int], seconds: float, out: pathlib.Path) -> None:
  """Writes an algorithm's rows, and `table.md` of all algorithms recorded in that folder, in the order of `ORACLES`."""
  out.mkdir(parents=True, exist_ok=True)
  body = {
    "command": " ".join(["python -m experiments.oracles", *sys.argv[1:]]),
    "seconds": seconds,
    "seeds": seeds,
    "rows": [{**row._asdict(), "error": row.error, "interval": row.interval, "holds": row.holds} for row in rows],
    **doctor.device_summary(),
  }
  (out / f"{algorithm}.json").write_text(json.dumps(body, indent=1) + "\n")
  recorded = []
  for path in (out / f"{name}.json" for name in ORACLES):
    if path.exists():
      recorded += [Row(**{field: row[field] for field in Row._fields}) for row in json.loads(path.read_text())["rows"]]
  (out / "table.md").write_text(table(recorded))
