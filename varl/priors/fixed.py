"""Priors that learn nothing: uniform, one fixed distribution, and the policy as it was at the latest rollout."""

import jax.numpy as jnp

from varl.networks import Network
from varl.policies import Head
from varl.step import copy
from varl.types import Array, Key, Observation, Params, Prior


def uniform(head: Head) -> Prior:
  """A constant density over executed actions, which makes divergence from it negative entropy: log_ratio = log π.

  The density is taken as 1 (log p = 0), as soft actor-critic's entropy does, and not normalised: the normalised one
  would add α d log 2 to the reward of every step, which changes what terminating costs. On an unbounded action space
  only this improper form exists, and it has no samples.

  Args:
    head: the policy's head, which knows the action space.
  """

  def log_prob(params: Params, obs: Observation, action: Array) -> Array:
    return jnp.zeros_like(head.log_prob(jnp.zeros(head.size), action))

  def proposal(params: Params, obs: Observation, key: Key, n: int) -> Array:
    if head.uniform is None:
      raise ValueError(
        "a uniform prior over an unbounded action space cannot be sampled; use priors.fixed or a bounded head"
      )
    return head.uniform(key, (n, *jnp.shape(obs)[:-1]))

  return Prior(lambda key: {}, log_prob, proposal)


def fixed(head: Head, outputs: Array) -> Prior:
  """One fixed distribution for every state, in the policy's own family (2010.10670's constant tanh-Gaussian).

  Args:
    head: the family.
    outputs: `[head.size]`, its parameters.

  Raises:
    ValueError: outputs of another shape.
  """
  outputs = jnp.asarray(outputs, float)
  if outputs.shape != (head.size,):
    raise ValueError(f"the fixed prior of this head takes outputs of shape {(head.size,)}, got {outputs.shape}")

  def log_prob(params: Params, obs: Observation, action: Array) -> Array:
    return head.log_prob(outputs, action)

  def proposal(params: Params, obs: Observation, key: Key, n: int) -> Array:
    batch = jnp.shape(obs)[:-1]
    return head.sample_and_log_prob(jnp.broadcast_to(outputs, (*batch, head.size)), key, n)[0]

  def mode(params: Params, obs: Observation) -> Array:
    return jnp.broadcast_to(head.mode(outputs), (*jnp.shape(obs)[:-1], *head.mode(outputs).shape))

  return Prior(lambda key: {}, log_prob, proposal, mode=mode)


def previous_policy(network: Network, head: Head, *, group: str = "actor") -> Prior:
  """The policy that made the latest rollout: p = π_{j-1}.

  A policy that is improved against it by E[Σ r - α KL(π ‖ π_{j-1})] moves in steps whose size α sets, and since each
  step's bound is tight at its start, the return does not fall (the policy gradient as stochastic EM).

  Args:
    network: `obs [..., o] -> outputs [..., head.size]`, the policy's.
    head: what the outputs mean.
    group: the policy's parameter group; the copy is "previous_<group>", and `renew` makes it.
  """
  previous = f"previous_{group}"

  def outputs(params: Params, obs: Observation) -> Array:
    return network.apply(params[previous], obs)

  return Prior(
    init=lambda key: {previous: network.init(key)},
    log_prob=lambda params, obs, action: head.log_prob(outputs(params, obs), action),
    proposal=lambda params, obs, key, n: head.sample_and_log_prob(outputs(params, obs), key, n)[0],
    mode=lambda params, obs: head.mode(outputs(params, obs)),
    renew=lambda params: {**params, previous: copy(params[group])},
  )
