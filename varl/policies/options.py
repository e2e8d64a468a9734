"""Which option acts: one that goes on, or one that is chosen anew."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.types import Array, Key, Observation, Params

OPTION, PREVIOUS = "option", "previous_option"
"""Where among a transition's extras the option is that acted, and the one before it; their number where there is none,
at an episode's first step."""

OPTION_ADVANTAGE = "option_advantage"
"""Where among a prepared rollout's extras the advantage of every option is."""

TINY = 1e-30
"""Probabilities are at least this inside a logarithm: an option that cannot be chosen weighs nothing all the same."""


def of_option(each: Array, option: Array) -> Array:
  """The entry of each row's option: `[..., n]`, `[...] -> [...]`."""
  return jnp.take_along_axis(each, option[..., None].astype(jnp.int32), axis=-1)[..., 0]


class Choice(NamedTuple):
  """π(o|s, o_{t-1}): which of n options acts.

  Attributes:
    options: n.
    init: `key -> params`, its own group.
    log_prob: `(params, obs [..., o], previous [...]) -> [..., n]`, of every option.
  """

  options: int
  init: Callable[[Key], Params]
  log_prob: Callable[[Params, Observation, Array], Array]


def choice(network: Any, count: int, *, continuation: float | Array = 0.0, group: str = "options") -> Choice:
  """An option goes on with a fixed probability, or is chosen anew.

    π(o|s, o_{t-1}) = c δ(o = o_{t-1}) + (1 - c) q(o|s, o_{t-1}),   c = 0 at an episode's first step

  Args:
    network: `networks.Network` of q, `[..., o + n] -> [..., n]`, logits, of the observation and the option before,
      one-hot (zeros at the first step). None: q = 1/n, and nothing is learned: no option can go out of use.
    count: n.
    continuation: c in [0, 1]; at 1 an episode's first option acts throughout.
    group: the parameter group's name.

  Raises:
    ValueError: fewer than one option, or a concrete continuation outside [0, 1].
  """
  checks.share("continuation", continuation)
  count = checks.whole("count", count)

  def log_prob(params: Params, obs: Observation, previous: Array) -> Array:
    before = jax.nn.one_hot(previous, count, dtype=obs.dtype)
    fresh = jnp.full_like(before, 1.0 / count)
    if network is not None:
      fresh = jax.nn.softmax(network.apply(params[group], jnp.concatenate([obs, before], axis=-1)))
    mixed = continuation * before + (1.0 - continuation) * fresh
    return jnp.log(jnp.maximum(jnp.where((previous < count)[..., None], mixed, fresh), TINY))

  def init(key: Key) -> Params:
    return {} if network is None else {group: network.init(key)}

  return Choice(count, init, log_prob)
