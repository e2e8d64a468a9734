"""A prior with two levels: a latent that goes on from the one before, and an action given it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from varl import checks
from varl.networks import Network
from varl.policies import Head
from varl.step import POSTERIOR_STREAM, chain, copy, descend, track
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Prior, TrainStep


def hierarchical(
  latent: Head,
  *,
  size: int,
  sees: Callable[[Observation], Observation],
  correlation: float | Array = 0.0,
  upper: Network | None = None,
  lower: Network | None = None,
  head: Head | None = None,
  optimizer: optax.GradientTransformation | None = None,
  tau: float | Array = 0.005,
  group: str = "prior",
) -> Prior:
  """p(z|z_{t-1}) p(a|s, z) of actions u = [z, a] at observations [s, z_{t-1}].

    z ~ N(ρ z_{t-1}, (1 - ρ²) I), or a network of what it sees and z_{t-1}
    a: as in the posterior, whose lower level is then left out on both sides, or a network of what it sees and z

  Networks follow the posterior's actions by maximum likelihood, and what is paid for divergence from is their slow
  copy, as in `distilled`.

  Args:
    latent: the family of z, `policies.gaussian(k)`.
    size: k.
    sees: `obs [..., o + k] -> [..., v]`, what the prior sees.
    correlation: ρ in (-1, 1), of a prior that is not learned.
    upper: `[..., v + k] -> [..., latent.size]`; None: the process with that correlation.
    lower: `[..., v + k] -> [..., head.size]`; None: the posterior's own (`posteriors.hierarchical(shared=True)`).
    head: of the action, with `lower`.
    optimizer: for the networks.
    tau: the rate at which their slow copies follow.
    group: the parameter group's name; its copy is "target_<group>".

  Returns:
    A Prior. Metrics, of one that learns: `<group>_loss`, the cross-entropy; `divergence`, the mean of log_ratio.

  Raises:
    ValueError: a latent of no entry, a concrete correlation outside (-1, 1), or a network without what it needs.

  Reference: Tirumala et al. 2019, 1903.07438, sections 4 and 5; the process is that of its section 5.
  """
  size = checks.whole("size", size)
  if isinstance(correlation, int | float) and not -1.0 < correlation < 1.0:
    raise ValueError(f"correlation lies in (-1, 1), got {correlation}")
  learns = upper is not None or lower is not None
  if learns and (optimizer is None or (lower is not None and head is None)):
    raise ValueError("a prior that learns needs an optimizer, and a lower level its head")
  target = f"target_{group}"

  def init(key: Key) -> Params:
    if not learns:
      return {}
    upper_key, lower_key = jax.random.split(key)
    params = {} if upper is None else {"upper": upper.init(upper_key)}
    params |= {} if lower is None else {"lower": lower.init(lower_key)}
    return {group: params, target: copy(params)}

  def density(params: Params, obs: Observation, action: Array, source: str) -> Array:
    before, z = obs[..., -size:], action[..., :size]
    if upper is None:
      scale = jnp.sqrt(1.0 - correlation**2)
      of_latent = jnp.sum(jax.scipy.stats.norm.logpdf(z, correlation * before, scale), axis=-1)
    else:
      outputs = upper.apply(params[source]["upper"], jnp.concatenate([sees(obs), before], axis=-1))
      of_latent = latent.log_prob(outputs, z)
    if lower is None or head is None:
      return of_latent
    part = sees(obs)
    part = jnp.broadcast_to(part, (*z.shape[:-1], part.shape[-1]))
    outputs = lower.apply(params[source]["lower"], jnp.concatenate([part, z], axis=-1))
    return of_latent + head.log_prob(outputs, action[..., size:])

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = jax.lax.stop_gradient(design.posterior.particles(design, params, batch, key))
      weight = jnp.exp(drawn.log_weight)
      cross = -jnp.sum(weight * density(params, batch.obs, drawn.action, group), axis=0)
      return jnp.mean(cross), {"divergence": jnp.mean(jnp.sum(weight * drawn.log_ratio, axis=0))}

    own = descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)
    return chain(own, track(group, into=target, rate=tau))

  def proposal(params: Params, obs: Observation, key: Key, n: int) -> Array:
    raise ValueError("a prior with two levels is not sampled from: its lower level may be the posterior's")

  return Prior(
    init=init,
    log_prob=lambda params, obs, action: density(params, obs, action, target),
    proposal=proposal,
    step=step if learns else None,
  )
