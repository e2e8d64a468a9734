"""Runs on the host: epochs of the trainer; between them evaluation, metrics, checkpoints and the exported policy."""

import concurrent.futures
import dataclasses
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from varl import agents, envs
from varl.agents import Algorithm
from varl.envs.base import action_bounds, spec
from varl.loop.trainer import AXIS, Trainer, TrainerState, make_trainer, run_keys
from varl.report import plots, records
from varl.run import checkpoint, configure, devices, doctor, export, loggers, processes, safeguards
from varl.run.configure import RunConfig
from varl.run.export import Policy
from varl.run.progress import Reporter, silent
from varl.types import Params

CHUNKS = 10
"""Calls of the trainer an epoch. A constant and not a matter of time, so that every run sums its metrics alike."""

Row = dict[str, Any]


class Run(NamedTuple):
  """What a training run leaves.

  Attributes:
    policy: the trained policy, deterministic.
    params: the agent's parameters.
    metrics: a row an evaluation, `env_steps` in each.
    out: the run's directory, if it has one.
    finished: False where it was interrupted before its last step.
  """

  policy: Policy
  params: Params
  metrics: list[Row]
  out: pathlib.Path | None
  finished: bool


def train(
  algorithm: Any,
  env: Any,
  *,
  num_timesteps: int | None = None,
  seed: int = 0,
  backend: str | None = None,
  out: str | os.PathLike[str] | None = None,
  overwrite: bool = False,
  callback: Callable[[Row], object] | None = None,
  preset: bool = True,
  report: Reporter = silent,
  **overrides: Any,
) -> Run:
  """Trains an algorithm on an environment.

    run = varl.train("sac", "inverted_pendulum", num_timesteps=40_000, out="runs/pendulum")
    action = run.policy(obs, key)

  An algorithm of one's own has everything that a named one has; what cannot be written to disk is given once more to
  `resume`, `load_policy` and `evaluate`.

  Where `num_devices` is more than this process has (`jax.distributed.initialize`), every process makes the same call;
  the first one writes and reports, and a signal to any stops all.

  Args:
    algorithm: a name (`varl.agents.names()`), "package.module:factory", a factory `(spec, config, *, axis) -> Agent`,
      an `Agent`, or a pair `(design, head)`; `varl.agents.load` says more.
    env: an environment's name (`varl.envs.names()`), "package.module:factory", or an object with Brax's interface.
    num_timesteps: environment steps in all; by default the preset's.
    seed: the same seed gives the same run, bit for bit, on the same CPU and versions.
    backend: Brax's physics backend.
    out: a directory for metrics, checkpoints, policy and curve (one that all processes see); None keeps everything in
      memory.
    overwrite: whether an existing `out` may be replaced.
    callback: called with each row of metrics, right after its evaluation; what it raises ends the run.
    preset: whether to start from the tuned preset for this environment, where the algorithm has one.
    report: shows progress (`varl.run.progress.console`).
    **overrides: fields of the algorithm's Config or of `Settings`.

  Raises:
    ValueError: anything out of range, an unknown name, an `out` that exists, or memory that replay would exceed.
    Diverged: parameters or losses turned non-finite; metrics and the last good checkpoint stay.
    processes.OtherProcessFailed: the process that writes could not.
  """
  if num_timesteps is not None:
    overrides["num_timesteps"] = num_timesteps
  if isinstance(env, str):
    envs.registry.check_name(env, backend)
  algorithm = agents.load(algorithm)
  run = configure.resolve(algorithm, env, backend=backend, seed=seed, preset=preset, **overrides)
  team = _team(run)
  report = report if team.leads else silent
  if out is not None:
    out = pathlib.Path(out)
    team.lead(functools.partial(safeguards.check_out, out, overwrite))
  report.started(run, out)
  made = envs.make(env, backend) if isinstance(env, str) else envs.make(env)
  run = run._replace(spec=spec(made)._asdict())
  session = _session(run, algorithm, made)
  safeguards.check_memory(session.trainer, report)
  if out is not None:  # only now: what is wrong with the run's settings must not cost the run that is overwritten
    team.lead(functools.partial(safeguards.claim, out, run))
  return _loop(session, None, [], out, callback, report)


def resume(
  out: str | os.PathLike[str],
  *,
  num_timesteps: int | None = None,
  algorithm: Any = None,
  env: Any = None,
  callback: Callable[[Row], object] | None = None,
  report: Reporter = silent,
) -> Run:
  """Ends, or extends, a run from its last complete checkpoint; metrics are appended to the same files.

  A run of N steps resumed to 2N has, on one CPU, the parameters and metrics of a run of 2N, bit for bit.

  Args:
    out: the run's directory.
    num_timesteps: environment steps in all; by default those it was started with.
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.
    callback, report: as in `train`.

  Raises:
    ValueError: `out` is no run, has no readable checkpoint, or one of another algorithm or schema.
    Diverged: as in `train`.
  """
  out = pathlib.Path(out)
  run = configure.read(out, algorithm)
  if num_timesteps is not None:
    run = run._replace(settings=dataclasses.replace(run.settings, num_timesteps=num_timesteps))
  team = _team(run)
  report = report if team.leads else silent
  report.started(run, out)
  session = _session(run, configure.algorithm_of(run, algorithm), configure.environment_of(run, env))
  safeguards.check_memory(session.trainer, report)
  step, saved = checkpoint.restore(out / "checkpoints", {"trainer": session.trainer.shapes, "walltime": 0.0})
  report.message(f"resuming at {step:,} environment steps")

  def go_on() -> None:
    records.truncate_after(out, step)
    configure.write(out, run, doctor.device_summary())

  team.lead(go_on)
  return _loop(session, saved, records.read(out), out, callback, report)


class _Session(NamedTuple):
  run: RunConfig
  algorithm: Algorithm
  env: Any
  trainer: Trainer


def _session(run: RunConfig, algorithm: Algorithm, env: Any) -> _Session:
  agent = algorithm.make(spec(env), run.config, axis=AXIS if run.settings.num_devices > 1 else None)
  return _Session(run, algorithm, env, make_trainer(env, agent, run.settings))


def _team(run: RunConfig) -> processes.Team:
  """The processes that this run takes: all, where its devices are more than this one has."""
  devices.provide(run.settings.num_devices)
  return processes.team(run.settings.num_devices > jax.local_device_count())


def _loop(
  session: _Session,
  saved: dict[str, Any] | None,
  rows: list[Row],
  out: pathlib.Path | None,
  callback: Callable[[Row], object] | None,
  report: Reporter,
) -> Run:
  settings, trainer, team = session.run.settings, session.trainer, _team(session.run)
  started = time.perf_counter()
  init_key, eval_key = run_keys(jax.random.key(session.run.seed))
  state, epoch, evaluate = _compile(trainer, init_key, saved)
  compile_time = time.perf_counter() - started
  report.compiled(compile_time)
  elapsed_before = 0.0 if saved is None else float(saved["walltime"])

  done = int(processes.to_host(state.loop.iteration).reshape(-1)[0])
  total = settings.iterations
  finished = True
  last_saved = done
  writer = loggers.MetricsWriter(out) if out is not None and team.leads else None
  try:
    with safeguards.interruptible() as interrupted:

      def stopping() -> bool:
        return team.anywhere(interrupted.is_set())

      def walltime() -> float:
        return elapsed_before + time.perf_counter() - started

      def record(training: Row) -> None:
        begun = time.perf_counter()
        values = jax.device_get(evaluate(state, jax.random.fold_in(eval_key, done)))
        row = {"env_steps": done * settings.steps_per_iteration, **{k: float(v) for k, v in values.items()}, **training}
        row |= {"eval/walltime": time.perf_counter() - begun, "training/walltime": walltime()}
        rows.append(row)
        if writer is not None:
          writer.write(row)
        report.row(row)
        if callback is not None:
          callback(row)

      def save() -> None:
        if out is not None:
          saving = {"trainer": state, "walltime": walltime()}
          checkpoint.save(out / "checkpoints", done * settings.steps_per_iteration, saving)

      if saved is None:
        record({"training/compile_time": compile_time})
      grid = settings.iterations_per_epoch
      while done < total and not stopping():
        goal = min(total, (done // grid + 1) * grid)
        first, parts, begun = done, [], time.perf_counter()
        while done < goal and not stopping():
          count = min(-(-grid // CHUNKS), goal - done)
          state, metrics = epoch(state, np.int32(count))
          parts.append(jax.device_get(metrics))
          done += count
          safeguards.assert_updates(trainer, done, count, parts[-1])
          report.advanced(done * settings.steps_per_iteration, parts[-1])
        seconds = time.perf_counter() - begun
        if done < goal:
          break
        training = _merge(parts)
        training["training/sps"] = (done - first) * settings.steps_per_iteration / seconds
        training["training/updates_per_second"] = training["training/updates"] / seconds
        training["training/compile_time"] = compile_time
        record(training)
        safeguards.check_finite(state, training, done * settings.steps_per_iteration, out)
        if done == total or (done - last_saved) * settings.steps_per_iteration >= settings.checkpoint_every:
          save()
          last_saved = done
      if done < total:
        finished = False
        save()
  finally:
    if writer is not None:
      writer.close()

  params = processes.own(state.agent.params)
  bounds = action_bounds(session.env)
  agent = session.algorithm.make(spec(session.env), session.run.config)
  policy = Policy(agent, params, None if bounds is None else (bounds.low, bounds.high))

  def leave(out: pathlib.Path) -> None:
    described = {"name": session.run.env, "backend": session.run.backend}
    export.save_policy(out / "policy", policy, algorithm=session.algorithm, config=session.run.config, env=described)
    plots.curve(rows, out / "curve.png", title=f"{session.run.algorithm} on {session.run.env}")

  if out is not None:
    team.lead(functools.partial(leave, out))
  report.finished(rows, out, finished)
  return Run(policy, params, rows, out, finished)


def _compile(trainer: Trainer, init_key: Any, saved: dict[str, Any] | None) -> tuple[TrainerState, Any, Any]:
  """Compiles the three programs side by side, and gives the first state; compiles nothing under `jax.disable_jit`."""
  if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
    return trainer.init(init_key) if saved is None else saved["trainer"], trainer.epoch, trainer.evaluate
  count = jax.ShapeDtypeStruct((), np.int32)
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    epoch = pool.submit(lambda: trainer.epoch.lower(trainer.shapes, count).compile())
    evaluate = pool.submit(lambda: trainer.evaluate.lower(trainer.shapes, init_key).compile())
    state = saved["trainer"] if saved is not None else trainer.init(init_key)
    return state, epoch.result(), evaluate.result()


_COUNTS = ("training/updates", "training/episodes", "training/nan_resets")
_OF_EPISODES = ("training/episode_reward", "training/avg_episode_length")


def _merge(parts: list[dict[str, Any]]) -> Row:
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
