"""What a run on the host makes sure of: its directory, its memory, its end by a signal, and finite numbers."""

import math
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from varl.loop.trainer import Trainer, TrainerState
from varl.run import configure, doctor
from varl.run.configure import RunConfig
from varl.run.progress import Reporter
from varl.types import Params


class Diverged(RuntimeError):
  """A run whose parameters or losses are no longer finite."""


def check_out(out: pathlib.Path, overwrite: bool) -> None:
  """The directory of a new run.

  Raises:
    ValueError: it exists, and is not to be overwritten, or is no run.
  """
  if out.exists():
    if not overwrite:
      raise ValueError(f"{out} exists already; choose another directory, resume it, or pass overwrite")
    if not (out / configure.FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
      raise ValueError(f"{out} exists and is no run; it is not overwritten")


def claim(out: pathlib.Path, run: RunConfig) -> None:
  """Makes the directory, empty but for the run's description.

  Raises:
    ValueError: it cannot be made.
  """
  try:
    if out.exists():
      shutil.rmtree(out)
    out.mkdir(parents=True)
  except OSError as error:
    raise ValueError(f"cannot create {out}: {error.strerror}") from None
  configure.write(out, run, doctor.device_summary())


def check_memory(trainer: Trainer, report: Reporter) -> None:
  """Says what replay will take before it is allocated.

  Raises:
    ValueError: it exceeds the memory that the device has.
  """
  size = trainer.replay_bytes
  if not size:
    return
  limit = doctor.device_memory()
  known = "" if limit is None else f" of {limit / 2**20:,.0f} MiB"
  report.message(f"replay: {size / 2**20:,.1f} MiB a device{known}")
  if limit is not None and size > limit:
    raise ValueError(
      f"a replay of {trainer.settings.replay_capacity:,} transitions takes {size / 2**20:,.0f} MiB a device, "
      f"but it has {limit / 2**20:,.0f} MiB; lower replay_capacity"
    )


@contextmanager
def interruptible() -> Iterator[threading.Event]:
  """Turns the first Ctrl-C or SIGTERM into an event: the run stops between two calls of the trainer and is saved."""
  event = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield event
    return

  def handle(number: int, frame: Any) -> None:
    if event.is_set():
      raise KeyboardInterrupt
    event.set()

  before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield event
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def assert_updates(trainer: Trainer, done: int, count: int, metrics: dict[str, Any]) -> None:
  """The ratio of updates to environment steps is a setting; this holds it against what happened.

  Raises:
    AssertionError: they differ.
  """
  warm = min(max(trainer.warm_up_iterations - (done - count), 0), count)
  expected = (count - warm) * trainer.settings.updates_per_iteration
  happened = int(metrics["training/updates"])
  if happened != expected:
    raise AssertionError(f"{happened} updates in {count} iterations, where the settings give {expected}")


def check_finite(state: TrainerState, training: dict[str, Any], steps: int, out: pathlib.Path | None) -> None:
  """Ends a run that learns nothing any more.

  Raises:
    Diverged: a loss of these metrics, or a parameter, is not finite.
  """
  bad = [
    k for k, v in training.items() if k.endswith("_loss") and not math.isfinite(v) and training["training/updates"]
  ]
  if bad or not bool(_finite(state.agent.params)):
    what = f"{', '.join(bad)} turned non-finite" if bad else "a parameter turned non-finite"
    kept = "" if out is None else f"; metrics and the checkpoints before it are in {out}"
    raise Diverged(f"{what} before {steps:,} environment steps{kept}")


@jax.jit
def _finite(params: Params) -> jax.Array:
  leaves = [jax.numpy.all(jax.numpy.isfinite(x)) for x in jax.tree.leaves(params)]
  return jax.numpy.all(jax.numpy.stack(leaves))
