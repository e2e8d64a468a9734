"""An environment of which a part of the observation is seen."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from varl.envs import base
from varl.envs.base import Environment, State
from varl.envs.registry import make
from varl.types import Array


class Partial:
  """An environment whose policy sees some entries of the observation, in their order: what they lack has to be
  remembered.

  Args:
    env: the environment.
    keep: which entries, from 0.

  Raises:
    ValueError: no entry, one that the observation does not have, one twice, or a context that is cut apart.
  """

  def __init__(self, env: Environment, keep: Sequence[int]):
    size = base.positive(env.observation_size, "observation_size")
    keep = [int(entry) for entry in keep]
    if not keep or min(keep) < 0 or max(keep) >= size or len(set(keep)) < len(keep):
      raise ValueError(f"a part of an observation is one or more different entries of 0 to {size - 1}, got {keep}")
    context = base.context(env, size)
    if keep[len(keep) - context :] != list(range(size - context, size)):
      raise ValueError(f"the last {context} entries say the task, and stay the last ones; got {keep}")
    self.env, self.keep = env, jnp.asarray(keep)
    self.observation_size, self.context = len(keep), context
    self.action_size, self.discrete = base.action_size(env), base.is_discrete(env)
    self.action_bounds = getattr(env, "action_bounds", base.DEFAULT_BOUNDS)
    if limit := base.time_limit(env):
      self.time_limit = limit

  def reset(self, rng: Array) -> State:
    """The environment's own, seen in part."""
    return self.seen(self.env.reset(rng))

  def step(self, state: State, action: Array) -> State:
    """The environment's own step."""
    return self.seen(self.env.step(state.data, action))

  def seen(self, own: Any) -> State:
    """An environment's own state, seen in part."""
    return State(own.obs[self.keep], own.reward, own.done, metrics=own.metrics, info=own.info, data=own)


def inverted_pendulum_positions() -> Partial:
  """Brax's inverted pendulum without its velocities: the cart's place and the pole's angle."""
  return Partial(make("inverted_pendulum"), (0, 1))
