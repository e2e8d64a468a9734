"""An environment of which a part of the observation is seen: by all that learns, or by the policy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks
from varl.envs import base, foreign
from varl.envs.base import Environment, State, Wrapper
from varl.envs.registry import make


class Partial(Wrapper):
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
    foreign.single(env)
    size = checks.whole("observation_size", env.observation_size)
    if isinstance(keep, str) or not isinstance(keep, Iterable):
      raise ValueError(f"a part of an observation is a list of its entries, 0 to {size - 1}; got {keep!r}")
    keep = [int(entry) for entry in keep]
    if not keep or min(keep) < 0 or max(keep) >= size or len(set(keep)) < len(keep):
      raise ValueError(f"a part of an observation is one or more different entries of 0 to {size - 1}, got {keep}")
    context = base.context(env, size)
    if base.privileged(env, size):
      raise ValueError("this environment says itself which part of the observation a policy sees")
    if keep[len(keep) - context :] != list(range(size - context, size)):
      raise ValueError(f"the last {context} entries say the task, and stay the last ones; got {keep}")
    super().__init__(env, len(keep))
    self.context, self.keep = context, jnp.asarray(keep)

  def seen(self, own: Any) -> State:
    """The environment's own state, seen in part."""
    return super().seen(own).replace(obs=own.obs[self.keep])


class Asymmetric(Wrapper):
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
    foreign.single(env)
    first = jax.eval_shape(env.reset, jax.ShapeDtypeStruct((2,), jnp.uint32))
    if not isinstance(first.obs, Mapping):
      raise ValueError(f"observations of {type(env).__name__} are no dict of entries to choose from")
    self.entries = (policy,) if values is None else (policy, values)
    sizes = []
    for entry in self.entries:
      shape = getattr(first.obs.get(entry), "shape", None)
      if shape is None or len(shape) != 1 or shape[0] < 1:
        found = ", ".join(f"{name} {list(getattr(leaf, 'shape', ()))}" for name, leaf in first.obs.items())
        raise ValueError(f"{entry!r} is no vector among the observations of {type(env).__name__}, which are {found}")
      sizes.append(shape[0])
    super().__init__(env, sum(sizes))
    self.privileged = sum(sizes[1:])

  def seen(self, own: Any) -> State:
    """The environment's own state, the entries of its observation one after the other."""
    return super().seen(own).replace(obs=jnp.concatenate([own.obs[entry] for entry in self.entries]))


def inverted_pendulum_positions() -> Partial:
  """Brax's inverted pendulum without its velocities: the cart's place and the pole's angle."""
  return Partial(make("inverted_pendulum"), (0, 1))
