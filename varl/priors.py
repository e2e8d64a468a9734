"""Priors p(a|s): what the policy is held to."""

import jax.numpy as jnp

from varl.policies import Head
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
  outputs = jnp.asarray(outputs, jnp.float32)
  if outputs.shape != (head.size,):
    raise ValueError(f"the fixed prior of this head takes outputs of shape {(head.size,)}, got {outputs.shape}")

  def log_prob(params: Params, obs: Observation, action: Array) -> Array:
    return head.log_prob(outputs, action)

  def proposal(params: Params, obs: Observation, key: Key, n: int) -> Array:
    batch = jnp.shape(obs)[:-1]
    return head.sample_and_log_prob(jnp.broadcast_to(outputs, (*batch, head.size)), key, n)[0]

  return Prior(lambda key: {}, log_prob, proposal)
