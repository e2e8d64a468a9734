"""An environment of which a part of the observation is seen: by all that learns, or by the policy."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
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
    ValueError: no entry, one that the observation does not have, one twice, a context that is cut apart, or an
      environment that says itself what is privileged.
  """

  def __init__(self, env: Environment, keep: Sequence[int]):
    size = base.positive(env.observation_size, "observation_size")
    keep = [int(entry) for entry in keep]
    if not keep or min(keep) < 0 or max(keep) >= size or len(set(keep)) < len(keep):
      raise ValueError(f"a part of an observation is one or more different entries of 0 to {size - 1}, got {keep}")
    context = base.context(env, size)
    if base.privileged(env, size):
      raise ValueError("this environment says itself which part of the observation a policy sees")
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

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The environment inside, and its own state."""
    return self.env, state.data


class Asymmetric:
  """An environment whose observations are dicts: of one entry for the policy, and one more for what is learned with.

  Observation: `[obs[policy], obs[values]]`. The last entries are `privileged`: critics, models and rewards see all, the
  policy only its own part, and a policy that is exported takes nothing else (the asymmetric actor-critic).

  Args:
    env: the environment; `obs` of its states is a dict of vectors.
    policy: the entry that the policy sees.
    values: the entry that the rest sees beside it; None: none.

  Raises:
    ValueError: observations that are no dict, without such an entry, or of one that is no vector.

  Reference: Pinto et al. 2018, 1710.06542, section III.B.
  """

  def __init__(self, env: Any, policy: str = "state", values: str | None = "privileged_state"):
    first = jax.eval_shape(env.reset, jax.ShapeDtypeStruct((2,), jnp.uint32))
    if not isinstance(first.obs, Mapping):
      raise ValueError(f"observations of {type(env).__name__} are no dict of entries to choose from")
    self.env = env
    self.entries = (policy,) if values is None else (policy, values)
    sizes = []
    for entry in self.entries:
      shape = getattr(first.obs.get(entry), "shape", None)
      if shape is None or len(shape) != 1 or shape[0] < 1:
        found = ", ".join(f"{name} {list(getattr(leaf, 'shape', ()))}" for name, leaf in first.obs.items())
        raise ValueError(f"{entry!r} is no vector among the observations of {type(env).__name__}, which are {found}")
      sizes.append(shape[0])
    self.observation_size, self.privileged = sum(sizes), sum(sizes[1:])
    self.action_size, self.discrete = base.action_size(env), base.is_discrete(env)
    self.action_bounds = getattr(env, "action_bounds", base.DEFAULT_BOUNDS)
    if limit := base.time_limit(env):
      self.time_limit = limit

  def reset(self, rng: Array) -> State:
    """The environment's own, its entries one after the other."""
    return self.joined(self.env.reset(rng))

  def step(self, state: State, action: Array) -> State:
    """The environment's own step."""
    return self.joined(self.env.step(state.data, action))

  def joined(self, own: Any) -> State:
    """An environment's own state, with the entries of its observation as one vector."""
    obs = jnp.concatenate([own.obs[entry] for entry in self.entries])
    return State(obs, own.reward, own.done, metrics=own.metrics, info=own.info, data=own)

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The environment inside, and its own state."""
    return self.env, state.data


def inverted_pendulum_positions() -> Partial:
  """Brax's inverted pendulum without its velocities: the cart's place and the pole's angle."""
  return Partial(make("inverted_pendulum"), (0, 1))
