"""Targets of several horizons in one."""

import jax
import jax.numpy as jnp

from varl.types import Array


def inverse_variance_weights(variance: Array) -> Array:
  """The weights of independent estimates of one quantity whose mean has the least variance, 1/Σ_k (1/σ_k²).

    w_h = (1/σ_h²) / Σ_k (1/σ_k²)

  Args:
    variance: `[H, ...]`, σ² of each estimate, >= 0. Where one is 0 it has all the weight.

  Returns:
    `[H, ...]`, its sum over the first axis 1; a constant.

  Reference: Buckman et al. 2018, 1807.01675, section 3.
  """
  tiny = jnp.finfo(variance.dtype).tiny
  return jax.lax.stop_gradient(jax.nn.softmax(-jnp.log(jnp.maximum(variance, tiny)), axis=0))
