"""Epochs of the trainer on the host; between them evaluation, rows of metrics, checkpoints, and what may end a run."""

import contextlib
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from varl.agents import Algorithm
from varl.loop.trainer import Trainer, TrainerState, run_keys
from varl.run import checkpoint, compiling, processes, safeguards
from varl.run.configure import RunConfig
from varl.run.loggers import MetricsWriter
from varl.run.progress import Reporter
from varl.run.watch import Watch
from varl.types import Spec

CHUNKS = 10
"""Calls of the trainer an epoch. A constant and not a matter of time, so that every run sums its metrics alike."""

Row = dict[str, Any]


class StopTraining(Exception):
  """A callback raises it to end its run, which is saved as an interrupted one is."""


class Session(NamedTuple):
  """What a run is made of."""

  run: RunConfig
  algorithm: Algorithm
  env: Any
  spec: Spec
  trainer: Trainer
  team: processes.Team


class Start(NamedTuple):
  """Where a run begins, or goes on.

  Attributes:
    saved: the checkpoint it goes on from; None: it begins.
    rows: the rows of metrics until there.
    begin: called once everything is compiled, by the process that writes, with the first row of a run that begins and
      else None: the run's directory is this run's from then on. Gives what writes its rows, if anything does.
  """

  saved: dict[str, Any] | None
  rows: list[Row]
  begin: Callable[[Row | None], MetricsWriter | None]


class End(NamedTuple):
  """How a run ended.

  Attributes:
    state: the last one.
    rows: all rows of metrics.
    finished: whether it did its last step.
    raised: what its callback raised.
    stopped: what ended it before: "return", "time", "callback", or a signal's name; "" where nothing did.
  """

  state: TrainerState
  rows: list[Row]
  finished: bool
  raised: BaseException | None
  stopped: str = ""


def run(
  session: Session,
  start: Start,
  *,
  out: pathlib.Path | None,
  callback: Callable[[Row], object] | None,
  report: Reporter,
  signalled: safeguards.Signalled,
  watch: Watch,
  keep_best: Callable[[TrainerState], None],
) -> End:
  """Compiles, and trains to the last step, to a signal, or until the callback raises.

  Args:
    session: the run.
    start: where it begins.
    out: its directory.
    callback: called with each row.
    report: hears of every stage.
    signalled: set by a signal.
    watch: what ends it earlier, and what is kept.
    keep_best: called with the state of an evaluation that is the highest so far, if `watch` asks for it.

  Raises:
    Diverged: parameters or losses turned non-finite; there is no checkpoint of that.
    KeyboardInterrupt: a signal came while compiling.
  """
  settings, trainer, team = session.run.settings, session.trainer, session.team
  total, grid = settings.iterations, settings.iterations_per_epoch
  rows, raised, ended = list(start.rows), list[BaseException](), list[str]()
  done = 0 if start.saved is None else _iteration(start.saved["trainer"])
  if start.saved is not None and done == total:
    return End(start.saved["trainer"], rows, True, None)

  started = time.perf_counter()
  init_key, eval_key = run_keys(jax.random.key(session.run.seed))
  # Several processes stop together, which they agree on between two calls of the trainer.
  stop = None if team.several else signalled
  programs = compiling.programs(trainer, init_key, fresh=start.saved is None, report=report, stop=stop)
  compile_time = time.perf_counter() - started
  report.compiled(compile_time)
  if start.saved is None:
    state, elapsed_before, last_saved = programs.init(init_key), 0.0, -1
  else:
    state, elapsed_before, last_saved = start.saved["trainer"], float(start.saved["walltime"]), done

  def steps() -> int:
    return done * settings.steps_per_iteration

  def walltime() -> float:
    return elapsed_before + time.perf_counter() - started

  def stopping() -> bool:
    if watch.stop_after is not None and time.perf_counter() - started > watch.stop_after and not ended:
      ended.append("time")
    return team.anywhere(signalled.is_set() or bool(raised) or bool(ended))

  def evaluated(training: Row) -> Row:
    begun = time.perf_counter()
    values = jax.device_get(programs.evaluate(state, jax.random.fold_in(eval_key, done)))
    row = {"env_steps": steps(), **{k: float(v) for k, v in values.items()}, **training}
    return row | {"eval/walltime": time.perf_counter() - begun, "training/walltime": walltime()}

  def tell(row: Row) -> None:
    value = row["eval/episode_reward"]
    if watch.save_best and value > max((old["eval/episode_reward"] for old in rows), default=-math.inf):
      team.lead(lambda: keep_best(state))
    if watch.stop_at is not None and value >= watch.stop_at and done < total:
      ended.append("return")
    rows.append(row)
    report.row(row)
    try:
      if callback is not None:
        callback(row)
    except BaseException as error:  # whatever it is, the run is saved before it goes on its way
      raised.append(error)

  def save() -> int:
    if out is not None:
      checkpoint.save(out / "checkpoints", steps(), {"trainer": state, "walltime": walltime()})
    return done

  calls = 0
  first = evaluated({"training/compile_time": compile_time}) if start.saved is None else None
  writer = team.lead(lambda: start.begin(first))
  try:
    if first is not None:
      tell(first)
    while done < total and not stopping():
      goal = min(total, (done // grid + 1) * grid)
      before, parts, begun = done, list[Row](), time.perf_counter()
      while done < goal and not stopping():
        count = min(-(-grid // CHUNKS), goal - done)
        with tracing(watch.profile if calls == 1 else None, report):
          state, metrics = programs.epoch(state, np.int32(count))
          parts.append(jax.device_get(metrics))
        done, calls = done + count, calls + 1
        safeguards.assert_updates(trainer, done, count, parts[-1])
        report.advanced(steps(), parts[-1])
      if not parts:
        break
      training = merge(parts)
      if done == goal:
        seconds = time.perf_counter() - begun
        training["training/sps"] = (done - before) * settings.steps_per_iteration / seconds
        training["training/updates_per_second"] = training["training/updates"] / seconds
        row = evaluated({**training, "training/compile_time": compile_time})
        team.lead(functools.partial(writer.write, row) if writer is not None else lambda: None)
        tell(row)
      safeguards.check_finite(state, training, steps(), out)
      since = (done - max(last_saved, 0)) * settings.steps_per_iteration
      if done == goal and (done == total or since >= settings.checkpoint_every):
        last_saved = save()
    if last_saved != done:
      save()
  finally:
    if writer is not None:
      writer.close()
  stopped = "" if done == total else signalled.name or next(iter(ended), "callback")
  return End(state, rows, done == total, raised[0] if raised else None, stopped)


@contextlib.contextmanager
def tracing(directory: str | os.PathLike[str] | None, report: Reporter) -> Iterator[None]:
  """Traces what is done within, and says where the trace is; None: nothing is."""
  if directory is None:
    yield
    return
  with jax.profiler.trace(os.fspath(directory), create_perfetto_trace=True):
    yield
  found = sorted(pathlib.Path(directory).rglob("perfetto_trace.json.gz"))
  report.message(f"a trace of one call of the trainer: {found[-1] if found else directory} (ui.perfetto.dev opens it)")


def _iteration(state: TrainerState) -> int:
  return int(processes.to_host(state.loop.iteration).reshape(-1)[0])


_COUNTS = ("training/updates", "training/episodes", "training/nan_resets")
_OF_EPISODES = ("training/episode_reward", "training/avg_episode_length")


def merge(parts: list[Row]) -> Row:
  """The metrics of several calls as those of one: counts add up, means are weighted by what they are means of."""
  row: Row = {}
  for name in parts[0]:
    values = [float(part[name]) for part in parts]
    if name in _COUNTS:
      row[name] = sum(values)
      continue
    over = "training/episodes" if name in _OF_EPISODES else "training/updates"
    weights = [float(part[over]) for part in parts]
    weighted = [w * v for w, v in zip(weights, values, strict=True) if w > 0]
    row[name] = sum(weighted) / sum(weights) if weighted else math.nan
  return row
