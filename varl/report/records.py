"""The record of a run: `metrics.jsonl`, and `metrics.csv` made from it.

A row is a mapping from metric name to number and always holds the integer `env_steps`. `metrics.jsonl` has one line a
row and is strict JSON. JSON knows no non-finite number, so these three are written as strings, which `read` turns back
into floats:

  NaN -> "NaN",  +inf -> "Infinity",  -inf -> "-Infinity".

`metrics.csv` writes them as `nan`, `inf` and `-inf`, which Python, NumPy and pandas all read; a metric that a row
does not have is an empty cell.
"""

import csv
import io
import json
import math
import operator
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from varl import files

JSONL = "metrics.jsonl"
CSV = "metrics.csv"
STEPS = "env_steps"
CONFIG = "config.json"
"""Of a run: its configuration."""
POPULATION = "population.json"
"""Of a population: what `config.json` is of a run."""
MEMBERS = "members"
"""Of a population: where the directories of its runs are."""

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Row = dict[str, Any]
"""One row: the int `env_steps` and floats by metric name."""


def runs_of(out: str | os.PathLike[str]) -> list[pathlib.Path]:
  """The directories of runs that one stands for: the members of a population, or itself.

  Raises:
    ValueError: it is no path, or a population whose record is damaged.
  """
  out = files.as_path(out)
  try:
    names = json.loads((out / POPULATION).read_text())["members"]
    if not names:
      raise ValueError("it has no members")
    return [out / MEMBERS / name for name in names]
  except (FileNotFoundError, NotADirectoryError):
    return [out]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{out / POPULATION} is damaged: {error}") from None


def no_run(out: str | os.PathLike[str]) -> str:
  """Why a directory without a `config.json` is no run, in words."""
  first = runs_of(out)[0]
  if first != files.as_path(out):
    return f"{out} is a population and no run: give one of its members, such as {first}"
  return f"{out} is no run: it has no {CONFIG}"


def normalise(row: Mapping[str, Any]) -> Row:
  """The row as plain Python numbers, `env_steps` first and the rest sorted."""
  if STEPS not in row:
    raise ValueError(f"a row of metrics needs {STEPS!r}; got the columns {sorted(row)}")
  try:
    steps = operator.index(row[STEPS])
  except TypeError:
    raise ValueError(f"{STEPS!r} must be an integer, got {row[STEPS]!r}") from None
  result: Row = {STEPS: steps}
  for name in sorted(row):
    if name == STEPS:
      continue
    try:
      if isinstance(row[name], str):
        raise TypeError("text is no number")
      result[name] = float(row[name])
    except (TypeError, ValueError):
      raise ValueError(f"metric {name!r} must be one number, got {row[name]!r}") from None
  return result


def encode(row: Row) -> bytes:
  """One line of `metrics.jsonl`, newline included."""

  def cell(value: float) -> float | str:
    if math.isfinite(value):
      return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

  return json.dumps({name: cell(value) for name, value in row.items()}, allow_nan=False).encode() + b"\n"


def _decode(line: bytes) -> Row:
  """The inverse of `encode`; ValueError for anything that is not a whole row."""

  def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")

  row = json.loads(line.decode(), parse_constant=refuse)
  if not isinstance(row, dict):
    raise ValueError("not a JSON object")
  return normalise(
    {name: _NON_FINITE.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
  )


def lines(out: str | os.PathLike[str]) -> tuple[list[tuple[bytes, Row]], bool]:
  """The whole rows of `metrics.jsonl` as (line, row), and whether that is all the file holds."""
  path = files.as_path(out) / JSONL
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    return [], True
  raw = content.split(b"\n")
  ended = raw[-1] == b""
  if ended:
    raw.pop()
  result = []
  for number, line in enumerate(raw, start=1):
    try:
      result.append((line + b"\n", _decode(line)))
    except ValueError as error:
      # A killed process or a full disk can only cut the last line: the writer never appends behind a broken one.
      if number == len(raw):
        return result, False
      raise ValueError(f"{path}, line {number}, is no row of metrics: {error}") from error
  return result, ended


def table(rows: Iterable[Row]) -> tuple[list[str], bytes]:
  """The columns of these rows, and `metrics.csv` as bytes."""
  rows = list(rows)
  columns = [STEPS, *sorted({name for row in rows for name in row} - {STEPS})]
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return columns, text.getvalue().encode()


def read(out: str | os.PathLike[str]) -> list[Row]:
  """Reads the metrics of a run: `metrics.jsonl`, or `metrics.csv` where a record keeps that alone.

  Args:
    out: the run's directory.

  Returns:
    The rows in the order in which they were written, `env_steps` an int and the rest floats. Empty when the run wrote
    none. A last line that was cut off (the process was killed, the disk was full) is left out.

  Raises:
    ValueError: a line before the last one is no row of metrics.
  """
  out = files.as_path(out)
  if not (out / JSONL).exists() and (out / CSV).exists():
    return _read_table(out / CSV)
  return [row for _, row in lines(out)[0]]


def _read_table(path: pathlib.Path) -> list[Row]:
  """The rows of a `metrics.csv`."""
  with open(path, newline="") as file:
    cells = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
  try:
    return [
      normalise({name: int(cell) if name == STEPS else float(cell) for name, cell in row.items()}) for row in cells
    ]
  except (TypeError, ValueError) as error:
    raise ValueError(f"{path} is no table of metrics: {error}") from error


def truncate_after(out: str | os.PathLike[str], env_steps: int) -> int:
  """Drops the rows behind a checkpoint, so that the run that resumes from it writes none of them twice.

  A cut-off last line goes as well. `metrics.jsonl` and then `metrics.csv` are replaced, each in one step.
  TensorBoard's events stay; `MetricsWriter` tells TensorBoard to hide those that are written again.

  Args:
    out: the run's directory.
    env_steps: environment steps at the checkpoint; rows with more are dropped.

  Returns:
    How many whole rows were dropped.

  Raises:
    ValueError: a line before the last one is no row of metrics.
    OSError: the files could not be replaced; the rows are then still readable.
  """
  found, complete = lines(out)
  kept = [(line, row) for line, row in found if row[STEPS] <= env_steps]
  if len(kept) < len(found) or not complete:
    files.write_atomically(pathlib.Path(out) / JSONL, b"".join(line for line, _ in kept))
    files.write_atomically(pathlib.Path(out) / CSV, table(row for _, row in kept)[1])
  return len(found) - len(kept)
