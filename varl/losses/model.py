"""A model's likelihood: Gaussian, with a variance held between soft bounds."""

import jax
import jax.numpy as jnp

from varl.types import Array


def gaussian_loss(x: Array, mean: Array, log_variance: Array) -> Array:
  """-log N(x; μ, diag σ²), but for d/2 log 2π.

    L = Σ_j ½ ((x_j - μ_j)² / σ_j² + log σ_j²)

  Args:
    x, mean: `[..., d]`.
    log_variance: `[..., d]`, log σ².

  Returns:
    `[...]`.

  Reference: Chua et al. 2018, 1805.12114, Eq. 1.
  """
  return 0.5 * jnp.sum(jnp.square(x - mean) * jnp.exp(-log_variance) + log_variance, axis=-1)


def soft_bounds(x: Array, low: Array | float, high: Array | float) -> Array:
  """x held in (low, high), differentiable in all three.

    y = high - softplus(high - x),   low + softplus(y - low)

  The second softplus may lift the result above `high`, by less than softplus(low - high).

  Args:
    x: `[...]`.
    low, high: what broadcasts to it.

  Returns:
    `[...]`.

  Reference: Chua et al. 2018, 1805.12114, appendix A.1.
  """
  x = high - jax.nn.softplus(high - x)
  return low + jax.nn.softplus(x - low)
