"""An environment in which every number can be worked out by hand, and what its tests share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.envs import State

# What Brax says of itself, of its optimiser library and of its use of MuJoCo, on import and while it is traced.
brax_warnings = pytest.mark.filterwarnings(
  "ignore:Brax System:UserWarning",
  "ignore:JAXopt is no longer:DeprecationWarning",
  "ignore:Accessing `(ncon|contact)` directly from `Data`:DeprecationWarning",
)


class Counter:
  """Observation: (a number drawn at reset, steps since reset). Reward: the sum of the executed action, which is kept.

  Args:
    done_at: the step count at which the episode ends by itself; 0 for never.
    nan_at: the step count at which `poison` turns NaN; 0 for never.
    poison: "obs" or "reward".
    bounds: `action_bounds`.
  """

  observation_size = 2

  def __init__(self, *, done_at=0, nan_at=0, poison="obs", bounds=None, action_size=2):
    self.done_at, self.nan_at, self.poison = done_at, nan_at, poison
    self.action_bounds, self.action_size = bounds, action_size

  def reset(self, rng):
    # Deliberately careless types, as in Brax: an integer reward, and Python scalars where step returns arrays.
    number = jax.random.uniform(rng, minval=1.0, maxval=2.0)
    return State(
      obs=jnp.array([number, 0.0]),
      reward=jnp.array(0),
      done=jnp.array(False),
      metrics={"count": 0},
      data=jnp.zeros(self.action_size),
    )

  def step(self, state, action):
    count = state.obs[1] + 1
    spoilt = jnp.where(count == self.nan_at, jnp.nan, 0.0) if self.nan_at else 0.0
    return state.replace(
      obs=jnp.array([state.obs[0], count]) + (spoilt if self.poison == "obs" else 0.0),
      reward=jnp.sum(action) + (spoilt if self.poison == "reward" else 0.0),
      done=jnp.where(count == self.done_at, 1.0, 0.0) if self.done_at else 0.0,
      metrics={"count": count},
      data=action,
    )


@functools.cache
def _runner(vector, length):
  @jax.jit
  def run(key, action):
    def body(state, _):
      state, timestep = vector.step(state, action)
      return state, (timestep, state.env.obs, state.env.data)

    return jax.lax.scan(body, vector.reset(key), None, length=length)[1]

  return run


def rollout(vector, length, *, seed=0, action=None):
  """`length` steps with one action: (`TimeStep`, observation, the environment's data) after each step, stacked."""
  if action is None:
    action = jnp.ones((vector.num_envs, vector.spec.action_size))
  timestep, after, data = _runner(vector, length)(jax.random.key(seed), action)
  # The environment's data may be random keys, which NumPy does not know.
  return jax.tree.map(np.asarray, timestep), np.asarray(after), data
