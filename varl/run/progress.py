"""What a run tells its user while it runs."""

import pathlib
import sys
import time
from typing import Any

from varl.run.configure import RunConfig


class Reporter:
  """Hears of a run's stages; this one says nothing."""

  def started(self, run: RunConfig, out: pathlib.Path | None) -> None:
    """Before anything heavy."""

  def message(self, text: str) -> None:
    """Something to know."""

  def compiling(self, seconds: float) -> None:
    """The programs are being compiled, for so long already; heard of several times a second, from 0 on."""

  def compiled(self, seconds: float) -> None:
    """The programs are compiled."""

  def advanced(self, env_steps: int, metrics: dict[str, Any]) -> None:
    """The trainer came so far."""

  def row(self, row: dict[str, Any]) -> None:
    """A row of metrics was recorded."""

  def finished(self, rows: list[dict[str, Any]], out: pathlib.Path | None, complete: bool) -> None:
    """The run ended, or was interrupted."""


silent = Reporter()


def check(report: Any, callback: Any = None) -> Reporter:
  """A reporter; and a callback, which is called with each row.

  Raises:
    ValueError: it is none, or the callback is neither None nor to be called.
  """
  if callback is not None and not callable(callback):
    raise ValueError(f"callback is a function of a row of metrics, or None; got {callback!r}")
  missing = [name for name in vars(Reporter) if not name.startswith("_") and not callable(getattr(report, name, None))]
  if missing:
    raise ValueError(
      f"report hears of a run's stages: varl.run.progress.Console(), .silent, or an object of your own with "
      f"{', '.join(missing)}; got {report!r}"
    )
  found: Reporter = report
  return found


PLAIN_SECONDS = 10.0
"""How often a line says that compiling goes on, where there is no terminal on which a clock could run."""


class Console(Reporter):
  """Reports as text: device and versions, what compiling takes, a line an evaluation, the curve; on a terminal with a
  clock while compiling, and a progress bar with ETA."""

  def __init__(self) -> None:
    import rich.console

    # What is printed is never markup: paths and messages may hold brackets and colons.
    self._console = rich.console.Console(file=sys.stdout, highlight=False, soft_wrap=True, markup=False, emoji=False)
    self._bar: Any = None
    self._said = -PLAIN_SECONDS
    self._task: Any = None
    self._total = 0
    self._last = (time.perf_counter(), 0)
    self._return = float("nan")

  def started(self, run: RunConfig, out: pathlib.Path | None) -> None:
    from varl.run import doctor

    self._total = run.settings.iterations * run.settings.steps_per_iteration
    self._console.print(doctor.one_line())
    warning = doctor.accelerator_warning()
    if warning:
      self._console.print(f"WARNING: {warning}", style="bold red")
    where = "" if out is None else f" -> {out}"
    backend = "" if run.backend is None else f" ({run.backend})"
    self._console.print(f"{run.algorithm} on {run.env}{backend}, seed {run.seed}, {self._total:,} steps{where}")

  def message(self, text: str) -> None:
    self._console.print(text)

  def compiling(self, seconds: float) -> None:
    import rich.progress as rp

    if self._console.is_terminal:
      if self._bar is None:
        columns = (rp.SpinnerColumn(), rp.TextColumn("compiling"), rp.TimeElapsedColumn())
        self._bar = rp.Progress(*columns, console=self._console, transient=True)
        self._bar.add_task("")
        self._bar.start()
    elif seconds >= self._said + PLAIN_SECONDS:
      self._console.print(f"compiling: {seconds:.0f} s" if seconds >= 1 else "compiling")
      self._said = seconds

  def compiled(self, seconds: float) -> None:
    import rich.progress as rp

    self.close()
    self._console.print(f"compiled in {seconds:.1f} s")
    columns = (rp.BarColumn(), rp.TaskProgressColumn(), rp.TimeRemainingColumn(), rp.TextColumn("{task.description}"))
    self._bar = rp.Progress(*columns, console=self._console, transient=True)
    self._task = self._bar.add_task("", total=self._total)
    self._bar.start()
    self._last = (time.perf_counter(), 0)

  def advanced(self, env_steps: int, metrics: dict[str, Any]) -> None:
    now = time.perf_counter()
    before, steps = self._last
    seconds = max(now - before, 1e-9)
    rates = (
      f"{(env_steps - steps) / seconds:,.0f} steps/s, {float(metrics['training/updates']) / seconds:,.0f} updates/s"
    )
    if steps:  # the first call after a start or a resume has no beginning to count from
      self._bar.update(self._task, description=f"return {self._return:.1f}, {rates}")
    self._bar.update(self._task, completed=env_steps)
    self._last = (now, env_steps)

  def row(self, row: dict[str, Any]) -> None:
    self._return = row["eval/episode_reward"]
    text = f"{row['env_steps']:>12,} steps  return {self._return:10.2f} ± {row['eval/episode_reward_std']:.2f}"
    text += f"  length {row['eval/avg_episode_length']:.0f}"
    if "training/sps" in row:
      text += f"  {row['training/sps']:,.0f} steps/s  {row['training/updates_per_second']:,.0f} updates/s"
    if row.get("training/nan_resets"):
      text += f"  {row['training/nan_resets']:.0f} non-finite steps left out"
    self._console.print(text)
    self._last = (time.perf_counter(), self._last[1])

  def finished(self, rows: list[dict[str, Any]], out: pathlib.Path | None, complete: bool) -> None:
    from varl.report import plots

    self.close()
    if rows:
      self._console.print(plots.text_curve(rows))
    if not complete:
      more = "" if out is None else f"; `varl resume {out}` goes on from here"
      self._console.print(f"stopped before the last step{more}")
    if out is not None:
      self._console.print(f"curve: {out / 'curve.png'}   policy: {out / 'policy'}")

  def close(self) -> None:
    """Takes clock and bar away, also after an error."""
    if self._bar is not None:
      self._bar.stop()
      self._bar = None
