"""Learning curves: as PNG files (matplotlib without a display, imported on first use) and as text for a terminal."""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from varl import checks, files
from varl.report import compare, records

Rows = Sequence[Mapping[str, Any]]

_LABELS = {
  "eval/episode_reward": "return (sum of rewards per episode)",
  "eval/avg_episode_length": "episode length (environment steps)",
  "training/sps": "speed (environment steps per second)",
  "training/walltime": "wall-clock time (s)",
  "training/entropy": "policy entropy (nats)",
  "training/alpha": "temperature (scaled reward per nat)",
}
BANDS = ("minmax", "ci95", "iqm")
X_AXES = {"env_steps": "environment steps", "updates": "updates", "walltime": "wall-clock time (s)"}


def _along(rows: Rows, x: str) -> list[float]:
  """What each row is drawn over: its steps, the updates until then, or the seconds of training until then."""
  if x == "env_steps":
    return [row["env_steps"] for row in rows]
  if x == "walltime":
    return [float(row.get("training/walltime", math.nan)) if index else 0.0 for index, row in enumerate(rows)]
  total, found = 0.0, []
  for row in rows:
    made = row.get("training/updates", 0.0)
    total += made if math.isfinite(made) else 0.0
    found.append(total)
  return found


def _series(rows: Rows, metric: str, x: str = "env_steps") -> tuple[list[float], list[float]]:
  """Places on the x axis and values of the rows where both are finite numbers; where one comes twice, the later row.

  Raises:
    ValueError: there is no such row.
  """
  places = _along(rows, x)
  points = {
    place: float(row[metric])
    for place, row in zip(places, rows, strict=True)
    if math.isfinite(row.get(metric, math.nan)) and math.isfinite(place)
  }
  if not points:
    known = sorted({name for row in rows for name in row} - {"env_steps"})
    raise ValueError(f"no row has a finite {metric!r}; the rows have {', '.join(known) or 'nothing'}")
  return sorted(points), [points[step] for step in sorted(points)]


def _title(out: pathlib.Path) -> str:
  """ "algorithm on environment", from the run's config; empty where it has none."""
  try:
    config = json.loads((out / "config.json").read_text())
    return f"{config['algorithm']} on {config['env']}"
  except (OSError, ValueError, KeyError, TypeError):
    return ""


def canvas(axes: Any = None, *, size: tuple[float, float] = (7.0, 4.2)) -> Any:
  """Axes of a new figure of that many inches, or those given. Without pyplot: no global state and no display is
  touched.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  if axes is not None:
    return axes
  figure = Figure(figsize=size, layout="constrained")
  FigureCanvasAgg(figure)
  return figure.add_subplot()


def write(figure: Any, path: str | os.PathLike[str]) -> pathlib.Path:
  """Writes a figure as PNG or, by the file's name, SVG; its directory is created where it does not exist.

  Returns:
    The path.

  Raises:
    OSError: the file cannot be written.
  """
  path = files.as_path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, format="svg" if path.suffix.lower() == ".svg" else "png", dpi=150)
  return path


def _axes(metric: str, title: str, x: str = "env_steps", axes: Any = None) -> tuple[Any, Any]:
  """A figure with labelled axes, or those given."""
  import matplotlib.ticker

  axes = canvas(axes)
  figure = axes.figure
  axes.set_xlabel(X_AXES[x])
  axes.set_ylabel(_LABELS.get(metric, metric))
  axes.set_title(title)
  axes.grid(True, color="0.9", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
  axes.margins(x=0.02)
  return figure, axes


def _line(axes: Any, steps: Any, values: Any, **style: Any) -> None:
  """A line, with its points marked while there are few: a single one would not be seen otherwise."""
  axes.plot(steps, values, linewidth=1.8, marker="o" if len(steps) <= 40 else "", markersize=3.5, **style)


def _write(figure: Any, path: str | os.PathLike[str]) -> pathlib.Path:
  (axes,) = figure.axes
  steps = {step for line in axes.lines for step in line.get_xdata()}
  if len(steps) == 1:
    axes.set_xticks(list(steps))  # the axis around a single step would be labelled in fractions of one
  return write(figure, path)


def curve(
  rows_or_out: Rows | str | os.PathLike[str],
  path: str | os.PathLike[str],
  *,
  metric: str = "eval/episode_reward",
  title: str | None = None,
) -> pathlib.Path:
  """Draws one run: the metric over environment steps and, where `metric + "_std"` is recorded, a band of ±1 of it.

  Args:
    rows_or_out: rows of metrics, or the directory of a run.
    path: the PNG file; its directory is created where it does not exist.
    metric: what to draw.
    title: by default "algorithm on environment" of the run's directory, and nothing for rows.

  Returns:
    The path.

  Raises:
    ValueError: no row has a finite value of the metric.
    OSError: the file cannot be written.
  """
  if isinstance(rows_or_out, str | os.PathLike):
    rows: Rows = records.read(rows_or_out)
    title = _title(files.as_path(rows_or_out)) if title is None else title
  else:
    rows = rows_or_out
  steps, values = _series(rows, metric)
  figure, axes = _axes(metric, title or "")
  _line(axes, steps, values, color="C0", label="mean")
  spread = {row["env_steps"]: row.get(f"{metric}_std", math.nan) for row in rows}
  if any(math.isfinite(spread[step]) for step in steps):
    low = [value - spread[step] for step, value in zip(steps, values, strict=True)]
    high = [value + spread[step] for step, value in zip(steps, values, strict=True)]
    axes.fill_between(steps, low, high, color="C0", alpha=0.2, linewidth=0, label="±1 std over episodes")
    axes.legend(frameon=False, loc="best")
  return _write(figure, path)


def curves(
  runs: Mapping[str, Sequence[str | os.PathLike[str] | Rows]],
  path: str | os.PathLike[str] | None = None,
  *,
  metric: str = "eval/episode_reward",
  band: str = "minmax",
  x: str = "env_steps",
  title: str = "",
  log: bool = False,
  ax: Any = None,
) -> Any:
  """Draws several groups of runs: a line the mean over a group's seeds, and a band around it.

  Seeds are compared at every step that one of them recorded, between the latest first and the earliest last step of the
  group; in between, a seed's values are interpolated linearly.

  Args:
    runs: directories of runs or their rows, one a seed, by the label of their group (`compare.group` makes them).
    path: the file, PNG or, by its name, SVG; its directory is created where it does not exist. None: nothing is
      written.
    metric: what to draw.
    band: "minmax" from the lowest to the highest seed; "ci95" the 95 % interval of the mean (Student's t); "iqm" the
      95 % interval by bootstrap over seeds of the interquartile mean, which is then the line. A group of one seed has
      none.
    x: "env_steps", "updates" or "walltime", which seeds are compared over.
    title: of the figure.
    log: whether the metric's axis is logarithmic; values that are not above 0 are then not drawn.
    ax: matplotlib axes to draw into; None: of a new figure.

  Returns:
    The path; without one, the figure.

  Raises:
    ValueError: an unknown band or x, a file of another kind, no runs, a run without a finite value of the metric, or
      seeds that share no step.
    OSError: the file cannot be written.
  """
  if band not in BANDS:
    raise ValueError(f"band is one of {list(BANDS)}, got {band!r}")
  if x not in X_AXES:
    raise ValueError(f"x is one of {list(X_AXES)}, got {x!r}")
  if path is not None:
    check_picture(path)
  if not isinstance(runs, Mapping):
    raise ValueError(f"groups of runs are a dict of them by label; got {type(runs).__name__}")
  if not runs or not all(runs.values()):
    raise ValueError(
      f"each label needs at least one run, got { ({label: list(outs) for label, outs in runs.items()}) }"
    )
  summaries = {label: _summary(label, outs, metric, band, x) for label, outs in runs.items()}
  figure, axes = _axes(metric, title, x, ax)
  if log:
    axes.set_yscale("log")
  for number, (label, outs) in enumerate(runs.items()):
    steps, mean, low, high = summaries[label]
    seeds = f"{len(outs)} seed{'s' if len(outs) > 1 else ''}"
    _line(axes, steps, mean, color=f"C{number % 10}", label=f"{label} ({seeds})")
    if len(outs) > 1:
      axes.fill_between(steps, low, high, color=f"C{number % 10}", alpha=0.18, linewidth=0)
  meaning = {
    "minmax": "mean; band: lowest to highest seed",
    "ci95": "mean; band: 95 % interval of the mean",
    "iqm": "interquartile mean; band: its 95 % interval",
  }[band]
  axes.legend(frameon=False, loc="best", title=meaning, title_fontsize="small", alignment="left")
  return figure if path is None else _write(figure, path)


def check_picture(path: str | os.PathLike[str]) -> pathlib.Path:
  """The path of a picture.

  Raises:
    ValueError: its name ends neither in .png nor in .svg, or it is a directory.
  """
  path = files.as_path(path)
  if path.suffix.lower() not in (".png", ".svg"):
    raise ValueError(f"a picture is a file FILE.png or FILE.svg, got {str(path)!r}")
  if path.is_dir():
    raise ValueError(f"{path} is a directory")
  return path


def _summary(label: str, outs: Sequence[Any], metric: str, band: str, x: str) -> tuple[Any, Any, Any, Any]:
  """Places on the x axis, the line, and the lower and upper edge of the band, each `[places]`."""
  import numpy as np

  read = [records.read(out) if isinstance(out, str | os.PathLike) else out for out in outs]
  series = [_series(rows, metric, x) for rows in read]
  first, last = max(steps[0] for steps, _ in series), min(steps[-1] for steps, _ in series)
  grid = np.array(sorted({step for steps, _ in series for step in steps if first <= step <= last}))
  if not grid.size:
    raise ValueError(f"the runs of {label!r} share no range of steps")
  values = np.stack([np.interp(grid, steps, value) for steps, value in series])
  mean = values.mean(0)
  if band == "minmax" or len(outs) == 1:
    return grid, mean, values.min(0), values.max(0)
  if band == "iqm":
    found = [compare.estimate(column) for column in values.T]
    line, low, high = (np.array(part) for part in zip(*found, strict=True))
    return grid, line, low, high
  from scipy.special import stdtrit

  half = stdtrit(len(outs) - 1, 0.975) * values.std(0, ddof=1) / math.sqrt(len(outs))
  return grid, mean, mean - half, mean + half


_BLOCKS = " ▁▂▃▄▅▆▇█"


def text_curve(
  rows: Rows, *, metric: str = "eval/episode_reward", width: int = 60, height: int = 8, ascii_only: bool = False
) -> str:
  """Draws one run as text: a column a stretch of environment steps, the metric from its lowest to its highest value.

  Args:
    rows: rows of metrics.
    metric: what to draw.
    width: columns of the drawing at most, without the axis; at least 10.
    height: lines of the drawing; at least 2.
    ascii_only: whether to draw with "#" and not with block characters.

  Returns:
    `height + 3` lines: the metric's name, the drawing, and the axis of steps; one line where no row has the metric.

  Raises:
    ValueError: a width or height that is too small.
  """
  width, height = checks.whole("width", width, least=10), checks.whole("height", height, least=2)
  try:
    steps, values = _series(rows, metric)
  except ValueError:
    return f"{metric}: nothing recorded"
  first, last = steps[0], steps[-1]
  columns = _columns(steps, values, width)
  low, high = min(values), max(values)
  span = high - low or 1.0
  # The lowest value still shows as the thinnest block, so that a gap never looks like a value.
  levels = [1 + round((value - low) / span * (8 * height - 1)) for value in columns]
  labels = {height - 1: f"{high:.5g}", 0: f"{low:.5g}"} if high > low else {0: f"{low:.5g}"}
  margin = max(map(len, labels.values()))
  lines = [metric]
  for line in range(height - 1, -1, -1):
    filled = [min(max(level - 8 * line, 0), 8) for level in levels]
    # Without eighths of a line, a cell is full from one half on, and on the lowest line always.
    blocks = (" " + ("   " if line else "###") + "#####") if ascii_only else _BLOCKS
    bar = "".join(blocks[cell] for cell in filled)
    lines.append(f"{labels.get(line, ''):>{margin}} {'|' if ascii_only else '┤'}{bar}".rstrip())
  lines.append(" " * (margin + 1) + ("+" + "-" * width if ascii_only else "└" + "─" * width))
  left, right = f"{first:,}", f"{last:,} steps"
  lines.append(" " * (margin + 2) + left + right.rjust(max(width - len(left), len(right) + 1)))
  return "\n".join(lines)


def _columns(steps: Sequence[float], values: Sequence[float], width: int) -> list[float]:
  """The values at `width` equally spaced steps, interpolated linearly: plain Python, so that nothing is imported."""
  result, at = [], 0
  for column in range(width):
    step = steps[0] + (steps[-1] - steps[0]) * column / (width - 1)
    while at + 2 < len(steps) and steps[at + 1] <= step:
      at += 1
    if len(steps) == 1:
      result.append(values[0])
      continue
    share = (step - steps[at]) / (steps[at + 1] - steps[at])
    result.append(values[at] + min(max(share, 0.0), 1.0) * (values[at + 1] - values[at]))
  return result
