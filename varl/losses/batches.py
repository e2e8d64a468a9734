"""Means over a batch that may lie on several devices: figures that are no means themselves have to be made of these."""

import jax
import jax.numpy as jnp

from varl.types import Array


def batch_mean(x: Array, axis: str | None = None) -> Array:
  """The mean of all of x, and over the members of a mapped axis, each of which has as many rows.

  Args:
    x: `[...]`.
    axis: a mapped axis whose members' rows belong to one batch.

  Returns:
    A scalar.
  """
  mean = jnp.mean(x)
  return mean if axis is None else jax.lax.pmean(mean, axis)


def batch_std(x: Array, axis: str | None = None) -> Array:
  """√(mean (x - mean x)²), the deviation of the whole batch; the mean of the members' own would leave out how their
  means differ.

  Args and Returns: as `batch_mean`.
  """
  variance = batch_mean(jnp.square(x - batch_mean(x, axis)), axis)
  # The gradient of a root is infinite at 0, where all are the same.
  return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)


def batch_median(x: Array, valid: Array, axis: str | None = None) -> tuple[Array, Array]:
  """The lower median of the valid rows, and over those of the members of a mapped axis.

  Args:
    x: `[B]`.
    valid: `[B]` booleans.
    axis: as in `batch_mean`.

  Returns:
    (median, how many rows are valid), scalars; the median of none is 0.
  """
  if axis is not None:
    x, valid = (jax.lax.all_gather(y, axis, tiled=True) for y in (x, valid))
  count = jnp.sum(valid)
  ordered = jnp.sort(jnp.where(valid, x, jnp.inf))
  median = jnp.where(count > 0, jnp.take(ordered, jnp.maximum(count - 1, 0) // 2), 0.0)
  if axis is None:
    return median, count
  # All members have the same; this says so.
  return jax.lax.pmean(median, axis), jax.lax.pmax(count, axis)


def visited_mean(x: Array, visit: Array | None, axis: str | None = None) -> Array:
  """Σ_b d_b x_b / Σ_b d_b: the mean of rows by how much each counts; differentiable in x, d being constants.

  Args:
    x: `[B]`.
    visit: `[B]`, d >= 0; None: all count alike.
    axis: as in `batch_mean`; of the normalisation alone, as the mean of x is taken over devices by whoever descends.
  """
  if visit is None:
    return jnp.mean(x)
  visit = jax.lax.stop_gradient(visit)
  return jnp.mean(visit * x) / batch_mean(visit, axis)
