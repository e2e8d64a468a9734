"""The linear-quadratic policy beside the best prior of a part of the state: by its own terms, and at its ends."""

import numpy as np
import pytest

from experiments.oracles import regulators
from varl.exact import linear_quadratic

PROBLEM = regulators.problems()[2]


def solved(temperature, seen, **options):
  return linear_quadratic.asymmetric(PROBLEM, temperature=temperature, seen=seen, episode_length=100, **options)


def objective(found, M, V, temperature, steps=400):
  """E Σ γ^t (r - α KL) of a policy of this gain and covariance beside a prior N(-M s, V), by moments."""
  A, B, Q, R, W, gamma = (np.asarray(x, np.float64) for x in PROBLEM)
  K, cov = found
  moment, total = np.eye(len(A)), 0.0
  for t in range(steps):
    apart = K - M
    inverse = np.linalg.inv(V)
    kl = 0.5 * (
      np.trace(inverse @ (cov + apart @ moment @ apart.T))
      - len(V)
      + np.linalg.slogdet(V)[1]
      - np.linalg.slogdet(cov)[1]
    )
    cost = np.trace(Q @ moment) + np.trace(R @ (K @ moment @ K.T + cov))
    total += gamma**t * (-cost - temperature * kl)
    moment = (A - B @ K) @ moment @ (A - B @ K).T + B @ cov @ B.T + W
  return total


def test_no_policy_near_it_is_better_beside_its_prior():
  found = solved(0.06, [True, False])
  best = objective((found.gain, found.covariance), found.prior_gain, found.prior_covariance, 0.06)
  rng = np.random.default_rng(0)
  for _ in range(20):
    K = found.gain + 0.02 * rng.normal(size=found.gain.shape)
    cov = found.covariance * np.exp(0.1 * rng.normal())
    assert objective((K, cov), found.prior_gain, found.prior_covariance, 0.06) < best


def test_the_prior_is_the_marginal_of_the_states_that_are_met():
  found = solved(0.06, [True, False])
  A, B, _, _, W, _ = (np.asarray(x, np.float64) for x in PROBLEM)
  rng = np.random.default_rng(1)
  s, states, actions = rng.normal(size=(20_000, 2)), [], []
  for _ in range(100):
    a = -s @ found.gain.T + rng.normal(size=(len(s), 1)) * found.covariance[0, 0] ** 0.5
    states.append(s)
    actions.append(a)
    s = s @ A.T + a @ B.T + rng.normal(size=s.shape) * W[0, 0] ** 0.5
  seen, a = np.concatenate(states)[:, :1], np.concatenate(actions)
  slope = np.linalg.lstsq(seen, a, rcond=None)[0]
  np.testing.assert_allclose(slope[0], -found.prior_gain[:, 0], rtol=0.01)
  np.testing.assert_allclose(np.var(a - seen @ slope), found.prior_covariance[0, 0], rtol=0.02)


def test_a_cheap_divergence_leaves_the_regulator():
  found = solved(1e-5, [True, False])
  np.testing.assert_allclose(found.gain, linear_quadratic.hard(PROBLEM).gain, rtol=2e-3)
  assert found.divergence > 3.0
  assert solved(0.1, [True, False]).divergence < 0.3


def test_a_prior_that_sees_all_leaves_nothing_to_pay():
  with pytest.raises(ValueError, match="policy and prior still move"):  # their spread shrinks for ever
    solved(0.1, [True, True], iterations=100)


def test_bad_input():
  with pytest.raises(ValueError, match="seen holds 2 booleans"):
    solved(0.1, [True])
  with pytest.raises(ValueError, match="temperature is > 0"):
    solved(0.0, [True, False])
