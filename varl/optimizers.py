"""The optimiser that named algorithms share: Adam, its rate constant or decaying, its gradient clipped or not."""

from typing import Any

import jax.numpy as jnp
import optax

from varl.types import Array


def adam(
  learning_rate: float | Array,
  *,
  decay_updates: int | Array = 0,
  decay_to: float | Array = 0.0,
  descents: int = 1,
  max_grad_norm: float | Array = 0.0,
  weight_decay: float | Array = 0.0,
) -> optax.GradientTransformation:
  """Adam with what a `Config` says of it.

  Args:
    learning_rate: the step, at the start.
    decay_updates: length in updates of a cosine decay of the rate; 0 keeps it constant.
    decay_to: the share of the rate that remains after it.
    descents: on each update (`step.repeat`). Schedules count descents, so the decay is that many times as long.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
    weight_decay: the share of each parameter, times the rate, that a step takes off (AdamW, 1711.05101).
  """
  rate = learning_rate if _is_zero(decay_updates) else cosine(learning_rate, decay_updates * descents, decay_to)
  transform = optax.adam(rate) if _is_zero(weight_decay) else optax.adamw(rate, weight_decay=weight_decay)
  if _is_zero(max_grad_norm):
    return transform
  norm = (
    max_grad_norm if isinstance(max_grad_norm, int | float) else jnp.where(max_grad_norm > 0, max_grad_norm, jnp.inf)
  )
  return optax.chain(optax.clip_by_global_norm(norm), transform)


def cosine(rate: float | Array, length: int | Array, share: float | Array) -> optax.Schedule:
  """η_t = η (share + (1 - share) ½ (1 + cos(π min(t/T, 1)))), optax' cosine decay, for a T that may be traced.

  Args:
    rate: η.
    length: T, in descents; 0 keeps η.
    share: what remains of η at the end.
  """

  def schedule(count: Any) -> Any:
    done = jnp.minimum(count / jnp.maximum(length, 1), 1.0)
    left = share + (1.0 - share) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
    return rate * jnp.where(jnp.asarray(length) > 0, left, 1.0)

  return schedule


def _is_zero(value: Any) -> bool:
  """Whether a number is known to be 0; of a traced one nothing is known."""
  return isinstance(value, int | float) and value == 0
