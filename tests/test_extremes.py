"""The losses at the ends of what floats hold: values and gradients are numbers, and scale changes what it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import losses, returns
from varl.posteriors.iterative import normalise

EXTREMES = jnp.array([-1e3, -90.0, -1.0, 0.0, 1.0, 90.0, 1e3])
EIGHT = jnp.linspace(-1.0, 1.0, 7)

CASES = {
  "clipped_ratio, A > 0": lambda x: losses.clipped_ratio(x, 0.0 * x, jnp.ones(7), 0.2)[0],
  "clipped_ratio, A < 0": lambda x: losses.clipped_ratio(x, 0.0 * x, -jnp.ones(7), 0.2)[0],
  "importance_ratio": lambda x: losses.importance_ratio(x, 0.0 * x, EIGHT),
  "score_function": lambda x: losses.score_function(x, EIGHT),
  "standardised": losses.standardised,
  "soft_value": lambda x: losses.soft_value(x[:, None], jnp.full((7, 1), -jnp.log(7.0)), x[:, None], 0.1),
  "importance_value": lambda x: losses.importance_value(x[:, None], 0.0 * x[:, None], 0.1),
  "boltzmann_weights": lambda x: jnp.exp(losses.boltzmann_weights(x[:, None], 0.0 * x[:, None], 0.1)[0]),
  "enumerated_value": lambda x: losses.enumerated_value(x[:, None], 0.1),
  "munchausen_bonus": lambda x: losses.munchausen_bonus(x, 0.1, 0.9, -1.0),
  "temperature_dual": lambda x: losses.temperature_dual(x[:, None], 0.1, 0.5),
  "rank_weights": lambda x: jnp.exp(losses.rank_weights(x[:, None])),
  "top_weights": lambda x: jnp.exp(losses.top_weights(x, 0.5)[0]),
  "pessimistic": lambda x: losses.pessimistic(x[:, None], 1.0),
  "pessimistic, equal": lambda x: losses.pessimistic(0.0 * x[:, None], 1.0),
  "stein_direction": lambda x: losses.stein_direction(x[:6, None], x[:6, None], x[1:, None]),
  "stein_direction, equal": lambda x: losses.stein_direction(0.0 * x[:6, None], x[:6, None], 0.0 * x[1:, None]),
  "batch_std": lambda x: losses.batch_std(x),
  "squared_error": lambda x: losses.squared_error(x[None], 0.0 * x),
  "moment_penalty": lambda x: losses.moment_penalty(x[:, None], jnp.full((7, 1), 1e-3)),
  "vtrace": lambda x: returns.vtrace(EIGHT, jnp.ones(7), jnp.zeros(7), EIGHT, EIGHT, x, gamma=0.9).value,
  "vtrace, unclipped c": lambda x: (
    returns.vtrace(
      EIGHT, jnp.ones(7), jnp.zeros(7), EIGHT, EIGHT, jnp.minimum(x, 0.0), gamma=0.9, clip_rho=jnp.inf
    ).value
  ),
  "retrace": lambda x: returns.retrace(EIGHT, jnp.ones(7), jnp.zeros(7), EIGHT, EIGHT, x, gamma=0.9, lam=1.0),
  "gaussian_loss": lambda x: losses.gaussian_loss(jnp.clip(x, -1e9, 1e9)[:, None], EIGHT[:, None], EIGHT[:, None]),
  "inverse_variance_weights": lambda x: losses.inverse_variance_weights(jnp.square(x)),
  "categorical_projection": lambda x: losses.categorical_projection(x, jnp.full(7, 1.0 / 7.0), EIGHT),
  "histogram_target": lambda x: losses.histogram_target(x, EIGHT, 0.1),
  "cross_entropy": lambda x: losses.cross_entropy(x[None], jnp.full((1, 7), 1.0 / 7.0)),
  "quantile_loss": lambda x: losses.quantile_loss(x, EIGHT),
  "quantile_loss, absolute": lambda x: losses.quantile_loss(x, EIGHT, kappa=0.0),
  "conditional_value_at_risk": lambda x: losses.conditional_value_at_risk(x, 1.0 / 7.0, 0.3),
  "payoff, softplus": lambda x: losses.payoff(x, "softplus"),
  "payoff, log": lambda x: losses.payoff(x, "log"),
  "payoff, forward": lambda x: losses.payoff(jnp.clip(x, -10.0, 10.0), "forward"),
  "discriminator_loss, expert": lambda x: losses.discriminator_loss(x, True),
  "discriminator_loss, policy": lambda x: losses.discriminator_loss(x, False),
  "norm_penalty": lambda x: losses.norm_penalty(x[:, None]),
  "inverse_soft_q": lambda x: losses.inverse_soft_q(x, 0.5),
  "second_order_gain": lambda x: losses.second_order_gain(x[:, None], jnp.ones((7, 1)), jnp.ones(1)),
  "natural_gain": lambda x: losses.natural_gain(x[:, None], jnp.ones((7, 1)), jnp.ones(1)),
  "langevin_acceptance": lambda x: losses.langevin_acceptance(
    x[:, None], 0.1 * x[:, None], -jnp.abs(x), 0.9 * x[:, None], 0.0 * x[:, None], -0.9 * jnp.abs(x), 0.1
  ),
  "langevin_move": lambda x: losses.langevin_move(x[:, None], x[:, None], 0.1, EIGHT[:, None]),
  "langevin_step_size": lambda x: losses.langevin_step_size(x, -jnp.abs(x), 0.1),
  "normal_divergence": lambda x: losses.normal_divergence(x, jnp.ones(7), EIGHT, 2.0),
  "batch_median": lambda x: losses.batch_median(x, EIGHT > -2.0)[0],
  "visited_mean": lambda x: losses.visited_mean(x, jnp.abs(EIGHT)),
  "soft_bounds": lambda x: losses.soft_bounds(x, -10.0, 0.5),
  "normalise, layer": lambda x: normalise(x, "layer"),
  "normalise, rms": lambda x: normalise(x, "rms"),
  "normalise, nothing": lambda x: normalise(0.0 * x, "rms"),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_numbers(name):
  fn = CASES[name]
  for x in (EXTREMES, jnp.zeros(7), 1e-12 * EIGHT, 1e12 * EIGHT if "ratio" not in name else EIGHT):
    value, back = jax.vjp(fn, x)
    assert jnp.isfinite(value).all(), (name, x, value)
    (slope,) = back(jnp.ones_like(value))
    assert jnp.isfinite(slope).all(), (name, x, slope)


def test_every_public_loss_is_among_them_or_is_held_elsewhere():
  elsewhere = {
    "batch_mean": "a mean",
    "bellman_residual": "a mean of squares",
    "discounted_target": "a sum",
    "expected_divergence": "soft_value",
    "median_bandwidth": "stein_direction",
    "padded_support": "a grid",
    "policy_divergence": "soft_value",
    "raw_log_density": "a sum",
    "rbf_kernel": "stein_direction",
    "residual_temperature": "a product",
    "squared_distances": "stein_direction",
    "stein_surrogate": "a product",
    "systematic_resample": "whole numbers, of normalised weights",
    "weighted_likelihood": "a product",
  }
  held = {name.partition(",")[0] for name in CASES}
  assert set(losses.__all__) - held == elsewhere.keys() & set(losses.__all__)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-7, 1.0, 1e12, 1e30])
def test_what_is_said_to_be_without_scale_is(scale):
  x = jnp.array([0.3, -1.0, 2.0, 0.1])
  for fn in (losses.standardised, lambda x: normalise(x, "layer"), lambda x: normalise(x, "rms")):
    np.testing.assert_allclose(fn(scale * x), fn(x), rtol=1e-5)


def test_equal_advantages_are_zeros_at_every_offset():
  for value in (0.0, 1e-9, 0.1, 1e9):
    np.testing.assert_allclose(losses.standardised(jnp.full(1000, value)), 0.0, atol=0.2)


def test_the_clip_holds_the_gradient_at_zero_where_the_ratio_overflows():
  slope = jax.grad(lambda x: losses.clipped_ratio(x, 0.0 * x, jnp.ones(3), 0.2)[0].sum())(jnp.array([90.0, 500.0, 0.3]))
  np.testing.assert_array_equal(slope, 0.0)
  slope = jax.grad(lambda x: losses.clipped_ratio(x, 0.0 * x, -jnp.ones(1), 0.2)[0].sum())(jnp.array([1.0]))
  np.testing.assert_allclose(slope, np.e, rtol=1e-6)
