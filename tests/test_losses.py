"""The losses: numbers worked by hand, identities, and gradients that must be zero or finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import losses


def identity(fn):
  return fn


@pytest.fixture(params=[identity, jax.jit], ids=["eager", "jit"])
def variant(request):
  """Runs a function as it is and jitted."""
  return request.param


# Two particles (rows), three states (columns). By hand, with α = 0.5:
#   V_1 = ½(1 - ½·2) + ½(3 - ½·0) = 1.5;  V_2 = 1·(2 - ½·(-4)) = 4;  V_3 = ¼(8 - ½·1) + ¾(0 - ½·2) = 1.125
Q = np.array([[1.0, 2.0, 8.0], [3.0, 100.0, 0.0]], np.float32)
WEIGHT = np.array([[0.5, 1.0, 0.25], [0.5, 0.0, 0.75]], np.float32)
LOG_RATIO = np.array([[2.0, -4.0, 1.0], [0.0, 7.0, 2.0]], np.float32)
with np.errstate(divide="ignore"):
  LOG_WEIGHT = np.log(WEIGHT)


def test_soft_value_by_hand(variant):
  value = variant(losses.soft_value)(Q, LOG_WEIGHT, LOG_RATIO, 0.5)
  np.testing.assert_allclose(value, [1.5, 4.0, 1.125], rtol=1e-6)
  np.testing.assert_allclose(variant(losses.soft_value)(Q, LOG_WEIGHT, LOG_RATIO, 0.0), [2.0, 2.0, 2.0], rtol=1e-6)


def test_policy_divergence_is_the_negative_soft_value(variant):
  np.testing.assert_allclose(
    variant(losses.policy_divergence)(Q, LOG_WEIGHT, LOG_RATIO, 0.5), [-1.5, -4.0, -1.125], rtol=1e-6
  )


def test_expected_divergence_has_the_gradient_of_the_expectation(variant):
  """dL/dz_a = π_a (α log π_a - Q_a - Σ_b π_b (α log π_b - Q_b)) in the logits z, and none in Q."""
  logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  q = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

  def total(logits, q):
    log_pi = jax.nn.log_softmax(logits, axis=0)
    return jnp.sum(losses.expected_divergence(q, log_pi, log_pi, 0.5))

  to_logits, to_q = variant(jax.grad(total, argnums=(0, 1)))(logits, q)
  pi = np.exp(logits) / np.exp(logits).sum(0)
  cost = 0.5 * np.log(pi) - q
  np.testing.assert_allclose(to_logits, pi * (cost - (pi * cost).sum(0)), rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(to_q, 0.0)
  log_pi = np.log(pi)
  np.testing.assert_allclose(losses.expected_divergence(q, log_pi, log_pi, 0.5), (pi * cost).sum(0), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.05, 1.0, 20.0])
def test_with_self_normalised_weights_soft_value_is_log_mean_exp(variant, alpha):
  n = 64
  q = np.random.default_rng(0).normal(0.0, 3.0, (n, 5)).astype(np.float32)
  log_weight = jax.nn.log_softmax(q / alpha, axis=0)
  value = variant(losses.soft_value)(q, log_weight, jnp.log(float(n)) + log_weight, alpha)
  scaled = q.astype(np.float64) / alpha
  top = scaled.max(0)
  expected = alpha * (top + np.log(np.mean(np.exp(scaled - top), axis=0)))
  # The identity holds in exact arithmetic; log(n w) is as large as Q/α, and so loses that many units in the last place.
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


def test_policy_divergence_has_no_gradient_through_weights_and_temperature(variant):
  log_weight = jnp.log(jnp.full((2, 3), 0.5))

  def total(q, log_weight, log_ratio, alpha):
    return jnp.sum(losses.policy_divergence(q, log_weight, log_ratio, alpha))

  by_q, by_weight, by_ratio, by_alpha = variant(jax.grad(total, argnums=(0, 1, 2, 3)))(Q, log_weight, LOG_RATIO, 0.5)
  np.testing.assert_allclose(by_q, np.full((2, 3), -0.5), rtol=1e-6)
  np.testing.assert_allclose(by_ratio, np.full((2, 3), 0.25), rtol=1e-6)
  assert (np.asarray(by_weight) == 0).all()
  assert by_alpha == 0


def test_discounted_target_by_hand(variant):
  target = variant(losses.discounted_target)(
    np.float32([1.0, 2.0, 3.0]), np.float32([1.0, 0.0, 1.0]), np.float32([10.0, 20.0, -4.0]), 0.9
  )
  np.testing.assert_allclose(target, [10.0, 2.0, -0.6], rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_the_value_of_a_terminal_state_does_not_poison_the_target(variant, poison):
  discount, value = jnp.float32([1.0, 0.0]), jnp.float32([1.0, poison])
  target = variant(losses.discounted_target)(jnp.float32([1.0, 2.0]), discount, value, 0.5)
  np.testing.assert_allclose(target, [1.5, 2.0], rtol=1e-6)

  def error(prediction):
    y = losses.discounted_target(jnp.float32([1.0, 2.0]), discount, prediction * value, 0.5)
    return jnp.sum(losses.squared_error(prediction, y))

  assert np.isfinite(variant(jax.grad(error))(1.0))


def test_the_target_is_a_constant(variant):
  def total(*args):
    return jnp.sum(losses.discounted_target(*args))

  ones = jnp.ones(3)
  for gradient in variant(jax.grad(total, argnums=(0, 1, 2, 3)))(ones, ones, ones, 0.9):
    assert (np.asarray(gradient) == 0).all()


def test_squared_error_by_hand(variant):
  prediction, target = np.float32([[1.0, 2.0], [4.0, -1.0]]), np.float32([2.0, -1.0])
  np.testing.assert_allclose(variant(losses.squared_error)(prediction, target), [[0.5, 4.5], [2.0, 0.0]], rtol=1e-6)
  gradient = variant(jax.grad(lambda p: jnp.sum(losses.squared_error(p, target))))(prediction)
  np.testing.assert_allclose(gradient, prediction - target, rtol=1e-6)


def reduce_by(pessimism):
  return lambda q: losses.pessimistic(q, pessimism)


def test_pessimistic_by_hand(variant):
  q = np.float32([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0]])  # means 3 and 1, deviations √(8/3) and √2
  np.testing.assert_array_equal(variant(reduce_by("min"))(q), [1.0, 0.0])
  np.testing.assert_allclose(variant(reduce_by(0.0))(q), [3.0, 1.0], rtol=1e-6)
  np.testing.assert_allclose(variant(reduce_by(2.0))(q), [3 - 2 * np.sqrt(8 / 3), 1 - 2 * np.sqrt(2)], rtol=1e-6)
  np.testing.assert_allclose(variant(losses.pessimistic)(q, jnp.float32(-1.0)), [3 + np.sqrt(8 / 3), 1 + np.sqrt(2)])


def test_one_deviation_below_the_mean_of_two_is_their_minimum(variant):
  q = np.random.default_rng(0).normal(0.0, 5.0, (2, 100)).astype(np.float32)
  q[1, :10] = q[0, :10]
  np.testing.assert_allclose(variant(reduce_by(1.0))(q), q.min(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pessimism", ["min", 0.0, 1.0, 2.5])
def test_the_gradient_is_finite_where_members_agree(variant, pessimism):
  q = np.float32([[2.0, 1.0, 0.0], [2.0, 3.0, 1e-20]])
  gradient = np.asarray(variant(jax.grad(lambda q: jnp.sum(losses.pessimistic(q, pessimism))))(q))
  assert np.isfinite(gradient).all()
  # Moving all members together moves the reduced value as much.
  np.testing.assert_allclose(gradient.sum(axis=0), np.ones(3), rtol=1e-5)


def test_an_unknown_reduction_is_an_error():
  with pytest.raises(ValueError, match="'min' or a number of standard deviations, got 'max'"):
    losses.pessimistic(jnp.ones((2, 3)), "max")
