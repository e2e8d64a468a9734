"""Priors p(a|s): what the policy is held to."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import losses, policies
from varl.duals import Dual
from varl.networks import Network
from varl.policies import Head
from varl.step import POSTERIOR_STREAM, chain, copy, descend, entropy_metric, every, joint, stream_key, track
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Particles, Prior, TrainStep


class Bound(NamedTuple):
  """How far one part of a learned prior may move from its slow copy: E[KL] <= ε.

  Attributes:
    multiplier: of shape (d,) for a budget in each dimension, or () for one on their sum.
    budget: ε, in nats.
  """

  multiplier: Dual
  budget: float | Array


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

  def mode(params: Params, obs: Observation) -> Array:
    return jnp.broadcast_to(head.mode(outputs), (*jnp.shape(obs)[:-1], *head.mode(outputs).shape))

  return Prior(lambda key: {}, log_prob, proposal, mode=mode)


def previous_policy(network: Network, head: Head, *, group: str = "actor") -> Prior:
  """The policy as it was when the latest rollout was made: p = π_{j-1}.

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
  parts = jax.eval_shape(head.decouple, *2 * (jax.ShapeDtypeStruct((head.size,), jnp.float32),))
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
      value = jnp.float32(0.0)
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
      value, metrics = jnp.float32(0.0), dict[str, Array]()
      for name, (_, kl) in of_parts(params, batch.obs).items():
        priced = (params[multipliers][name], kl, jnp.asarray(bounds[name].budget))
        value += jnp.sum(bounds[name].multiplier.loss(*priced))
        metrics |= bounds[name].multiplier.metrics(f"{name}_multiplier", *priced)
      return value, metrics

    return chain(
      joint(
        descend(group, policy_loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis),
        descend(multipliers, price_loss, dual_optimizer, axis=design.axis),
      ),
      follow,
    )

  return Prior(init, log_prob, proposal, step, mode)


def samples(n: int) -> Callable[[Design, Params, Batch, Key], Particles]:
  """n equally weighted actions of the design's prior as particles: what a value is evaluated by that is the prior's.

  Raises:
    ValueError: n below 1.
  """
  if n < 1:
    raise ValueError(f"a value of the prior is evaluated at one action a state at least, got {n}")

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
