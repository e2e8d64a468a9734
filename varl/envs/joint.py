"""Actions of several integers, as one."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from varl import checks
from varl.envs import foreign
from varl.envs.base import Environment, Wrapper
from varl.types import Array

MOST = 1024
"""How many actions there may be: policies and values have an output for each."""


def combined(counts: Sequence[int]) -> int:
  """How many actions there are of several integers, the i-th below counts[i].

  Raises:
    ValueError: no count, one below 1, or more than `MOST` actions.
  """
  if isinstance(counts, str) or not isinstance(counts, Iterable):
    raise ValueError(f"counts of actions are a list of whole numbers; got {counts!r}")
  counts = [checks.whole("each count of actions", count) for count in counts]
  total = math.prod(counts)
  if not counts or total > MOST:
    raise ValueError(
      f"actions of several integers are combined to one, of which there may be {MOST}; {counts} makes "
      f"{total if counts else 'none'}"
    )
  return total


class MultiDiscrete(Wrapper):
  """An environment whose action is several integers, as one whose action is a single one.

  Every combination is an action of its own, the last integer changing fastest, so that expectations over actions stay
  exact and what goes together is learned.

  Args:
    env: the environment; its `step` takes integers `[k]`.
    counts: k numbers: the i-th integer is in [0, counts[i]).

  Raises:
    ValueError: as `combined`.
  """

  def __init__(self, env: Environment, counts: Sequence[int]):
    foreign.single(env)
    total = combined(counts)
    super().__init__(env)
    self.action_size, self.discrete, self.action_bounds = total, True, None
    self.counts = tuple(int(count) for count in counts)

  def step(self, state: Any, action: Array) -> Any:
    """The environment's own, of the integers that `action` stands for."""
    return super().step(state, jnp.stack(jnp.unravel_index(action, self.counts)).astype(jnp.int32))
