"""gymnax's environments as varl's: ends and time limits apart, true observations, actions, names and mistakes."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import rollout

from varl.envs import catalog, make, spec, vectorize
from varl.envs.gymnax import Gymnax

gymnax = pytest.importorskip("gymnax")


@pytest.fixture(scope="module")
def cartpole():
  return make("cartpole")


def falling(cartpole, length=25):
  """CartPole pushed to the right only: it falls after about ten steps. Each step with its own true observation."""
  vector = vectorize(cartpole, 3, reset="fresh")
  return vector, *rollout(vector, length, action=jnp.ones(3, jnp.int32))[:2]


def test_an_end_is_no_time_limit_and_its_observation_is_kept(cartpole):
  _, step, after = falling(cartpole)
  assert step.terminated.sum() >= 3
  assert not step.truncated.any()
  assert step.valid.all()
  # Beyond 12 degrees, or the edge of the track, in exactly the observations that ended an episode.
  lost = (np.abs(step.next_obs[..., 2]) > np.deg2rad(12)) | (np.abs(step.next_obs[..., 0]) > 2.4)
  np.testing.assert_array_equal(step.terminated, lost)
  np.testing.assert_array_equal(step.obs[1:], after[:-1])
  assert (np.abs(after[step.terminated]) <= 0.05).all()  # a first observation
  np.testing.assert_array_equal(step.next_obs[~step.terminated], after[~step.terminated])
  np.testing.assert_array_equal(step.reward, 1.0)


def test_a_time_limit_is_the_loops_and_no_end(cartpole):
  step, _, _ = rollout(vectorize(cartpole, 3, episode_length=4, reset="fresh"), 8, action=jnp.ones(3, jnp.int32))
  np.testing.assert_array_equal(step.truncated, (np.arange(8) % 4 == 3)[:, None].repeat(3, 1))
  assert not step.terminated.any()
  assert cartpole.time_limit == 500


def test_gymnaxs_own_limit_ends_nothing():
  """A pendulum never ends by itself; its own limit is set to 2 here."""
  env = make("pendulum", max_steps_in_episode=2)
  assert env.time_limit == 2
  step, _, _ = rollout(vectorize(env, 3, episode_length=5, reset="fresh"), 5, action=jnp.zeros((3, 1)))
  assert not step.terminated.any()
  np.testing.assert_array_equal(step.truncated.any(1), [False, False, False, False, True])


def test_it_steps_as_gymnax_does(cartpole):
  env, params = gymnax.make("CartPole-v1")
  state = cartpole.reset(jax.random.key_data(jax.random.key(0)))
  inner, key = state.data[0], jax.random.key(1)
  step = jax.jit(cartpole.step)
  for action in (1, 0, 1):
    state = step(state, jnp.int32(action))
    obs, inner, reward, terminated, truncated, _ = env.step(key, inner, action, params)
    np.testing.assert_allclose(state.obs, obs, rtol=1e-6)
    assert (state.reward, state.done) == (reward, terminated)
    assert not truncated


def test_continuous_actions_are_scaled_to_the_box():
  env = make("pendulum")
  assert not spec(env).discrete
  assert spec(env).bounded
  np.testing.assert_array_equal(env.action_bounds, [[-2.0], [2.0]])
  # The executed action 1 is the torque 2, which costs .001 × 2²: the first reward tells it from that of no torque.
  rewards = [rollout(vectorize(env, 3), 1, action=jnp.full((3, 1), a))[0].reward for a in (0.0, 1.0)]
  np.testing.assert_allclose(rewards[0] - rewards[1], 0.004, rtol=1e-2)


def test_images_are_flattened_and_categories_one_hot():
  assert spec(make("gymnax:Breakout-MinAtar")).observation_size == 400
  lake = make("gymnax:FrozenLake-misc")
  obs = lake.reset(jax.random.key_data(jax.random.key(0))).obs
  assert (obs.ndim, float(obs.sum()), float(obs.max())) == (1, 1.0, 1.0)


def test_every_catalogued_one_is_gymnaxs():
  listed = {e.source.removeprefix("gymnax:") for e in catalog.CATALOG.values() if e.source.startswith("gymnax:")}
  assert listed == {"CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"}
  assert make("gymnax:CartPole-v1").name == make("cartpole").name == "CartPole-v1"
  assert make("cartpole", gravity=5.0).params.gravity == 5.0


def test_mistakes(monkeypatch):
  with pytest.raises(ValueError, match=r"gymnax has no environment 'CartPole-v2' \(did you mean 'CartPole-v1'"):
    make("gymnax:CartPole-v2")
  with pytest.raises(ValueError, match=r"CartPole-v1 takes the parameters .*gravity.*, got \['gravitas'\]"):
    make("cartpole", gravitas=5.0)
  with pytest.raises(ValueError, match="gymnax:CartPole-v1 has no physics backend to choose; got backend 'mjx'"):
    make("gymnax:CartPole-v1", "mjx")
  with pytest.raises(ValueError, match="cartpole has no physics backend to choose"):
    make("cartpole", "mjx")
  with pytest.raises(ValueError, match="object is no environment of gymnax's: it lacks reset_env"):
    Gymnax(object())
  monkeypatch.setitem(sys.modules, "gymnax", None)
  with pytest.raises(ValueError, match=r"needs gymnax: pip install 'varl\[gymnax\]'"):
    make("cartpole")
