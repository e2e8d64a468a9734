"""Maps: every cell and point where it belongs, and what does not fit refused."""

import numpy as np
import pytest

from varl.report import maps, plots

LAYOUT = ["S.#", "..G"]


def test_a_grid_shows_each_state_in_its_cell(tmp_path):
  figure = maps.grid([0.0, 1.0, 2.0, 3.0, 4.0], LAYOUT, label="nats", title="V")
  axes, bar = figure.axes
  shown = axes.images[0].get_array()
  np.testing.assert_array_equal(shown.filled(-1.0), [[0.0, 1.0, -1.0], [2.0, 3.0, 4.0]])
  assert (axes.get_title(), bar.get_ylabel()) == ("V", "nats")
  assert sorted(text.get_text() for text in axes.texts) == ["G", "S"]
  path = maps.grid(np.arange(5.0), LAYOUT, tmp_path / "new" / "map.svg")
  assert path.read_text().startswith("<?xml")


def test_a_grid_shows_where_a_policy_moves():
  right = np.log(np.tile([1e-9, 1.0, 1e-9, 1e-9], (5, 1)))
  axes = plots.canvas()
  assert maps.grid(np.zeros(5), LAYOUT, log_policy=right, ax=axes) is axes.figure
  (quiver,) = (each for each in axes.collections if hasattr(each, "U"))
  np.testing.assert_allclose(quiver.U, 1.0, atol=1e-6)
  np.testing.assert_allclose(quiver.V, 0.0, atol=1e-6)
  assert quiver.N == 4  # none from the goal


def test_a_plane_is_the_right_way_up():
  figure = maps.plane(
    lambda at: at[:, 0] + 10.0 * at[:, 1], [-1, 0], [1, 2], move=lambda at: -at, resolution=3, arrows=2
  )
  axes = figure.axes[0]
  np.testing.assert_allclose(axes.images[0].get_array(), [[-1, 0, 1], [9, 10, 11], [19, 20, 21]])
  assert axes.images[0].origin == "lower"
  (quiver,) = axes.collections
  np.testing.assert_allclose(np.stack([quiver.U, quiver.V], -1), [[1, 0], [-1, 0], [1, -2], [-1, -2]])


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: maps.grid(np.zeros(6), LAYOUT), "this layout has 5 values, one a free cell; got shape \\[6\\]"),
    (lambda: maps.grid(np.zeros(5), ["..", "..."]), "rows of equal length"),
    (lambda: maps.grid(np.zeros(5), LAYOUT, "map.pdf"), "FILE.png or FILE.svg"),
    (lambda: maps.plane(lambda at: at[:, 0], [0, 0], [1, 0]), "between two corners"),
    (lambda: maps.plane(lambda at: at, [0, 0], [1, 1]), "one number a point, \\[4096\\]; got shape \\[4096, 2\\]"),
    (lambda: maps.plane(lambda at: at[:, 0], [0, 0], [1, 1], resolution=1), "resolution is a whole number >= 2, got 1"),
    (lambda: maps.plane(lambda at: at[:, 0], [0, 0], [1, 1], move=lambda at: at[:, 0]), "two numbers a point"),
    (lambda: maps.plane(lambda at: at[:, 0], [0, 0], [1, 1], "map.gif"), "FILE.png or FILE.svg"),
  ],
)
def test_what_does_not_fit_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
