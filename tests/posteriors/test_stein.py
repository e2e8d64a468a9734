"""Stein variational gradient descent: its direction by hand, particles on known densities, and the sampler."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from varl import losses, networks, policies, posteriors, priors, temperatures
from varl.networks import Network
from varl.types import Design, Transition, Value


def test_the_direction_by_hand_for_two_particles():
  """h = 1, score(u) = -u, fixed particles 0 and 1, one updated particle at 1.

  κ(0, 1) = e⁻¹ with score 0 and ∇κ = -2 (0 - 1) e⁻¹ = 2e⁻¹; κ(1, 1) = 1 with score -1 and ∇κ = 0.
  Δ = ½ (2e⁻¹ - 1).
  """
  fixed, updated = jnp.float32([[0.0], [1.0]]), jnp.float32([[1.0]])
  got = losses.stein_direction(fixed, -fixed, updated, bandwidth=1.0)
  np.testing.assert_allclose(got, [[0.5 * (2 * np.exp(-1.0) - 1.0)]], rtol=1e-6)
  # The same with the median heuristic: distances² 1 and 0 have median ½, and h = ½/log 2.
  h = 0.5 / np.log(2.0)
  got = losses.stein_direction(fixed, -fixed, updated)
  np.testing.assert_allclose(got, [[0.5 * (2 / h * np.exp(-1.0 / h) - 1.0)]], rtol=1e-6)


def test_the_kernel_and_its_gradient():
  x, y = (np.random.default_rng(i).normal(size=(n, 5, 3)).astype(np.float32) for i, n in ((0, 4), (1, 2)))
  bandwidth = np.float32([0.5, 1.0, 2.0, 3.0, 4.0])
  kernel, gradient = losses.rbf_kernel(x, y, bandwidth)
  assert kernel.shape == (4, 2, 5)
  np.testing.assert_allclose(kernel[3, 1, 2], np.exp(-np.sum((x[3, 2] - y[1, 2]) ** 2) / 2.0), rtol=1e-5)
  # Summed over the updated particles, so that the derivative in x_i is a sum of the rows of the gradient.
  by_autodiff = jax.grad(lambda x: losses.rbf_kernel(x, y, bandwidth)[0].sum())(jnp.asarray(x))
  np.testing.assert_allclose(gradient.sum(1), by_autodiff, rtol=1e-4, atol=1e-6)


def test_the_median_bandwidth():
  squared = jnp.float32([[1.0, 2.0], [3.0, 100.0], [4.0, 5.0]])  # K = 3, median 3.5
  np.testing.assert_allclose(losses.median_bandwidth(squared), 3.5 / np.log(3.0), rtol=1e-6)
  np.testing.assert_allclose(losses.median_bandwidth(jnp.zeros((2, 2))), 1e-3)
  assert not jax.grad(lambda s: losses.median_bandwidth(s))(squared).any()
  rng = np.random.default_rng(0)
  for k, m in ((3, 5), (4, 4), (16, 16)):
    squared = rng.exponential(size=(k, m, 100)).astype(np.float32) * 10.0 ** rng.integers(-3, 4, 100)
    squared[..., :50] = squared[..., :50].round(1)  # with ties
    expected = np.maximum(np.median(squared, axis=(0, 1)) / np.log(k), 1e-3)
    np.testing.assert_allclose(losses.median_bandwidth(jnp.float32(squared)), expected, rtol=1e-5)
  with pytest.raises(ValueError, match="K >= 2 particles, got 1"):
    losses.median_bandwidth(jnp.zeros((1, 2)))


def test_the_surrogate_moves_particles_along_the_direction():
  updated, direction = (jnp.float32(np.random.default_rng(i).normal(size=(4, 3, 2))) for i in (0, 1))
  assert losses.stein_surrogate(updated, direction).shape == (3,)
  slope = jax.grad(lambda u: losses.stein_surrogate(u, direction).sum())(updated)
  np.testing.assert_allclose(slope, -direction / 4, rtol=1e-6)
  assert not jax.grad(lambda d: losses.stein_surrogate(updated, d).sum())(direction).any()


def test_the_score_in_raw_space_carries_the_determinant_of_tanh():
  """Q = 3 tanh u, α = 2: the score is 3/2 (1 - tanh² u) - 2 tanh u."""
  raw = jnp.float32([-4.0, -0.5, 0.0, 1.0, 12.0])

  def density(u):
    return losses.raw_log_density(3.0 * jnp.tanh(u), 0.0, policies.tanh_log_det(u), 2.0).sum()

  tanh = np.tanh(np.asarray(raw, np.float64))
  np.testing.assert_allclose(jax.grad(density)(raw), 1.5 * (1 - tanh**2) - 2 * tanh, rtol=1e-5, atol=1e-6)


def descend(log_density, start, steps, rate):
  """Particles after SVGD (one set that is both fixed and updated), by Adam, with the median heuristic."""
  optimizer = optax.adam(rate)
  score = jax.grad(lambda u: log_density(u).sum())

  def one(carry, _):
    u, state = carry
    updates, state = optimizer.update(-losses.stein_direction(u, score(u), u), state)
    return (optax.apply_updates(u, updates), state), None

  return jax.jit(lambda u: jax.lax.scan(one, (u, optimizer.init(u)), None, length=steps)[0][0])(start)


def test_particles_of_a_gaussian_have_its_moments():
  mean, std = np.float32([1.0, -2.0]), np.float32([0.5, 1.5])

  def log_density(u):
    return -0.5 * jnp.sum(jnp.square((u - mean) / std), axis=-1)

  start = jax.random.normal(jax.random.key(0), (100, 2))
  got = np.asarray(descend(log_density, start, 1_500, 0.05))
  np.testing.assert_allclose(got.mean(0), mean, atol=0.05)
  np.testing.assert_allclose(got.std(0), std, rtol=0.12)
  assert abs(np.corrcoef(got.T)[0, 1]) < 0.1


def test_particles_of_a_mixture_are_in_both_modes_in_their_shares():
  """⅓ N(-2, 1) + ⅔ N(2, 1) from N(-10, 1), the example of 1608.04471 (Fig. 1): mass within ten points."""

  def log_density(u):
    parts = jnp.stack([-jnp.log(3.0) - jnp.square(u + 2) / 2, jnp.log(2 / 3) - jnp.square(u - 2) / 2])
    return jax.nn.logsumexp(parts, axis=0)[..., 0]

  start = jax.random.normal(jax.random.key(1), (100, 1)) - 10.0
  got = np.asarray(descend(log_density, start, 2_000, 0.05))[:, 0]
  exact = (stats.norm.cdf(2.0) + 2 * stats.norm.cdf(-2.0)) / 3  # below 0
  assert abs(np.mean(got < 0) - exact) < 0.1
  np.testing.assert_allclose(got.mean(), 2 / 3, atol=0.2)
  np.testing.assert_allclose(np.mean(got**2), 5.0, rtol=0.1)


# The sampler


def value_of(q):
  return Value(None, lambda p, obs, action: q(action), lambda p, obs, action: q(action), None)


def batch_of(n, size=1):
  obs = jnp.zeros((n, size))
  return Transition(obs, jnp.zeros((n, 1)), jnp.zeros(n), jnp.ones(n), obs, jnp.zeros(n), {})


def bumps(a, xp):
  return 0.7 * xp.exp(-8 * (a + 0.5) ** 2) + 0.3 * xp.exp(-8 * (a - 0.5) ** 2)


@pytest.fixture(scope="module")
def trained():
  """A sampler of π(a) ∝ exp(Q(a)/α) on (-1, 1), exp Q two bumps of about .7 and .3, with α = 1."""
  head = policies.tanh_gaussian(1)

  def q(raw):
    return jnp.log(bumps(jnp.tanh(raw)[..., 0], jnp))

  network = networks.mlp(2, 1, hidden=(32, 32))
  posterior = posteriors.stein(
    network, head, optax.adam(3e-3), posteriors.uniform_proposal(head), action_size=1, start_updates=1
  )
  design = Design(priors.uniform(head), posterior, value_of(q), temperatures.fixed(1.0))
  step, params = posterior.step(design), posterior.init(jax.random.key(0))

  @jax.jit
  def train(params, key):
    def one(carry, key):
      params, state, _ = step.step(*carry, batch_of(8), key)
      return (params, state), None

    return jax.lax.scan(one, (params, step.init(params)), jax.random.split(key, 1_500))[0][0]

  return design, train(params, jax.random.key(1)), q


def test_the_sampler_learns_both_modes_in_their_shares(trained):
  design, params, _ = trained
  action, carry, _ = design.posterior.act(design, params, (), jnp.zeros((8_192, 1)), jax.random.key(2))
  a = np.tanh(np.asarray(action))[:, 0]
  assert carry == ()
  edges = np.linspace(-1, 1, 9)
  mass = np.array([integrate.quad(bumps, *pair, args=(np,))[0] for pair in itertools.pairwise(edges)])
  share = np.histogram(a, edges)[0] / len(a)
  assert abs(share[:4].sum() - mass[:4].sum() / mass.sum()) < 0.1
  assert 0.5 * np.abs(share - mass / mass.sum()).sum() < 0.08
  assert int(params["sampler_updates"]) == 1_500
  mode = design.posterior.mode(design, params, (), jnp.zeros((1, 1)), jax.random.key(2))[0]
  np.testing.assert_allclose(np.tanh(mode), [[-0.5]], atol=0.02)


def test_the_samplers_density_is_that_of_its_samples(trained):
  """The weights of its particles give the value: exp(V/α) is ∫ exp(Q/α) da, within two hundredths."""
  design, params, q = trained
  posterior = design.posterior
  batch = batch_of(512)
  drawn = jax.jit(lambda p, k: posterior.particles(design, p, batch, k))(params, jax.random.key(3))
  value = losses.soft_value(q(drawn.action), drawn.log_weight, drawn.log_ratio, 1.0)
  exact = integrate.quad(bumps, -1, 1, args=(np,))[0]
  np.testing.assert_allclose(np.exp(value).mean(), exact, rtol=0.02)
  # The proposals are nearly those that one would wish for: the value of 50 hardly varies.
  assert np.exp(value).std() < 0.15 * exact


def test_the_jacobian_of_a_linear_sampler():
  """u = ξ + h = Mξ + b has the density N(b, MMᵀ): its particles are weighed by that density, exactly."""
  matrix, shift = np.float32([[0.8, 0.3], [-0.2, 0.5]]), np.float32([0.1, -0.2])
  network = Network(
    lambda key: jnp.zeros(1), lambda params, x: x[..., 3:] @ (matrix - np.eye(2, dtype=np.float32)).T + shift
  )
  head = policies.tanh_gaussian(2)
  posterior = posteriors.stein(
    network, head, optax.sgd(0.1), posteriors.uniform_proposal(head), action_size=2, value_samples=16, start_updates=0
  )
  design = Design(priors.uniform(head), posterior, value_of(lambda a: 0.0 * a[..., 0]), temperatures.fixed(1.0))
  drawn = posterior.particles(design, posterior.init(jax.random.key(0)), batch_of(4, 3), jax.random.key(1))
  raw = np.asarray(drawn.action, np.float64)
  density = stats.multivariate_normal(shift, matrix @ matrix.T).logpdf(raw)
  density -= np.log(1 - np.tanh(raw) ** 2).sum(-1)
  # With Q = 0, w_n is proportional to 1/q_n.
  expected = -density - np.log(np.sum(np.exp(-density), axis=0))
  np.testing.assert_allclose(drawn.log_weight, expected, atol=1e-4)


def test_the_start_proposes_until_its_updates_are_over(trained):
  design, params, _ = trained
  early = {**params, "sampler_updates": jnp.int32(0)}
  proposed = [
    np.tanh(design.posterior.particles(design, p, batch_of(256), jax.random.key(4)).action) for p in (early, params)
  ]
  assert abs(proposed[0].var() - 1 / 3) < 4 * np.sqrt(4 / 45 / (50 * 256))
  # Of uniform actions a tenth lies beyond .9, of the sampler's less than half of that.
  assert abs(np.mean(np.abs(proposed[0]) > 0.9) - 0.1) < 0.02
  assert np.mean(np.abs(proposed[1]) > 0.9) < 0.07


def test_bad_arguments():
  head = policies.tanh_gaussian(1)

  def make(**kwargs):
    posteriors.stein(None, head, None, posteriors.uniform_proposal(head), **{"action_size": 1, **kwargs})

  for count in (2, 5):
    with pytest.raises(ValueError, match=f"two equal sets of at least two, got particles={count}"):
      make(particles=count)
  with pytest.raises(ValueError, match="value_samples is a whole number >= 1, got 0"):
    make(value_samples=0)
