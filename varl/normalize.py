"""Running moments of observations, held in a parameter group.

Because they are parameters, training, evaluation and export normalise alike, and a checkpoint carries them. They
change only on fresh frames (`Agent.observe`), never on replayed ones, so that a replayed frame is not counted twice;
on-policy they scale nothing before the next rollout (`Agent.renew`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from varl.types import Array, Observation, Params

NORMALIZER = "normalizer"
"""The parameter group of the observation moments that scale."""

MAX_FRAMES = 2**30
"""Where the count of frames stops, far from where int32 does."""


class Moments(NamedTuple):
  """Mean and variance of a stream of vectors, per dimension.

  Attributes:
    frames: how many were seen, an int32 scalar that stays at 2^30 once it is there: the moments then are exponential
      means over about as many.
    origin: `[size]`, the mean of the first frames. Everything else is held relative to it, so that a large constant
      offset costs no digits.
    mean: `[size]`, of x - origin.
    variance: `[size]`, of x - origin.
  """

  frames: Array
  origin: Array
  mean: Array
  variance: Array


def init(size: int) -> Moments:
  """Moments of no frame at all; `apply` leaves vectors unchanged."""
  return Moments(jnp.zeros((), jnp.int32), jnp.zeros(size), jnp.zeros(size), jnp.ones(size))


def update(
  moments: Moments, x: Array, valid: Array | None = None, *, axis: str | None = None, context: int = 0
) -> Moments:
  """Moments of the stream so far and of the frames x.

  With n frames of mean m and variance v before, and n' of mean m', variance v' now (Chan et al. 1979):

    m ← m + (m' - m) n'/(n + n'),    v ← [n v + n' v' + (m' - m)² n n'/(n + n')]/(n + n')

  Args:
    moments: so far.
    x: `[..., size]` fresh frames.
    valid: `[...]` booleans; frames where it is False are left out. All are taken where it is None.
    axis: a mapped axis whose members' frames belong to one stream.
    context: so many of the last entries keep mean 0 and variance 1, and `apply` leaves them as they are.

  Returns:
    The new moments; the old ones where no frame is valid.
  """
  size = x.shape[-1]
  x = x.reshape(-1, size)
  weight = jnp.ones(x.shape[0]) if valid is None else valid.reshape(-1).astype(float)
  x = jnp.where(weight[:, None] > 0, x, 0.0)

  def total(values: Array) -> Array:
    values = jnp.sum(values, axis=0, dtype=values.dtype)
    return values if axis is None else jax.lax.psum(values, axis)

  count = total((weight > 0).astype(jnp.int32))
  new = count.astype(weight.dtype)
  safe = jnp.maximum(new, 1.0)
  # Only the first frames choose the origin. A plain sum of raw values is precise enough for that: any nearby point
  # serves.
  origin = jnp.where(moments.frames > 0, moments.origin, total(x * weight[:, None]) / safe)
  shifted = jnp.where(weight[:, None] > 0, x - origin, 0.0)
  new_mean = total(shifted) / safe
  new_variance = total(jnp.where(weight[:, None] > 0, jnp.square(shifted - new_mean), 0.0)) / safe

  frames = jnp.minimum(moments.frames, MAX_FRAMES - count) + count
  share = new / jnp.maximum(frames, 1).astype(weight.dtype)
  delta = new_mean - moments.mean
  mean = moments.mean + share * delta
  variance = (1 - share) * moments.variance + share * new_variance + share * (1 - share) * jnp.square(delta)
  if context:
    plain = jnp.arange(size) >= size - context
    origin, mean = (jnp.where(plain, 0.0, y) for y in (origin, mean))
    variance = jnp.where(plain, 1.0, variance)
  merged = Moments(frames, origin, mean, variance)
  return jax.tree.map(lambda old, fresh: jnp.where(new > 0, fresh, old), moments, merged)


CLIP = 10.0
"""The largest scaled observation, in standard deviations."""


def apply(moments: Moments, x: Array, *, min_std: float = 1e-4, clip: float = CLIP) -> Array:
  """(x - mean)/max(std, min_std), clipped to ±clip; x itself before the first frame.

  Args:
    moments: as they stand.
    x: `[..., size]`.
    min_std: a dimension that never changed has deviation 0; this bounds what its rounding noise is divided by. In the
      units of x: observations that vary by less than 1e-4 are not brought to unit scale, and need other units.
    clip: in standard deviations.
  """
  # One reciprocal a dimension and not one division a number.
  scale = 1.0 / jnp.maximum(jnp.sqrt(moments.variance), min_std)
  scaled = jnp.clip((x - moments.origin - moments.mean) * scale, -clip, clip)
  # Without the barrier XLA computes this anew inside each of its readers.
  return jax.lax.optimization_barrier(jnp.where(moments.frames > 0, scaled, x))


def scaled(params: Params, obs: Observation) -> Observation:
  """Observations as the functions and losses of a design see them: scaled by the agent's running moments.

  Args:
    params: the agent's, with or without the group "normalizer".
    obs: `[..., o]`, as the environment gives them.
  """
  return apply(params[NORMALIZER], obs) if NORMALIZER in params else obs


def unscaled(params: Params, obs: Observation) -> Observation:
  """Observations as the environment gives them, of what `scaled` makes of them where it does not clip."""
  return invert(params[NORMALIZER], obs) if NORMALIZER in params else obs


def invert(moments: Moments, x: Array, *, min_std: float = 1e-4) -> Array:
  """What `apply` with the same `min_std` scales to x, where it does not clip.

  Args:
    moments: as they stand.
    x: `[..., size]`.
    min_std: as in `apply`.
  """
  deviation = jnp.maximum(jnp.sqrt(moments.variance), min_std)
  return jnp.where(moments.frames > 0, moments.origin + moments.mean + deviation * x, x)
