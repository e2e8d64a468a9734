"""Policy heads in float32 against formulas in float64, and the divergences between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import policies

HEADS = {"gaussian": policies.gaussian, "tanh_gaussian": policies.tanh_gaussian}
ROOT_2PI = 0.5 * np.log(2 * np.pi)


@pytest.fixture(params=sorted(HEADS))
def kind(request):
  return request.param


def extremes(seed=0, n=4000):
  """float32 (μ, log σ, z) over |μ| <= 20, log σ in [-10, 2], |z| <= 4, with the corners among them."""
  rng = np.random.default_rng(seed)
  mean, log_std, z = rng.uniform(-20, 20, n), rng.uniform(-10, 2, n), rng.uniform(-4, 4, n)
  corners = np.array(np.meshgrid([-20.0, 0.0, 20.0], [-10.0, 0.0, 2.0], [-4.0, 0.0, 4.0])).reshape(3, -1)
  columns = np.concatenate([np.stack([mean, log_std, z]), corners], axis=1)
  return columns.astype(np.float32)


def softplus(x):
  return np.logaddexp(0.0, x)


def reference(kind, mean, rho, u, shift):
  """log π(u) of one dimension and its gradients in (μ, ρ, u), in float64: σ = softplus(ρ + shift)."""
  mean, rho, u = (np.asarray(x, np.float64) for x in (mean, rho, u))
  std = softplus(rho + shift)
  slope = 1.0 / (1.0 + np.exp(-(rho + shift)))
  z = (u - mean) / std
  log_prob = -0.5 * z**2 - np.log(std) - ROOT_2PI
  by_mean, by_rho, by_u = z / std, (z**2 - 1.0) / std * slope, -z / std
  if kind == "tanh_gaussian":
    log_prob -= 2.0 * (np.log(2.0) - u - softplus(-2.0 * u))
    by_u += 2.0 * np.tanh(u)
  return log_prob, (by_mean, by_rho, by_u)


# Log-probabilities and gradients


def test_log_prob_and_gradients_hold_float64_over_the_whole_range(kind):
  mean, log_std, z = extremes()
  head, shift = HEADS[kind](1, min_std=0.0), np.log(np.expm1(1.0))
  rho = (np.log(np.expm1(np.exp(log_std.astype(np.float64)))) - shift).astype(np.float32)
  u = (mean + z * np.exp(log_std)).astype(np.float32)

  def log_prob(mean, rho, u):
    return head.log_prob(jnp.stack([mean, rho], -1), u[..., None])

  value = np.asarray(jax.jit(log_prob)(mean, rho, u))
  gradients = jax.jit(jax.vmap(jax.grad(log_prob, argnums=(0, 1, 2))))(mean, rho, u)
  expected, expected_gradients = reference(kind, mean, rho, u, shift)
  # σ carries the rounding of ρ + c, at most 1e-6 of it, and ½ z² twice that.
  assert np.isfinite(value).all()
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=5e-5)
  for gradient, exact in zip(gradients, expected_gradients, strict=True):
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=5e-5)


def test_the_normal_itself_holds_float64_over_the_whole_range():
  mean, log_std, z = extremes(1)
  std = np.exp(log_std)
  u = mean + z * std

  def log_prob(mean, std, u):
    return policies.normal(mean[..., None], std[..., None]).log_prob(u[..., None])

  value = np.asarray(jax.jit(log_prob)(mean, std, u))
  gradients = jax.jit(jax.vmap(jax.grad(log_prob, argnums=(0, 1, 2))))(mean, std, u)
  mean, std, u = (x.astype(np.float64) for x in (mean, std, u))
  z = (u - mean) / std
  np.testing.assert_allclose(value, -0.5 * z**2 - np.log(std) - ROOT_2PI, rtol=1e-6, atol=1e-5)
  for gradient, exact in zip(gradients, (z / std, (z**2 - 1) / std, -z / std), strict=True):
    np.testing.assert_allclose(gradient * std, exact * std, rtol=1e-5, atol=1e-5)


def test_the_log_determinant_of_tanh():
  u = np.concatenate([np.linspace(-60, 60, 2401), [-1e4, 1e4, 0.0]]).astype(np.float32)
  exact = np.float64(u)
  value = jax.jit(policies.tanh_log_det)(u)
  np.testing.assert_allclose(value, 2 * (np.log(2) - exact - softplus(-2 * exact)), rtol=1e-6, atol=2e-5)
  gradient = jax.jit(jax.vmap(jax.grad(policies.tanh_log_det)))(u)
  np.testing.assert_allclose(gradient, -2 * np.tanh(exact), rtol=0, atol=2e-6)
  # Where tanh itself still has digits, it is the logarithm of its derivative.
  middle = np.abs(exact) < 3
  np.testing.assert_allclose(np.asarray(value)[middle], np.log1p(-(np.tanh(exact[middle]) ** 2)), atol=5e-6)


def test_the_pathwise_gradient_of_samples_over_the_whole_range(kind):
  mean, log_std, _ = extremes(2)
  head, shift = HEADS[kind](1, min_std=0.0), np.log(np.expm1(1.0))
  rho = (np.log(np.expm1(np.exp(log_std.astype(np.float64)))) - shift).astype(np.float32)
  key = jax.random.key(0)

  def total(mean, rho):
    action, log_prob = head.sample_and_log_prob(jnp.stack([mean, rho], -1), key, 1)
    return jnp.sum(log_prob), (action[0, :, 0], log_prob[0])

  gradients, (u, log_prob) = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(mean, rho)
  eps = np.asarray(jax.random.normal(key, (1, len(mean), 1)), np.float64)[0, :, 0]
  std = softplus(np.float64(rho) + shift)
  slope = 1.0 / (1.0 + np.exp(-(np.float64(rho) + shift)))
  exact_u = np.float64(mean) + std * eps
  exact = -0.5 * eps**2 - np.log(std) - ROOT_2PI
  squash = 2 * np.tanh(np.float64(u)) if kind == "tanh_gaussian" else 0.0
  if kind == "tanh_gaussian":
    exact -= 2.0 * (np.log(2.0) - np.float64(u) - softplus(-2.0 * np.float64(u)))
  np.testing.assert_allclose(u, exact_u, rtol=1e-6, atol=5e-5)
  np.testing.assert_allclose(log_prob, exact, rtol=1e-5, atol=5e-5)
  np.testing.assert_allclose(gradients[0], squash + 0 * exact, atol=1e-5)
  np.testing.assert_allclose(gradients[1], (squash * eps - 1 / std) * slope, rtol=1e-5, atol=1e-5)


def test_sample_and_log_prob_agrees_with_log_prob(kind):
  head = HEADS[kind](3)
  outputs = np.random.default_rng(0).normal(0.0, 1.5, (50, 6)).astype(np.float32)
  action, log_prob = jax.jit(head.sample_and_log_prob, static_argnums=2)(outputs, jax.random.key(0), 20)
  assert action.shape == (20, 50, 3)
  assert log_prob.shape == (20, 50)
  np.testing.assert_allclose(log_prob, jax.jit(head.log_prob)(outputs, action), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("outputs", [(0.0, 0.0), (1.0, -2.0), (-0.5, 1.0)])
def test_the_density_integrates_to_one(kind, outputs):
  head = HEADS[kind](1)
  raw = np.linspace(-40, 40, 400_001)
  log_prob = np.asarray(jax.jit(head.log_prob)(np.float32(outputs), np.float32(raw)[:, None]), np.float64)
  # The density is that of the executed action: its grid is the image of the raw one, with cells |da/du| du.
  log_cell = 2 * (np.log(2) - raw - softplus(-2 * raw)) if kind == "tanh_gaussian" else 0.0
  assert abs(np.sum(np.exp(log_prob + log_cell)) * (raw[1] - raw[0]) - 1) < 1e-4


@pytest.mark.parametrize("outputs", [(0.0, 0.0), (1.0, -2.0), (-0.5, 1.0)])
def test_the_squashed_density_is_the_slope_of_the_distribution_function(outputs):
  """P(-.98 < a < .7) from samples against the density's integral over executed actions: no formula for log |da/du|."""
  head, n = policies.tanh_gaussian(1), 100_000
  action = jnp.tanh(head.sample_and_log_prob(jnp.float32(outputs), jax.random.key(0), n)[0][:, 0])
  edges = np.linspace(-0.98, 0.7, 20_001)
  middle = (edges[1:] + edges[:-1]) / 2
  density = np.exp(np.asarray(head.log_prob(jnp.float32(outputs), np.float32(np.arctanh(middle))[:, None]), np.float64))
  inside = np.mean((np.asarray(action) > -0.98) & (np.asarray(action) < 0.7))
  mass = density.sum() * (edges[1] - edges[0])
  assert abs(mass - inside) < 3 * np.sqrt(inside * (1 - inside) / n)


def test_heads_start_as_asked():
  head = policies.gaussian(2, init_std=0.3, min_std=0.1)
  distribution = head.distribution(jnp.array([1.0, -2.0, 0.0, -50.0]))
  np.testing.assert_allclose(distribution.mean(), [1.0, -2.0], rtol=1e-6)
  np.testing.assert_allclose(distribution.stddev(), [0.3, 0.1], rtol=1e-5)


def test_a_traced_start_is_the_concrete_one():
  starts = [0.002, 0.7, 1.0, 900.0]

  def std(init_std):
    return policies.tanh_gaussian(1, init_std=init_std).distribution(jnp.zeros(2)).stddev()[0]

  np.testing.assert_allclose(jax.vmap(std)(jnp.array(starts)), starts, rtol=1e-3)
  np.testing.assert_allclose([std(start) for start in starts], starts, rtol=1e-5)


def test_mode_and_execute(kind):
  head = HEADS[kind](2)
  outputs = jnp.array([[0.5, -3.0, 1.0, 1.0]])
  np.testing.assert_array_equal(head.mode(outputs), [[0.5, -3.0]])
  executed = head.execute(head.mode(outputs))
  np.testing.assert_allclose(executed, [[0.5, -3.0]] if kind == "gaussian" else np.tanh([[0.5, -3.0]]), rtol=1e-6)


# Uniform actions


def test_uniform_samples_are_uniform_on_the_interval():
  n = 20_000
  head = policies.tanh_gaussian(2)
  action = np.sort(np.asarray(jnp.tanh(head.uniform(jax.random.key(0), (n,)))), axis=0)
  assert action.shape == (n, 2)
  assert np.abs(action).max() <= 1
  distribution = (np.float64(action) + 1) / 2
  ranks = np.arange(1, n + 1)[:, None] / n
  statistic = np.maximum(np.abs(ranks - distribution), np.abs(ranks - 1 / n - distribution)).max(axis=0)
  # Kolmogorov and Smirnov's critical value at 1 %.
  assert (statistic < 1.63 / np.sqrt(n)).all()
  assert abs(np.corrcoef(np.asarray(head.uniform(jax.random.key(0), (n,))).T)[0, 1]) < 3 / np.sqrt(n)
  np.testing.assert_allclose(np.exp(head.uniform_log_prob), 1 / 4, rtol=1e-6)


def test_there_is_no_uniform_action_on_the_whole_line():
  head = policies.gaussian(2)
  assert head.uniform is None
  assert head.uniform_log_prob is None


# Categorical


def test_categorical():
  head, logits = policies.categorical(3), jnp.array([[2.0, 0.0, -1.0], [0.0, 0.0, 1e4]])
  probability = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
  n = 20_000
  action, log_prob = jax.jit(head.sample_and_log_prob, static_argnums=2)(logits, jax.random.key(0), n)
  assert action.shape == (n, 2)
  assert jnp.issubdtype(action.dtype, jnp.integer)
  frequency = np.bincount(action[:, 0], minlength=3) / n
  assert (np.abs(frequency - probability) < 3 * np.sqrt(probability * (1 - probability) / n)).all()
  assert (action[:, 1] == 2).all()
  np.testing.assert_allclose(log_prob[:, 0], np.log(probability)[action[:, 0]], rtol=1e-5)
  np.testing.assert_allclose(head.log_prob(logits, jnp.array([1, 2])), [np.log(probability[1]), 0.0], rtol=1e-5)
  np.testing.assert_array_equal(head.mode(logits), [0, 2])
  np.testing.assert_array_equal(head.execute(head.mode(logits)), [0, 2])
  uniform = head.uniform(jax.random.key(1), (n,))
  # 3 standard errors of a frequency of ⅓.
  assert (np.abs(np.bincount(uniform, minlength=3) / n - 1 / 3) < 3 * np.sqrt(2 / 9 / n)).all()
  np.testing.assert_allclose(head.uniform_log_prob, np.log(1 / 3))


# Divergences


def exact_kl(q_loc, q_std, p_loc, p_std):
  """(KL_μ with σ_p, KL_μ with σ_q, KL_Σ) a dimension, in float64."""
  q_loc, q_std, p_loc, p_std = (np.asarray(x, np.float64) for x in (q_loc, q_std, p_loc, p_std))
  # x - 1 - log x around 1 loses digits in float64 too: there its series serves.
  x = np.expm1(2 * (np.log(q_std) - np.log(p_std)))
  near = np.abs(x) < 1e-3
  std = np.where(near, x**2 / 2 - x**3 / 3 + x**4 / 4, x - 2 * (np.log(q_std) - np.log(p_std)))
  difference = np.square(q_loc - p_loc)
  return difference / p_std**2 / 2, difference / q_std**2 / 2, std / 2


def test_kl_against_float64():
  rng = np.random.default_rng(0)
  loc = rng.uniform(-20, 20, (2, 4000)).astype(np.float32)
  std = np.exp(rng.uniform(-10, 2, (2, 4000))).astype(np.float32)
  kl = jax.jit(policies.gaussian_kl)(loc[0], std[0], loc[1], std[1])
  halves = jax.jit(policies.decoupled_gaussian_kl)(loc[0], std[0], loc[1], std[1])
  by_p, by_q, by_std = exact_kl(loc[0], std[0], loc[1], std[1])
  np.testing.assert_allclose(kl, by_p + by_std, rtol=1e-5)
  np.testing.assert_allclose(halves[0], by_q, rtol=1e-5)
  # A small half is (Δ log σ)², and rounding enters at Δ log σ.
  np.testing.assert_allclose(halves[1], by_std, rtol=1e-5, atol=1e-8)
  gradients = jax.jit(jax.grad(lambda *a: policies.gaussian_kl(*a).sum(), argnums=(0, 1, 2, 3)))(
    loc[0], std[0], loc[1], std[1]
  )
  q_std, p_std = np.float64(std)
  delta = np.float64(loc[0]) - np.float64(loc[1])
  exact = (
    delta / p_std**2,
    q_std / p_std**2 - 1 / q_std,
    -delta / p_std**2,
    1 / p_std - (q_std**2 + delta**2) / p_std**3,
  )
  for gradient, expected, unit in zip(gradients, exact, (p_std, q_std, p_std, p_std), strict=True):
    assert np.isfinite(gradient).all()
    # Where two terms cancel, the error is relative to one of them: to 1, in units of 1/σ.
    np.testing.assert_allclose(gradient * unit, expected * unit, rtol=1e-5, atol=1e-5)


def test_kl_against_monte_carlo():
  q = (jnp.array([0.3, -1.0]), jnp.array([0.5, 2.0]))
  p = (jnp.array([0.0, 0.5]), jnp.array([1.0, 1.2]))
  n = 100_000
  sample, log_prob = policies.normal(*q).sample_and_log_prob(seed=jax.random.key(0), sample_shape=(n,))
  ratio = np.asarray(log_prob - policies.normal(*p).log_prob(sample), np.float64)
  assert abs(ratio.mean() - policies.gaussian_kl(*q, *p).sum()) < 3 * ratio.std() / np.sqrt(n)


def test_kl_between_deviations_as_far_apart_as_float32_holds():
  q_std, p_std = np.float32([1e-12, 1e3, 1e-3]), np.float32([1e6, 1e-3, 1e3])
  expected = exact_kl(0.0, q_std, 0.0, p_std)[2]
  np.testing.assert_allclose(policies.gaussian_kl(0.0, q_std, 0.0, p_std), expected, rtol=1e-5)
  gradient = jax.grad(lambda q: policies.gaussian_kl(0.0, q, 0.0, p_std).sum())(jnp.asarray(q_std))
  np.testing.assert_allclose(gradient, np.float64(q_std) / np.float64(p_std) ** 2 - 1 / np.float64(q_std), rtol=1e-5)


def test_kl_of_a_policy_from_itself_is_exactly_zero():
  rng = np.random.default_rng(0)
  loc = rng.uniform(-20, 20, 10_000).astype(np.float32)
  std = np.exp(rng.uniform(-10, 2, 10_000)).astype(np.float32)
  for run in (lambda f: f, jax.jit):
    kl, halves = run(policies.gaussian_kl)(loc, std, loc, std), run(policies.decoupled_gaussian_kl)(loc, std, loc, std)
    for value in (kl, *halves):
      assert (np.asarray(value) == 0).all()
  gradient = jax.grad(lambda s: policies.gaussian_kl(loc, std, loc, s).sum())(jnp.asarray(std))
  np.testing.assert_allclose(gradient * std, 0.0, atol=1e-5)


@pytest.mark.parametrize("make", [policies.gaussian, policies.tanh_gaussian, policies.categorical])
def test_a_heads_kl_is_that_of_its_distributions(make):
  head = make(3)
  q, p = jax.random.normal(jax.random.key(8), (2, 20, head.size))
  wanted = head.distribution(q).kl_divergence(head.distribution(p))
  np.testing.assert_allclose(head.kl(q, p), wanted, rtol=1e-4, atol=1e-6)
  assert (head.kl(q, q) == 0).all()


def test_the_decoupled_halves():
  rng = np.random.default_rng(1)
  q_loc, p_loc = rng.normal(size=(2, 100)).astype(np.float32)
  q_std, p_std = np.exp(rng.normal(size=(2, 100))).astype(np.float32)
  mean_part, std_part = policies.decoupled_gaussian_kl(q_loc, q_std, p_loc, p_std)
  # Each is the whole divergence where the other parameter has not moved.
  np.testing.assert_allclose(mean_part, policies.gaussian_kl(q_loc, q_std, p_loc, q_std), rtol=1e-5)
  np.testing.assert_allclose(std_part, policies.gaussian_kl(q_loc, q_std, q_loc, p_std), rtol=1e-5)
  # With one covariance, and only then, they add up to the whole.
  whole = policies.gaussian_kl(q_loc, q_std, p_loc, p_std)
  np.testing.assert_allclose(mean_part * (q_std / p_std) ** 2 + std_part, whole, rtol=1e-4)
  assert not np.allclose(mean_part + std_part, whole, rtol=1e-2)


@pytest.mark.parametrize("budget", [1e-6, 1e-4, 1e-2])
def test_kl_keeps_its_digits_at_small_budgets(budget):
  rng = np.random.default_rng(2)
  q_std = np.exp(rng.uniform(-5, 2, 1000)).astype(np.float32)
  # KL_Σ ≈ (Δ log σ)², KL_μ = ½ (Δμ/σ)²
  p_std = (q_std * np.exp(rng.choice([-1, 1], 1000) * np.sqrt(budget))).astype(np.float32)
  q_loc = rng.normal(size=1000).astype(np.float32) * q_std
  p_loc = (q_loc + q_std * np.sqrt(2 * budget)).astype(np.float32)
  mean_part, std_part = policies.decoupled_gaussian_kl(q_loc, q_std, p_loc, p_std)
  _, exact_mean, exact_std = exact_kl(q_loc, q_std, p_loc, p_std)
  # Rounding of μ and σ themselves is in both: only the formula's own error counts.
  np.testing.assert_allclose(exact_std, budget, rtol=0.1)
  np.testing.assert_allclose(mean_part, exact_mean, rtol=1e-3)
  np.testing.assert_allclose(std_part, exact_std, rtol=1e-3)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: policies.gaussian(0), "action_size is a whole number >= 1, got 0"),
    (lambda: policies.tanh_gaussian(-1), "action_size is a whole number >= 1, got -1"),
    (lambda: policies.gaussian(1, init_std=0.5, min_std=0.5), "min_std=0.5, init_std=0.5"),
    (lambda: policies.tanh_gaussian(1, min_std=-0.1), "min_std=-0.1"),
    (lambda: policies.gaussian(1, init_std=float("nan")), "init_std=nan"),
    (lambda: policies.gaussian(1, init_std=float("inf")), "init_std=inf"),
    (lambda: policies.categorical(0), "actions is a whole number >= 1, got 0"),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
