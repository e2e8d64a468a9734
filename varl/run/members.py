"""The members of a population: which settings they have, how they are named, and how they are found again on disk."""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from varl import checks, components, files
from varl.checks import nearest, plain
from varl.report import records
from varl.run import configure, doctor
from varl.run.configure import RunConfig
from varl.run.export import Policy

FILE, FOLDER, SCHEMA = records.POPULATION, records.MEMBERS, 1


class Member(NamedTuple):
  """One run of a population.

  Attributes:
    name: its directory's.
    seed: its own.
    values: of the hyper-parameters that the population varies.
    policy: what it learned.
    metrics: its rows, as those of `varl.train`.
    out: its directory; None where nothing was written.
    diverged: whether it turned non-finite, after its last row.
  """

  name: str
  seed: int
  values: dict[str, float]
  policy: Policy
  metrics: list[dict[str, Any]]
  out: pathlib.Path | None
  diverged: bool

  def __repr__(self) -> str:
    """Without the arrays."""
    return f"Member({self.name}, last return {last(self):,.2f})"


def settings(
  config: Any, grid: Mapping[str, Sequence[float]], ranges: Mapping[str, tuple[float, float]], draws: int, seed: int
) -> list[dict[str, float]]:
  """All combinations of the grid's values with each draw from the ranges.

  Raises:
    ValueError: a field that is none, shapes the program or is no number; no values; a range or a count out of range.
  """
  for name, given in (("grid", grid), ("ranges", ranges)):
    if not isinstance(given, Mapping) or not all(isinstance(field, str) for field in given):
      raise ValueError(f"{name} is a dict by the names of fields, got {given!r:.80}")
  draws, seed = checks.whole("draws", draws, least=0), checks.seed(seed, "search_seed")
  fields = {field.name for field in dataclasses.fields(config)}
  fixed = components.structural(config)
  for name in (*grid, *ranges):
    if name not in fields:
      raise ValueError(f"the hyper-parameters have no field {name!r}{nearest(name, fields)}")
    if name in fixed:
      raise ValueError(f"{name} shapes the program and cannot differ within one population: make one for each value")
    value = getattr(config, name)
    if isinstance(value, bool | str | tuple | list) or not isinstance(value, int | float | None):
      raise ValueError(
        f"{name}={value!r} is no number and cannot differ within one population: make one for each value"
      )
  twice = sorted(set(grid) & set(ranges))
  if twice:
    raise ValueError(f"{', '.join(twice)}: in the grid and among the ranges")
  values = {name: _numbers(name, given) for name, given in grid.items()}
  if bool(ranges) != bool(draws):
    raise ValueError(f"random search needs ranges and how many draws; got ranges of {sorted(ranges)}, {draws=}")
  found = [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]
  rng = np.random.default_rng(seed)
  drawn = [{name: _draw(rng, name, ends) for name, ends in ranges.items()} for _ in range(draws)] or [{}]
  return [{**own, **extra} for own in found for extra in drawn]


def _numbers(name: str, given: Any) -> list[float]:
  found = [checks.finite(name, value) for value in _listed(plain(given))]
  if not found:
    raise ValueError(f"{name} takes one or more numbers, got {given!r}")
  if len(set(found)) < len(found):
    raise ValueError(f"{name} has a value twice: {found}")
  return found


def _listed(given: Any) -> list[Any]:
  """What was given as several, or as one."""
  return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def _draw(rng: np.random.Generator, name: str, ends: Any) -> float:
  found = [checks.finite(name, end) for end in _listed(plain(ends))]
  low, high = found if len(found) == 2 else (math.nan, math.nan)
  if not low < high:
    raise ValueError(f"{name} is drawn between two numbers, the lower one first; got {ends!r}")
  if low > 0:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
  return float(rng.uniform(low, high))


def runs(run: RunConfig, found: list[dict[str, float]], seeds: int | Sequence[int]) -> dict[str, RunConfig]:
  """Each setting with each seed, by its name.

  Raises:
    ValueError: no seeds, one twice, or none; a setting whose values are out of range.
  """
  several = isinstance(plain(seeds), Iterable) and not isinstance(seeds, str)
  given: Any = seeds if several else range(checks.whole("seeds", seeds))
  listed = [checks.seed(seed, "a seed") for seed in given]
  if not listed or len(set(listed)) < len(listed):
    raise ValueError(f"seeds are different from one another, and at least one; got {listed}")
  made: dict[str, RunConfig] = {}
  digits = len(str(len(found) * len(listed) - 1))
  for values in found:
    for seed in listed:
      name = "-".join(filter(None, [f"{len(made):0{digits}d}", label(values), f"seed{seed}"]))
      made[name] = run._replace(seed=seed, config=dataclasses.replace(run.config, **values))
  return made


def values_of(run: RunConfig, among: Mapping[str, RunConfig]) -> dict[str, float]:
  """What of a member's Config differs within its population."""
  configs = [other.config for other in among.values()]
  names = [field.name for field in dataclasses.fields(run.config)]
  return {
    name: float(getattr(run.config, name))
    for name in names
    if name != "demonstrations" and any(getattr(other, name) != getattr(configs[0], name) for other in configs)
  }


def label(values: Mapping[str, float]) -> str:
  """`"learning_rate=0.001,gamma=0.9"`; empty where nothing is varied."""
  return ",".join(f"{name}={value:.12g}" for name, value in values.items())


def groups(found: Iterable[Member]) -> dict[str, list[Member]]:
  """Members by `label` of their values."""
  result: dict[str, list[Member]] = {}
  for member in found:
    result.setdefault(label(member.values), []).append(member)
  return result


def last(member: Member) -> float:
  """A member's last return; -∞ where it diverged or was never evaluated."""
  value = -math.inf if member.diverged or not member.metrics else member.metrics[-1]["eval/episode_reward"]
  return value if math.isfinite(value) else -math.inf


def best(found: Mapping[str, list[Member]]) -> Member:
  """Args and Raises as `Population.best`."""

  def score(group: list[Member]) -> float:
    return float(np.mean([last(member) for member in group]))

  alive = [group for group in found.values() if any(last(member) > -math.inf for member in group)]
  if not alive:
    raise ValueError("every member diverged: there is no best one")
  highest: list[Member] = max(alive, key=score)
  return max(highest, key=last)


def table(found: Mapping[str, list[Member]]) -> str:
  """A line a setting: its last returns over seeds."""
  width = max(len(name) for name in found)
  lines = []
  for name, group in found.items():
    finite = [last(member) for member in group if last(member) > -math.inf]
    mean = f"{np.mean(finite):12,.2f}" if finite else " " * 12
    lost = f"   {len(group) - len(finite)} diverged" if len(finite) < len(group) else ""
    lines.append(f"{name or 'all':<{width}}  mean return {mean}  {len(group)} seed{'s' * (len(group) > 1)}{lost}")
  return "\n".join(lines)


def write(out: pathlib.Path, found: Mapping[str, RunConfig]) -> None:
  """`population.json`, and every member's directory with its `config.json`."""
  for name, run in found.items():
    (out / FOLDER / name).mkdir(parents=True)
    configure.write(out / FOLDER / name, run, doctor.device_summary())
  note(out, found, ())


def note(out: pathlib.Path, found: Mapping[str, RunConfig], diverged: Collection[str]) -> None:
  """Writes `population.json`: the members, which of them diverged, and the environment steps of each."""
  steps = next(iter(found.values())).settings.num_timesteps
  body = {"schema": SCHEMA, "members": list(found), "diverged": sorted(diverged), "num_timesteps": steps}
  files.write_atomically(out / FILE, (json.dumps(body, indent=2) + "\n").encode())


def read(out: pathlib.Path, algorithm: Any = None) -> tuple[dict[str, RunConfig], set[str]]:
  """The members of a population, by name, and the names of those that diverged.

  Raises:
    ValueError: `out` is none; a member is no run, or was taken on by itself, beyond the steps of the others.
  """
  path = out / FILE
  try:
    body = json.loads(path.read_text())
    names, lost, schema = [str(name) for name in body["members"]], set(body["diverged"]), body["schema"]
    steps = checks.whole("num_timesteps", body["num_timesteps"]) if "num_timesteps" in body else None
    if not names:
      raise ValueError("it has no members")
  except (FileNotFoundError, NotADirectoryError):
    raise ValueError(f"{out} is no population: it has no {FILE}") from None
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} is damaged: {error}") from None
  if schema != SCHEMA:
    raise ValueError(f"{path} has schema {schema!r}, and this varl reads {SCHEMA}")
  found = {name: configure.read(out / FOLDER / name, algorithm) for name in names}
  each = {name: run.settings.num_timesteps for name, run in found.items()}
  steps = min(each.values()) if steps is None else steps
  for name, own in each.items():
    if own > steps:
      raise ValueError(
        f"{name} was taken on by itself, to {own:,} environment steps where the population has {steps:,}, which would "
        f"be lost: take the others on so, too (varl resume {out / FOLDER / name})"
      )
  return {name: with_steps(run, steps) for name, run in found.items()}, lost


def with_steps(run: RunConfig, num_timesteps: int) -> RunConfig:
  """The run to so many environment steps."""
  return run._replace(settings=dataclasses.replace(run.settings, num_timesteps=num_timesteps))
