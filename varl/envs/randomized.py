"""Domain randomisation: each episode under its own variation of the physics."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks
from varl.envs import foreign
from varl.envs.base import Environment, State, Wrapper
from varl.types import Array

_SYSTEMS = ("sys", "_mjx_model")
"""Where Brax's environments and MuJoCo Playground's have their physics."""


class Randomized(Wrapper):
  """An environment whose every episode has one of n variations of its physics, uniformly drawn.

  The policy is not told which: it learns what serves under all of them. Only what varies is held n times.

  Args:
    env: an environment of Brax's, or of MuJoCo Playground's, without wrappers.
    randomize: as Brax and Playground have it, `(system, keys [n, 2]) -> (systems, in_axes)`: the system with a leading
      axis n wherever `in_axes`, a pytree like it, is 0; None elsewhere.
    variations: n.
    seed: of the keys.

  Raises:
    ValueError: an environment without such a system, fewer than two variations, or a `randomize` that returns something
      else, or varies nothing.

  Reference: Tobin et al. 2017, 1703.06907, section III.
  """

  def __init__(self, env: Environment, randomize: Callable[[Any, Array], Any], variations: int = 256, seed: int = 0):
    foreign.single(env)
    variations, seed = checks.whole("variations", variations, least=2), checks.seed(seed)
    self.system = next((name for name in _SYSTEMS if name in vars(env)), "")
    if not self.system:
      raise ValueError(
        f"{type(env).__name__} has no physics to vary: give an environment of Brax's or Playground's without wrappers"
      )
    super().__init__(env)
    self.variations = variations
    try:
      self.systems, self.axes = randomize(
        getattr(env, self.system), jax.random.split(jax.random.PRNGKey(seed), variations)
      )
      varied = jax.tree.leaves(jax.tree.map(self._length, self.axes, self.systems, is_leaf=_is_none))
    except (TypeError, ValueError) as error:
      raise ValueError(
        "randomize(system, keys) returns the systems and, of the same structure, their in_axes (0 where a leaf has an "
        f"axis of variations, else None): {' '.join(str(error).split())[:200]}"
      ) from error
    if not varied or set(varied) != {variations}:
      lengths = sorted(set(varied)) if varied else "nothing that varies"
      raise ValueError(f"what varies has a leading axis of {variations}; found {lengths}")

  def reset(self, rng: Array) -> State:
    """A variation drawn with the legacy key `rng`, and a first state under it."""
    which_key, own_key = jax.random.split(jax.random.wrap_key_data(rng))
    which = jax.random.randint(which_key, (), 0, self.variations)
    return self.under(self.only(which).reset(jax.random.key_data(own_key)), which)

  def step(self, state: State, action: Array) -> State:
    """The environment's own step, under the episode's variation."""
    which, own = state.data
    return self.under(self.only(which).step(own, action), which)

  def only(self, which: Any) -> Any:
    """The environment under one variation."""

    def chosen(axis: Any, leaf: Any) -> Any:
      return leaf if axis is None else jax.tree.map(lambda x: x[which], leaf)

    varied = copy.copy(self.env)
    setattr(varied, self.system, jax.tree.map(chosen, self.axes, self.systems, is_leaf=_is_none))
    return varied

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The environment under the variation of a state that is no tracer, and its own state."""
    which, own = state.data
    return self.only(int(which)), own

  def under(self, own: Any, which: Array) -> State:
    """The environment's own state, with the number of its variation."""
    return self.seen(own).replace(data=(which, own))

  @staticmethod
  def _length(axis: Any, leaf: Any) -> Any:
    return None if axis is None else [jnp.shape(x)[0] if jnp.ndim(x) else 0 for x in jax.tree.leaves(leaf)]


def _is_none(axis: Any) -> bool:
  return axis is None
