"""Resampling of weighted particles."""

import jax
import jax.numpy as jnp

from varl.types import Array, Key


def systematic_resample(log_weight: Array, key: Key) -> Array:
  """Which particles survive, by systematic resampling: one uniform number a column.

    u_i = (i + u)/N,  u ~ U[0, 1);   index_i = the first j with Σ_{k <= j} w_k > u_i

  Each particle has floor(N w) or ceil(N w) copies, N w in expectation.

  Args:
    log_weight: `[N, B]`, normalised over the first axis.
    key: consumed here.

  Returns:
    int `[N, B]`, in [0, N).

  Reference: Kitagawa 1996, "Monte Carlo Filter and Smoother for Non-Gaussian Nonlinear State Space Models".
  """
  count, columns = log_weight.shape
  total = jnp.cumsum(jnp.exp(log_weight), axis=0)
  total = total / total[-1]  # rounding must not leave the last point without a particle
  offset = jax.random.uniform(key, (columns,), log_weight.dtype)
  points = (jnp.arange(count, dtype=log_weight.dtype)[:, None] + offset) / count
  found = jax.vmap(lambda edges, at: jnp.searchsorted(edges, at, side="right"), in_axes=1, out_axes=1)(total, points)
  return jnp.minimum(found, count - 1)
