"""The optimiser that named algorithms share: Adam, its rate constant or decaying, its gradient clipped or not."""

import optax

from varl.types import Array


def adam(
  learning_rate: float | Array,
  *,
  decay_updates: int = 0,
  decay_to: float | Array = 0.0,
  descents: int = 1,
  max_grad_norm: float | Array = 0.0,
) -> optax.GradientTransformation:
  """Adam with what a `Config` says of it.

  Args:
    learning_rate: the step, at the start.
    decay_updates: length in updates of a cosine decay of the rate; 0 keeps it constant.
    decay_to: the share of the rate that remains after it.
    descents: on each update (`step.repeat`). Schedules count descents, so the decay is that many times as long.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
  """
  rate = (
    optax.cosine_decay_schedule(learning_rate, decay_updates * descents, decay_to) if decay_updates else learning_rate
  )
  transform = optax.adam(rate)
  return optax.chain(optax.clip_by_global_norm(max_grad_norm), transform) if max_grad_norm else transform
