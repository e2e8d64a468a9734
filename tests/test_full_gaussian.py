"""The Gaussian with a full covariance, against SciPy, NumPy and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from varl import policies
from varl.agents import mpo
from varl.types import Spec

HEAD = policies.full_gaussian(3, init_std=0.7)
Q, P = jax.random.normal(jax.random.key(0), (2, 20, HEAD.size))


def moments(outputs):
  """Mean and covariance in float64, from the definition."""
  outputs = np.asarray(outputs, np.float64)
  lower = np.zeros((3, 3))
  lower[np.tril_indices(3, -1)] = outputs[6:]
  lower += np.diag(1e-3 + np.logaddexp(0.0, outputs[3:6] + np.log(np.expm1(0.7 - 1e-3))))
  return outputs[:3], lower @ lower.T


def kl(q, p):
  (q_loc, q_cov), (p_loc, p_cov) = moments(q), moments(p)
  inverse, gap = np.linalg.inv(p_cov), q_loc - p_loc
  log_ratio = np.linalg.slogdet(p_cov)[1] - np.linalg.slogdet(q_cov)[1]
  return 0.5 * (np.trace(inverse @ q_cov) - 3 + gap @ inverse @ gap + log_ratio)


def test_densities():
  action = jax.random.normal(jax.random.key(1), (4, 20, 3))
  got = HEAD.log_prob(Q, action)
  wanted = [
    [stats.multivariate_normal(*moments(outputs)).logpdf(a) for outputs, a in zip(Q, row, strict=True)]
    for row in np.asarray(action, np.float64)
  ]
  np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=1e-4)
  np.testing.assert_allclose(HEAD.distribution(Q).log_prob(action), got, rtol=1e-3, atol=1e-3)
  drawn, log_prob = HEAD.sample_and_log_prob(Q, jax.random.key(2), 5)
  np.testing.assert_allclose(HEAD.log_prob(Q, drawn), log_prob, rtol=1e-3, atol=1e-3)


def test_samples_have_its_moments():
  drawn = np.asarray(HEAD.sample_and_log_prob(Q[:1], jax.random.key(3), 200_000)[0])[:, 0]
  loc, covariance = moments(Q[0])
  error = np.sqrt(np.diag(covariance) / len(drawn))
  assert (np.abs(drawn.mean(0) - loc) < 4 * error).all()
  np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.03 * np.abs(covariance).max())


def test_divergences_and_their_parts():
  wanted = [kl(q, p) for q, p in zip(Q, P, strict=True)]
  np.testing.assert_allclose(HEAD.kl(Q, P), wanted, rtol=1e-3)
  parts = HEAD.decouple(Q, P)
  for part in parts.values():
    assert part.kl.shape == (20, 1)
    alone = [kl(q, p) for q, p in zip(Q, part.outputs, strict=True)]
    np.testing.assert_allclose(part.kl[:, 0], alone, rtol=1e-3, atol=1e-5)
  np.testing.assert_array_equal(parts["mean"].outputs, jnp.concatenate([P[:, :3], Q[:, 3:]], -1))
  assert (HEAD.kl(Q, Q) == 0).all()
  assert all((part.kl == 0).all() for part in HEAD.decouple(Q, Q).values())


@pytest.mark.parametrize("budget", [1e-6, 1e-4])
def test_digits_at_small_budgets(budget):
  step = np.sqrt(budget) * np.eye(HEAD.size, dtype=np.float32)[[3, 4, 6, 8]]
  moved = Q[:4] + step
  wanted = [kl(q, p) for q, p in zip(Q[:4], moved, strict=True)]
  np.testing.assert_allclose(HEAD.decouple(Q[:4], moved)["covariance"].kl[:, 0], wanted, rtol=2e-2)


def test_one_dimension_is_the_diagonal_one():
  full, diagonal = policies.full_gaussian(1), policies.gaussian(1)
  assert full.size == diagonal.size == 2
  q, p = jax.random.normal(jax.random.key(4), (2, 9, 2))
  np.testing.assert_allclose(full.kl(q, p), diagonal.kl(q, p), rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(full.mode(q), diagonal.mode(q))


def test_mpo_takes_it_with_budgets_on_sums():
  config = mpo.Config(policy="full_gaussian", hidden=(8,), per_dimension=False)
  agent = mpo.make(Spec(2, 3), config)
  state = agent.init(jax.random.key(0))
  assert agent.act(state.params, (), jnp.zeros((4, 2)), jax.random.key(1))[0].shape == (4, 3)
  with pytest.raises(ValueError, match="full_gaussian needs per_dimension=False"):
    mpo.make(Spec(2, 3), mpo.Config(policy="full_gaussian"))
  with pytest.raises(ValueError, match="action_size is a whole number >= 1"):
    policies.full_gaussian(0)
