"""The metrics of a run as it writes them: rows of `varl.report.records`, and TensorBoard events."""

import csv
import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from varl import files
from varl.report import records
from varl.run.configure import RunConfig

TENSORBOARD = "tensorboard"


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
    logged: called with each row as well, of `(row)`, and with None at the end; None: nothing is.

  Raises:
    OSError: `out` cannot be written.
    ValueError: `out/metrics.jsonl` is there and has a line, not the last one, that is no row of metrics.
  """

  def __init__(self, out: str | os.PathLike[str], *, tensorboard: bool = True, logged: Any = None):
    self._out = pathlib.Path(out)
    self._out.mkdir(parents=True, exist_ok=True)
    lines, complete = records.lines(self._out)
    if not complete:
      files.write_atomically(self._out / records.JSONL, b"".join(line for line, _ in lines))
    self._jsonl: _Appender | None = _Appender(self._out / records.JSONL)
    self._csv: _Appender | None = None
    self._columns: list[str] = []
    self._events: Any = None
    self._logged = logged
    try:
      if lines:
        self._rewrite_csv()
      if tensorboard:
        import tensorboardX  # not at the top: the command line answers `--help` without it

        self._events = tensorboardX.SummaryWriter(
          str(self._out / TENSORBOARD),
          # Events of a stretch that is run again after a resume would otherwise be drawn twice.
          purge_step=lines[-1][1][records.STEPS] + 1 if lines else None,
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
    plain = records.normalise(row)
    self._jsonl.append(records.encode(plain))
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
        if name != records.STEPS and math.isfinite(value):  # TensorBoard has no point to draw for the others
          self._events.add_scalar(name, value, plain[records.STEPS])
      self._events.flush()
    if self._logged is not None:
      self._logged(plain)

  def moved(self, out: str | os.PathLike[str]) -> None:
    """The directory has another name from here on; the files stay open."""
    self._out = pathlib.Path(out)

  def close(self) -> None:
    """Closes the files; safe to call twice."""
    if self._jsonl is not None:
      self._jsonl.close()
      self._jsonl = None
    self._close_csv()
    if self._events is not None:
      self._events.close()
      self._events = None
    if self._logged is not None:
      self._logged(None)
      self._logged = None

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
    self._columns, content = records.table(records.read(self._out))
    files.write_atomically(self._out / records.CSV, content)
    self._csv = _Appender(self._out / records.CSV)


def weights_and_biases(out: pathlib.Path, run: RunConfig) -> Callable[[Mapping[str, Any] | None], None]:
  """What logs rows to Weights & Biases, as a run of the directory's name that goes on where one of it is there.

  Its environment variables (`WANDB_PROJECT`, `WANDB_MODE=offline` and the others) say the rest; files of its own go to
  its own directory.
  """
  import wandb

  config = {"algorithm": run.algorithm, "env": run.env, "seed": run.seed, **dataclasses.asdict(run.settings)}
  own = {key: value for key, value in dataclasses.asdict(run.config).items() if key != "demonstrations"}
  project = os.environ.get("WANDB_PROJECT", "varl")
  found = wandb.init(project=project, name=out.name, id=out.name, resume="allow", config={**config, **own})

  def log(row: Mapping[str, Any] | None) -> None:
    if row is None:
      found.finish()
    else:
      found.log({key: value for key, value in row.items() if key != records.STEPS}, step=row[records.STEPS])

  return log
