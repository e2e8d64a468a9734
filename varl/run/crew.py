"""The programs that train the members of a population, and the loop that calls them chunk by chunk."""

import contextlib
import dataclasses
import math
import pathlib
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from varl.loop.trainer import make_trainer, run_keys
from varl.report import plots, records
from varl.run import checkpoint, compiling, configure, directory, doctor, epochs, export, members, safeguards
from varl.run import training as single
from varl.run.loggers import MetricsWriter
from varl.run.members import Member
from varl.run.progress import Reporter

AXIS = "members"
SHARE = 0.8
"""How much of a device's memory members may take by their projection."""
COPIES = 3
"""What a member is projected to take, in copies of its state: before and after a call, and what the call works with."""


class _Programs(NamedTuple):
  """Of as many members as a call takes, whose values and keys are its arguments."""

  init: Callable[..., Any]
  epoch: Callable[..., Any]
  evaluate: Callable[..., Any]


class Crew:
  """The members of one population, and the programs that train them."""

  def __init__(
    self,
    algorithm: Any,
    env: Any,
    runs: dict[str, configure.RunConfig],
    reward: Any,
    report: Reporter,
    chunk: int | None,
    stop_after: float | None = None,
    lost: Collection[str] = (),
  ):
    self.algorithm, self.env, self.report, self.lost = algorithm, env, report, set(lost)
    self.stop_after, self.started, self.signalled = stop_after, time.perf_counter(), safeguards.Signalled()
    self._programs: _Programs | None = None
    first = next(iter(runs.values()))
    self.session = single.session_of(first, algorithm, env, single.team_of(first), reward)
    safeguards.check_learns(self.session.trainer)
    self.settings, trainer = self.session.run.settings, self.session.trainer
    self.runs = {name: run._replace(spec=self.session.run.spec, settings=self.settings) for name, run in runs.items()}
    self.values = {name: members.values_of(run, runs) for name, run in self.runs.items()}
    paid = configure.reward_of(first, self.session.spec, reward)
    self.given = {} if paid is None else {"reward": paid}
    settings = {members.label(self.values[name]): run.config for name, run in self.runs.items()}
    for config in settings.values():  # a value that is out of range is refused now, where it is known
      algorithm.make(self.session.spec, config, axis=None, **self.given)
    self.devices = jax.local_devices()[: len(runs)]
    state = sum(_bytes(leaf) for leaf in jax.tree.leaves(trainer.shapes))
    self.each = self._at_a_time(state, chunk)

  def _at_a_time(self, state: int, chunk: int | None) -> int:
    """How many members a call takes: a multiple of the devices, in chunks that are as even as can be."""
    count, wide, limit = len(self.runs), len(self.devices), doctor.device_memory()
    fit = count if limit is None else max(int(SHARE * limit / (COPIES * state)), 1) * wide
    most = min(count, fit, count if chunk is None else chunk)
    even = -(-count // -(-count // max(most, 1)))
    each = -(-even // wide) * wide
    run = self.session.run
    self.report.message(f"{doctor.one_line()}\n{run.algorithm} on {run.env}")
    known = "" if limit is None else f" of {limit / 2**20:,.0f} MiB a device"
    self.report.message(
      f"{count} members, {each} at a time on {wide} device{'s' if wide > 1 else ''}; a member's state takes "
      f"{state / 2**20:,.1f} MiB{known}"
    )
    return each

  def stopping(self) -> bool:
    """Whether a signal has come, or the time is over."""
    over = self.stop_after is not None and time.perf_counter() - self.started > self.stop_after
    return over or self.signalled.is_set()

  def programs(self) -> _Programs:
    """Compiled for `self.each` members, the first time that they are asked for."""
    if self._programs is None:
      started = time.perf_counter()
      self._programs = self._compiled(self.signalled)
      self.report.message(f"compiled in {time.perf_counter() - started:.1f} s")
    return self._programs

  def _compiled(self, stop: threading.Event) -> _Programs:
    mapped = _mapping(self.devices)

    def trainer_of(values: dict[str, Any]) -> Any:
      config = dataclasses.replace(self.session.run.config, **values)
      agent = self.algorithm.make(self.session.spec, config, axis=None, **self.given)
      return make_trainer(self.env, agent, self.settings)

    def init(values: Any, keys: Any) -> Any:
      return mapped(lambda values, key: trainer_of(values).init(key), values, keys)

    def epoch(values: Any, states: Any, count: Any) -> Any:
      return mapped(lambda values, state: trainer_of(values).epoch(state, count), values, states)

    def evaluate(values: Any, states: Any, keys: Any) -> Any:
      return mapped(lambda values, state, key: trainer_of(values).evaluate(state, key), values, states, keys)

    made = _Programs(jax.jit(init), jax.jit(epoch, donate_argnums=1), jax.jit(evaluate))
    names = list(self.runs)[: self.each]
    values, keys = self.stacked(names), jax.random.split(jax.random.key(0), self.each)
    shapes = jax.eval_shape(init, values, keys)
    lower: list[Callable[[], Any]] = [
      lambda: made.epoch.lower(values, shapes, jax.ShapeDtypeStruct((), np.int32)),  # type: ignore[attr-defined]
      lambda: made.evaluate.lower(values, shapes, keys),  # type: ignore[attr-defined]
      lambda: made.init.lower(values, keys),  # type: ignore[attr-defined]
    ]
    epoch_, evaluate_, init_ = compiling.side_by_side(lower, self.report, stop)
    return _Programs(init_, epoch_, evaluate_)

  def stacked(self, names: Sequence[str]) -> dict[str, Any]:
    """The values of these members, each `[self.each]`; the last one is repeated where there are fewer."""
    padded = [*names, *[names[-1]] * (self.each - len(names))]
    keys = self.values[names[0]]
    return {key: jnp.asarray([self.values[name][key] for name in padded], float) for key in keys}

  def chunks(self, saved: dict[str, list[int]]) -> list[list[str]]:
    """The members of each call, in their order: only such as can go on from one step, and finished ones apart."""
    total = self.settings.iterations * self.settings.steps_per_iteration
    found, shared = list[list[str]](), set[int]()
    for name in self.runs:
      own = set(saved.get(name, ()))
      alike = bool(own & shared) and (total in own) == (total in shared) if own or shared else True
      first = not found or all(other in self.lost for other in found[-1])
      if found and len(found[-1]) < self.each and (name in self.lost or first or alike):
        found[-1].append(name)
      else:
        found.append([name])
        first = True
      if name not in self.lost:
        shared = own if first else own & shared
    return found

  def train(
    self, path: pathlib.Path | None, place: directory.Place | None, saved: dict[str, list[int]]
  ) -> tuple[tuple[Member, ...], str | None]:
    """Chunk by chunk; `saved`: the environment steps of each member's checkpoints.

    Returns:
      The members, and what ended them before their last step, if anything did: a signal's name, or "time".
    """
    names, found, finished = list(self.runs), dict[str, Member](), True  # by all that have not diverged
    with safeguards.interruptible() as self.signalled:
      for chunk_names in self.chunks(saved):
        if len(chunk_names) < len(names):
          self.report.message(f"members {chunk_names[0]} to {chunk_names[-1]}")
        if found and self.stopping():
          finished = False
          break
        chunk = _Chunk(self, chunk_names, path, place, saved)
        finished = chunk.train() and finished
        found |= {member.name: member for member in chunk.members()}
        place = None
        if path is not None:
          members.note(path, self.runs, self.lost)
    if path is not None:
      self.leave(members.groups(found.values()), path)
    return tuple(found.values()), None if finished else self.signalled.name or "time"

  def leave(self, groups: dict[str, list[Member]], path: pathlib.Path) -> None:
    """What is of all members: the curve of each setting, and the best one's policy."""
    self.report.message(members.table(groups))
    alive = {name: [member.metrics for member in group if not member.diverged] for name, group in groups.items()}
    drawn = {name or "all": rows for name, rows in alive.items() if rows}
    with contextlib.suppress(ValueError):  # no finite return
      plots.curves(drawn, path / "curve.png", title=f"{self.session.run.algorithm} on {self.session.run.env}")
    if drawn:
      best = members.best(groups)
      described = {"name": self.session.run.env, "backend": self.session.run.backend}
      config = self.runs[best.name].config
      export.save_policy(path / "policy", best.policy, algorithm=self.algorithm, config=config, env=described)
      self.report.message(f"best: {path / members.FOLDER / best.name}   its policy: {path / 'policy'}")


class _Chunk:
  """The members of one call."""

  def __init__(
    self,
    crew: Crew,
    names: list[str],
    path: pathlib.Path | None,
    place: directory.Place | None,
    saved: dict[str, list[int]],
  ):
    self.crew, self.names, self.path, self.place = crew, names, path, place
    self.resumed = bool(saved)
    self.values = crew.stacked(names)
    seeds = [crew.runs[name].seed for name in names]
    pairs = [run_keys(jax.random.key(seed)) for seed in [*seeds, *[seeds[-1]] * (crew.each - len(names))]]
    self.init_keys, self.eval_keys = (jnp.stack(keys) for keys in zip(*pairs, strict=True))
    # Where a process was killed while it saved, some are ahead: all go on from the last step that each of them has.
    each = [set(saved.get(name, ())) for name in names if name not in crew.lost]
    self.common = sorted(set.intersection(*each), reverse=True) if each else []
    self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    self.writers: dict[str, MetricsWriter] = {}
    self.states: Any = None

  def folder(self, name: str) -> pathlib.Path:
    assert self.path is not None
    return (self.place.prepared if self.place is not None else self.path) / members.FOLDER / name

  def begin(self) -> tuple[int, float]:
    """Iterations and seconds that were done."""
    going, settings = self.going(), self.crew.settings
    at, read = self.read()
    if going and at != settings.iterations * settings.steps_per_iteration:
      self.crew.programs()  # before anything is changed
    if self.path is not None and self.resumed:
      members.note(self.path, self.crew.runs, self.crew.lost)
      for name in self.names:
        configure.write(self.folder(name), self.crew.runs[name], doctor.device_summary())
      for name in going:
        records.truncate_after(self.folder(name), -1 if at is None else at)
      self.rows |= {name: records.read(self.folder(name)) for name in self.names}
    if at is None:
      self.states = self.crew.programs().init(self.values, self.init_keys)
      return 0, 0.0
    # The place of one that diverged is taken by another: what becomes of it there is nobody's.
    states = [read.get(name, read[going[-1]])["trainer"] for name in self.names]
    states += [states[-1]] * (self.crew.each - len(states))
    self.states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return at // settings.steps_per_iteration, float(read[going[0]]["walltime"])

  def read(self) -> tuple[int | None, dict[str, Any]]:
    """The newest step at which no member's checkpoint is damaged, and what each has there; None where none has any."""
    example = {"trainer": self.crew.session.trainer.shapes, "walltime": 0.0}
    for at in self.common:
      try:
        places = {name: self.folder(name) / "checkpoints" for name in self.going()}
        return at, {name: checkpoint.restore(place, example, at=at)[1] for name, place in places.items()}
      except checkpoint.CheckpointError:
        if at == self.common[-1]:
          raise
    return None, {}

  def train(self) -> bool:
    """Whether the last step was done, by all that have not diverged."""
    settings, stopping = self.crew.settings, self.crew.stopping
    total, grid, width = settings.iterations, settings.iterations_per_epoch, settings.steps_per_iteration
    done, before = self.begin()
    started, last_saved = time.perf_counter(), done
    try:
      if not done:
        self.record({}, done, before)
      while done < total and not stopping() and self.going():
        goal = min(total, (done // grid + 1) * grid)
        begun, first, parts = time.perf_counter(), done, list[Any]()
        while done < goal and not stopping():
          count = min(-(-grid // epochs.CHUNKS), goal - done)
          self.states, metrics = self.crew.programs().epoch(self.values, self.states, np.int32(count))
          parts.append(jax.device_get(metrics))
          done += count
        if not parts:
          break
        seconds = time.perf_counter() - begun
        shared = {"training/sps": (done - first) * width / seconds}
        merged = {
          name: epochs.merge([{key: value[index] for key, value in part.items()} for part in parts]) | shared
          for index, name in enumerate(self.names)
        }
        self.look(merged, done * width)
        if done == goal:
          self.record(merged, done, before + time.perf_counter() - started)
        if done == total or (done - last_saved) * width >= settings.checkpoint_every:
          last_saved = self.save(done, before + time.perf_counter() - started)
      if last_saved != done:
        self.save(done, before + time.perf_counter() - started)
    finally:
      for writer in self.writers.values():
        writer.close()
    return done == total or not self.going()

  def going(self) -> list[str]:
    """The members that have not diverged."""
    return [name for name in self.names if name not in self.crew.lost]

  def look(self, training: dict[str, dict[str, Any]], steps: int) -> None:
    """Marks the members whose losses or parameters are no longer finite; the others go on."""
    finite = np.asarray(jax.vmap(safeguards.finite)(self.states.agent.params))
    for index, name in enumerate(self.names):
      row = training[name]
      bad = row["training/updates"] and any(k.endswith("_loss") and not math.isfinite(v) for k, v in row.items())
      if (bad or not finite[index]) and name not in self.crew.lost:
        self.crew.lost.add(name)
        self.crew.report.message(f"{name} turned non-finite before {steps:,} environment steps and is left out")

  def record(self, training: dict[str, dict[str, Any]], done: int, seconds: float) -> None:
    """An evaluation: a row of every member, on disk where there is a directory."""
    begun = time.perf_counter()
    keys = jax.vmap(lambda key: jax.random.fold_in(key, done))(self.eval_keys)
    found = jax.device_get(self.crew.programs().evaluate(self.values, self.states, keys))
    spent = {"eval/walltime": time.perf_counter() - begun, "training/walltime": seconds}
    steps = done * self.crew.settings.steps_per_iteration
    for index, name in enumerate(self.names):
      if name not in self.crew.lost:
        own = {key: float(value[index]) for key, value in found.items()}
        self.rows[name].append({"env_steps": steps, **own, **training.get(name, {}), **spent})
    last = [self.rows[name][-1]["eval/episode_reward"] for name in self.names if name not in self.crew.lost]
    if last:
      self.crew.report.message(f"{steps:>12,} steps  return {np.mean(last):10.2f}  {min(last):.2f} to {max(last):.2f}")
    if self.path is None:
      return
    for name in self.names:
      if name not in self.writers:
        self.writers[name] = MetricsWriter(self.folder(name), tensorboard=False)
      if name not in self.crew.lost:
        self.writers[name].write(self.rows[name][-1])
    if self.place is not None:
      self.place.take()
      self.place = None
      for name, writer in self.writers.items():
        writer.moved(self.folder(name))

  def save(self, done: int, seconds: float) -> int:
    """A checkpoint of every member, as that of a run."""
    if self.path is not None:
      steps = done * self.crew.settings.steps_per_iteration
      for index, name in enumerate(self.names):
        if name not in self.crew.lost:
          state = {"trainer": _member(self.states, index), "walltime": seconds}
          checkpoint.save(self.folder(name) / "checkpoints", steps, state)
    return done

  def members(self) -> list[Member]:
    """What became of each, its policy written."""
    found = []
    for index, name in enumerate(self.names):
      run = self.crew.runs[name]
      session = self.crew.session._replace(run=run)
      policy = single.policy_of(session, _member(self.states, index))
      out = None if self.path is None else self.folder(name)
      if out is not None and name not in self.crew.lost:
        described = {"name": run.env, "backend": run.backend}
        export.save_policy(out / "policy", policy, algorithm=self.crew.algorithm, config=run.config, env=described)
      found.append(Member(name, run.seed, self.crew.values[name], policy, self.rows[name], out, name in self.crew.lost))
    return found


def _member(states: Any, index: int) -> Any:
  return jax.tree.map(lambda x: x[index], states)


def _bytes(leaf: Any) -> int:
  size = 8 if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
  return int(math.prod(leaf.shape)) * size


def _mapping(devices: Sequence[Any]) -> Callable[..., Any]:
  """`(f, *arguments [members, ...]) -> results [members, ...]`, spread over the devices."""

  def inner(f: Callable[..., Any], *arguments: Any) -> Any:
    if devices[0].platform == "cpu":
      return jax.lax.map(lambda own: f(*own), arguments)
    return jax.vmap(f)(*arguments)

  def spread(f: Callable[..., Any], *arguments: Any) -> Any:
    mesh = Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
    local = jax.shard_map(
      lambda *own: inner(f, *own), mesh=mesh, in_specs=tuple(P(AXIS) for _ in arguments), out_specs=P(AXIS),
      check_vma=False,
    )  # fmt: skip
    return local(*arguments)

  return inner if len(devices) == 1 else spread
