"""Goals that are drawn anew: told at the observation's end, kept for the episode, and all that sets it apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import brax_warnings

from varl import envs
from varl.envs import goals, toys
from varl.exact import tabular

N = 4000


def started(env, n=N):
  return jax.jit(jax.vmap(env.reset))(jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(0), n)))


@pytest.mark.parametrize("name", ["point_mass_goals", "gridworld_goals"])
def test_it_keeps_every_contract_and_says_its_context(name):
  env = envs.make(name)
  envs.check(env)
  assert envs.spec(env).context == env.context == {"point_mass_goals": 2, "gridworld_goals": 25}[name]


def test_a_point_mass_is_pushed_to_its_goal():
  env = envs.make("point_mass_goals")
  first = started(env)
  goal = np.asarray(first.obs[:, 4:])
  assert (np.abs(goal.mean(axis=0)) < 5 / np.sqrt(3 * N)).all()
  np.testing.assert_allclose(goal.var(axis=0), 1 / 3, rtol=0.1)
  assert abs(np.corrcoef(goal[:, 0], first.obs[:, 0])[0, 1]) < 5 / np.sqrt(N)
  action = jax.random.uniform(jax.random.key(1), (N, 2), minval=-1.0)
  second = jax.jit(jax.vmap(env.step))(jax.jit(jax.vmap(env.step))(first, action), action)
  np.testing.assert_array_equal(second.obs[:, 4:], goal)
  for row in range(3):
    alone, state = toys.PointMass(tuple(goal[row])), jax.tree.map(lambda x, row=row: x[row], first.data[0])
    for _ in range(2):
      state = alone.step(state, action[row])
    np.testing.assert_allclose(second.obs[row, :4], state.obs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second.reward[row], state.reward, rtol=1e-5)
    known, reward, _ = env.outcome(*jax.tree.map(lambda x, row=row: x[row], (first.obs, action)), jax.random.key(0))
    np.testing.assert_array_equal(known[4:], goal[row])
    assert reward < 0


def test_a_grid_ends_where_its_goal_is_reached_and_pays_what_the_exact_one_does():
  """Of each goal: the mean of what a move pays, and how often it ends, are the exact grid's."""
  layout, slip = ["..#", "...", ".#."], 0.3
  env = goals.GridGoals(layout, slip=slip)
  first = started(env, 14_000)
  cells = env.cells
  place, goal = (np.asarray(part).argmax(axis=1) for part in np.split(np.asarray(first.obs), 2, axis=1))
  assert cells == 7
  assert (place != goal).all()
  pairs = np.bincount(place * cells + goal, minlength=cells**2)
  assert (pairs > 0).sum() == 42
  assert abs(pairs[pairs > 0] / len(place) - 1 / 42).max() < 5 * np.sqrt(1 / 42 / len(place))
  action = jax.random.randint(jax.random.key(1), (len(place),), 0, 4)
  second = jax.jit(jax.vmap(env.step))(first, action)
  np.testing.assert_array_equal(second.obs[:, cells:], first.obs[:, cells:])
  np.testing.assert_array_equal(second.done, np.asarray(second.obs[:, :cells]).argmax(axis=1) == goal)
  np.testing.assert_array_equal(second.reward, second.done)
  free = [(y, x) for y, row in enumerate(layout) for x, mark in enumerate(row) if mark != "#"]
  for k, (y, x) in enumerate(free):
    rows = [["S" if mark == "." else mark for mark in row] for row in layout]
    rows[y][x] = "G"
    exact = np.asarray(tabular.gridworld(["".join(row) for row in rows], slip=slip).reward)
    own = goal == k
    expected = exact[place[own], np.asarray(action)[own]]
    got = np.asarray(second.reward)[own]
    deviation = np.sqrt(np.sum(expected * (1 - expected)))
    assert got.sum() > 0
    assert abs(got.sum() - expected.sum()) < 5 * deviation
    assert (got[expected == 0] == 0).all()


@pytest.mark.parametrize("layout", [["SG"], ["S#"], ["SP", ".."], 1])
def test_a_grid_that_has_ends_or_no_two_cells_is_refused(layout):
  with pytest.raises(ValueError, match="two free cells or more, and no G or P"):
    goals.GridGoals(layout)


@pytest.mark.parametrize("layout", [2.5, None, True, [["."], 3], [], ["..", "."], ["ab"]])
def test_what_is_no_grid_is_refused(layout):
  with pytest.raises(ValueError, match=r"^layout "):
    goals.GridGoals(layout)


@brax_warnings
def test_nothing_but_the_context_depends_on_the_reachers_target():
  env = envs.make("reacher_goals")
  inner = env.env
  own = jax.jit(inner.reset)(jax.random.PRNGKey(0))

  def after(target):
    state = own.pipeline_state
    moved = inner.pipeline_init(state.q.at[2:].set(target), state.qd)
    return env.step(env.seen(own.replace(pipeline_state=moved, obs=inner._get_obs(moved))), jnp.array([0.5, -0.5]))

  here, there = (jax.jit(after)(jnp.array(target)) for target in ([0.05, 0.1], [-0.1, 0.02]))
  np.testing.assert_allclose(here.obs[:8], there.obs[:8], atol=1e-5)
  np.testing.assert_allclose(here.obs[8:], [0.05, 0.1], atol=1e-5)
  np.testing.assert_allclose(there.obs[8:], [-0.1, 0.02], atol=1e-5)
  distance = np.linalg.norm(here.obs[6:8] - here.obs[8:])
  np.testing.assert_allclose(here.metrics["reward_dist"], -distance, rtol=1e-4)
  assert envs.spec(env).context == 2


def test_its_pictures_show_the_goal():
  env = envs.make("gridworld_goals")
  state = env.reset(jax.random.PRNGKey(3))
  grid, _ = env.inner(jax.device_get(state))
  assert "".join(grid.layout).index("G") == int(state.obs[25:].argmax())
  mass = envs.make("point_mass_goals")
  state = mass.reset(jax.random.PRNGKey(3))
  np.testing.assert_array_equal(mass.inner(jax.device_get(state))[0].goal, state.obs[4:])
