"""The programs of a run, compiled side by side, while the user is told how long it takes."""

import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from varl.loop.trainer import Trainer
from varl.run.progress import Reporter

TICK = 0.25
"""Seconds between two looks at what is being compiled."""


class Programs(NamedTuple):
  """A trainer's functions, compiled.

  Attributes:
    init, epoch, evaluate: as of `Trainer`; where a run goes on, `init` is not.
  """

  init: Callable[..., Any]
  epoch: Callable[..., Any]
  evaluate: Callable[..., Any]


def programs(trainer: Trainer, key: Any, *, fresh: bool, report: Reporter, stop: threading.Event | None) -> Programs:
  """Compiles what a run calls.

  Args:
    trainer: the run's.
    key: any key, for its type.
    fresh: whether the run begins, and needs `init`.
    report: hears of the time that passes.
    stop: set by a signal; None: nothing ends the waiting.

  Raises:
    KeyboardInterrupt: `stop` was set. The compilers run on; nothing can end them but the end of the process.
  """
  if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # nothing is to be compiled
    return Programs(trainer.init, trainer.epoch, trainer.evaluate)
  count, init = jax.ShapeDtypeStruct((), np.int32), cast(Any, trainer.init)
  lower = [
    lambda: trainer.epoch.lower(trainer.shapes, count),
    lambda: trainer.evaluate.lower(trainer.shapes, key),
    *([lambda: init.lower(key)] if fresh else []),
  ]
  epoch, evaluate, *first = side_by_side(lower, report, stop)
  return Programs(first[0] if first else init, epoch, evaluate)


def side_by_side(lower: list[Callable[[], Any]], report: Reporter, stop: threading.Event | None = None) -> list[Any]:
  """Lowers programs one after another, here, and compiles each in a thread of its own from then on.

  Tracing holds Python's lock and reads the configuration of this thread; compiling does neither.

  Args:
    lower: functions that give what `jax.jit(f).lower(...)` does, the longest first.
    report: hears of the time that passes.
    stop: ends the waiting when it is set.

  Raises:
    KeyboardInterrupt: `stop` was set.
  """
  started = time.perf_counter()

  def look() -> None:
    if stop is not None and stop.is_set():
      raise KeyboardInterrupt
    report.compiling(time.perf_counter() - started)

  pool = concurrent.futures.ThreadPoolExecutor(len(lower))
  try:
    waiting: list[concurrent.futures.Future[Any]] = []
    for make in lower:
      look()
      waiting.append(pool.submit(make().compile))
    left = set(waiting)
    while left:
      look()
      done, left = concurrent.futures.wait(left, TICK, concurrent.futures.FIRST_COMPLETED)
      for future in done:
        future.result()  # raises at once what one of them raised
  finally:
    pool.shutdown(wait=False, cancel_futures=True)
  return [future.result() for future in waiting]
