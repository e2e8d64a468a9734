"""Actions of a prior as particles: what a value is evaluated by that is the prior's and not the posterior's."""

from collections.abc import Callable

import jax.numpy as jnp

from varl import checks, policies
from varl.policies import Head
from varl.types import Batch, Design, Key, Params, Particles


def samples(n: int) -> Callable[[Design, Params, Batch, Key], Particles]:
  """n equally weighted actions of the design's prior as particles: what a value is evaluated by that is the prior's.

  Raises:
    ValueError: n below 1.
  """
  n = checks.whole("n", n)

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    action = design.prior.proposal(params, batch.obs, key, n)
    shape = (n, *batch.obs.shape[:-1])
    return Particles(action, jnp.full(shape, -jnp.log(float(n))), jnp.zeros(shape))

  return particles


def every_action(head: Head) -> Callable[[Design, Params, Batch, Key], Particles]:
  """As `samples`, of finitely many actions: all of them, weighted by the prior, so that expectations are exact.

  Args:
    head: `policies.categorical(A)`.
  """

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    action = policies.every_action(head.size, batch.obs.shape[:-1])
    log_prob = design.prior.log_prob(params, batch.obs, action)
    return Particles(action, log_prob, jnp.zeros_like(log_prob))

  return particles
