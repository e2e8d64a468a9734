"""Runs side by side: scores over seeds with their intervals, and how surely one beats another.

A score is one number a run. Aggregates are of few seeds, so each comes with an interval by bootstrap over seeds,
stratified by task (Agarwal et al. 2021, 2108.13264).
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from varl import checks, files
from varl.report import records

if TYPE_CHECKING:
  import numpy as np

SCORES = ("last", "best", "mean")
"""What a run's score is: its last evaluation, its best one, or the mean of all after the first (the area under the
curve)."""

RESAMPLES = 2_000
"""Bootstrap samples."""


class Estimate(NamedTuple):
  """A number, and its interval."""

  value: float
  low: float
  high: float


def group(outs: Sequence[str | os.PathLike[str]]) -> dict[str, list[pathlib.Path]]:
  """Directories of runs by label: runs that differ in nothing but the seed are one group.

  A population stands for its members. The label is "algorithm on environment" and, where groups have that in common,
  what sets them apart. A group is in the order of its seeds.

  Raises:
    ValueError: a directory that is no run, or given twice; two runs of one group and seed.
  """
  paths = [run for out in outs for run in records.runs_of(out)]
  if len({path.resolve() for path in paths}) < len(paths):
    raise ValueError(f"each run is given once, got {[str(path) for path in paths]}")
  found: dict[str, list[tuple[int, pathlib.Path, dict[str, Any]]]] = {}
  for path in paths:
    try:
      config = json.loads((path / "config.json").read_text())
      seed, name = int(config["seed"]), f"{config['algorithm']} on {config['env']}"
    except (OSError, ValueError, KeyError, TypeError):
      raise ValueError(
        f"{path} is no run: it has no config.json that says its algorithm, environment and seed"
      ) from None
    same = {key: config.get(key) for key in ("algorithm", "env", "backend", "config", "settings")}
    found.setdefault(json.dumps(same, sort_keys=True), []).append((seed, path, {"name": name, **same}))
  groups: dict[str, list[pathlib.Path]] = {}
  heads = [runs[0][2] for runs in found.values()]
  for runs in found.values():
    runs.sort(key=lambda run: run[0])
    seeds = [seed for seed, *_ in runs]
    if len(set(seeds)) < len(seeds):
      twice = [str(path) for seed, path, _ in runs if seeds.count(seed) > 1]
      raise ValueError(f"runs of one configuration differ in their seeds, but {twice} have the same")
    name = runs[0][2]["name"]
    alike = [head for head in heads if head["name"] == name]
    apart = _apart(runs[0][2], alike)
    groups[name + (f" ({apart})" if apart else "")] = [path for _, path, _ in runs]
  return groups


def _apart(own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
  """The fields in which a configuration differs from others of its algorithm and environment, with their values."""
  flat = [{**(head["config"] or {}), **(head["settings"] or {}), "backend": head["backend"]} for head in alike]
  mine = {**(own["config"] or {}), **(own["settings"] or {}), "backend": own["backend"]}
  differ = sorted(name for name in mine if any(other.get(name) != mine[name] for other in flat))
  return ", ".join(f"{name}={mine[name]}" for name in differ)


def scores(
  runs: Sequence[str | os.PathLike[str]], *, metric: str = "eval/episode_reward", score: str = "last"
) -> "np.ndarray":
  """One number a run, `[seeds]`.

  Args:
    runs: directories of runs.
    metric: of their records.
    score: "last", "best" or "mean" (`SCORES`).

  Raises:
    ValueError: an unknown score, no run, or one without a finite value of the metric.
  """
  import numpy as np

  if score not in SCORES:
    raise ValueError(f"score is one of {list(SCORES)}, got {score!r}")
  if not runs:
    raise ValueError("scores are of one or more runs")
  found = []
  for run in runs:
    values = [float(row[metric]) for row in records.read(run) if math.isfinite(row.get(metric, math.nan))]
    if not values:
      raise ValueError(f"{run} has no finite {metric!r}")
    whole = values[1:] or values
    found.append({"last": values[-1], "best": max(values), "mean": sum(whole) / len(whole)}[score])
  return np.asarray(found)


def interquartile_mean(x: Any) -> float:
  """The mean of the middle half of all scores, those at its edges in part: robust as the median, and surer.

  Args:
    x: `[...]`, finite.

  Raises:
    ValueError: no score.

  Reference: Agarwal et al. 2021, 2108.13264, section 4.2.
  """
  import numpy as np

  flat = np.sort(np.asarray(x, float).ravel())
  if not flat.size:
    raise ValueError("the interquartile mean is of one or more scores")
  # Score i covers [i, i + 1] of n; what of it lies within [n/4, 3n/4] counts.
  edges = np.arange(flat.size)
  weight = np.clip(np.minimum(edges + 1, 0.75 * flat.size) - np.maximum(edges, 0.25 * flat.size), 0.0, 1.0)
  return float(np.sum(weight * flat) / np.sum(weight))


def estimate(
  x: Any,
  statistic: Callable[[Any], float] = interquartile_mean,
  *,
  confidence: float = 0.95,
  resamples: int = RESAMPLES,
  seed: int = 0,
) -> Estimate:
  """A statistic of scores, with its interval by percentile bootstrap over seeds, within each task.

  Args:
    x: `[seeds]`, or `[seeds, tasks]`.
    statistic: of such an array.
    confidence: of the interval, in (0, 1).
    resamples: how often seeds are drawn anew.
    seed: of these draws; the same gives the same interval.

  Raises:
    ValueError: a confidence out of range, no draw, or no score.
  """
  import numpy as np

  values = np.asarray(x, float)
  values = values[:, None] if values.ndim == 1 else values
  resamples = _check(confidence, resamples, values)
  rng, (seeds, tasks) = np.random.default_rng(checks.seed(seed)), values.shape
  drawn = rng.integers(0, seeds, (resamples, seeds, tasks))
  found = [statistic(np.take_along_axis(values, rows, axis=0)) for rows in drawn]
  return _estimate(statistic(values), found, confidence)


def probability_of_improvement(
  x: Any, y: Any, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
  """P(X > Y) + ½ P(X = Y) of one seed of each, the mean over tasks, with its interval by bootstrap over both's seeds.

  Args:
    x, y: `[seeds]`, or `[seeds, tasks]` with the same tasks.
    confidence, resamples, seed: as `estimate`.

  Raises:
    ValueError: as `estimate`, or other tasks.

  Reference: Agarwal et al. 2021, 2108.13264, section 4.3.
  """
  import numpy as np

  one, other = (v[:, None] if v.ndim == 1 else v for v in (np.asarray(x, float), np.asarray(y, float)))
  for values in (one, other):
    resamples = _check(confidence, resamples, values)
  if one.shape[1] != other.shape[1]:
    raise ValueError(f"scores are of the same tasks, got {one.shape[1]} and {other.shape[1]}")

  def statistic(a: Any, b: Any) -> float:
    above, equal = a[:, None] > b[None], a[:, None] == b[None]
    return float(np.mean(above + 0.5 * equal))

  rng = np.random.default_rng(checks.seed(seed))
  found = []
  for _ in range(resamples):
    rows = [rng.integers(0, len(v), v.shape) for v in (one, other)]
    found.append(statistic(np.take_along_axis(one, rows[0], axis=0), np.take_along_axis(other, rows[1], axis=0)))
  return _estimate(statistic(one, other), found, confidence)


def compare(
  runs: Mapping[str, Sequence[str | os.PathLike[str]]],
  *,
  metric: str = "eval/episode_reward",
  score: str = "last",
  confidence: float = 0.95,
) -> dict[str, Any]:
  """Groups of runs side by side.

  Args:
    runs: directories of runs, one a seed, by the label of their group (`group` makes them).
    metric, score: as `scores`.
    confidence: of all intervals.

  Returns:
    {"metric", "score", "confidence", "groups": {label: {"env", "runs", "scores", "mean", "iqm"}}, "improvement":
    {label: {other: P(label > other)}}}, each estimate as [value, low, high]; fit for JSON. Scores on two
    environments are on scales of their own: `improvement` is of groups of one environment.

  Raises:
    ValueError: as `scores`, runs without a label, or a confidence out of range.
  """
  import numpy as np

  if not isinstance(runs, Mapping):
    raise ValueError(f"groups of runs are a dict of them by label, as group(outs) makes it; got {type(runs).__name__}")
  found = {label: scores(outs, metric=metric, score=score) for label, outs in runs.items()}
  groups = {
    label: {
      "env": _environment(runs[label][0]),
      "runs": [str(files.as_path(out)) for out in runs[label]],
      "scores": [float(x) for x in values],
      "mean": list(estimate(values, np.mean, confidence=confidence)),
      "iqm": list(estimate(values, confidence=confidence)),
    }
    for label, values in found.items()
  }
  improvement = {
    label: {
      other: list(probability_of_improvement(found[label], found[other], confidence=confidence))
      for other in found
      if other != label and groups[other]["env"] == groups[label]["env"]
    }
    for label in found
  }
  return {"metric": metric, "score": score, "confidence": confidence, "groups": groups, "improvement": improvement}


def table(compared: Mapping[str, Any]) -> str:
  """What `compare` found as text: a line a group, and below it how surely each beats each other one of its
  environment."""
  percent = f"{100 * compared['confidence']:g} %"
  rows = [["", "seeds", f"mean ({percent})", f"IQM ({percent})", f"lowest to highest {compared['score']}"]]
  for label, of in compared["groups"].items():
    low, high = min(of["scores"]), max(of["scores"])
    rows.append([label, str(len(of["scores"])), _said(of["mean"]), _said(of["iqm"]), f"{low:.5g} to {high:.5g}"])
  lines = [f"{compared['metric']}, {compared['score']}", *_columns(rows)]
  for env in dict.fromkeys(of["env"] for of in compared["groups"].values()):
    labels = [label for label, of in compared["groups"].items() if of["env"] == env]
    if len(labels) < 2:
      continue
    pairs = [["P(row beats column)", *labels]]
    for label in labels:
      beats = compared["improvement"][label]
      pairs.append([label, *("" if other == label else _said(beats[other]) for other in labels)])
    lines += ["", *_columns(pairs)]
  return "\n".join(lines)


def _environment(run: str | os.PathLike[str]) -> str | None:
  try:
    name: str | None = json.loads((files.as_path(run) / "config.json").read_text()).get("env")
  except (OSError, ValueError):  # metrics alone
    return None
  return name


def _said(found: Sequence[float]) -> str:
  return f"{found[0]:.5g} [{found[1]:.5g}, {found[2]:.5g}]"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _check(confidence: float, resamples: int, values: Any) -> int:
  """How many resamples; raises ValueError for a number out of range, and for no score."""
  if not 0.0 < checks.finite("confidence", confidence) < 1.0:
    raise ValueError(f"confidence lies in (0, 1), got {confidence}")
  if not values.size:
    raise ValueError(f"an interval is of one or more scores, got {values.shape}")
  return checks.whole("resamples", resamples)


def _estimate(value: float, found: Sequence[float], confidence: float) -> Estimate:
  import numpy as np

  tail = 50.0 * (1.0 - confidence)
  low, high = np.percentile(found, [tail, 100.0 - tail])
  return Estimate(float(value), float(low), float(high))
