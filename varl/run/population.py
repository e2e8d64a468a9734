"""Populations: seeds × numeric hyper-parameters, all trained by one program, each member a run of its own on disk."""

import contextlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from varl import agents, checks, envs
from varl.run import cache, checkpoint, configure, directory, members
from varl.run import devices as cpu
from varl.run.crew import Crew
from varl.run.members import Member
from varl.run.progress import Reporter, check, silent
from varl.run.watch import duration


class Population(NamedTuple):
  """What training several runs together leaves.

  Attributes:
    members: in order: all seeds of the first setting, then those of the next one.
    finished: whether all members that did not diverge did their last step.
    out: its directory; None where nothing was written.
    stopped: what ended it before: a signal's name, or "time"; "" where nothing did.
  """

  members: tuple[Member, ...]
  finished: bool
  out: pathlib.Path | None
  stopped: str = ""

  def __repr__(self) -> str:
    """Without the members."""
    return f"Population({len(self.members)} members, {len(self.groups())} settings, out={self.out})"

  def groups(self) -> dict[str, list[Member]]:
    """The members by the values that set them apart from other settings, `"learning_rate=0.001"`."""
    return members.groups(self.members)

  def returns(self, metric: str = "eval/episode_reward") -> Any:
    """A metric of every evaluation, `[members, evaluations]`; NaN where a member diverged before."""
    rows = max(len(member.metrics) for member in self.members)
    found = np.full((len(self.members), rows), np.nan)
    for index, member in enumerate(self.members):
      found[index, : len(member.metrics)] = [row[metric] for row in member.metrics]
    return found

  def best(self) -> Member:
    """Of the setting whose last return, the mean over seeds, is highest, the member whose own is.

    A diverged member's return is -∞.

    Raises:
      ValueError: all members diverged.
    """
    return members.best(self.groups())


def population(
  algorithm: Any,
  env: Any,
  *,
  seeds: int | Sequence[int] = 8,
  grid: Mapping[str, Sequence[float]] | None = None,
  ranges: Mapping[str, tuple[float, float]] | None = None,
  draws: int = 0,
  search_seed: int = 0,
  chunk: int | None = None,
  num_timesteps: int | None = None,
  backend: str | None = None,
  out: str | os.PathLike[str] | None = None,
  overwrite: bool = False,
  preset: bool = True,
  report: Reporter = silent,
  compile_cache: bool = True,
  reward: Any = None,
  stop_after: float | str | None = None,
  **overrides: Any,
) -> Population:
  """Trains every combination of seeds and hyper-parameters in one program.

    found = varl.population("sac", "pendulum", seeds=4, grid={"learning_rate": [3e-4, 1e-3]}, out="runs/sweep")
    found.best().policy

  On an accelerator members are mapped by `vmap`. On a CPU, where that gains nothing, each device goes through its own
  members one after another, and the CPU is divided into as many devices as it has cores where JAX has not started yet
  (`varl.run.devices.provide`). Members that do not fit in memory together are trained in chunks.

  A member is, up to rounding, the run that `varl.train` makes of its seed and values, and its directory below
  `out/members` is that of a run: `varl eval`, `plot`, `compare` and `resume` take it.

  Args:
    algorithm, env, backend, preset, reward: as in `varl.train`.
    seeds: how many, from 0, or which.
    grid: values of numeric fields of the Config by name, all combinations of them; as in `components.structural`, those
      that shape the program cannot be mapped.
    ranges: random search: the lowest and the highest value of fields by name, drawn uniformly between their logarithms
      where both are above 0, else uniformly. Combinations with those of `grid`.
    draws: how many draws from `ranges`.
    search_seed: of these draws.
    chunk: members at a time, at most; None: as many as fit.
    num_timesteps, **overrides: of every member, as in `varl.train`.
    out: a directory, as in `varl.train`.
    overwrite: whether `out` may be a run or a population, which this one replaces.
    report: shows progress.
    compile_cache, stop_after: as in `varl.train`.

  Raises:
    ValueError: as `varl.train`; a field that cannot be mapped, is none, or has no values; a combination that is out of
      range.
  """
  if num_timesteps is not None:
    overrides["num_timesteps"] = num_timesteps
  check(report)
  if isinstance(env, str):
    envs.registry.check_name(env, backend)
  algorithm = agents.load(algorithm)
  runs = planned(
    algorithm, env, seeds=seeds, grid=grid, ranges=ranges, draws=draws, search_seed=search_seed, backend=backend,
    preset=preset, reward=reward, **overrides,
  )  # fmt: skip
  chunk = None if chunk is None else checks.whole("chunk", chunk)
  seconds = None if stop_after is None else duration(stop_after)
  path = None if out is None else directory.locate(out)
  if path is not None:
    directory.judge(path, overwrite)
  cpu.provide(min(len(runs), cpu.cores()))
  made = envs.make(env, backend) if isinstance(env, str) else envs.make(env)
  if hasattr(made, "vectorized"):
    raise ValueError(
      f"{next(iter(runs.values())).env} steps on the host, and members of a population would share its states there"
    )

  with contextlib.ExitStack() as stack:
    stack.enter_context(cache.persistent(compile_cache))
    crew = Crew(algorithm, made, runs, reward, report, chunk, seconds)
    place = None
    if path is not None:
      place = stack.enter_context(directory.prepare(path, overwrite))
      members.write(place.prepared, crew.runs)
    return _left(crew.train(path, place, {}), path)


def planned(
  algorithm: Any, env: Any, *, seeds: Any, grid: Any, ranges: Any, draws: int, search_seed: int, **resolved: Any
) -> dict[str, configure.RunConfig]:
  """The members that `population` trains, by name; Args and Raises as there, `resolved` as of `configure.resolve`."""
  run = configure.resolve(algorithm, env, **resolved)
  if run.settings.num_devices != 1:
    raise ValueError(
      f"members are mapped over the devices, one device each; got num_devices={run.settings.num_devices}"
    )
  return members.runs(run, members.settings(run.config, grid or {}, ranges or {}, draws, search_seed), seeds)


def resume_population(
  out: str | os.PathLike[str],
  *,
  num_timesteps: int | None = None,
  algorithm: Any = None,
  env: Any = None,
  reward: Any = None,
  chunk: int | None = None,
  report: Reporter = silent,
  compile_cache: bool = True,
  stop_after: float | str | None = None,
) -> Population:
  """Ends, or extends, a population from the last checkpoints of its members.

  Args:
    out: its directory.
    num_timesteps: environment steps of each in all; by default those that the population was started with.
    algorithm, env, reward: what it was given as an object and not by a name.
    chunk, report, compile_cache, stop_after: as in `population`.

  Raises:
    ValueError: `out` is no population, a member was taken on by itself, or as `varl.resume` of one of its members.
  """
  check(report)
  chunk = None if chunk is None else checks.whole("chunk", chunk)
  seconds = None if stop_after is None else duration(stop_after)
  path = directory.locate(out)
  runs, lost = members.read(path, algorithm)
  if num_timesteps is not None:
    runs = {name: members.with_steps(run, num_timesteps) for name, run in runs.items()}
  first = next(iter(runs.values()))
  found = configure.algorithm_of(first, algorithm)
  cpu.provide(min(len(runs), cpu.cores()))
  made = configure.environment_of(first, env)
  with contextlib.ExitStack() as stack:
    stack.enter_context(cache.persistent(compile_cache))
    stack.enter_context(directory.hold(path))
    saved = {name: checkpoint.steps(path / members.FOLDER / name / "checkpoints") for name in runs}
    configure.check_goes_on(first, max((step for steps in saved.values() for step in steps), default=0), path)
    crew = Crew(found, made, runs, reward, report, chunk, seconds, lost)
    return _left(crew.train(path, None, saved), path)


def _left(trained: tuple[tuple[Member, ...], str | None], path: pathlib.Path | None) -> Population:
  found, stopped = trained
  return Population(found, stopped is None, path, stopped or "")
