"""The mathematics of each objective, on plain arrays: no networks, no parameters, per-example values."""

from varl.losses.actor_critic import (
  discounted_target,
  expected_divergence,
  pessimistic,
  policy_divergence,
  soft_value,
  squared_error,
)

__all__ = [
  "discounted_target",
  "expected_divergence",
  "pessimistic",
  "policy_divergence",
  "soft_value",
  "squared_error",
]
