"""Posteriors that a policy network gives in one pass: direct amortisation, and all actions of a discrete space."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses, policies
from varl.networks import Network
from varl.policies import Head, is_discrete
from varl.step import POSTERIOR_STREAM, descend, entropy_metric, stream_key
from varl.types import (
  VISIT,
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


def direct(
  network: Network,
  head: Head,
  optimizer: optax.GradientTransformation,
  *,
  samples: int = 1,
  moment_penalty: float | Array = 0.0,
  look_ahead: int = 0,
  gamma: float | Array = 0.99,
  reward_scale: float | Array = 1.0,
  group: str = "actor",
) -> Posterior:
  """A policy network, one pass a state: direct amortisation (1812.05905, Eq. 7-9).

  Its E-step descends  L(s) = Σ_n w_n (α log_ratio_n - Q(s, a_n)),  a_n ~ π(·|s) reparameterised, w_n = 1/n.

  With `look_ahead` H > 0 it descends through the design's model, whose draws are reparameterised as well: in place of
  Q(s, a) stands its H-step expansion under the policy, differentiated along the whole way (SVG(H), 1510.09142, section
  4):

    Q_H(s, a) = c r + γ m (Q_{H-1}(s', a') - α log_ratio'),   a' ~ π(·|s'),   Q_0 = Q

  Args:
    network: `obs [..., o] -> outputs [..., head.size]`.
    head: what the outputs mean.
    optimizer: for the network's parameters.
    samples: n, actions a state.
    moment_penalty: times `losses.moment_penalty` of the raw Gaussian is added to L; 0: nothing is.
    look_ahead: H, steps of the model; 0: none, and no model is needed.
    gamma: γ, c: `reward_scale`, as in the design's value, for looking ahead.
    group: the parameter group's name.

  Raises:
    ValueError: fewer than one sample, or a negative look-ahead; at the update, a look-ahead without a model.
  """
  samples, look_ahead = checks.whole("samples", samples), checks.whole("look_ahead", look_ahead, least=0)
  entropy = entropy_metric(group)

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    return head.noise(key, samples, batch.obs.shape[:-1])

  def of_outputs(design: Design, params: Params, batch: Batch, key: Key, outputs: Array) -> Particles:
    shared = batch.extras.get(POSTERIOR_STREAM)
    noise = draw(design, params, batch, key) if shared is None else shared
    action, log_prob = head.transform(outputs, noise)
    log_weight = jnp.full_like(log_prob, -jnp.log(float(samples)))
    return Particles(action, log_weight, log_prob - design.prior.log_prob(params, batch.obs, action))

  policy = _policy(network, head, group, of_outputs)
  particles = policy["particles"]

  def expanded(design: Design, params: Params, obs: Observation, action: Array, key: Key) -> Array:
    """Q_H at `[B, o]` and `[n, B, d]`."""
    if design.model is None:
      raise ValueError("a look-ahead needs a model: design._replace(model=models.ensemble(...) or models.known(...))")
    model, alpha, shape = design.model, design.temperature.value(params), action.shape[:2]

    def advance(state: Any, key: Key) -> tuple[Any, None]:
      at, action, weight, total = state
      model_key, noise_key = jax.random.split(key)
      following, reward, discount = model.sample(params, at, action, model_key, None)
      total = total + weight * reward_scale * reward
      weight = weight * gamma * discount
      outputs = network.apply(params[group], following)
      action, log_prob = head.transform(outputs, head.noise(noise_key, 1, following.shape[:-1]))
      log_ratio = log_prob - design.prior.log_prob(params, following, action)
      return (following, action[0], weight, total - weight * alpha * log_ratio[0]), None

    at = jnp.broadcast_to(obs, (*shape, obs.shape[-1])).reshape(-1, obs.shape[-1])
    action = action.reshape(-1, *action.shape[2:])
    ones = jnp.ones(len(at), action.dtype)
    begin = (at, action, ones, jnp.zeros_like(ones))
    (at, action, weight, total), _ = jax.lax.scan(advance, begin, jax.random.split(key, look_ahead))
    return (total + weight * design.value.q(params, at, action[None])[0]).reshape(shape)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = particles(design, params, batch, key)
      if look_ahead:
        q = expanded(design, params, batch.obs, drawn.action, stream_key(key, "look_ahead"))
      else:
        q = design.value.q(params, batch.obs, drawn.action)
      alpha = design.temperature.value(params)
      value = losses.policy_divergence(q, drawn.log_weight, drawn.log_ratio, alpha)
      log_prob = drawn.log_ratio + design.prior.log_prob(params, batch.obs, drawn.action)
      if not isinstance(moment_penalty, int | float) or moment_penalty:
        policy = head.distribution(network.apply(params[group], batch.obs))
        value = value + moment_penalty * losses.moment_penalty(policy.mean(), policy.stddev())
      mean = losses.visited_mean(value, batch.extras.get(VISIT), design.axis)
      return mean, {entropy: -jnp.mean(log_prob), "q": jnp.mean(q)}

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  return Posterior(
    init=lambda key: {group: network.init(key)},
    draw=draw,
    **policy,
    carry=lambda batch: (),
    step=step,
  )


def enumerated(
  network: Network, head: Head, optimizer: optax.GradientTransformation, *, group: str = "actor"
) -> Posterior:
  """A categorical policy network; every action is a particle, so expectations are exact (1910.07207, Eq. 10-12).

  Its E-step descends  L(s) = Σ_a π(a|s) (α log_ratio_a - Q(s, a)),  without sampling.

  Args:
    network: `obs [..., o] -> logits [..., A]`.
    head: `policies.categorical(A)`.
    optimizer: for the network's parameters.
    group: the parameter group's name.
  """
  entropy = entropy_metric(group)

  def of_outputs(design: Design, params: Params, batch: Batch, key: Key, outputs: Array) -> Particles:
    log_prob = jnp.moveaxis(jax.nn.log_softmax(outputs), -1, 0)
    action = policies.every_action(head.size, log_prob.shape[1:])
    return Particles(action, log_prob, log_prob - design.prior.log_prob(params, batch.obs, action))

  policy = _policy(network, head, group, of_outputs)
  particles = policy["particles"]

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      every = particles(design, params, batch, key)
      q = design.value.q(params, batch.obs, every.action)
      alpha = design.temperature.value(params)
      value = losses.expected_divergence(q, every.log_weight, every.log_ratio, alpha)
      weight = jnp.exp(every.log_weight)
      of_states = -jnp.sum(weight * every.log_weight, axis=0)
      mean = losses.visited_mean(value, batch.extras.get(VISIT), design.axis)
      return mean, {entropy: jnp.mean(of_states), "q": jnp.mean(jnp.sum(weight * q, axis=0))}

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> tuple[()]:
    return ()  # nothing is random

  return Posterior(
    init=lambda key: {group: network.init(key)},
    draw=draw,
    **policy,
    carry=lambda batch: (),
    step=step,
  )


def cloned(
  policy: Posterior, optimizer: optax.GradientTransformation, *, entropy: float | Array = 0.0, group: str = "actor"
) -> Posterior:
  """A parametric posterior that is learned from the batch's actions: behaviour cloning, on rows of an expert.

    L = -E[log π(a|s)] - β E[H(π(·|s))]

  Args:
    policy: `direct` or `enumerated`.
    optimizer: for its parameters.
    entropy: β, in nats per nat.
    group: its parameter group.

  Returns:
    A Posterior. Metrics: `log_prob`, the mean of log π(a|s), in the density of the executed action; `entropy`.

  Raises:
    ValueError: a policy without a density, or a concrete β that is negative.

  Reference: Pomerleau 1991, Efficient Training of Artificial Neural Networks for Autonomous Navigation.
  """
  if policy.evaluate is None:
    raise ValueError("cloning needs a policy with a density, such as posteriors.direct")
  checks.arguments(least={"entropy": entropy})
  evaluate, metric = policy.evaluate, entropy_metric(group)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn, log_prob = evaluate(design, params, batch, key)
      of_drawn = drawn.log_ratio + design.prior.log_prob(params, batch.obs, drawn.action)
      spread = -jnp.mean(jnp.sum(jnp.exp(drawn.log_weight) * of_drawn, axis=0))
      likelihood = jnp.mean(log_prob)
      return -likelihood - entropy * spread, {"log_prob": likelihood, metric: spread}

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  return policy._replace(step=step)


def _policy(
  network: Network, head: Head, group: str, of_outputs: Callable[[Design, Params, Batch, Key, Array], Particles]
) -> dict[str, Callable[..., Any]]:
  """What a posterior is whose network's outputs are the policy, and `of_outputs` its particles."""

  def outputs_at(params: Params, obs: Observation) -> Array:
    return network.apply(params[group], obs)

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    return of_outputs(design, params, batch, key, outputs_at(params, batch.obs))

  def evaluate(design: Design, params: Params, batch: Batch, key: Key) -> tuple[Particles, Array]:
    outputs = outputs_at(params, batch.obs)
    return of_outputs(design, params, batch, key, outputs), head.log_prob(outputs, batch.action)

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    action, log_prob = head.sample_and_log_prob(outputs_at(params, obs), key, 1)
    return action[0], carry, {"log_prob": log_prob[0]}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    outputs = outputs_at(params, obs)
    action = head.mode(outputs)
    return action, carry, {"log_prob": head.log_prob(outputs, action)}

  def log_prob(params: Params, obs: Observation, action: Array) -> Array:
    return head.log_prob(outputs_at(params, obs), action)

  def by_noise(params: Params, obs: Observation, noise: Array) -> Array:
    return head.transform(outputs_at(params, obs), noise[None])[0][0]

  found: dict[str, Callable[..., Any]] = {
    "particles": particles,
    "evaluate": evaluate,
    "act": act,
    "mode": mode,
    "log_prob": log_prob,
  }
  return found if is_discrete(head) else {**found, "by_noise": by_noise}
