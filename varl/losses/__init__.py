"""The mathematics of each objective, on plain arrays: no networks, no parameters, per-example values."""

from varl.losses.actor_critic import (
  discounted_target,
  expected_divergence,
  moment_penalty,
  pessimistic,
  policy_divergence,
  soft_value,
  squared_error,
)
from varl.losses.batches import batch_mean, batch_median, batch_std, visited_mean
from varl.losses.bellman import bellman_residual, residual_temperature
from varl.losses.distributional import (
  categorical_projection,
  conditional_value_at_risk,
  cross_entropy,
  histogram_target,
  padded_support,
  quantile_loss,
)
from varl.losses.horizons import inverse_variance_weights
from varl.losses.imitation import discriminator_loss, inverse_soft_q, norm_penalty, payoff
from varl.losses.information import natural_gain, normal_divergence, second_order_gain
from varl.losses.langevin import langevin_acceptance, langevin_move, langevin_step_size
from varl.losses.model import gaussian_loss, soft_bounds
from varl.losses.mpo import rank_weights, temperature_dual, weighted_likelihood
from varl.losses.policy_gradient import clipped_ratio, importance_ratio, score_function, standardised
from varl.losses.resampling import systematic_resample
from varl.losses.soft_q import boltzmann_weights, enumerated_value, importance_value, munchausen_bonus
from varl.losses.stein import median_bandwidth, raw_log_density, rbf_kernel, stein_direction, stein_surrogate
from varl.losses.vmpo import top_weights

__all__ = [
  "batch_mean",
  "batch_median",
  "batch_std",
  "bellman_residual",
  "boltzmann_weights",
  "categorical_projection",
  "clipped_ratio",
  "conditional_value_at_risk",
  "cross_entropy",
  "discounted_target",
  "discriminator_loss",
  "enumerated_value",
  "expected_divergence",
  "gaussian_loss",
  "histogram_target",
  "importance_ratio",
  "importance_value",
  "inverse_soft_q",
  "inverse_variance_weights",
  "langevin_acceptance",
  "langevin_move",
  "langevin_step_size",
  "median_bandwidth",
  "moment_penalty",
  "munchausen_bonus",
  "natural_gain",
  "norm_penalty",
  "normal_divergence",
  "padded_support",
  "payoff",
  "pessimistic",
  "policy_divergence",
  "quantile_loss",
  "rank_weights",
  "raw_log_density",
  "rbf_kernel",
  "residual_temperature",
  "score_function",
  "second_order_gain",
  "soft_bounds",
  "soft_value",
  "squared_error",
  "standardised",
  "stein_direction",
  "stein_surrogate",
  "systematic_resample",
  "temperature_dual",
  "top_weights",
  "visited_mean",
  "weighted_likelihood",
]
