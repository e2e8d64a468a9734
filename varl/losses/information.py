"""What one observation tells of a network's weights, under a normal belief that takes them for independent."""

import jax.numpy as jnp

from varl.types import Array


def normal_divergence(mean: Array, std: Array, prior_mean: Array | float, prior_std: Array | float) -> Array:
  """KL(N(μ, σ²) ‖ N(m, s²)) of each weight: log(s/σ) + (σ² + (μ - m)²)/2s² - ½, in nats.

  Args:
    mean, std, prior_mean, prior_std: `[...]`, deviations > 0.

  Returns:
    `[...]`.
  """
  ratio = std / prior_std
  return 0.5 * (jnp.square(ratio) + jnp.square((mean - prior_mean) / prior_std) - 1.0) - jnp.log(ratio)


def second_order_gain(slope: Array, curvature: Array, std: Array, *, step: Array | float = 1.0) -> Array:
  """The divergence that a gradient step on one observation makes, to second order.

    ½ λ² gᵀ H⁻¹ g = ½ λ² Σ_i (σ_i² g_i² + ½ σ_i⁴ c_i²)

  where H is the Hessian of KL(q' ‖ q) at q' = q, which is diag(1/σ², 2/σ²) in (μ, σ), and g the gradient of the
  expected log-likelihood: g_i in μ_i, and -σ_i c_i in σ_i (Price's theorem). It does not depend on how σ is written.

  Args:
    slope: `[..., P]`, g, the gradient of the log-likelihood in the weights.
    curvature: `[..., P]`, c >= 0, minus the diagonal of its second derivative.
    std: `[P]`, σ.
    step: λ.

  Returns:
    `[...]`, in nats.

  Reference: Houthooft et al. 2016, 1605.09674, Eq. 14-17; the ½ is that of the equation, not of the published code.
  """
  variance = jnp.square(std)
  each = variance * jnp.square(slope) + 0.5 * jnp.square(variance * curvature)
  return 0.5 * jnp.square(step) * jnp.sum(each, axis=-1)


def natural_gain(slope: Array, curvature: Array, std: Array) -> Array:
  """The divergence KL(q' ‖ q) of the belief after one observation from the one before, by one natural-gradient step.

    1/σ'² = 1/σ² + c,   μ' = μ + σ'² g

  That step is Bayes' rule where the observation is linear in weights that stay independent; the mean over observations
  then is ½ Σ_i log(1 + σ_i² c_i), the mutual information.

  Args: as `second_order_gain`.

  Returns:
    `[...]`, in nats.

  Reference: Khan and Lin 2017, 1703.04265 (the step); Lindley 1956 (its mean).
  """
  after = std / jnp.sqrt(1.0 + jnp.square(std) * curvature)
  return jnp.sum(normal_divergence(jnp.square(after) * slope, after, 0.0, std), axis=-1)
