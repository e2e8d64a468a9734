"""Maps and films of runs: what is drawn is what value and policy say there, and what cannot be is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import varl
from varl import cli, components
from varl.agents import ppo, sac
from varl.envs import tabular
from varl.report import maps as pictures
from varl.run import export, maps

FEW = {"num_timesteps": 64, "num_envs": 4, "hidden": (8,), "eval_every": 64, "eval_episodes": 2}


@pytest.fixture(scope="module")
def mass(tmp_path_factory):
  """A run of soft actor-critic on the point mass."""
  out = tmp_path_factory.mktemp("mass") / "run"
  varl.train("sac", "point_mass", out=out, warm_up=32, batch_size=8, replay_capacity=64, episode_length=9, **FEW)
  return out


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
  """A run of PPO on a grid, which values states."""
  out = tmp_path_factory.mktemp("grid") / "run"
  varl.train("ppo", "gridworld", out=out, unroll_length=4, batch_size=8, epochs=1, episode_length=9, **FEW)
  return out


@pytest.fixture
def drawn(monkeypatch):
  """What the two kinds of map were given."""
  found = {}

  def record(name):
    own = getattr(pictures, name)

    def draw(*args, **kwargs):
      found[name] = args, kwargs
      return own(*args, **kwargs)

    return draw

  for name in ("plane", "grid"):
    monkeypatch.setattr(pictures, name, record(name))
  return found


def test_a_plane_of_action_values(mass, drawn, tmp_path):
  path = maps.value_map(
    mass, tmp_path / "maps" / "x.png", entries=(2, 1), low=(-1, -2), high=(1, 2), at=(9, 8, 7, 6), resolution=5
  )
  with Image.open(path) as picture:
    assert picture.size[0] > 300
  (of, low, high, _), rest = drawn["plane"]
  assert (low, high, rest["names"]) == ([-1.0, -2.0], [1.0, 2.0], ("observation 2", "observation 1"))
  policy = export.load_policy(mass)
  points = np.array([[0.5, -1.5], [0.0, 1.0]])
  states = jnp.array([[9, -1.5, 0.5, 6], [9, 1.0, 0.0, 6]])
  raw = policy.agent.mode(policy.params, (), states, jax.random.key(0))[0]
  value = sac.design(policy.agent.spec, sac.Config(hidden=(8,))).value
  expected = value.q(policy.params, varl.scaled(policy.params, states), raw[None])[0]
  np.testing.assert_allclose(of(points), expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(rest["move"](points), policy(states), rtol=1e-4, atol=1e-5)


def test_what_stays_is_the_mean_seen(mass, drawn, tmp_path):
  maps.value_map(mass, tmp_path / "x.svg", of="action", resolution=3)
  (of, low, high, _), _ = drawn["plane"]
  policy = export.load_policy(mass)
  moments = policy.params["normalizer"]
  mean, deviation = np.asarray(moments.origin + moments.mean), np.sqrt(moments.variance)
  np.testing.assert_allclose(low, (mean - 2 * deviation)[:2], rtol=1e-5)
  np.testing.assert_allclose(high, (mean + 2 * deviation)[:2], rtol=1e-5)
  state = mean.copy()
  state[:2] = 0.25, -0.5
  np.testing.assert_allclose(of(np.array([[0.25, -0.5]])), policy(state[None])[:, 0], rtol=1e-4, atol=1e-6)


def test_a_grid_of_state_values(grid, drawn, tmp_path):
  maps.value_map(grid, tmp_path / "x.png")
  (values, layout, _), rest = drawn["grid"]
  assert layout == ["S....", ".....", ".....", ".....", "....G"]
  policy = export.load_policy(grid)
  design = ppo.design(policy.agent.spec, ppo.Config(hidden=(8,)))
  seen = varl.scaled(policy.params, jnp.eye(25))
  expected = components.value_network(policy.agent.spec, ppo.Config(hidden=(8,)), None).apply(
    policy.params["value"], seen
  )
  np.testing.assert_allclose(values[:-1], expected[:-1, 0], rtol=1e-4, atol=1e-5)
  assert values[-1] == 0.0  # the goal
  np.testing.assert_allclose(np.exp(rest["log_policy"]).sum(axis=1), 1.0, rtol=1e-5)
  for action in range(4):
    own = design.posterior.log_prob(policy.params, seen, jnp.full((1, 25), action))[0]
    np.testing.assert_allclose(rest["log_policy"][:, action], own, rtol=1e-4, atol=1e-5)


def test_the_commands(mass, grid, tmp_path, capsys):
  assert cli.main(["map", str(mass), "--out", str(tmp_path / "m.png"), "--low", "-1,-1", "--at", "0,0,-1,0"]) == 0
  assert capsys.readouterr().out.strip() == str(tmp_path / "m.png")
  assert cli.main(["render", str(grid), "--out", str(tmp_path / "g.gif"), "--width", "64", "--fps", "5"]) == 0
  assert "g.gif: 9 steps, return" in capsys.readouterr().out
  with Image.open(tmp_path / "g.gif") as film:
    assert film.size == (64, 64)
    assert film.n_frames >= 3


@pytest.mark.parametrize(
  ("command", "said"),
  [
    (["map", "RUN", "--out", "x.gif"], "x.gif"),
    (["map", "RUN", "--out", "x.png", "--entries", "0,4"], "an entry is a whole number in [0, 4), got 4"),
    (["map", "RUN", "--out", "x.png", "--entries", "1"], "2 numbers with commas between; got '1'"),
    (["map", "RUN", "--out", "x.png", "--at", "1,2"], "an observation of 4 finite numbers; got 2"),
    (["map", "RUN", "--out", "x.png", "--low", "2,2", "--high", "1,3"], "the first below the second"),
    (["map", "RUN", "--out", "x.png", "--resolution", "1"], "resolution is a whole number >= 2, got 1"),
    (["map", "nowhere", "--out", "x.png"], "nowhere is no run"),
    (["render", "RUN", "--out", "x.html"], "a page is of a Brax environment"),
    (["render", "RUN", "--out", "x.png"], "FILE.gif or FILE.mp4, got"),
    (["render", "RUN", "--out", "x.gif", "--fps", "100"], "fps, pictures a second, lies in (0, 60], got 100.0"),
  ],
)
def test_what_is_refused(command, said, mass, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.main([str(mass) if word == "RUN" else word for word in command]) == 2
  error = capsys.readouterr().err
  assert said in error
  assert "Traceback" not in error
  assert not list(tmp_path.iterdir())


def test_a_layout_of_another_size():
  with pytest.raises(ValueError, match="a layout of 25 states has as many free cells; got 3"):
    tabular.Tabular(tabular.gridworld().mdp, layout=["S.#", "#G#"])
