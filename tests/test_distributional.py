"""Distributions of the return: known returns, known quantiles, and an independent implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from varl import losses


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def test_the_projection_is_an_independent_implementations():
  rng = np.random.default_rng(0)
  atoms, probabilities = np.sort(rng.normal(size=(20, 7)) * 3), rng.dirichlet(np.ones(7), size=20)
  support = jnp.linspace(-4.0, 4.0, 11)
  found = losses.categorical_projection(jnp.asarray(atoms), jnp.asarray(probabilities), support)
  theirs = jax.vmap(rlax.categorical_l2_project, (0, 0, None))(jnp.asarray(atoms), jnp.asarray(probabilities), support)
  np.testing.assert_allclose(found, theirs, atol=1e-6)
  np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-12)
  inside = np.abs(atoms).max(axis=1) < 4
  assert inside.any()
  np.testing.assert_allclose((found @ support)[inside], (atoms * probabilities).sum(axis=1)[inside], atol=1e-9)


@pytest.mark.parametrize("count", [11, 51, 201])
def test_a_uniform_return_is_found_with_its_mean_and_a_quarter_of_a_bin(count):
  """γ = ½ and a fair Bernoulli reward: the return is uniform on [0, 2]. Wasserstein's distance is a bin's quarter."""
  support = jnp.linspace(0.0, 2.0, count)
  atoms = jnp.concatenate([r + 0.5 * support for r in (0.0, 1.0)])

  def backup(p, _):
    return losses.categorical_projection(atoms, 0.5 * jnp.concatenate([p, p]), support), None

  p, _ = jax.lax.scan(backup, jnp.full(count, 1.0 / count), None, length=200)
  np.testing.assert_allclose(p @ support, 1.0, atol=1e-12)
  grid = (np.arange(400_000) + 0.5) / 200_000
  cumulated = np.cumsum(p)[np.clip((grid * (count - 1) / 2).astype(int), 0, count - 1)]
  distance = np.mean(np.abs(cumulated - grid / 2)) * 2.0
  np.testing.assert_allclose(distance, (2.0 / (count - 1)) / 4, rtol=1e-3)


def test_a_histogram_has_its_targets_mean_where_the_support_is_padded():
  support = losses.padded_support(0.0, 1.0, 16)
  width = float(support[1] - support[0])
  values = jnp.linspace(0.0, 1.0, 101)
  found = losses.histogram_target(values, support, 0.75 * width)
  np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-12)
  assert np.abs(found @ support - values).max() < 0.01 * width
  # At the edge of a grid without padding a target is drawn inside.
  bare = jnp.linspace(0.0, 1.0, 16)
  width = float(bare[1] - bare[0])
  at_edge = losses.histogram_target(jnp.asarray(1.0 + width / 2), bare, 0.75 * width)
  assert 0.5 < (1.0 + width / 2 - float(at_edge @ bare)) / width < 0.75
  # Bins by quadrature of the density.
  fine = np.linspace(-3, 4, 700_001)
  density = np.exp(-0.5 * ((fine - 0.4) / 0.2) ** 2)
  edges = np.concatenate([bare - width / 2, bare[-1:] + width / 2])
  mass = np.histogram(fine, edges, weights=density)[0]
  np.testing.assert_allclose(losses.histogram_target(jnp.asarray(0.4), bare, 0.2), mass / mass.sum(), atol=3e-5)


def test_the_minimum_of_the_quantile_loss_is_the_quantiles():
  targets = jnp.asarray(np.random.default_rng(1).exponential(size=2_001))
  start = jnp.linspace(0.1, 2.0, 9)

  def step(theta, rate):
    return theta - rate * jax.grad(lambda t: losses.quantile_loss(t, targets, kappa=0.0))(theta), None

  theta, _ = jax.lax.scan(step, start, jnp.concatenate([jnp.full(1_500, 0.05), jnp.full(1_000, 0.003)]))
  np.testing.assert_allclose(theta, np.quantile(targets, (np.arange(9) + 0.5) / 9), atol=0.02)


def test_the_quantile_loss_is_an_independent_implementations():
  rng = np.random.default_rng(2)
  theta, targets = rng.normal(size=(5, 8)), rng.normal(size=(5, 6)) * 2
  middle = (jnp.arange(8) + 0.5) / 8
  theirs = jax.vmap(lambda d, t: rlax.quantile_regression_loss(d, middle, t, 1.0))(
    jnp.asarray(theta), jnp.asarray(targets)
  )
  np.testing.assert_allclose(losses.quantile_loss(jnp.asarray(theta), jnp.asarray(targets)), theirs, rtol=1e-6)


def test_the_mean_of_the_worst():
  atoms = jnp.array([3.0, -1.0, 2.0, 0.0])
  np.testing.assert_allclose(losses.conditional_value_at_risk(atoms, 0.25, 1.0), 1.0)
  np.testing.assert_allclose(losses.conditional_value_at_risk(atoms, 0.25, 0.5), -0.5)
  np.testing.assert_allclose(losses.conditional_value_at_risk(atoms, 0.25, 0.3), (-0.25 + 0.05 * 0.0) / 0.3)
  np.testing.assert_allclose(
    losses.conditional_value_at_risk(atoms, jnp.array([0.1, 0.2, 0.3, 0.4]), 0.4), (-0.2 + 0.0) / 0.4
  )
  normal = jnp.asarray(np.random.default_rng(0).normal(size=400_000))
  exact = -np.exp(-0.5 * 1.2815515**2) / np.sqrt(2 * np.pi) / 0.1
  np.testing.assert_allclose(losses.conditional_value_at_risk(normal, 1 / 400_000, 0.1), exact, atol=0.01)


def test_a_support_that_cannot_be_is_refused():
  with pytest.raises(ValueError, match=r"low < high, got 1\.0 and 1\.0"):
    losses.padded_support(1.0, 1.0, 51)
  with pytest.raises(ValueError, match=r"5 bins leave none between paddings of 2\.25 bins"):
    losses.padded_support(0.0, 1.0, 5)
