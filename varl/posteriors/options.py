"""A policy over options: which one goes on or is chosen anew, and what each of them does."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.networks import Network
from varl.policies import OPTION, OPTION_ADVANTAGE, PREVIOUS, TINY, Choice, Head, every_action, is_discrete
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

STATES = 64
"""States by which a metric is estimated that takes more than the loss does."""


def options(
  network: Network,
  head: Head,
  choosing: Choice,
  optimizer: optax.GradientTransformation,
  *,
  clip: float | Array = 0.2,
  standardise: bool = True,
  group: str = "actor",
) -> Posterior:
  """Options that act, from the advantages of `values.option_value`, by clipped ratios.

    L = -min(ρ A, clip(ρ) A) - Σ_o π_old(o|·) min(ρ_o A_o, clip(ρ_o) A_o),   ρ_o = π(o|·)/π_old(o|·)

  The first part is of the action that was taken, given its option; the second is the sum over all options, not only
  the one that acted, so that no score function of a choice adds noise. The policy's memory is the option.

  Its particles are of the mixture π(a|s, o_{t-1}) = Σ_o π(o|s, o_{t-1}) π(a|s, o), each of whose densities is that
  sum; `evaluate` is of the action given the option that was taken. Where a batch's extras lack the option before, they
  are those of an episode's first step.

  Metrics: `entropy` (of actions given the option), `advantage_std`, `policy_ratio` and `clipped` of actions;
  `option_entropy` (of the choice, in nats), `option_usage` (entropy of how often each acts) and `option_information`
  (I(o; a|s) of options drawn by their usage, over at most 128 of the batch's states, since it takes what every option
  does: how much an action tells of its option; at most `option_usage`, and 0 where all options do the same).

  Args:
    network: `[..., o + n] -> outputs [..., head.size]`, of the observation and the option, one-hot.
    head: what the outputs mean.
    choosing: which option acts.
    optimizer: for both networks.
    clip: c of the ratios.
    standardise: whether the actions' advantages are centred and divided by their deviation in each batch; the options'
      are divided by the same one.
    group: the parameter group of what options do.

  Raises:
    ValueError: a concrete clip that is not positive; at the update, a batch without the advantages of options.
  """
  checks.arguments(above={"clip": clip})
  count, discrete = choosing.options, is_discrete(head)
  chooser = tuple(jax.eval_shape(choosing.init, jax.random.key(0)))

  def outputs_of(params: Params, obs: Observation, option: Array) -> Array:
    chosen = jax.nn.one_hot(option, count, dtype=obs.dtype)
    return network.apply(params[group], jnp.concatenate([obs, chosen], axis=-1))

  def all_outputs(params: Params, obs: Observation) -> Array:
    """What every option does, `[n, B, size]`."""
    every = every_action(count, obs.shape[:-1])
    return outputs_of(params, jnp.broadcast_to(obs, (count, *obs.shape)), every)

  def mixture(params: Params, obs: Observation, log_option: Array, noise: Array | None) -> tuple[Array, Array, Array]:
    """Actions `[m, B, *]`, their weights and log-density `[m, B]` under options of that log-probability `[B, n]`."""
    outputs, log_option = all_outputs(params, obs), jnp.moveaxis(log_option, -1, 0)
    if noise is None:  # all actions
      log_prob = jax.nn.logsumexp(log_option[..., None] + jax.nn.log_softmax(outputs), axis=0)
      log_prob = jnp.moveaxis(log_prob, -1, 0)
      return every_action(head.size, log_prob.shape[1:]), log_prob, log_prob
    action, _ = head.transform(outputs, noise)
    action = action[0]
    of_each = jax.vmap(lambda a: head.log_prob(outputs, jnp.broadcast_to(a, action.shape)))(action)  # [m, n, B]
    return action, log_option, jax.nn.logsumexp(log_option[None] + of_each, axis=1)

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> Any:
    return () if discrete else head.noise(key, 1, (count, *batch.obs.shape[:-1]))

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    noise = draw(design, params, batch, key) if shared is None else shared
    previous = batch.extras.get(PREVIOUS, jnp.full(batch.obs.shape[:-1], count))
    log_option = choosing.log_prob(params, batch.obs, previous)
    action, log_weight, log_prob = mixture(params, batch.obs, log_option, None if discrete else noise)
    return Particles(action, log_weight, log_prob - design.prior.log_prob(params, batch.obs, action))

  def evaluate(design: Design, params: Params, batch: Batch, key: Key) -> tuple[Particles, Array]:
    return particles(design, params, batch, key), of_taken(params, batch)

  def of_taken(params: Params, batch: Batch) -> Array:
    """log π(a|s, o) of the action and the option that were taken."""
    return head.log_prob(outputs_of(params, batch.obs, batch.extras[OPTION]), batch.action)

  def follow(pick: Any, do: Any) -> Any:
    def acting(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
      previous: Any = carry
      option_key, action_key = jax.random.split(key)
      log_option = choosing.log_prob(params, obs, previous)
      option = pick(option_key, log_option).astype(previous.dtype)
      outputs = outputs_of(params, obs, option)
      action, log_prob = do(outputs, action_key)
      extras = {"log_prob": log_prob, "log_options": log_option, OPTION: option, PREVIOUS: previous}
      return action, option, extras

    return acting

  def sampled(outputs: Array, key: Key) -> tuple[Array, Array]:
    action, log_prob = head.sample_and_log_prob(outputs, key, 1)
    return action[0], log_prob[0]

  def best(outputs: Array, key: Key) -> tuple[Array, Array]:
    action = head.mode(outputs)
    return action, head.log_prob(outputs, action)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      if OPTION_ADVANTAGE not in batch.extras:
        raise ValueError(
          f"options need the advantages of values.option_value, but the batch's extras are {sorted(batch.extras)}"
        )
      axis = design.axis
      old, previous, option = (batch.extras[name] for name in ("log_options", PREVIOUS, OPTION))
      advantage, of_options = batch.extras["advantage"], batch.extras[OPTION_ADVANTAGE]
      deviation = losses.batch_std(advantage, axis)
      if standardise:
        scale = jnp.where(deviation > 0, 1.0 / jnp.where(deviation > 0, deviation, 1.0), 1.0)
        advantage, of_options = losses.standardised(advantage, axis), scale * of_options
      log_prob = of_taken(params, batch)
      value, clipped = losses.clipped_ratio(log_prob, batch.extras["log_prob"], advantage, clip)
      log_option = choosing.log_prob(params, batch.obs, previous)
      each, _ = losses.clipped_ratio(log_option, old, of_options, clip)
      value = value + jnp.sum(jnp.exp(old) * each, axis=-1)
      usage = jnp.mean(jax.nn.one_hot(option, count, dtype=batch.obs.dtype), axis=0)
      usage = usage if axis is None else jax.lax.pmean(usage, axis)
      metrics = {
        "advantage_std": deviation,
        "policy_ratio": jnp.mean(jnp.abs(jnp.exp(log_prob - batch.extras["log_prob"]) - 1.0)),
        "clipped": jnp.mean(clipped),
        "entropy": -jnp.mean(log_prob),
        "option_entropy": -jnp.mean(jnp.sum(jnp.exp(log_option) * log_option, axis=-1)),
        "option_usage": -jnp.sum(usage * jnp.log(jnp.maximum(usage, TINY))),
        "option_information": information(jax.lax.stop_gradient(params), _some(batch.obs), usage, key),
      }
      return jnp.mean(value), metrics

    return descend(
      (group, *chooser), loss, optimizer, name=group, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms
    )

  def information(params: Params, obs: Observation, usage: Array, key: Key) -> Array:
    """Mean over states of Σ_o u(o) E_{a ~ π(·|s, o)}[log π(a|s, o) - log Σ_o' u(o') π(a|s, o')]."""
    log_usage = jnp.broadcast_to(jnp.log(jnp.maximum(usage, TINY)), (len(obs), count))
    outputs = all_outputs(params, obs)
    if discrete:
      own = jax.nn.log_softmax(outputs)
      mean = jax.nn.logsumexp(jnp.moveaxis(log_usage, -1, 0)[..., None] + own, axis=0)
      each = jnp.sum(jnp.exp(own) * (own - mean), axis=-1)
    else:
      noise = head.noise(key, 1, (count, len(obs)))
      action, _, mean = mixture(params, obs, log_usage, noise)
      each = head.log_prob(outputs, action) - mean
    return jnp.mean(jnp.sum(usage[:, None] * each, axis=0))

  def first(key: Key, log_option: Array) -> Array:
    return jnp.argmax(log_option, axis=-1)

  return Posterior(
    init=lambda key: {group: network.init(jax.random.fold_in(key, 0)), **choosing.init(jax.random.fold_in(key, 1))},
    particles=particles,
    draw=draw,
    act=follow(jax.random.categorical, sampled),
    mode=follow(first, best),
    carry=lambda batch: jnp.full(batch, count, jnp.int32),
    step=step,
    evaluate=evaluate,
  )


def _some(obs: Observation) -> Observation:
  """Evenly spaced rows, at least `STATES` of them where there are so many, and fewer than twice that."""
  some: Observation = obs[:: max(1, len(obs) // STATES)]
  return some
