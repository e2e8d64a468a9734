"""Rewards made of others: sums, and what an earlier run has learned."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from varl import normalize
from varl.normalize import NORMALIZER
from varl.step import joint, stream_key
from varl.types import Array, Batch, Design, Extras, Key, Params, Reward, TrainStep, Transition

Paid = Callable[[Design, Params, Batch, Key], Array]


def sum(*, environment: float | Array = 0.0, **parts: Reward | tuple[Reward, float | Array]) -> Reward:
  """The weighted sum of rewards.

    r̃ = w_env r + Σ_k w_k r_k

    rewards.sum(environment=1.0, curiosity=(bonus, 0.1))

  Args:
    environment: w_env.
    **parts: by name, a Reward of weight 1, or (Reward, weight). The name is that of the part's noise; parameter groups
      and metrics are the part's own. A part that changes the environment's reward, such as `log_ratio`, adds its change
      alone.

  Returns:
    A Reward. Its `transfer` is the sum of theirs, where one has any.

  Raises:
    ValueError: no part, one that is no Reward, a weight that is not finite; in `varl.agent`, two parts that name one
      parameter group.
  """
  if not parts:
    raise ValueError("a sum of rewards has at least one part beside the environment's")
  pairs: dict[str, tuple[Reward, float | Array]] = {}
  for name, part in parts.items():
    pairs[name] = (part, 1.0) if isinstance(part, Reward) else part
    if not isinstance(pairs[name], tuple) or len(pairs[name]) != 2 or not isinstance(pairs[name][0], Reward):
      raise ValueError(f"a part of a sum is a Reward, or a pair (Reward, weight); got {name}={part!r}")
  for name, weight in {"environment": environment, **{name: pair[1] for name, pair in pairs.items()}}.items():
    if isinstance(weight, int | float) and not math.isfinite(weight):
      raise ValueError(f"the weight of {name} must be finite, got {weight}")
  learners = {name: part for name, (part, _) in pairs.items() if part.step is not None}
  preparers = {name: part.prepare for name, (part, _) in pairs.items() if part.prepare is not None}
  watchers = [part.observe for part, _ in pairs.values() if part.observe is not None]

  def init(key: Key) -> Params:
    params: dict[str, Any] = {}
    for name, (part, _) in pairs.items():
      groups = part.init(stream_key(key, name))
      twice = sorted(groups.keys() & params.keys())
      if twice:
        raise ValueError(f"the reward {name!r} names the parameter groups {twice}, which another part has already")
      params |= groups
    return params

  def weighed(paid: Callable[[Reward], Paid]) -> Paid:
    def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
      bare = batch._replace(reward=jnp.zeros_like(batch.reward))
      total = environment * batch.reward
      for name, (part, weight) in pairs.items():
        total = total + weight * paid(part)(design, params, bare, stream_key(key, name))
      return total

    return value

  def step(design: Design) -> TrainStep:
    return joint(*(part.step(design) for part in learners.values() if part.step is not None))

  def observe(params: Params, transitions: Transition, valid: Array, axis: str | None = None) -> Params:
    for watch in watchers:
      params = watch(params, transitions, valid, axis)
    return params

  def prepare(design: Design, params: Params, transitions: Transition, key: Key) -> Extras:
    made: Extras = {}
    for name, make in preparers.items():
      made |= make(design, params, transitions, stream_key(key, name))
    return made

  kept = [part.transfer for part, _ in pairs.values() if part.transfer]
  transfer = next((reason for reason in kept if isinstance(reason, str)), weighed(_kept) if kept else None)
  return Reward(
    init,
    weighed(lambda part: part.value),
    step if learners else None,
    observe if watchers else None,
    prepare if preparers else None,
    transfer,
  )


def _kept(reward: Reward) -> Paid:
  """What of a reward another agent is paid; ValueError: nothing."""
  if isinstance(reward.transfer, str):
    raise ValueError(f"no other agent can be paid by this reward: {reward.transfer}")
  return reward.transfer or reward.value


def learned(reward: Reward, params: Params, *, group: str = "learned_reward") -> Reward:
  """What an earlier run's reward says at its end, and learns no more: for another agent, or under other dynamics.

  Of a reward with a `transfer` it is that: of `airl` g alone. It sees observations by the moments that it was learned
  with, whatever the new agent's are.

  Args:
    reward: as it was learned.
    params: of that run, its parameters in all groups that the reward reads.
    group: the parameter group's name.

  Returns:
    A Reward, whose parameters are these ones at every `init`.

  Raises:
    ValueError: parameters that lack a group of the reward's, or one that is for its own agent alone.
  """
  paid = _kept(reward)
  names = jax.eval_shape(reward.init, jax.random.key(0)).keys()
  missing = sorted(names - params.keys())
  if missing:
    raise ValueError(f"the parameters lack the reward's groups {missing}; they have {sorted(params)}")
  own = {name: params[name] for name in (*names, *({NORMALIZER} & params.keys()))}

  def init(key: Key) -> Params:
    return {group: jax.tree.map(jnp.asarray, own)}

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    mine = params[group]

    def seen(obs: Any) -> Any:
      return normalize.scaled(mine, normalize.unscaled(params, obs))

    rows = batch._replace(obs=seen(batch.obs), next_obs=seen(batch.next_obs))
    return paid(design, {**params, **mine}, rows, key)

  return Reward(init, value)
