"""Comparing runs: aggregates against their definitions, intervals that cover, groups by what runs differ in."""

import json

import numpy as np
import pytest
from scipy import stats

from varl import cli
from varl.report import compare, plots


def test_the_interquartile_mean_is_the_trimmed_mean():
  rng = np.random.default_rng(0)
  for n in (4, 8, 40):
    x = rng.normal(size=n)
    np.testing.assert_allclose(compare.interquartile_mean(x), stats.trim_mean(x, 0.25), rtol=1e-12)
  # Of five scores the middle one counts whole, its neighbours for three quarters of one.
  np.testing.assert_allclose(compare.interquartile_mean([0, 1, 2, 4, 100]), (0.75 * 1 + 2 + 0.75 * 4) / 2.5)
  assert compare.interquartile_mean([3.0]) == 3.0


def test_an_interval_covers_as_often_as_it_says():
  rng = np.random.default_rng(1)
  inside = 0
  for trial in range(200):
    found = compare.estimate(rng.normal(size=(30, 2)), np.mean, resamples=400, seed=trial)
    assert found.low <= found.value <= found.high
    inside += found.low <= 0.0 <= found.high
  assert 0.88 <= inside / 200 <= 0.99  # the percentile interval of 30 seeds is a little short of 95 %


def test_seeds_are_drawn_within_each_task():
  """Tasks on scales of their own do not mix: drawn across tasks the interval would be hundreds wide."""
  x = np.stack([np.linspace(0, 1, 10), 1_000 + np.linspace(0, 1, 10)], axis=1)
  found = compare.estimate(x, np.mean)
  assert found.high - found.low < 1.0


def test_the_probability_of_improvement():
  x, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 4.0])
  wins = sum((a > b) + 0.5 * (a == b) for a in x for b in y) / 9
  found = compare.probability_of_improvement(x, y)
  np.testing.assert_allclose(found.value, wins)
  other = compare.probability_of_improvement(y, x)
  np.testing.assert_allclose(found.value + other.value, 1.0)
  np.testing.assert_allclose(found.value, stats.mannwhitneyu(x, y).statistic / 9)
  assert found.low < found.value < found.high
  with pytest.raises(ValueError, match="the same tasks, got 1 and 2"):
    compare.probability_of_improvement(x, np.zeros((3, 2)))


def run(folder, seed, returns, algorithm="sac", env="point_mass", **config):
  folder.mkdir(parents=True)
  body = {"algorithm": algorithm, "env": env, "seed": seed, "backend": None, "config": config, "settings": {}}
  (folder / "config.json").write_text(json.dumps(body))
  rows = [
    {"env_steps": 100 * i, "eval/episode_reward": x, "training/updates": 10.0, "training/walltime": 2.0 * i}
    for i, x in enumerate(returns)
  ]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return folder


@pytest.fixture
def outs(tmp_path):
  return [
    run(tmp_path / "b", 1, [0, 2, 4], gamma=0.9),
    run(tmp_path / "a", 0, [0, 4, 2], gamma=0.9),
    run(tmp_path / "c", 0, [0, 9, 8], gamma=0.99),
    run(tmp_path / "d", 0, [0, 1, 1], algorithm="ppo"),
  ]


def test_groups_and_scores(outs):
  groups = compare.group(outs)
  assert {label: [path.name for path in paths] for label, paths in groups.items()} == {
    "sac on point_mass (gamma=0.9)": ["a", "b"],
    "sac on point_mass (gamma=0.99)": ["c"],
    "ppo on point_mass": ["d"],
  }
  own = groups["sac on point_mass (gamma=0.9)"]
  np.testing.assert_array_equal(compare.scores(own), [2, 4])
  np.testing.assert_array_equal(compare.scores(own, score="best"), [4, 4])
  np.testing.assert_array_equal(compare.scores(own, score="mean"), [3, 3])
  found = compare.compare(groups)
  assert found["groups"]["sac on point_mass (gamma=0.9)"]["scores"] == [2.0, 4.0]
  assert found["improvement"]["sac on point_mass (gamma=0.99)"]["ppo on point_mass"] == [1.0, 1.0, 1.0]
  assert "3 [2, 4]" in compare.table(found)
  assert json.loads(json.dumps(found)) == found


def test_neither_of_two_environments_is_better(outs, tmp_path):
  """Returns of 1000 on one and of -100 on another say nothing of the algorithms."""
  others = [
    run(tmp_path / name, 0, [0, -100], algorithm=name, env="pendulum") for name in ("sac_v1", "mpo", "ppo_of_mine")
  ]
  alone = run(tmp_path / "alone", 0, [1000], env="hopper")
  found = compare.compare(compare.group([*outs, others[0], alone, *others[1:]]))
  assert found["improvement"]["sac on hopper"] == {}
  assert found["improvement"]["mpo on pendulum"].keys() == {"sac_v1 on pendulum", "ppo_of_mine on pendulum"}
  text = compare.table(found)
  assert text.count("P(row beats column)") == 2
  assert "sac on hopper" in text.split("P(row beats column)")[0]
  assert "sac on hopper" not in "".join(text.split("P(row beats column)")[1:])


def test_what_cannot_be_compared(outs, tmp_path):
  with pytest.raises(ValueError, match="each run is given once"):
    compare.group([outs[0], outs[0]])
  with pytest.raises(ValueError, match="differ in their seeds"):
    compare.group([*outs, run(tmp_path / "e", 1, [1], gamma=0.9)])
  with pytest.raises(ValueError, match="is no run"):
    compare.group([tmp_path])
  with pytest.raises(ValueError, match=r"score is one of \['last', 'best', 'mean'\], got 'median'"):
    compare.scores(outs, score="median")
  with pytest.raises(ValueError, match="no finite 'nothing'"):
    compare.scores(outs, metric="nothing")
  with pytest.raises(ValueError, match="confidence"):
    compare.estimate([1.0], confidence=1.0)


def test_curves_into_axes_over_anything(outs):
  from matplotlib.figure import Figure

  axes = Figure().add_subplot()
  groups = compare.group(outs[:2])
  figure = plots.curves(groups, ax=axes, x="walltime", band="iqm")
  assert figure is axes.figure
  np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 2, 4])
  np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 3, 3])
  made = plots.curves(groups, x="updates")
  np.testing.assert_allclose(made.axes[0].lines[0].get_xdata(), [10, 20, 30])
  with pytest.raises(ValueError, match="x is one of"):
    plots.curves(groups, x="days")


def test_the_commands(outs, tmp_path, capsys):
  names = [str(out) for out in outs]
  assert cli.main(["compare", *names]) == 0
  assert "P(row beats column)" in capsys.readouterr().out
  assert cli.main(["compare", *names, "--json", "--score", "best"]) == 0
  assert json.loads(capsys.readouterr().out)["score"] == "best"
  for name in ("curves.png", "curves.svg"):
    picture = tmp_path / "pictures" / name
    assert cli.main(["plot", *names, "--out", str(picture), "--band", "iqm"]) == 0
    assert picture.stat().st_size > 1_000
    assert cli.main(["plot", *names, "--out", str(picture)]) == 2
    assert "exists already" in capsys.readouterr().err
  assert cli.main(["plot", *names, "--out", str(tmp_path / "curves.pdf")]) == 2
  assert cli.main(["plot", str(tmp_path), "--out", "x.png"]) == 2
  assert cli.main(["compare", *names, "--metric", "nothing"]) == 2
