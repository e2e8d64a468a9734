"""Learning curves: what is drawn is what was recorded."""

import json
import math
import pathlib
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from varl.report import plots
from varl.run import loggers


def _rows(seed=0, start=0, n=11, std=True):
  noise = np.random.default_rng(seed)
  rows = []
  for i in range(n):
    row = {"env_steps": start + 4000 * i, "eval/episode_reward": 1000 / (1 + math.exp(5 - i)) + 20 * noise.normal()}
    if std:
      row["eval/episode_reward_std"] = 100.0 / (1 + i)
    rows.append(row)
  return rows


def _run(out, rows):
  with loggers.MetricsWriter(out, tensorboard=False) as writer:
    for row in rows:
      writer.write(row)
  return out


@pytest.fixture
def drawn(monkeypatch):
  """The figures that were written, for a look at their artists."""
  figures = []
  write = plots._write
  monkeypatch.setattr(plots, "_write", lambda figure, path: (figures.append(figure), write(figure, path))[1])
  return figures


def _is_picture(path):
  assert path.read_bytes().startswith(b"\x89PNG")
  height, width, _ = matplotlib.image.imread(path).shape
  assert (width, height) == (1050, 630)


def test_a_run_is_drawn_with_its_band_labels_and_title(tmp_path, drawn):
  rows = [*_rows(), {"env_steps": 50_000, "training/sps": 1.0}]  # a row without an evaluation is no point
  out = _run(tmp_path / "run", rows)
  (out / "config.json").write_text(json.dumps({"algorithm": "sac", "env": "reacher"}))
  path = plots.curve(out, tmp_path / "pictures" / "curve.png")
  assert path == tmp_path / "pictures" / "curve.png"
  _is_picture(path)
  (axes,) = drawn[0].axes
  assert axes.get_title() == "sac on reacher"
  assert axes.get_xlabel() == "environment steps"
  assert axes.get_ylabel() == "return (sum of rewards per episode)"
  steps, values = axes.lines[0].get_data()
  np.testing.assert_array_equal(steps, [4000 * i for i in range(11)])
  np.testing.assert_array_equal(values, [row["eval/episode_reward"] for row in rows[:11]])
  band = axes.collections[0].get_paths()[0].vertices
  assert [0, rows[0]["eval/episode_reward"] + 100.0] in band.tolist()
  assert [0, rows[0]["eval/episode_reward"] - 100.0] in band.tolist()


def test_rows_without_a_spread_have_no_band_and_no_title(tmp_path, drawn):
  _is_picture(plots.curve(_rows(std=False), tmp_path / "curve.png"))
  (axes,) = drawn[0].axes
  assert not axes.collections
  assert axes.get_title() == ""


def test_a_run_of_one_row_and_non_finite_values_can_be_drawn(tmp_path, drawn):
  rows = [
    {"env_steps": 0, "eval/episode_reward": math.nan, "eval/episode_reward_std": math.nan},
    {"env_steps": 10, "eval/episode_reward": 2.0, "eval/episode_reward_std": math.inf},
  ]
  _is_picture(plots.curve(rows, tmp_path / "curve.png", title="mine"))
  (axes,) = drawn[0].axes
  assert axes.lines[0].get_xydata().tolist() == [[10.0, 2.0]]
  assert axes.get_title() == "mine"
  assert axes.get_xticks().tolist() == [10.0]


@pytest.mark.parametrize("rows", [[], [{"env_steps": 1}], [{"env_steps": 1, "eval/episode_reward": math.nan}]])
def test_nothing_to_draw_is_an_error_that_names_the_metric(tmp_path, rows):
  with pytest.raises(ValueError, match="no row has a finite 'eval/episode_reward'"):
    plots.curve(rows, tmp_path / "curve.png")
  assert not (tmp_path / "curve.png").exists()


def test_seeds_are_averaged_with_the_band_from_lowest_to_highest(tmp_path, drawn):
  key = "eval/episode_reward"
  a = _run(tmp_path / "a", [{"env_steps": 0, key: 0.0}, {"env_steps": 10, key: 10.0}, {"env_steps": 20, key: 20.0}])
  b = _run(tmp_path / "b", [{"env_steps": 0, key: 4.0}, {"env_steps": 20, key: 4.0}, {"env_steps": 30, key: 9.0}])
  _is_picture(plots.curves({"sac": [a, b], "one": [b]}, tmp_path / "curves.png", title="reacher"))
  (axes,) = drawn[0].axes
  # By hand: b is interpolated at 10, and 30 is left out because a does not reach it.
  assert axes.lines[0].get_xydata().tolist() == [[0.0, 2.0], [10.0, 7.0], [20.0, 12.0]]
  vertices = axes.collections[0].get_paths()[0].vertices.tolist()
  for point in ([0, 0], [0, 4], [10, 4], [10, 10], [20, 4], [20, 20]):
    assert point in vertices
  assert len(axes.collections) == 1  # one seed has no band
  assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sac (2 seeds)", "one (1 seed)"]


def test_the_interval_of_the_mean_is_students(tmp_path, drawn):
  values = [1.0, 2.0, 6.0]
  outs = [_run(tmp_path / str(v), [{"env_steps": 5, "m": v}]) for v in values]
  plots.curves({"sac": outs}, tmp_path / "curves.png", metric="m", band="ci95")
  vertices = drawn[0].axes[0].collections[0].get_paths()[0].vertices
  # t(0.975, 2) = 4.30265, from a printed table; the standard deviation of 1, 2, 6 is sqrt(7).
  half = 4.30265 * math.sqrt(7.0 / 3.0)
  assert vertices[:, 1].min() == pytest.approx(3.0 - half, rel=1e-5)
  assert vertices[:, 1].max() == pytest.approx(3.0 + half, rel=1e-5)


def test_bad_groups(tmp_path):
  run = _run(tmp_path / "a", _rows())
  late = _run(tmp_path / "b", _rows(start=10**6))
  with pytest.raises(ValueError, match="band is one of"):
    plots.curves({"sac": [run]}, tmp_path / "x.png", band="std")
  with pytest.raises(ValueError, match="at least one run"):
    plots.curves({"sac": []}, tmp_path / "x.png")
  with pytest.raises(ValueError, match="at least one run"):
    plots.curves({}, tmp_path / "x.png")
  with pytest.raises(ValueError, match="'sac' share no range of steps"):
    plots.curves({"sac": [run, late]}, tmp_path / "x.png")


def test_the_text_curve_by_hand():
  rows = [{"env_steps": 1000 * i, "m": float(i)} for i in range(10)]
  assert plots.text_curve(rows, metric="m", width=10, height=2).splitlines() == [
    "m",
    "9 ┤     ▁▃▅▆█",
    "0 ┤▁▃▄▆██████",
    "  └──────────",
    "   0 9,000 steps",
  ]
  assert plots.text_curve(rows, metric="m", width=10, height=2, ascii_only=True).splitlines() == [
    "m",
    "9 |       ###",
    "0 |##########",
    "  +----------",
    "   0 9,000 steps",
  ]


def test_the_text_curve_of_little_or_nothing():
  assert plots.text_curve([]) == "eval/episode_reward: nothing recorded"
  flat = plots.text_curve([{"env_steps": 7, "m": 3.0}], metric="m", height=3).splitlines()
  assert len(flat) == 6
  assert flat[3] == "3 ┤" + "▁" * 60
  assert "3" not in flat[1]
  with pytest.raises(ValueError, match="width is a whole number >= 10"):
    plots.text_curve([], width=3)


def test_drawing_touches_no_pyplot_and_the_text_needs_nothing():
  program = (
    "import sys\nfrom varl.report import plots\nrows = [{'env_steps': 1, 'm': 2.0}]\n"
    "plots.text_curve(rows, metric='m')\n"
    "print('matplotlib' in sys.modules)\nplots.curve(rows, '/dev/null', metric='m')\n"
    "print('matplotlib.pyplot' in sys.modules)"
  )
  root = pathlib.Path(plots.__file__).parents[2]
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
  assert done.stdout.split() == ["False", "False"]


def test_a_logarithmic_axis(tmp_path, drawn):
  rows = [{"env_steps": i, "training/alpha": 10.0**-i} for i in range(4)]
  runs = {"falls": [_run(tmp_path / "run", rows)]}
  for log in (False, True):
    _is_picture(plots.curves(runs, tmp_path / "curves.png", metric="training/alpha", log=log))
  assert [figure.axes[0].get_yscale() for figure in drawn] == ["linear", "log"]
