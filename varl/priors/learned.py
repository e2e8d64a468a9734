"""A prior that is learned: a policy network that follows the posterior within a trust region."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.duals import Dual
from varl.networks import Network
from varl.policies import Head
from varl.step import POSTERIOR_STREAM, chain, copy, descend, entropy_metric, every, joint, stream_key, track
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Prior, TrainStep


class Bound(NamedTuple):
  """How far one part of a learned prior may move from its slow copy: E[KL] <= ε.

  Attributes:
    multiplier: of shape (d,) for a budget in each dimension, or () for one on their sum.
    budget: ε, in nats.
  """

  multiplier: Dual
  budget: float | Array


def learned(
  network: Network,
  head: Head,
  optimizer: optax.GradientTransformation,
  bounds: Mapping[str, Bound],
  dual_optimizer: optax.GradientTransformation,
  *,
  target_every: int = 100,
  tau: float | Array = 1.0,
  decoupled: bool = True,
  group: str = "actor",
) -> Prior:
  """A policy network that follows the posterior within a trust region: the M-step of MPO (1812.02256, section 4.2).

    L(s) = Σ_parts [ -Σ_n w_n log π_part(a_n|s) + α_part KL_part(π̄ ‖ π_θ) ],   a_n, w_n from the posterior
    L(α_part) = α_part sg(ε_part - E[KL_part])

  where each part (`Head.decouple`: mean and covariance of a Gaussian) is π_θ's beside the rest of the slow copy's, and
  has its own budget. The prior *is* the slow copy: `proposal`, `log_prob` and `mode` are π̄'s, which moves to π_θ every
  `target_every` updates.

  Metrics: `Dual.metrics` of each part, named `<part>_multiplier`, and π̄'s `entropy` (of another group
  than "actor": `<group>_entropy`).

  Args:
    network: `obs [..., o] -> outputs [..., head.size]`.
    head: what the outputs mean; its parts are what `bounds` are for.
    optimizer: for the network's parameters.
    bounds: a `Bound` for each part.
    dual_optimizer: for the multipliers.
    target_every: updates between two movements of the slow copy.
    tau: how far it then moves; 1 copies.
    decoupled: whether the likelihood, too, is taken part by part, or once of the whole new policy (V-MPO's
      -Σ_n w_n log π_θ(a_n|s), beside the parts' KLs).
    group: the network's parameter group; its copy is "target_<group>", the multipliers are "<group>_bounds".

  Raises:
    ValueError: bounds for other parts than the head has.
  """
  target_every = checks.whole("target_every", target_every)
  parts = jax.eval_shape(lambda: head.decouple(*2 * (jnp.zeros(head.size),)))
  if set(bounds) != set(parts):
    raise ValueError(f"this head's policy has the parts {sorted(parts)}, but there are bounds for {sorted(bounds)}")
  target, multipliers = f"target_{group}", f"{group}_bounds"
  entropy = entropy_metric(group)
  summed = {part for part, bound in bounds.items() if jax.eval_shape(bound.multiplier.init).ndim == 0}
  follow = track(group, into=target, rate=tau)
  if target_every != 1:
    follow = every(target_every, follow)

  def init(key: Key) -> Params:
    params = network.init(key)
    return {
      group: params,
      target: copy(params),
      multipliers: {part: bound.multiplier.init() for part, bound in bounds.items()},
    }

  def log_prob(params: Params, obs: Observation, action: Array) -> Array:
    return head.log_prob(network.apply(params[target], obs), action)

  def proposal(params: Params, obs: Observation, key: Key, n: int) -> Array:
    return head.sample_and_log_prob(network.apply(params[target], obs), key, n)[0]

  def mode(params: Params, obs: Observation) -> Array:
    return head.mode(network.apply(params[target], obs))

  def step(design: Design) -> TrainStep:
    def of_parts(params: Params, obs: Observation) -> dict[str, tuple[Array, Array]]:
      """By part its outputs, and E[KL] `[k]`, or of the sum over dimensions where one multiplier is for all."""
      old, new = network.apply(params[target], obs), network.apply(params[group], obs)
      found = head.decouple(jax.lax.stop_gradient(old), new)
      return {
        name: (part.outputs, jnp.mean(jnp.sum(part.kl, axis=-1) if name in summed else part.kl, axis=0))
        for name, part in found.items()
      }

    def policy_loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = design.posterior.particles(design, params, batch, key)
      value = jnp.zeros(())
      found = of_parts(params, batch.obs)
      fitted = [outputs for outputs, _ in found.values()] if decoupled else [network.apply(params[group], batch.obs)]
      for outputs in fitted:
        value += jnp.mean(losses.weighted_likelihood(head.log_prob(outputs, drawn.action), drawn.log_weight))
      for name, (_, kl) in found.items():
        price = jax.lax.stop_gradient(bounds[name].multiplier.value(params[multipliers][name]))
        value += jnp.sum(price * kl)
      own = proposal(params, batch.obs, stream_key(key, "entropy"), 1)
      return value, {entropy: -jnp.mean(log_prob(params, batch.obs, own))}

    def price_loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      value, metrics = jnp.zeros(()), dict[str, Array]()
      for name, (_, kl) in of_parts(params, batch.obs).items():
        priced = (params[multipliers][name], kl, jnp.asarray(bounds[name].budget))
        value += jnp.sum(bounds[name].multiplier.loss(*priced))
        metrics |= bounds[name].multiplier.metrics(f"{name}_multiplier", *priced)
      return value, metrics

    return chain(
      joint(
        descend(group, policy_loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms),
        descend(multipliers, price_loss, dual_optimizer, axis=design.axis, terms=design.terms),
      ),
      follow,
    )

  return Prior(init, log_prob, proposal, step, mode)
