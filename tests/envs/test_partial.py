"""A part of an observation: the environment's own steps, seen through it."""

import jax
import numpy as np
import pytest

from varl.envs import Partial, check, make, spec, toys, with_skill


def test_it_is_the_environment_seen_in_part():
  env = toys.PointMass()
  part = Partial(env, (2, 0))
  assert check(part).kept
  assert spec(part).observation_size == 2
  key = jax.random.key_data(jax.random.key(0))
  state, own = part.reset(key), env.reset(key)
  for action in ([0.3, -1.0], [1.0, 0.2]):
    np.testing.assert_array_equal(state.obs, own.obs[np.array([2, 0])])
    state, own = part.step(state, np.float32(action)), env.step(own, np.float32(action))
    np.testing.assert_array_equal(state.reward, own.reward)
    np.testing.assert_array_equal(state.done, own.done)


def test_a_context_stays_last():
  env = with_skill(toys.PointMass(), 3)
  assert spec(Partial(env, (1, 4, 5, 6))).context == 3
  with pytest.raises(ValueError, match="the last 3 entries say the task"):
    Partial(env, (4, 5, 6, 1))


@pytest.mark.parametrize("keep", [(), (0, 0), (4,), (-1,)])
def test_what_is_no_part(keep):
  with pytest.raises(ValueError, match="one or more different entries of 0 to 3"):
    Partial(toys.PointMass(), keep)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_pendulum_without_velocities():
  assert spec(make("inverted_pendulum_positions")).observation_size == 2
