"""Dual variables: start, bounds, and which way they move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl.duals import dual


@pytest.mark.parametrize("transform", ["exp", "softplus"])
@pytest.mark.parametrize(("initial", "floor"), [(1.0, 0.0), (1e-4, 0.0), (1000.0, 0.0), (0.5, 0.1), (2.0, 1.999)])
def test_it_starts_at_the_initial_value(transform, initial, floor):
  variable = dual(initial, transform=transform, floor=floor)
  raw = variable.init()
  assert raw.shape == ()
  assert raw.dtype == jnp.float32
  np.testing.assert_allclose(variable.value(raw), initial, rtol=1e-5)


def test_one_a_dimension():
  variable = dual(np.float32([1.0, 10.0, 100.0]), shape=(3,), transform="softplus")
  np.testing.assert_allclose(variable.value(variable.init()), [1.0, 10.0, 100.0], rtol=1e-5)
  np.testing.assert_allclose(dual(2.0, shape=(3,)).value(dual(2.0, shape=(3,)).init()), [2.0, 2.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("transform", ["exp", "softplus"])
def test_floor_and_ceiling_bound_it(transform):
  variable = dual(1.0, transform=transform, floor=0.5, ceiling=4.0)
  values = jax.vmap(variable.value)(jnp.array([-80.0, -5.0, 0.0, 5.0, 80.0]))
  assert (np.diff(values) >= 0).all()
  np.testing.assert_allclose(values[0], 0.5, rtol=1e-6)
  np.testing.assert_allclose(values[-1], 4.0, rtol=1e-6)


def test_loss_and_gradients_by_hand():
  # λ = e^raw: the loss λ (budget - measured) has gradient λ (budget - measured) in raw, none in the others.
  variable, raw = dual(2.0), jnp.log(jnp.float32(2.0))
  for run in (lambda f: f, jax.jit):
    np.testing.assert_allclose(run(variable.loss)(raw, 3.0, 1.0), -4.0, rtol=1e-6)
    by_raw, by_measured, by_budget = run(jax.grad(variable.loss, argnums=(0, 1, 2)))(raw, 3.0, 1.0)
    np.testing.assert_allclose(by_raw, -4.0, rtol=1e-6)
    assert by_measured == 0
    assert by_budget == 0
  # λ = log(1 + e^raw): the gradient is sigmoid(raw) (budget - measured).
  soft = dual(2.0, transform="softplus")
  np.testing.assert_allclose(jax.grad(soft.loss)(soft.init(), 3.0, 1.0), -2 * (1 - np.exp(-2.0)), rtol=1e-5)


def test_the_loss_has_the_multipliers_shape():
  variable = dual(2.0, shape=(2,))
  np.testing.assert_allclose(
    variable.loss(variable.init(), jnp.array([3.0, 0.5]), jnp.array([1.0, 1.0])), [-4.0, 1.0], rtol=1e-6
  )


@pytest.mark.parametrize("transform", ["exp", "softplus"])
@pytest.mark.parametrize(("measured", "direction"), [(3.0, 1), (1.0, -1)])
def test_it_rises_while_the_budget_is_exceeded_and_falls_with_slack(transform, measured, direction):
  variable, optimizer = dual(1.0, transform=transform), optax.sgd(0.1)
  raw = variable.init()
  updates, _ = optimizer.update(jax.grad(variable.loss)(raw, measured, 2.0), optimizer.init(raw))
  assert np.sign(variable.value(raw + updates) - variable.value(raw)) == direction


def test_it_comes_down_again_from_the_ceiling():
  variable = dual(1.0, ceiling=4.0)
  raw = jnp.float32(3.0)  # e³ = 20 lies above the ceiling
  np.testing.assert_allclose(variable.value(raw), 4.0, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(variable.value)(raw), np.exp(3.0), rtol=1e-5)


def test_metrics():
  variable = dual(2.0, shape=(2,))
  metrics = variable.metrics("kl", variable.init(), jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]))
  assert set(metrics) == {"kl", "kl_measured", "kl_budget_used"}
  np.testing.assert_allclose([metrics["kl"], metrics["kl_measured"], metrics["kl_budget_used"]], [2, 2, 1], rtol=1e-6)


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"transform": "square"}, "'exp' or 'softplus', got 'square'"),
    ({"initial": 0.0}, r"\(0.0, inf\], got 0.0"),
    ({"initial": -1.0}, "got -1.0"),
    ({"initial": 1.0, "floor": 1.0}, r"\(1.0, inf\], got 1.0"),
    ({"initial": 5.0, "ceiling": 4.0}, r"\(0.0, 4.0\], got 5.0"),
    ({"initial": float("nan")}, "got nan"),
  ],
)
def test_bad_arguments(kwargs, message):
  with pytest.raises(ValueError, match=message):
    dual(**kwargs)
