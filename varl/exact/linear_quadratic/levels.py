"""Divergences of a policy with two levels from a prior with two, all Gaussian and linear."""

from typing import Any, NamedTuple

import numpy as np


class Level(NamedTuple):
  """A latent z ~ N(mean, covariance) and an action a = gain z + offset + N(0, noise).

  Attributes:
    mean: `[k]`. covariance: `[k, k]`.
    gain: `[d, k]`. offset: `[d]`. noise: `[d, d]`.
  """

  mean: Any
  covariance: Any
  gain: Any
  offset: Any
  noise: Any


class Levels(NamedTuple):
  """Divergences of a policy from a prior in nats.

  Attributes:
    marginal: KL of the actions, the latent summed out.
    upper: KL of the latents.
    lower: E_z KL of the actions given the latent.
    gap: upper + lower - marginal = E_a KL(π(z|a) ‖ p(z|a)), which is never negative.
  """

  marginal: float
  upper: float
  lower: float
  gap: float


def two_levels(policy: Level, prior: Level) -> Levels:
  """What a two-level policy pays for divergence, beside what its actions alone differ by.

    KL(π(a) ‖ p(a)) <= KL(π(z) ‖ p(z)) + E_π KL(π(a|z) ‖ p(a|z)),   gap = E_π(a) KL(π(z|a) ‖ p(z|a))

  Each is computed from its own closed form, the gap too. NumPy, in double precision.

  Args:
    policy, prior: of the same sizes.

  Raises:
    ValueError: sizes that do not fit.

  Reference: Tirumala et al. 2019, 1903.07438, section 4, for the bound.
  """
  q, p = (Level(*(np.asarray(x, np.float64) for x in level)) for level in (policy, prior))
  d, k = q.gain.shape
  for level in (q, p):
    shapes = tuple(x.shape for x in level)
    if shapes != ((k,), (k, k), (d, k), (d,), (d, d)):
      raise ValueError(f"levels have mean [k], covariance [k, k], gain [d, k], offset [d], noise [d, d]; got {shapes}")
  q_mean, p_mean = (level.gain @ level.mean + level.offset for level in (q, p))
  q_action, p_action = (level.gain @ level.covariance @ level.gain.T + level.noise for level in (q, p))
  marginal = _kl(q_mean - p_mean, q_action, p_action)
  upper = _kl(q.mean - p.mean, q.covariance, p.covariance)
  apart = q.gain - p.gain
  between = apart @ q.mean + q.offset - p.offset
  lower = _kl(between, q.noise, p.noise, apart @ q.covariance @ apart.T)
  # The latent given the action: its mean is linear in the action, whose spread is the policy's.
  backs, covariances = [], []
  for level, action in ((q, q_action), (p, p_action)):
    back = np.linalg.solve(action, level.gain @ level.covariance).T
    backs.append(back)
    covariances.append(level.covariance - back @ level.gain @ level.covariance)
  shift = q.mean - p.mean - backs[1] @ (q_mean - p_mean)
  spread = (backs[0] - backs[1]) @ q_action @ (backs[0] - backs[1]).T
  return Levels(marginal, upper, lower, _kl(shift, covariances[0], covariances[1], spread))


def _kl(shift: np.ndarray, q: np.ndarray, p: np.ndarray, spread: Any = 0.0) -> float:
  """E KL(N(m, q) ‖ N(m', p)) where m - m' has that mean and covariance."""
  inverse = np.linalg.inv(p)
  quadratic = shift @ inverse @ shift + np.trace(inverse @ (q + spread))
  return float(0.5 * (quadratic - len(q) + np.linalg.slogdet(p)[1] - np.linalg.slogdet(q)[1]))
