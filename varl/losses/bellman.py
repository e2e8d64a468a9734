"""The Bellman error as a temperature (VIREL, 1811.01132)."""

import jax.numpy as jnp

from varl.types import Array


def bellman_residual(prediction: Array, target: Array) -> Array:
  """How far an ensemble is from its own backup, a sample of ε_ω at one transition.

    δ² = mean_i (Q_i(s, a) - y)²,   y = r + γ m V(s')

  Args:
    prediction: `[E, B]`, in units of return.
    target: `[B]`, y, without entropy.

  Returns:
    `[B]`, in units of return squared. Its mean over (s, a, s') is the squared error of the mean target *plus* the
    variance of y given (s, a): one successor a transition cannot tell them apart, so in a stochastic environment it
    ends above 0.

  Reference: 1811.01132, section 3, ε_ω; the paper has c/2 before the square, the published code no ½.
  """
  return jnp.mean(jnp.square(prediction - target), axis=0)


def residual_temperature(residual: Array, scale: Array | float, ceiling: Array | float) -> Array:
  """ε = min(c δ², ceiling).

  Args:
    residual: mean δ², >= 0.
    scale: c, in 1/return: an error squared is no temperature without it.
    ceiling: the largest ε; infinity for none.

  Returns:
    ε, of the residual's shape, in units of return per nat.
  """
  return jnp.minimum(scale * residual, ceiling)
