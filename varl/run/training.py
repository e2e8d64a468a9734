"""The doors of a run on the host, `train` and `resume`: everything is judged here before anything is touched."""

import contextlib
import dataclasses
import functools
import inspect
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from varl import agents, envs
from varl.agents import Algorithm
from varl.envs.base import action_bounds, episode_length
from varl.envs.trace import spec
from varl.loop.trainer import AXIS, TrainerState, make_trainer
from varl.report import plots, records
from varl.run import cache, checkpoint, configure, devices, directory, doctor, epochs, export, processes, safeguards
from varl.run.configure import RunConfig
from varl.run.epochs import Row, Session, Start
from varl.run.export import Policy
from varl.run.loggers import MetricsWriter, weights_and_biases
from varl.run.progress import Reporter, check, silent
from varl.run.watch import Watch, watch
from varl.types import Params


class Run(NamedTuple):
  """What a training run leaves.

  Attributes:
    policy: the trained policy, deterministic.
    params: the agent's parameters.
    metrics: a row an evaluation, `env_steps` in each.
    out: the run's directory, if it has one.
    finished: False where it was ended before its last step.
    stopped: what ended it then: "return", "time", "callback", or a signal's name; else "".
  """

  policy: Policy
  params: Params
  metrics: list[Row]
  out: pathlib.Path | None
  finished: bool
  stopped: str = ""

  def __fspath__(self) -> str:
    """The run's directory: what takes one (`varl.evaluate`, `varl.report.plots.curve`) takes the run as well.

    Raises:
      ValueError: it has none.
    """
    if self.out is None:
      raise ValueError("this run left no directory: varl.train(..., out=DIRECTORY) keeps one")
    return str(self.out)

  def __repr__(self) -> str:
    """Without the arrays."""
    last = self.metrics[-1] if self.metrics else {}
    shown = ", ".join(f"{name}={last[name]:,.6g}" for name in (records.STEPS, "eval/episode_reward") if name in last)
    out = None if self.out is None else str(self.out)
    return (
      f"Run(policy={self.policy!r}, params=<{len(self.params)} groups>, metrics=<{len(self.metrics)} rows; last: "
      f"{shown or 'none'}>, out={out!r}, finished={self.finished})"
    )


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
  compile_cache: bool = True,
  reward: Any = None,
  log: str = "tensorboard",
  save_best: bool = False,
  stop_at: float | None = None,
  stop_after: float | str | None = None,
  profile: str | os.PathLike[str] | None = None,
  **overrides: Any,
) -> Run:
  """Trains an algorithm on an environment.

    run = varl.train("sac", "inverted_pendulum", num_timesteps=40_000, out="runs/pendulum")
    action = run.policy(obs)

  A new run is prepared beside `out` and takes its place when everything is compiled and its first row is written. A run
  that is there stays whole until then.

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
    out: a directory for metrics, checkpoints, policy and curve (one that all processes see), which does not exist or is
      empty; None keeps everything in memory.
    overwrite: whether `out` may be a run, which this one replaces.
    callback: called with each row of metrics, right after its evaluation. It may raise `varl.StopTraining` to end the
      run. Whatever it raises, checkpoint, policy and curve are left; anything else is raised then.
    preset: whether to start from the tuned preset for this environment.
    report: shows progress (`varl.run.progress.console`).
    compile_cache: whether compiled programs are kept for the next start, in `varl.run.cache.directory()`; where JAX has
      a cache configured, that one is used.
    reward: what is paid in place of the environment's reward: the directory of a run that learned one (`load_reward`),
      or a `varl.types.Reward`.
    log: where rows go beside the record: "tensorboard", "wandb" or "csv" (nowhere).
    save_best: whether `out/best` keeps the policy of the highest return so far.
    stop_at: the return at which an evaluation ends the run.
    stop_after: seconds, or a text such as "8h", after which the run ends as an interrupted one does.
    profile: a directory for a trace of one call of the trainer.
    **overrides: fields of the algorithm's Config or of `Settings`.

  Raises:
    ValueError: anything out of range, an unknown name, an `out` that exists, or memory that replay would exceed.
    Diverged: parameters or losses turned non-finite; metrics and the last good checkpoint stay.
    processes.OtherProcessFailed: the process that writes could not.
  """
  if num_timesteps is not None:
    overrides["num_timesteps"] = num_timesteps
  check(report, callback)
  if isinstance(env, str):
    envs.registry.check_name(env, backend)
  algorithm = agents.load(algorithm)
  run = configure.resolve(algorithm, env, backend=backend, seed=seed, preset=preset, reward=reward, **overrides)
  team = team_of(run)
  path = None if out is None else directory.locate(out)
  if path is not None:  # now, before anything takes time, and once more where the place is taken
    team.lead(functools.partial(directory.judge, path, overwrite))
  seen = watch(path, log=log, save_best=save_best, stop_at=stop_at, stop_after=stop_after, profile=profile)
  made = envs.make(env, backend) if isinstance(env, str) else envs.make(env)
  session = session_of(run, algorithm, made, team, reward)
  safeguards.check_learns(session.trainer)
  memory = safeguards.check_memory(session.trainer)

  with contextlib.ExitStack() as stack:
    stack.enter_context(cache.persistent(compile_cache))

    def prepare() -> directory.Place | None:
      if path is None:
        return None
      place = stack.enter_context(directory.prepare(path, overwrite))
      configure.write(place.prepared, session.run, doctor.device_summary())
      return place

    place = team.lead(prepare)

    def begin(row: Row | None) -> MetricsWriter | None:
      return None if place is None else _writer(place.prepared, session, seen, row, place)

    return _run(session, Start(None, [], begin), path, callback, report, seen, memory)


def resume(
  out: str | os.PathLike[str],
  *,
  num_timesteps: int | None = None,
  algorithm: Any = None,
  env: Any = None,
  reward: Any = None,
  callback: Callable[[Row], object] | None = None,
  report: Reporter = silent,
  compile_cache: bool = True,
  log: str = "tensorboard",
  save_best: bool = False,
  stop_at: float | None = None,
  stop_after: float | str | None = None,
  profile: str | os.PathLike[str] | None = None,
) -> Run:
  """Ends, or extends, a run from its last complete checkpoint; metrics are appended to the same files.

  A run of N steps resumed to 2N has, on one CPU, the parameters and metrics of a run of 2N, bit for bit. A run that was
  killed before its first checkpoint begins anew; one that has done all its steps is returned as it is.

  Args:
    out: the run's directory.
    num_timesteps: environment steps in all; by default those it was started with.
    algorithm, env, reward: what the run was given as an object and not by a name.
    callback, report, compile_cache, log, save_best, stop_at, stop_after, profile: as in `train`.

  Raises:
    ValueError: `out` is no run, has no readable checkpoint, or one of another algorithm or schema; it has done more
      than `num_timesteps` already; or another process writes it. Nothing is changed then.
    Diverged: as in `train`.
  """
  check(report, callback)
  path = directory.locate(out)
  run = configure.read(path, algorithm)
  seen = watch(path, log=log, save_best=save_best, stop_at=stop_at, stop_after=stop_after, profile=profile)
  if num_timesteps is not None:
    run = run._replace(settings=dataclasses.replace(run.settings, num_timesteps=num_timesteps))
  rows, saved_at = records.read(path), checkpoint.steps(path / "checkpoints")
  configure.check_goes_on(run, max(saved_at, default=0), path)
  if not saved_at and (path / "policy").exists():
    raise ValueError(f"the run in {path} has a policy, but its checkpoints are gone: it cannot go on")
  team = team_of(run)
  session = session_of(run, configure.algorithm_of(run, algorithm), configure.environment_of(run, env), team, reward)
  safeguards.check_learns(session.trainer)
  memory = safeguards.check_memory(session.trainer)

  with contextlib.ExitStack() as stack:
    stack.enter_context(cache.persistent(compile_cache))
    team.lead(lambda: stack.enter_context(directory.hold(path)))
    step, saved = -1, None
    if saved_at:
      step, saved = checkpoint.restore(path / "checkpoints", {"trainer": session.trainer.shapes, "walltime": 0.0})

    def begin(row: Row | None) -> MetricsWriter | None:
      records.truncate_after(path, step)
      configure.write(path, session.run, doctor.device_summary())
      return _writer(path, session, seen, row)

    start = Start(saved, [row for row in rows if row[records.STEPS] <= step], begin)
    where = f"resuming at {step:,} environment steps" if saved else "no checkpoint was written: from the beginning"
    return _run(session, start, path, callback, report, seen, where, memory)


def team_of(run: RunConfig) -> processes.Team:
  """The processes that this run takes: all, where its devices are more than this one has."""
  devices.provide(run.settings.num_devices)
  return processes.team(run.settings.num_devices > jax.local_device_count())


def session_of(run: RunConfig, algorithm: Algorithm, env: Any, team: processes.Team, reward: Any) -> Session:
  """What a run is made of; Raises as `train`."""
  sizes = spec(env)
  paid = configure.reward_of(run, sizes, reward)
  given = {} if paid is None else {"reward": paid}
  if given and "reward" not in inspect.signature(algorithm.make).parameters:
    raise ValueError(f"{algorithm.name} takes no reward: its factory has no keyword `reward`")
  agent = algorithm.make(sizes, run.config, axis=AXIS if run.settings.num_devices > 1 else None, **given)
  length = episode_length(env, run.settings.episode_length)  # written down, whoever named it
  settings = dataclasses.replace(run.settings, episode_length=length)
  run = run._replace(spec=sizes._asdict(), settings=settings)
  return Session(run, algorithm, env, sizes, make_trainer(env, agent, settings), team)


def _writer(
  out: pathlib.Path, session: Session, seen: Watch, row: Row | None, place: directory.Place | None = None
) -> MetricsWriter:
  """What writes the rows of the run whose directory is `out`, its first row written; then the place is taken."""
  logged = None if seen.log != "wandb" else weights_and_biases((out if place is None else place.out), session.run)
  writer = MetricsWriter(out, tensorboard=seen.log == "tensorboard", logged=logged)
  try:
    if row is not None:
      writer.write(row)
    if place is not None:
      place.take()
      writer.moved(place.out)
  except BaseException:
    writer.close()
    raise
  return writer


def _run(
  session: Session,
  start: Start,
  out: pathlib.Path | None,
  callback: Callable[[Row], object] | None,
  report: Reporter,
  seen: Watch,
  *messages: str | None,
) -> Run:
  """Trains, and leaves policy and curve."""
  team = session.team
  report = report if team.leads else silent
  report.started(session.run, out)
  for message in filter(None, messages):
    report.message(message)
  with safeguards.interruptible() as signalled:
    end = epochs.run(
      session, start, out=out, callback=callback, report=report, signalled=signalled, watch=seen,
      keep_best=functools.partial(_keep_best, session, out),
    )  # fmt: skip
    policy = policy_of(session, end.state)
    if out is not None:
      team.lead(functools.partial(_leave, session, policy, end.rows, out, report))
    report.finished(end.rows, out, end.finished)
  if end.raised is not None and not isinstance(end.raised, epochs.StopTraining):
    raise end.raised
  return Run(policy, policy.params, end.rows, out, end.finished, end.stopped)


def _keep_best(session: Session, out: pathlib.Path | None, state: TrainerState) -> None:
  if out is not None:
    _save_policy(session, policy_of(session, state), out / "best")


def policy_of(session: Session, state: TrainerState) -> Policy:
  """The policy of a run's state."""
  agent = session.algorithm.make(session.spec, session.run.config)
  bounds = action_bounds(session.env)
  own = jax.eval_shape(agent.init, jax.random.key(0)).params  # without those of a reward from elsewhere
  params = {group: value for group, value in processes.own(state.agent.params).items() if group in own}
  return Policy(agent, params, None if bounds is None else (bounds.low, bounds.high))


def _leave(session: Session, policy: Policy, rows: list[Row], out: pathlib.Path, report: Reporter) -> None:
  run = session.run
  _save_policy(session, policy, out / "policy")
  try:
    plots.curve(rows, out / "curve.png", title=f"{run.algorithm} on {run.env}")
  except ValueError as error:  # no finite return
    report.message(f"no curve: {error}")


def _save_policy(session: Session, policy: Policy, place: pathlib.Path) -> None:
  described = {"name": session.run.env, "backend": session.run.backend}
  export.save_policy(place, policy, algorithm=session.algorithm, config=session.run.config, env=described)
