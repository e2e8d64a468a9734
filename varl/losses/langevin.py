"""Langevin's dynamics: a step of a chain whose stationary density is given by its gradient, and whether it is taken."""

import jax
import jax.numpy as jnp

from varl.types import Array

OPTIMAL_ACCEPTANCE = 0.574
"""Of adjusted steps in many dimensions, at the length that explores fastest (Roberts and Rosenthal 1998)."""


def langevin_move(x: Array, score: Array, step: Array | float, noise: Array) -> Array:
  """x' = x + ε ∇ log π(x) + √(2ε) ξ.

  Without adjustment (ULA) the chain's density is that of π up to a bias of the order of ε: for N(0, σ²) its variance is
  σ²/(1 - ε/2σ²).

  Args:
    x: `[..., d]`.
    score: `[..., d]`, ∇ log π(x).
    step: ε > 0, `[...]` or a scalar.
    noise: `[..., d]`, ξ ~ N(0, I).

  Returns:
    `[..., d]`.

  Reference: Roberts and Tweedie 1996, Exponential convergence of Langevin distributions, section 1.4.1.
  """
  step = jnp.asarray(step)[..., None]
  return x + step * score + jnp.sqrt(2.0 * step) * noise


def langevin_acceptance(
  x: Array, score: Array, log_density: Array, to: Array, to_score: Array, to_log_density: Array, step: Array | float
) -> Array:
  """log min(1, π(x') q(x|x') / (π(x) q(x'|x))): the log-probability with which an adjusted chain (MALA) takes a step.

    log q(y|x) = -‖y - x - ε ∇ log π(x)‖²/4ε + const.

  Args:
    x, to: `[..., d]`, x and x'.
    score, to_score: `[..., d]`, ∇ log π at them.
    log_density, to_log_density: `[...]`, log π at them, up to one constant.
    step: ε > 0, `[...]` or a scalar.

  Returns:
    `[...]`, at most 0; -∞ where x' has no finite density.

  Reference: Roberts and Tweedie 1996, section 1.4.2; Roberts and Rosenthal 1998.
  """
  step = jnp.asarray(step)

  def move(start: Array, slope: Array, end: Array) -> Array:
    return -jnp.sum(jnp.square(end - start - step[..., None] * slope), axis=-1) / (4.0 * step)

  ratio = to_log_density - log_density + move(to, to_score, x) - move(x, score, to)
  return jnp.minimum(jnp.where(jnp.isfinite(to_log_density) & jnp.isfinite(ratio), ratio, -jnp.inf), 0.0)


def langevin_step_size(log_step: Array, log_acceptance: Array, rate: Array | float) -> Array:
  """log ε ← log ε + η (min(1, acceptance) - .574): longer steps where nearly all are taken, shorter where few are.

  Args:
    log_step: `[...]`.
    log_acceptance: `[...]`, of `langevin_acceptance`.
    rate: η >= 0; 0 leaves ε.

  Returns:
    `[...]`.

  Reference: Robbins and Monro 1951, applied to the acceptance: Andrieu and Thoms 2008, section 4.2.2.
  """
  return log_step + rate * (jax.lax.stop_gradient(jnp.exp(log_acceptance)) - OPTIMAL_ACCEPTANCE)
