"""Actions of several integers, as one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.envs import MultiDiscrete, State, check, spec


class Told:
  """Observes what was done: two integers, below 3 and below 2."""

  observation_size, action_size = 2, 2

  def reset(self, rng):
    return State(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))

  def step(self, state, action):
    return state.replace(obs=action.astype(float), reward=jnp.sum(action, dtype=float))


def test_every_combination_is_one_action():
  env = MultiDiscrete(Told(), (3, 2))
  assert check(env).kept
  assert spec(env) == (2, 6, True, False, 0, 0)
  state = env.reset(jax.random.key_data(jax.random.key(0)))
  done = [tuple(np.asarray(env.step(state, jnp.int32(action)).obs)) for action in range(6)]
  assert done == list(itertools.product(range(3), range(2)))


@pytest.mark.parametrize("counts", [(), (0, 2), (2, -1), (1025,), (33, 32), (2.5,), (True,)])
def test_what_is_refused(counts):
  with pytest.raises(ValueError, match=r"each count of actions is a whole number >= 1|of which there may be 1024"):
    MultiDiscrete(Told(), counts)
