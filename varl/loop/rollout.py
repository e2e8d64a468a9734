"""Unrolling a policy in a batch of environments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl.envs.vector import VectorEnv, VectorState, observe
from varl.types import Agent, Array, Carry, Key, Params, Transition


class RolloutState(NamedTuple):
  """Where the environments and the policy's memory stand.

  Attributes:
    env: the environments.
    carry: the policy's memory, one row an environment.
    returns: `[N]`, the reward of the running episodes so far.
    lengths: int32 `[N]`, their environment steps so far.
  """

  env: VectorState
  carry: Carry
  returns: Array
  lengths: Array


class Episodes(NamedTuple):
  """Totals over a rollout: episodes that ended, their returns and lengths, and environments reset for turning
  non-finite, discarded first states among them."""

  ended: Array
  return_sum: Array
  length_sum: Array
  nan_resets: Array


def init(env: VectorEnv, agent: Agent, key: Key) -> RolloutState:
  """Every environment at a first state; the key is consumed by `env.reset`."""
  n = env.num_envs
  return RolloutState(env.reset(key), agent.carry(n), jnp.zeros(n), jnp.zeros(n, jnp.int32))


def no_episodes() -> Episodes:
  """Totals of nothing, to add to."""
  return Episodes(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))


def unroll(
  env: VectorEnv,
  agent: Agent,
  params: Params,
  state: RolloutState,
  key: Key,
  length: int,
  warm_up: Array | bool = False,
) -> tuple[RolloutState, Transition, Array, Episodes]:
  """Takes `length` steps in every environment.

  Args:
    env: N environments.
    agent: acts by `agent.act`, or by `agent.warm_up` while `warm_up` holds (where it has one).
    params: the agent's parameters, constant over the rollout.
    state: where to go on from.
    key: consumed: one key a step for the policy.
    length: T.
    warm_up: a scalar.

  Returns:
    The state after; transitions `[T, N]`, whose next_obs is the true next observation; booleans `[T, N]`, False at
    steps that turned non-finite and must not be learned from; totals of the episodes that ended.
  """
  fresh = agent.carry(env.num_envs)

  def choose(carry: Carry, obs: Array, key: Key) -> tuple[Array, Carry, dict[str, Array]]:
    if agent.warm_up is None or warm_up is False:
      return agent.act(params, carry, obs, key)
    return jax.lax.cond(warm_up, agent.warm_up, agent.act, params, carry, obs, key)

  def one(state: RolloutState, key: Key) -> tuple[RolloutState, Any]:
    action, carry, extras = choose(state.carry, observe(state.env), key)
    env_state, step = env.step(state.env, agent.execute(action))
    transition = Transition(
      obs=step.obs,
      action=action,
      reward=step.reward,
      discount=1.0 - step.terminated.astype(float),
      next_obs=step.next_obs,
      truncated=step.truncated.astype(float),
      extras=extras,
    )
    ended = step.terminated | step.truncated
    returns = state.returns + step.reward
    lengths = state.lengths + env.action_repeat
    complete = ended & step.valid
    episodes = Episodes(
      jnp.sum(complete, dtype=jnp.int32),
      jnp.sum(jnp.where(complete, returns, 0.0)),
      jnp.sum(jnp.where(complete, lengths, 0)).astype(float),
      jnp.sum(~step.valid, dtype=jnp.int32) + step.discarded,
    )
    carry = jax.tree.map(lambda new, old: jnp.where(_rows(ended, new), old, new), carry, fresh)
    state = RolloutState(env_state, carry, jnp.where(ended, 0.0, returns), jnp.where(ended, 0, lengths))
    return state, (transition, step.valid, episodes)

  state, (transitions, valid, episodes) = jax.lax.scan(one, state, jax.random.split(key, length))
  return state, transitions, valid, jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), episodes)


def _rows(mask: Array, like: Array) -> Array:
  return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))
