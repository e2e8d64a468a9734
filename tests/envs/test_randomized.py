"""Domain randomisation: each episode under one variation, and steps as under it alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.envs import Randomized, State, check, make, spec, toys
from varl.envs.vector import vectorize


class Falling:
  """A weight that falls under `sys["gravity"]`, with a name that no variation changes."""

  observation_size, action_size = 2, 1

  def __init__(self):
    self.sys = {"gravity": jnp.float32(-10.0), "mass": jnp.ones(3)}

  def reset(self, rng):
    return State(jax.random.uniform(rng, (2,)), jnp.zeros(()), jnp.zeros(()))

  def step(self, state, action):
    speed = state.obs[1] + 0.1 * self.sys["gravity"] + action[0] / self.sys["mass"][0]
    return state.replace(obs=jnp.stack([state.obs[0] + 0.1 * speed, speed]), reward=-self.sys["gravity"])


def vary(system, keys):
  gravity = jax.vmap(lambda key: jax.random.uniform(key, (), minval=-12.0, maxval=-8.0))(keys)
  return {**system, "gravity": gravity}, {"gravity": 0, "mass": None}


def test_an_episode_is_under_one_variation_and_steps_as_under_it():
  env = Randomized(Falling(), vary, variations=5, seed=3)
  assert check(env).kept
  assert spec(env).observation_size == 2
  gravity = np.asarray(env.systems["gravity"])
  assert len(set(gravity.tolist())) == 5
  batch = vectorize(env, 64, episode_length=4)

  def run(key):
    return jax.lax.scan(lambda state, _: batch.step(state, jnp.zeros((64, 1))), batch.reset(key), None, length=8)[1]

  rows = jax.jit(run)(jax.random.key(0))
  felt = -np.asarray(rows.reward)
  assert all((felt[start : start + 4] == felt[start]).all() for start in (0, 4))  # of an episode
  assert (felt[0] != felt[4]).any()  # another one each episode
  assert set(felt.ravel().tolist()) == set(gravity.tolist())
  np.testing.assert_allclose(rows.next_obs[..., 1], rows.obs[..., 1] + 0.1 * felt, rtol=1e-5)
  assert Falling().sys["gravity"] == env.env.sys["gravity"] == -10.0  # the environment itself is as it was


def test_only_what_varies_is_held_several_times():
  env = Randomized(Falling(), vary, variations=7)
  assert env.systems["mass"].shape == (3,)
  assert env.only(2).sys["mass"].shape == (3,)
  state = jax.device_get(env.reset(jax.random.key_data(jax.random.key(0))))
  inner, own = env.inner(state)
  assert inner.sys["gravity"] == env.systems["gravity"][int(state.data[0])]
  np.testing.assert_array_equal(own.obs, state.obs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Brax System:UserWarning")
def test_a_randomisation_as_brax_has_it():
  def friction(system, rng):
    varied = jax.vmap(lambda key: system.geom_friction * jax.random.uniform(key, minval=0.5, maxval=2.0))(rng)
    axes = jax.tree.map(lambda x: None, system).tree_replace({"geom_friction": 0})
    return system.tree_replace({"geom_friction": varied}), axes

  env = Randomized(make("inverted_pendulum"), friction, variations=3)
  assert spec(env).observation_size == 4
  alone = jax.random.split(jax.random.PRNGKey(0), 3)[2]
  expected = env.env.sys.geom_friction * jax.random.uniform(alone, minval=0.5, maxval=2.0)
  np.testing.assert_allclose(env.only(2).sys.geom_friction, expected, rtol=1e-6)
  np.testing.assert_array_equal(env.only(2).sys.body_mass, env.env.sys.body_mass)


def test_what_is_refused():
  with pytest.raises(ValueError, match="PointMass has no physics to vary"):
    Randomized(toys.PointMass(), vary)
  for wrong in (1, 2.5, True):
    with pytest.raises(ValueError, match="variations is a whole number >= 2"):
      Randomized(Falling(), vary, variations=wrong)
  with pytest.raises(ValueError, match="found nothing that varies"):
    Randomized(Falling(), lambda system, keys: (system, {"gravity": None, "mass": None}))
  with pytest.raises(ValueError, match=r"leading axis of 4; found \[3\]"):
    Randomized(Falling(), lambda system, keys: (system, {"gravity": None, "mass": 0}), variations=4)
  with pytest.raises(ValueError, match=r"randomize\(system, keys\) returns the systems and"):
    Randomized(Falling(), lambda system, keys: None)
