"""A policy with two levels: a latent, and an action given it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.networks import Network
from varl.policies import Head
from varl.step import POSTERIOR_STREAM, descend
from varl.types import (
  Array,
  Batch,
  Carry,
  Design,
  Extras,
  Key,
  Metrics,
  Observation,
  Params,
  Particles,
  Posterior,
  TrainStep,
)


def hierarchical(
  upper: Network,
  latent: Head,
  lower: Network,
  head: Head,
  optimizer: optax.GradientTransformation,
  *,
  size: int,
  sees: Callable[[Observation], Observation],
  shared: bool = True,
  samples: int = 1,
  group: str = "actor",
  lower_group: str = "lower",
) -> Posterior:
  """π(z|s) π(a|s, z), both reparameterised; the action of the design is u = [z, a].

    L(s) = Σ_n w_n (α log_ratio_n - Q(s, u_n)),   log_ratio = log π(z|s)/p(z|z_{t-1}) + log π(a|s, z)/p(a|s, z)

  A lower level that the prior shares cancels from the ratio, and only the upper one pays: what it sees and the other
  does not is paid for through z, and the lower level can be used again with another upper one.

  Args:
    upper: `[..., o + k] -> [..., latent.size]`, of the observation and the latent before.
    latent: what its outputs mean, `policies.gaussian(k)`.
    lower: `[..., v + k] -> [..., head.size]`, of what it sees of the observation, and the latent.
    head: what its outputs mean.
    optimizer: for both together.
    size: k, of the latent.
    sees: `obs [..., o + k] -> [..., v]`, what the lower level sees.
    shared: whether the prior's lower level is this one.
    samples: n, actions a state.
    group, lower_group: the parameter groups of the two levels.

  Returns:
    A Posterior. Metrics: `entropy` (of the levels that pay, -log π), `q`.

  Raises:
    ValueError: a latent of no entry, or no sample.

  Reference: Tirumala et al. 2019, 1903.07438, section 4.
  """
  size, samples = checks.whole("size", size), checks.whole("samples", samples)

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> Any:
    shape, (upper_key, lower_key) = batch.obs.shape[:-1], jax.random.split(key)
    return latent.noise(upper_key, samples, shape), head.noise(lower_key, samples, shape)

  def acted(params: Params, obs: Observation, noise: Any) -> tuple[Array, Array]:
    """u `[n, ..., k + d]` and the log-density of the levels that pay."""
    z, log_prob = latent.transform(upper.apply(params[group], obs), noise[0])
    part = sees(obs)
    part = jnp.broadcast_to(part, (*z.shape[:-1], part.shape[-1]))
    outputs = lower.apply(params[lower_group], jnp.concatenate([part, z], axis=-1))
    action, of_lower = jax.vmap(lambda o, e: head.transform(o, e[None]))(outputs, noise[1])
    action, of_lower = action[:, 0], of_lower[:, 0]
    return jnp.concatenate([z, action], axis=-1), log_prob if shared else log_prob + of_lower

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    drawn: Any = batch.extras.get(POSTERIOR_STREAM)
    noise = draw(design, params, batch, key) if drawn is None else drawn
    action, log_prob = acted(params, batch.obs, noise)
    log_weight = jnp.full_like(log_prob, -jnp.log(float(samples)))
    return Particles(action, log_weight, log_prob - design.prior.log_prob(params, batch.obs, action))

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    upper_key, lower_key = jax.random.split(key)
    noise = latent.noise(upper_key, 1, obs.shape[:-1]), head.noise(lower_key, 1, obs.shape[:-1])
    return acted(params, obs, noise)[0][0], carry, {}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    z = latent.mode(upper.apply(params[group], obs))
    outputs = lower.apply(params[lower_group], jnp.concatenate([sees(obs), z], axis=-1))
    return jnp.concatenate([z, head.mode(outputs)], axis=-1), carry, {}

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = particles(design, params, batch, key)
      q = design.value.q(params, batch.obs, drawn.action)
      value = losses.policy_divergence(q, drawn.log_weight, drawn.log_ratio, design.temperature.value(params))
      log_prob = drawn.log_ratio + design.prior.log_prob(params, batch.obs, drawn.action)
      return jnp.mean(value), {"entropy": -jnp.mean(log_prob), "q": jnp.mean(q)}

    return descend(
      (group, lower_group), loss, optimizer, name=group, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms
    )

  def init(key: Key) -> Params:
    upper_key, lower_key = jax.random.split(key)
    return {group: upper.init(upper_key), lower_group: lower.init(lower_key)}

  return Posterior(init=init, particles=particles, draw=draw, act=act, mode=mode, carry=lambda batch: (), step=step)
