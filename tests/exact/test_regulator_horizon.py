"""Linear-quadratic control over a finite horizon: against its limits, quadrature, and known figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.exact import linear_quadratic as lq


@pytest.fixture(autouse=True)
def in_float64():
  with jax.enable_x64(True):
    yield


def scalar(discount=1.0, noise=0.3):
  problem = lq.linear_quadratic([[1.0]], [[0.5]], [[0.5]], [[0.1]], noise_covariance=[[noise**2]], discount=0.5)
  return problem._replace(discount=jnp.asarray(discount))


@pytest.mark.parametrize(
  ("target", "mean", "std"), [("optimistic", -0.58197, 0.76867), ("variational", -0.7259, 0.72861)]
)
def test_the_first_action_of_eight_steps(target, mean, std):
  """x' = x + u/2 + .3 ε, r = -(x² + u²/5)/2, u ~ N(0, 1) a priori, from x = 1."""
  first = jax.tree.map(
    lambda x: x[0],
    lq.finite_horizon(scalar(), temperature=1.0, horizon=8, target=target, prior_covariance=[[1.0]]),
  )
  np.testing.assert_allclose(-first.gain[0, 0], mean, atol=1e-5)
  np.testing.assert_allclose(np.sqrt(first.covariance[0, 0]), std, atol=1e-5)


@pytest.mark.parametrize("target", ["optimistic", "variational"])
def test_two_steps_by_quadrature(target):
  """The first action's density and the value by sums over a fine grid of actions and successors."""
  problem, alpha, gamma = scalar(0.8), 0.7, 0.8
  steps = lq.finite_horizon(problem, temperature=alpha, horizon=2, target=target, prior_covariance=[[1.0]])
  grid = np.linspace(-9, 9, 1501)
  width = grid[1] - grid[0]
  log_prior = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi)

  def reward(x, u):
    return -(0.5 * x**2 + 0.1 * u**2)

  def value_of(q):
    return alpha * np.log(np.sum(np.exp(log_prior + q / alpha), axis=-1) * width)

  last = value_of(reward(grid[:, None], grid))
  x = 0.6
  density = np.exp(-0.5 * ((grid[None] - (x + 0.5 * grid[:, None])) / 0.3) ** 2) / (0.3 * np.sqrt(2 * np.pi)) * width
  ahead = alpha * np.log(density @ np.exp(gamma * last / alpha)) if target == "optimistic" else gamma * density @ last
  q = reward(x, grid) + ahead
  policy = np.exp(log_prior + (q - value_of(q)) / alpha)
  mean = np.sum(policy * grid) * width
  first = jax.tree.map(lambda x: x[0], steps)
  np.testing.assert_allclose(-first.gain[0, 0] * x, mean, atol=1e-6)
  np.testing.assert_allclose(first.covariance[0, 0], np.sum(policy * (grid - mean) ** 2) * width, rtol=1e-6)
  np.testing.assert_allclose(lq.value(first, np.array([x])), value_of(q), atol=1e-6)


@pytest.mark.parametrize("with_prior", [False, True])
def test_a_long_horizon_is_the_stationary_solution(with_prior):
  problem = lq.random(jax.random.key(3), 3, 2, discount=0.9, noise=0.2)
  prior = {"prior_gain": 0.1 * np.ones((2, 3)), "prior_covariance": np.diag([0.5, 2.0])} if with_prior else {}
  limit = lq.kl_regularised(problem, temperature=0.3, **prior) if with_prior else lq.soft(problem, temperature=0.3)
  steps = lq.finite_horizon(problem, temperature=0.3, horizon=300, **prior)
  for name in ("P", "gain", "covariance", "constant", "H"):
    np.testing.assert_allclose(getattr(steps, name)[0], getattr(limit, name), rtol=1e-9, atol=1e-9)


def test_the_targets_differ_by_the_noise_alone():
  quiet, noisy = (lq.random(jax.random.key(1), 2, 2, noise=noise) for noise in (0.0, 0.3))
  for problem, same in ((quiet, True), (noisy, False)):
    both = [
      lq.finite_horizon(problem, temperature=0.5, horizon=6, target=t).gain for t in ("variational", "optimistic")
    ]
    assert np.allclose(*both, atol=1e-12) == same


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"target": "both"}, "target is one of variational, optimistic; got 'both'"),
    ({"horizon": 0}, "horizon is a whole number >= 1, got 0"),
    ({"temperature": 0.0}, "temperature must be a finite number > 0"),
    ({"prior_gain": [[1.0]]}, "prior_gain needs prior_covariance beside it"),
    ({"prior_covariance": [[-1.0]]}, "prior_covariance must be symmetric and positive definite"),
  ],
)
def test_bad_arguments(change, message):
  with pytest.raises(ValueError, match=message):
    lq.finite_horizon(scalar(), **{"temperature": 1.0, "horizon": 3, **change})
