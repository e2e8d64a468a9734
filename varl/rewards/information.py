"""Curiosity: what a transition tells of the dynamics, by a network whose weights are known to a normal belief."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from varl import checks, losses, normalize
from varl.networks import Network, state_action
from varl.step import descend
from varl.types import Array, Batch, Design, Key, Metrics, Params, Reward, Spec, TrainStep, Transition

GAINS = ("second_order", "natural")


def information_gain(
  spec: Spec,
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  execute: Callable[[Array], Array] = lambda action: action,
  form: str = "second_order",
  prior_std: float | Array = 0.5,
  noise_std: float | Array = 0.5,
  samples: int = 8,
  memory: float | Array = 0.9,
  clip: float | Array = 100.0,
  group: str = "dynamics",
) -> Reward:
  """What each transition would change in a Bayesian network's belief about the dynamics: VIME.

    r = KL(q(θ; φ') ‖ q(θ; φ)) / mean over rollouts of the median,   φ' = φ after a step on (s, a, s') alone
    L = -E_q[log p(x | s, a, θ)] + KL(q(θ; φ) ‖ N(0, prior_std²))/n,   x = (s' - s at unit scale)

  q is normal and its weights independent; n is the number of transitions so far. It is paid in place of the
  environment's reward: `rewards.sum(environment=1.0, curiosity=(rewards.information_gain(...), eta))` pays both.

  Args:
    spec: the environment's sizes.
    network: `[..., o + d] -> [..., o]`; d counts discrete actions. Its `init` is where the means start.
    optimizer: for means and deviations.
    execute: raw action -> executed action, which the network sees.
    form: the step: "second_order" (`losses.second_order_gain`, the paper's) or "natural" (`losses.natural_gain`).
    prior_std: of the prior, and of q at the start.
    noise_std: deviation of s' - s about the network's output, in its own deviations.
    samples: networks drawn from q for each update's loss.
    memory: in [0, 1), how much of the scale is that of earlier rollouts.
    clip: the largest r.
    group: the parameter group's name; beside it "<group>_scale" and "<group>_median".

  Returns:
    A Reward. The gradient and the curvature of a row's log-likelihood are those at the means, and the curvature is the
    Gauss-Newton one. Metrics: `<group>_loss`; `<group>_error`, the mean
    squared error of the means' network at unit scale; `<group>_divergence`, KL(q ‖ prior) a transition;
    `<group>_gain`, the typical KL(q' ‖ q), by which it is divided, in nats.

  Raises:
    ValueError: an unknown form, fewer than one sample, a number out of range.

  Reference: Houthooft et al. 2016, 1605.09674, sections 2.3-2.5.
  """
  if form not in GAINS:
    raise ValueError(f"form is one of {', '.join(GAINS)}; got {form!r}")
  samples = checks.whole("samples", samples)
  checks.arguments(above={"prior_std": prior_std, "noise_std": noise_std, "clip": clip})
  checks.share("memory", memory, upper_open=True)
  scale_group, median_group = f"{group}_scale", f"{group}_median"
  inputs = state_action(spec, execute)

  def init(key: Key) -> Params:
    mean, _ = ravel_pytree(network.init(key))
    # σ = softplus(raw) = prior_std
    raw = jnp.full_like(mean, 1.0) * jnp.log(jnp.expm1(jnp.asarray(prior_std, float)))
    return {
      group: {"mean": mean, "raw_std": raw},
      scale_group: normalize.init(spec.observation_size),
      median_group: {"median": jnp.zeros(()), "weight": jnp.zeros(())},
    }

  shapes = jax.eval_shape(network.init, jax.random.key(0))

  def apply(weights: Array, x: Array) -> Array:
    return network.apply(_unravel(shapes, weights), x)

  def std_of(own: Any) -> Array:
    return jax.nn.softplus(own["raw_std"])

  def targets(params: Params, rows: Transition) -> Array:
    return normalize.apply(params[scale_group], rows.next_obs - rows.obs, clip=math.inf)

  def gains(params: Params, rows: Transition) -> Array:
    """KL(q' ‖ q) of each row, `[...]`, in nats."""
    own: Any = jax.lax.stop_gradient(params[group])
    x, y = inputs(rows.obs, rows.action), targets(params, rows)
    flat_x, flat_y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    std = std_of(own)

    def each(x: Array, y: Array) -> Array:
      found, back = jax.vjp(lambda weights: apply(weights, x), own["mean"])
      (slope,) = back((y - found) / jnp.square(noise_std))

      def add(total: Array, unit: Array) -> tuple[Array, None]:
        return total + jnp.square(back(unit)[0] / noise_std), None

      curvature, _ = jax.lax.scan(add, jnp.zeros_like(std), jnp.eye(len(y)))
      if form == "natural":
        return losses.natural_gain(slope, curvature, std)
      return losses.second_order_gain(slope, curvature, std)

    return jax.vmap(each)(flat_x, flat_y).reshape(rows.reward.shape)

  def typical(params: Params) -> Array:
    """The mean over rollouts of the median gain, in nats; 0 before the first."""
    kept: Any = params[median_group]
    return kept["median"] / jnp.maximum(kept["weight"], 1e-6)

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    scale = typical(params)
    return jnp.minimum(gains(params, batch) / jnp.where(scale > 0, scale, 1.0), clip)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      own: Any = params[group]
      x, y, std = inputs(batch.obs, batch.action), targets(params, batch), std_of(own)
      drawn = own["mean"] + std * jax.random.normal(key, (samples, len(std)), std.dtype)
      error = jnp.sum(jnp.square((y - jax.vmap(apply, (0, None))(drawn, x)) / noise_std), axis=-1)
      frames = jnp.maximum(params[scale_group].frames, 1).astype(std.dtype)
      divergence = jnp.sum(losses.normal_divergence(own["mean"], std, 0.0, prior_std)) / frames
      metrics = {
        f"{group}_error": jnp.mean(jnp.square(y - apply(own["mean"], x))),
        f"{group}_divergence": divergence,
        f"{group}_gain": typical(params),
      }
      return 0.5 * jnp.mean(error) + divergence, metrics

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  def observe(params: Params, transitions: Transition, valid: Array, axis: str | None = None) -> Params:
    moved = transitions.next_obs - transitions.obs
    params = {**params, scale_group: normalize.update(params[scale_group], moved, valid, axis=axis)}
    median, count = losses.batch_median(gains(params, transitions).reshape(-1), valid.reshape(-1), axis)
    kept: Any = params[median_group]
    mixed = {
      "median": memory * kept["median"] + (1.0 - memory) * median,
      "weight": memory * kept["weight"] + (1.0 - memory),
    }
    return {**params, median_group: jax.tree.map(lambda old, new: jnp.where(count > 0, new, old), kept, mixed)}

  return Reward(init, value, step, observe)


def _unravel(shapes: Any, flat: Array) -> Any:
  """A tree of these shapes from its numbers in a row; `ravel_pytree`'s own inverse closes over arrays."""
  leaves, tree = jax.tree.flatten(shapes)
  parts, at = [], 0
  for leaf in leaves:
    parts.append(flat[at : at + leaf.size].reshape(leaf.shape))
    at += leaf.size
  return jax.tree.unflatten(tree, parts)
