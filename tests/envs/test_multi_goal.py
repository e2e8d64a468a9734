"""The multi-goal plane, with numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from counter import rollout

from varl.envs import make, vectorize


def at(place):
  env = make("multi_goal")
  return env, env.reset(jax.random.key_data(jax.random.key(0))).replace(obs=jnp.float32(place))


def test_a_step_by_hand():
  """From (2, 1) by (1, .5) to (3, 1.5): -30 · 1.25 - (4 + 2.25)."""
  env, state = at([2.0, 1.0])
  state = env.step(state, jnp.float32([1.0, 0.5]))
  np.testing.assert_allclose(state.obs, [3.0, 1.5])
  np.testing.assert_allclose(state.reward, -37.5 - 6.25, rtol=1e-6)
  np.testing.assert_allclose(state.metrics["distance"], 2.5, rtol=1e-6)
  assert state.done == 0.0


def test_reaching_a_goal_pays_and_ends():
  """From (0, -4) by (0, -.5) to half a unit of (0, -5): 10 - 30 · .25 - .25. One unit away is not there yet."""
  env, state = at([0.0, -4.0])
  reached = env.step(state, jnp.float32([0.0, -0.5]))
  assert reached.done == 1.0
  np.testing.assert_allclose(reached.reward, 10.0 - 7.5 - 0.25, rtol=1e-6)
  assert env.step(state, jnp.zeros(2)).done == 0.0


def test_the_plane_has_edges():
  env, state = at([6.5, -6.9])
  np.testing.assert_allclose(env.step(state, jnp.float32([1.0, -1.0])).obs, [7.0, -7.0])


def test_it_starts_near_the_middle():
  step, _, _ = rollout(vectorize(make("multi_goal"), 1_000, episode_length=1), 1, action=jnp.zeros((1_000, 2)))
  assert abs(step.obs.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * 2_000)
  assert step.truncated.all()
