"""The linear-quadratic policy whose prior sees a part of the state, and is the best one for that part."""

from typing import Any, NamedTuple

import numpy as np

from varl import checks
from varl.exact.linear_quadratic.problem import LinearQuadratic


class Asymmetric(NamedTuple):
  """A policy a ~ N(-K s, Σ) and its prior a ~ N(-M s_seen, V), each the best for the other.

  Attributes:
    gain: `[d, n]`, K. covariance: `[d, d]`, Σ.
    prior_gain: `[d, n]`, M, zero in the columns that the prior does not see. prior_covariance: `[d, d]`, V.
    divergence: E KL(π ‖ p) in nats over the states that are met: how much the actions say of what the prior does not
      see.
  """

  gain: np.ndarray
  covariance: np.ndarray
  prior_gain: np.ndarray
  prior_covariance: np.ndarray
  divergence: float


def asymmetric(
  problem: LinearQuadratic,
  *,
  temperature: float,
  seen: Any,
  episode_length: int,
  initial_std: float = 1.0,
  iterations: int = 2_000,
) -> Asymmetric:
  """The fixed point of a policy and a prior that sees some entries of the state, by turns.

    π = argmax E Σ_t γ^t (r_t - α KL(π ‖ p)),   p = argmin E_met KL(π ‖ p)

  The policy's step is a Riccati recursion, R + (α/2) V⁻¹ in R's place and the prior's mean as an offset of the action;
  the prior's is the regression of the action on what it sees, over the states of episodes of that length. NumPy, in
  double precision.

  Args:
    problem: with its discount.
    temperature: α > 0.
    seen: booleans `[n]`.
    episode_length: steps of an episode, all of which count alike.
    initial_std: deviation of an episode's first state, isotropic.
    iterations: turns, each followed by one step of the recursion to its end.

  Raises:
    ValueError: a temperature that is not positive, `seen` of another length, or no fixed point in so many turns.

  Reference: Galashov et al. 2019, 1905.01240, section 3: the prior that is best is the marginal of the policy.
  """
  episode_length = checks.whole("episode_length", episode_length)
  iterations = checks.whole("iterations", iterations)
  A, B, Q, R, W, gamma = (np.asarray(x, np.float64) for x in problem)
  n = len(A)
  mask = np.asarray(seen, bool)
  if not temperature > 0 or mask.shape != (n,):
    raise ValueError(f"temperature is > 0 and seen holds {n} booleans; got {temperature} and {mask.shape}")
  with np.errstate(over="ignore", invalid="ignore"):  # what diverges is refused at its end
    return _turns(A, B, Q, R, W, gamma, float(temperature), mask, episode_length, initial_std, iterations)


def _turns(
  A: np.ndarray,
  B: np.ndarray,
  Q: np.ndarray,
  R: np.ndarray,
  W: np.ndarray,
  gamma: Any,
  temperature: float,
  mask: np.ndarray,
  episode_length: int,
  initial_std: float,
  iterations: int,
) -> Asymmetric:
  n, d = B.shape
  M, V, P = np.zeros((d, n)), np.eye(d), Q.copy()
  change = np.inf
  for _ in range(iterations):
    # a = u - M s: the divergence is then from N(0, V), whose price is a part of the cost of u.
    price = 0.5 * temperature * np.linalg.inv(V)
    closed = A - B @ M
    for _ in range(10_000):
      H = R + price + gamma * B.T @ P @ B
      cross = -R @ M + gamma * B.T @ P @ closed
      L = np.linalg.solve(H, cross)
      new = Q + M.T @ R @ M + gamma * closed.T @ P @ closed - cross.T @ L
      moved, P = np.abs(new - P).max(), new
      if moved < 1e-13 * np.abs(P).max():
        break
    K, covariance = L + M, 0.5 * temperature * np.linalg.inv(H)
    state, met = initial_std**2 * np.eye(n), np.zeros((n, n))
    for _ in range(episode_length):
      met += state / episode_length
      state = (A - B @ K) @ state @ (A - B @ K).T + B @ covariance @ B.T + W
    old = M, V
    M = np.zeros((d, n))
    if mask.any():
      M[:, mask] = np.linalg.solve(met[np.ix_(mask, mask)], met[mask] @ K.T).T
    V = (K - M) @ met @ (K - M).T + covariance
    change = max(np.abs(M - old[0]).max(), np.abs(V - old[1]).max() / np.abs(V).max())
    if change < 1e-10:
      break
  else:
    raise ValueError(f"policy and prior still move by {change:.2g} after {iterations} turns")
  divergence = 0.5 * (np.linalg.slogdet(V)[1] - np.linalg.slogdet(covariance)[1])
  return Asymmetric(K, covariance, M, V, float(divergence))
