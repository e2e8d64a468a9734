"""The metrics of a run on disk: `metrics.jsonl` (the record), `metrics.csv` (made from it) and TensorBoard events.

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
TENSORBOARD = "tensorboard"
STEPS = "env_steps"

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Row = dict[str, Any]
"""One row: the int `env_steps` and floats by metric name."""


def _normalise(row: Mapping[str, Any]) -> Row:
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


def _encode(row: Row) -> bytes:
  """One line of `metrics.jsonl`, newline included."""

  def cell(value: float) -> float | str:
    if math.isfinite(value):
      return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

  return json.dumps({name: cell(value) for name, value in row.items()}, allow_nan=False).encode() + b"\n"


def _decode(line: bytes) -> Row:
  """The inverse of `_encode`; ValueError for anything that is not a whole row."""

  def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")

  row = json.loads(line.decode(), parse_constant=refuse)
  if not isinstance(row, dict):
    raise ValueError("not a JSON object")
  return _normalise(
    {name: _NON_FINITE.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
  )


def _lines(out: str | os.PathLike[str]) -> tuple[list[tuple[bytes, Row]], bool]:
  """The whole rows of `metrics.jsonl` as (line, row), and whether that is all the file holds."""
  path = pathlib.Path(out) / JSONL
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


def _table(rows: Iterable[Row]) -> tuple[list[str], bytes]:
  """The columns of these rows, and `metrics.csv` as bytes."""
  rows = list(rows)
  columns = [STEPS, *sorted({name for row in rows for name in row} - {STEPS})]
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return columns, text.getvalue().encode()


def read(out: str | os.PathLike[str]) -> list[Row]:
  """Reads the metrics of a run.

  Args:
    out: the run's directory.

  Returns:
    The rows in the order in which they were written, `env_steps` an int and the rest floats. Empty when the run wrote
    none. A last line that was cut off (the process was killed, the disk was full) is left out.

  Raises:
    ValueError: a line before the last one is no row of metrics.
  """
  return [row for _, row in _lines(out)[0]]


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
  lines, complete = _lines(out)
  kept = [(line, row) for line, row in lines if row[STEPS] <= env_steps]
  if len(kept) < len(lines) or not complete:
    files.write_atomically(pathlib.Path(out) / JSONL, b"".join(line for line, _ in kept))
    files.write_atomically(pathlib.Path(out) / CSV, _table(row for _, row in kept)[1])
  return len(lines) - len(kept)


class _Appender:
  """A file to which whole byte strings are appended: all of one, or none of it."""

  def __init__(self, path: pathlib.Path):
    self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for as long as the run
    self._end = 0
    self._broken = False

  def append(self, content: bytes) -> None:
    if self._broken:  # the roll-back itself failed before; without it the bytes would land behind half a line
      self._file.truncate(self._end)
      self._broken = False
    self._end = self._file.seek(0, os.SEEK_END)
    try:
      view = memoryview(content)
      while view:
        view = view[self._file.write(view) :]
      os.fsync(self._file.fileno())
    except BaseException:
      self.undo()
      raise

  def undo(self) -> None:
    """Takes back what `append` last wrote; put off to the next `append` where the disk refuses."""
    try:
      self._file.truncate(self._end)
    except OSError:
      self._broken = True

  def close(self) -> None:
    self._file.close()


class MetricsWriter:
  """Appends rows of metrics to a run's directory.

  An object, not a NamedTuple of functions, because it owns open files; it is used by the host loop only.

  Each row reaches the disk (fsync) before `write` returns. Opening a directory that already has metrics continues
  them: a cut-off last line is removed and `metrics.csv` is made anew from `metrics.jsonl`. A run that resumes from a
  checkpoint calls `truncate_after` first.

  Args:
    out: the run's directory; created where it does not exist.
    tensorboard: whether to write TensorBoard events too, below `out/tensorboard`.

  Raises:
    OSError: `out` cannot be written.
    ValueError: `out/metrics.jsonl` is there and has a line, not the last one, that is no row of metrics.
  """

  def __init__(self, out: str | os.PathLike[str], *, tensorboard: bool = True):
    self._out = pathlib.Path(out)
    self._out.mkdir(parents=True, exist_ok=True)
    lines, complete = _lines(self._out)
    if not complete:
      files.write_atomically(self._out / JSONL, b"".join(line for line, _ in lines))
    self._jsonl: _Appender | None = _Appender(self._out / JSONL)
    self._csv: _Appender | None = None
    self._columns: list[str] = []
    self._events: Any = None
    try:
      if lines:
        self._rewrite_csv()
      if tensorboard:
        import tensorboardX  # not at the top: the command line answers `--help` without it

        self._events = tensorboardX.SummaryWriter(
          str(self._out / TENSORBOARD),
          # Events of a stretch that is run again after a resume would otherwise be drawn twice.
          purge_step=lines[-1][1][STEPS] + 1 if lines else None,
        )
    except BaseException:
      self.close()
      raise

  def write(self, row: Mapping[str, Any]) -> None:
    """Appends one row.

    Args:
      row: numbers by name (Python, NumPy or JAX scalars; non-finite ones are kept), the integer `env_steps` among them.

    Raises:
      ValueError: `env_steps` is missing or no integer, or a metric is not one number.
      OSError: the row could not be written (a full disk). It is then in neither file, every earlier row is readable,
        and `write` may be called again.
    """
    if self._jsonl is None:
      raise ValueError("this MetricsWriter is closed")
    plain = _normalise(row)
    self._jsonl.append(_encode(plain))
    try:
      if self._csv is None or not plain.keys() <= set(self._columns):
        self._rewrite_csv()
      else:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(plain)
        self._csv.append(text.getvalue().encode())
    except BaseException:
      self._jsonl.undo()
      self._close_csv()  # the next row makes the file anew
      raise
    if self._events is not None:
      for name, value in plain.items():
        if name != STEPS and math.isfinite(value):  # TensorBoard has no point to draw for the others
          self._events.add_scalar(name, value, plain[STEPS])
      self._events.flush()

  def close(self) -> None:
    """Closes the files; safe to call twice."""
    if self._jsonl is not None:
      self._jsonl.close()
      self._jsonl = None
    self._close_csv()
    if self._events is not None:
      self._events.close()
      self._events = None

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def _close_csv(self) -> None:
    if self._csv is not None:
      self._csv.close()
      self._csv = None

  def _rewrite_csv(self) -> None:
    self._close_csv()
    self._columns, content = _table(read(self._out))
    files.write_atomically(self._out / CSV, content)
    self._csv = _Appender(self._out / CSV)
