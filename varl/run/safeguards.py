"""What a run on the host makes sure of: its memory, its end by a signal, its count of updates, and finite numbers."""

import math
import pathlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from varl.loop.trainer import Trainer, TrainerState
from varl.run import doctor
from varl.types import Params


class Diverged(RuntimeError):
  """A run whose parameters or losses are no longer finite."""


def check_learns(trainer: Trainer) -> None:
  """A run that would never update anything is a mistake in its settings.

  Raises:
    ValueError: no update would be made.
  """
  settings, warm = trainer.settings, trainer.warm_up_iterations
  if not settings.updates_per_iteration:
    raise ValueError(f"updates_per_env_step={settings.updates_per_env_step} makes no update: nothing would be learned")
  if warm >= settings.iterations:
    before = f"warm_up={settings.warm_up:,}" if settings.warm_up else "what comes before the first update"
    raise ValueError(
      f"num_timesteps={settings.num_timesteps:,} ends before the first update, which comes after "
      f"{warm * settings.steps_per_iteration:,} environment steps ({before}): nothing would be learned"
    )


def check_memory(trainer: Trainer) -> str | None:
  """What replay will take, in words, before it is allocated; None where there is no replay.

  Raises:
    ValueError: it exceeds the memory that the device has.
  """
  size = trainer.replay_bytes
  if not size:
    return None
  limit = doctor.device_memory()
  if limit is not None and size > limit:
    raise ValueError(
      f"a replay of {trainer.settings.replay_capacity:,} transitions takes {size / 2**20:,.0f} MiB a device, "
      f"but it has {limit / 2**20:,.0f} MiB; lower replay_capacity"
    )
  known = "" if limit is None else f" of {limit / 2**20:,.0f} MiB"
  return f"replay: {size / 2**20:,.1f} MiB a device{known}"


class Signalled(threading.Event):
  """Set by a signal, whose name it has then."""

  name: str = ""


@contextmanager
def interruptible() -> Iterator[Signalled]:
  """Turns the first Ctrl-C or SIGTERM into an event: the run stops between two calls of the trainer and is saved."""
  event = Signalled()
  if threading.current_thread() is not threading.main_thread():
    yield event
    return

  def handle(number: int, frame: Any) -> None:
    if event.is_set():
      raise KeyboardInterrupt
    event.name = signal.Signals(number).name
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
  if bad or not bool(finite(state.agent.params)):
    what = f"{', '.join(bad)} turned non-finite" if bad else "a parameter turned non-finite"
    kept = "" if out is None else f"; metrics and the checkpoints before it are in {out}"
    raise Diverged(f"{what} before {steps:,} environment steps{kept}")


@jax.jit
def finite(params: Params) -> jax.Array:
  """Whether all parameters are finite."""
  leaves = [jax.numpy.all(jax.numpy.isfinite(x)) for x in jax.tree.leaves(params)]
  return jax.numpy.all(jax.numpy.stack(leaves))
