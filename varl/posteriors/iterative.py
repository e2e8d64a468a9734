"""Iterative amortised inference: a network that improves a policy's parameters step by step, told their gradient."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import checks
from varl.networks import Network
from varl.policies import Head
from varl.posteriors import objective
from varl.step import POSTERIOR_STREAM, descend
from varl.types import (
  Array,
  Batch,
  Design,
  Key,
  Metrics,
  Observation,
  Params,
  Particles,
  Posterior,
  TrainStep,
)

NORMS = ("layer", "rms")


class Inference(NamedTuple):
  """One run of K inference iterations, all of it constant: what `draw` gives and an update shares.

  Attributes:
    outputs: λ_0 .. λ_K, `[K + 1, B, head.size]`.
    slope: ∇_λ J̃ at λ_0 .. λ_{K-1}, with which inference steps on, `[K, B, head.size]`.
    last_slope: ∇_λ J̃ at λ_K, `[B, head.size]`: only training asks for it, and nothing computes it elsewhere.
    objective: J̃ at each, `[K + 1, B]`; unbiased, since λ_k does not depend on the noise that J̃(λ_k) is estimated with.
    noise: that of the last iterate's estimate, `[M, B, *]`: the particles' own.
  """

  outputs: Array
  slope: Array
  last_slope: Array
  objective: Array
  noise: Array


def iterative_inputs(observation_size: int, head: Head) -> int:
  """The inputs that the network of `iterative` takes: s, λ and its gradient."""
  return observation_size + 2 * head.size


def iterative(
  network: Network,
  head: Head,
  optimizer: optax.GradientTransformation,
  *,
  iterations: int = 5,
  samples: int = 10,
  start: Array | None = None,
  gradient_norm: str = "layer",
  target: bool = True,
  group: str = "actor",
) -> Posterior:
  """A network that refines λ, the head's outputs, over K iterations (Marino et al. 2019, Eq. 15-16; 2010.10670).

    λ_{k+1} = ω ⊙ λ_k + (1 - ω) ⊙ f,   (f, ω) = network(s, λ_k, normalised ∇_λ J̃(s, λ_k)),   ω = sigmoid(·)
    L(s) = -1/K Σ_{k=1..K} J̃(s, λ_k),   J̃ estimated with M reparameterised actions (`objective.estimate`)

  Every iterate is trained. Its inputs λ_k and ∇_λ J̃ are constants: no gradient runs from one iteration into the
  previous one, and none into the critic. The gradient is that of the whole loss, but costs K + 1 evaluations of the
  critic and not 2K + 1: the slope with which inference steps on from λ_k is the one that trains λ_k.

  A drop-in for `direct` in any design with continuous actions. Acting runs the inference and so needs every group; the
  policy that acts is random in the noise of inference too, and the "log_prob" of an action is given that noise.

  Args:
    network: `[..., iterative_inputs(o, head)] -> [..., 2 * head.size]`. With `networks.mlp(zero_output=True)` f and the
      gate's logits start at 0, and every iterate at λ_0 / 2^k.
    head: what λ means. The papers' λ is (μ, log σ); here it is the head's (μ, ρ), σ = min_std + softplus(ρ + c), which
      needs no clipping of log σ.
    optimizer: for the network's parameters.
    iterations: K; 2 in the workshop paper, 5 in 2010.10670.
    samples: M, actions a state, in each J̃ and as particles; 200 in the workshop paper, 10 in 2010.10670, which takes a
      single one for the value's target.
    start: λ_0; by default 0, which is μ = 0 and σ = `init_std` of the head (.5 in the papers' setting).
    gradient_norm: "layer" removes the mean over λ's entries and scales to unit deviation, as the papers do; "rms" only
      scales to unit root mean square. With a single action dimension the first leaves no more than a sign.
    target: whether J̃ is that of the slow critic (2010.10670) or of the learning one (as `direct`).
    group: the parameter group's name.

  Raises:
    ValueError: fewer than one iteration or sample, an unknown norm, discrete actions, or a start of another shape.

  Reference: Marino et al. 2019, On the Design of Variational RL Algorithms, section 4; Marino et al. 2020, 2010.10670,
    section 3; iterative inference models are 1807.09356's.
  """
  iterations, samples = checks.whole("iterations", iterations), checks.whole("samples", samples)
  if gradient_norm not in NORMS:
    raise ValueError(f"gradient_norm is one of {sorted(NORMS)}, got {gradient_norm!r}")
  objective.check_reparameterised("iterative", head)
  origin = objective.start_from(head, start)

  def noise_for(key: Key, shape: tuple[int, ...]) -> Array:
    noise = head.noise(key, (iterations + 1) * samples, shape)
    return noise.reshape(iterations + 1, samples, *noise.shape[1:])

  def advance(params: Params, obs: Observation, outputs: Array, slope: Array) -> Array:
    """λ_{k+1} of λ_k and its slope; leading axes are free."""
    obs = jnp.broadcast_to(obs, (*outputs.shape[:-1], obs.shape[-1]))
    features = jnp.concatenate([obs, outputs, normalise(slope, gradient_norm)], axis=-1)
    new, logits = jnp.split(network.apply(params[group], features), 2, axis=-1)
    gate = jax.nn.sigmoid(logits)
    return gate * outputs + (1.0 - gate) * new

  def infer(design: Design, params: Params, obs: Observation, noise: Array) -> Inference:
    params = jax.lax.stop_gradient(params)
    climb = objective.ascent(design, head, params, target=target)

    def iterate(outputs: Array, noise: Array) -> tuple[Array, tuple[Array, Array, Array]]:
      value, slope = climb(obs, outputs, noise)
      return advance(params, obs, outputs, slope), (outputs, slope, value)

    first = jnp.broadcast_to(origin, (*obs.shape[:-1], head.size))
    last, before = jax.lax.scan(iterate, first, noise[:-1])
    value, last_slope = climb(obs, last, noise[-1])
    outputs, slope, values = before
    outputs, values = jnp.concatenate([outputs, last[None]]), jnp.concatenate([values, value[None]])
    return Inference(outputs, slope, last_slope, values, noise[-1])

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> Inference:
    return infer(design, params, batch.obs, noise_for(key, batch.obs.shape[:-1]))

  def drawn_for(design: Design, params: Params, batch: Batch, key: Key) -> Inference:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    return draw(design, params, batch, key) if shared is None else shared

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    run = drawn_for(design, params, batch, key)
    # λ_K once more, this time differentiable in the network's parameters.
    last = advance(params, batch.obs, run.outputs[-2], run.slope[-1])
    return objective.particles(design, head, params, batch.obs, last, run.noise)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      run = drawn_for(design, params, batch, key)
      iterates = advance(params, batch.obs, run.outputs[:-1], run.slope)
      slope = jnp.concatenate([run.slope[1:], run.last_slope[None]])
      # J̃ and its gradient at each iterate are known: this has J̃'s value and, in the parameters, J̃'s gradient.
      value = run.objective[1:] + jnp.sum(slope * (iterates - run.outputs[1:]), axis=-1)
      last = objective.particles(design, head, params, batch.obs, run.outputs[-1], run.noise)
      log_prob = last.log_ratio + design.prior.log_prob(params, batch.obs, last.action)
      q = jnp.mean(run.objective[-1]) + design.temperature.value(params) * jnp.mean(last.log_ratio)
      gain = jnp.mean(run.objective[-1] - run.objective[0])
      return -jnp.mean(value), {"entropy": -jnp.mean(log_prob), "q": q, "inference_gain": gain}

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  def refine(design: Design, params: Params, obs: Observation, noise: Array) -> Array:
    return infer(design, params, obs, noise).outputs[-1]  # its objective and slope are not used, and not computed

  return Posterior(
    lambda key: {group: network.init(key)},
    particles,
    draw,
    *objective.acting(head, noise_for, refine),
    lambda batch: (),
    step,
  )


def normalise(gradient: Array, norm: str) -> Array:
  """A gradient `[..., n]` without its scale: (g - mean g)/std g ("layer") or g/rms g ("rms"), over the last axis."""
  largest = jax.lax.stop_gradient(jnp.max(jnp.abs(gradient), axis=-1, keepdims=True))
  gradient = gradient / jnp.where(largest > 0, largest, 1.0)  # what follows has a floor, which is of this scale
  if norm == "layer":
    gradient = gradient - jnp.mean(gradient, axis=-1, keepdims=True)
  return gradient * jax.lax.rsqrt(jnp.mean(jnp.square(gradient), axis=-1, keepdims=True) + 1e-12)
