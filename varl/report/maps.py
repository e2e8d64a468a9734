"""Maps: what a function says of every place of a grid or a plane, and where a policy moves there."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from varl import checks
from varl.report import plots

_MOVES = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])


def grid(
  values: Any,
  layout: Sequence[str],
  path: str | os.PathLike[str] | None = None,
  *,
  log_policy: Any = None,
  label: str = "",
  title: str = "",
  limits: tuple[float, float] | None = None,
  ax: Any = None,
) -> Any:
  """Draws a number a state of `exact.tabular.gridworld`, and the mean move of a policy as arrows.

  Args:
    values: `[S]`: of its free cells in reading order, walls left out.
    layout: its rows; walls are drawn grey, starts, goals and pits with their letters.
    path: the file, PNG or, by its name, SVG; None: nothing is written.
    log_policy: `[S, 4]`, of up, right, down and left; None: no arrows.
    label: of the colours.
    title: of the figure.
    limits: lowest and highest colour; None: those of the values.
    ax: matplotlib axes to draw into; None: of a new figure.

  Returns:
    The path; without one, the figure.

  Raises:
    ValueError: not as many values as the layout has free cells, or a file of another kind.
  """
  if path is not None:
    plots.check_picture(path)
  rows = [list(row) for row in layout]
  if not rows or len({len(row) for row in rows}) != 1:
    raise ValueError(f"layout must be rows of equal length, got {list(layout)}")
  marks = np.array(rows)
  y, x = np.nonzero(marks != "#")
  values = np.asarray(values, float)
  if values.shape != y.shape:
    raise ValueError(f"a map of this layout has {len(y)} values, one a free cell; got shape {list(values.shape)}")
  picture = np.full(marks.shape, np.nan)
  picture[y, x] = values
  axes = plots.canvas(ax, size=(5.4, 4.2))
  axes.set_title(title)
  axes.set_facecolor("0.8")
  low, high = limits or (None, None)
  image = axes.imshow(picture, cmap="viridis", vmin=low, vmax=high)
  axes.figure.colorbar(image, ax=axes, label=label)
  if log_policy is not None:
    moves = np.exp(np.asarray(log_policy, float)) @ _MOVES
    free = ~np.isin(marks[y, x], ["G", "P"])
    axes.quiver(x[free], y[free], *moves[free].T, color="w", pivot="mid", angles="xy", scale=1.6, scale_units="xy")
  for row, column in zip(y, x, strict=True):
    if marks[row, column] != ".":
      axes.text(column - 0.4, row - 0.25, marks[row, column], color="w", fontsize=8)
  axes.set(xticks=[], yticks=[])
  return axes.figure if path is None else plots.write(axes.figure, path)


def plane(
  of: Callable[[Any], Any],
  low: Sequence[float],
  high: Sequence[float],
  path: str | os.PathLike[str] | None = None,
  *,
  move: Callable[[Any], Any] | None = None,
  resolution: int = 64,
  arrows: int = 16,
  names: tuple[str, str] = ("x", "y"),
  label: str = "",
  title: str = "",
  ax: Any = None,
) -> Any:
  """Draws a function of the plane as colours, and a second one as arrows.

  Args:
    of: `points [N, 2] -> [N]`, called once.
    low, high: corners of the rectangle that is drawn.
    path, label, title, ax: as in `grid`.
    move: `points [N, 2] -> [N, 2]`, such as a policy's mean action; None: no arrows.
    resolution: points along each side of the colours.
    arrows: along each side.
    names: of the sides.

  Returns:
    The path; without one, the figure.

  Raises:
    ValueError: a rectangle without an inside, fewer than two points, results of other shapes, or another kind of file.
  """
  if path is not None:
    plots.check_picture(path)
  first, last = np.asarray(low, float), np.asarray(high, float)
  if first.shape != (2,) or last.shape != (2,) or not (last > first).all():
    raise ValueError(f"a plane lies between two corners [x, y], the first below the second; got {low} and {high}")
  resolution, arrows = checks.whole("resolution", resolution, least=2), checks.whole("arrows", arrows, least=2)

  def points(count: int) -> Any:
    sides = [np.linspace(a, b, count) for a, b in zip(first, last, strict=True)]
    return np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)

  values = np.asarray(of(points(resolution)), float)
  if values.shape != (resolution**2,):
    raise ValueError(f"a map needs one number a point, [{resolution**2}]; got shape {list(values.shape)}")
  axes = plots.canvas(ax, size=(5.4, 4.2))
  axes.set_title(title)
  extent = (first[0], last[0], first[1], last[1])
  image = axes.imshow(
    values.reshape(resolution, resolution), origin="lower", extent=extent, cmap="viridis", aspect="auto"
  )
  axes.figure.colorbar(image, ax=axes, label=label)
  if move is not None:
    starts = points(arrows)
    moves = np.asarray(move(starts), float)
    if moves.shape != starts.shape:
      raise ValueError(f"arrows need two numbers a point, {list(starts.shape)}; got shape {list(moves.shape)}")
    axes.quiver(*starts.T, *moves.T, color="w", pivot="mid", width=0.003)
  axes.set(xlabel=names[0], ylabel=names[1])
  return axes.figure if path is None else plots.write(axes.figure, path)
