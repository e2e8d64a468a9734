"""Optimal policies, their values and the value of any linear-Gaussian policy."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from varl.exact.linear_quadratic.problem import LinearQuadratic, check_definite, check_finite, check_shape, concrete
from varl.exact.linear_quadratic.riccati import policy_cost, riccati, symmetric
from varl.types import Array


class Solution(NamedTuple):
  """An optimal policy a ~ N(-K s, Σ) and its value V(s) = -sᵀPs - c.

  Attributes:
    P: `[n, n]`, symmetric.
    gain: `[d, n]`, K.
    covariance: `[d, d]`, Σ.
    constant: scalar c: what noise, exploration and divergence from the prior cost.
    H: `[d, d]`, the curvature: α log π(a|s) = -(a + Ks)ᵀH(a + Ks) + const, Σ = (α/2) H⁻¹.
  """

  P: Array
  gain: Array
  covariance: Array
  constant: Array
  H: Array


class Evaluation(NamedTuple):
  """The value V(s) = -sᵀPs - c of some policy.

  Attributes:
    P: `[n, n]`, symmetric.
    constant: scalar c.
  """

  P: Array
  constant: Array


def soft(problem: LinearQuadratic, *, temperature: float | Array) -> Solution:
  """The maximum-entropy optimum: argmax E Σ_t γ^t (r_t - α log π(a_t|s_t)).

    H = R + γ BᵀPB,   G = γ BᵀPA,   P = Q + γ AᵀPA - GᵀH⁻¹G
    π(a|s) = N(-H⁻¹G s, (α/2) H⁻¹)
    c = [γ tr(PW) - α (d/2 log(πα) - ½ log|H|)] / (1 - γ)

  The gain is that of `hard`; the temperature shows in covariance and constant only.

  Args:
    problem: the problem.
    temperature: α > 0, in reward per nat.

  Returns:
    The fixed point, differentiable in the problem and the temperature to any order by implicit differentiation (one
    linear system of n² unknowns). Jittable, and `vmap` maps it over temperatures and problems. NaN where a problem that
    never went through `linear_quadratic` has no stabilising solution.

  Raises:
    ValueError: a concrete temperature that is not a finite scalar > 0.

  Reference: Haarnoja et al. 2017, 1702.08165, Eq. 4 to 7, with this problem's quadratic Q in place of a general one.
  """
  alpha = temperature_of(problem, temperature)
  penalty = jnp.zeros_like(problem.R)
  return _regularised(problem, alpha, penalty, jnp.zeros_like(problem.B.T), flat_log_volume(problem))


def hard(problem: LinearQuadratic) -> Solution:
  """The optimum of the return alone, α → 0: the discounted linear-quadratic regulator.

    a = -H⁻¹G s,   c = γ tr(PW) / (1 - γ),    H, G and P as in `soft`; Σ = 0

  Args and Returns: as `soft`.
  """
  P, H, gain = _optimum(problem, jnp.zeros_like(problem.R), jnp.zeros_like(problem.B.T))
  gamma = problem.discount
  return Solution(P, gain, jnp.zeros_like(H), gamma * jnp.trace(P @ problem.noise) / (1.0 - gamma), H)


def kl_regularised(
  problem: LinearQuadratic,
  *,
  temperature: float | Array,
  prior_gain: Array | np.ndarray,
  prior_covariance: Array | np.ndarray,
) -> Solution:
  """The optimal posterior for the prior p(a|s) = N(-K_p s, Σ_p): argmax E Σ_t γ^t (r_t - α KL(π(·|s_t) ‖ p(·|s_t))).

    M = (α/2) Σ_p⁻¹,   H = R + M + γ BᵀPB,   G = M K_p + γ BᵀPA
    P = Q + K_pᵀ M K_p + γ AᵀPA - GᵀH⁻¹G
    π(a|s) ∝ p(a|s) exp(Q(s, a)/α) = N(-H⁻¹G s, (α/2) H⁻¹)
    c = [γ tr(PW) + (α/2) log|(2/α) H Σ_p|] / (1 - γ)

  Args:
    problem, temperature: as `soft`.
    prior_gain: `[d, n]`, K_p.
    prior_covariance: `[d, d]`, Σ_p, symmetric, positive definite.

  Returns:
    As `soft`, differentiable in the prior too. Σ_p → ∞ leads to the gain and covariance of `soft` (the constant grows
    with log|Σ_p|), α → 0 to `hard`, α → ∞ to the prior.

  Raises:
    ValueError: as `soft`; a prior whose shapes do not fit, or a concrete one that is not finite or not positive
      definite.

  Reference: Marino et al., "On the Design of Variational RL Algorithms", Eq. 7 and 11.
  """
  alpha = temperature_of(problem, temperature)
  K_p, covariance = gaussian_of(problem, prior_gain, prior_covariance, prefix="prior_", strict=True)
  return _regularised(problem, alpha, 0.5 * alpha * inverse(covariance), K_p, log_det(covariance))


def evaluate(
  problem: LinearQuadratic,
  gain: Array | np.ndarray,
  covariance: Array | np.ndarray,
  *,
  temperature: float | Array = 0.0,
  prior_gain: Array | np.ndarray | None = None,
  prior_covariance: Array | np.ndarray | None = None,
) -> Evaluation:
  """The value of any linear-Gaussian policy a ~ N(-K s, Σ).

    P = Q + KᵀRK + (K - K_p)ᵀM(K - K_p) + γ (A - BK)ᵀ P (A - BK),    M = (α/2) Σ_p⁻¹
    c = [γ tr(PW) + tr((R + M + γ BᵀPB) Σ) + (α/2) (log|Σ_p| - log|Σ| - d)] / (1 - γ)

  It counts r - α KL(π ‖ p) a step. Without a prior that is r - α log π, MaxEnt's: M = 0 and log|Σ_p| = -d log 2π.

  Args:
    problem: the problem.
    gain: `[d, n]`, K.
    covariance: `[d, d]`, Σ, symmetric, positive semi-definite; positive definite where the temperature is above 0.
    temperature: α >= 0.
    prior_gain: `[d, n]`, K_p, 0 if None. prior_covariance: `[d, d]`, Σ_p, positive definite; None for no prior.

  Returns:
    P and c, differentiable in everything. Under a transformation, where stability cannot be looked at beforehand, NaN
    for a policy whose value is infinite.

  Raises:
    ValueError: shapes that do not fit; concrete arguments out of range; a concrete √γ (A - BK) with an eigenvalue on or
      outside of the unit circle; a prior's gain without its covariance.
  """
  alpha = temperature_of(problem, temperature, zero=True)
  known = concrete(alpha)
  K, covariance = gaussian_of(problem, gain, covariance, strict=known is not None and bool(known[0] > 0))
  if prior_covariance is None:
    if prior_gain is not None:
      raise ValueError("prior_gain needs prior_covariance beside it; got None")
    K_p, penalty, log_volume = K, jnp.zeros_like(problem.R), flat_log_volume(problem)
  else:
    prior_gain = jnp.zeros_like(K) if prior_gain is None else prior_gain
    K_p, prior = gaussian_of(problem, prior_gain, prior_covariance, prefix="prior_", strict=True)
    penalty, log_volume = 0.5 * alpha * inverse(prior), log_det(prior)
  gamma, R = problem.discount, symmetric(problem.R)
  F = jnp.sqrt(gamma) * (problem.A - problem.B @ K)
  closed = concrete(F)
  if closed is not None:
    radius = np.abs(np.linalg.eigvals(closed[0])).max()
    if not radius < 1.0:
      raise ValueError(
        f"the policy's value is infinite: √γ (A - BK) must have its eigenvalues inside of the unit circle; "
        f"the largest has modulus {radius:.6g}"
      )
  P = policy_cost(F, symmetric(problem.Q) + K.T @ R @ K + (K - K_p).T @ penalty @ (K - K_p))
  # Without temperature a covariance may be singular, and its logarithm must not reach the result or a gradient.
  spread = jnp.where(alpha > 0, covariance, jnp.eye(len(R), dtype=R.dtype))
  divergence = jnp.where(alpha > 0, 0.5 * alpha * (log_volume - log_det(spread) - len(R)), 0.0)
  curvature = R + penalty + gamma * problem.B.T @ P @ problem.B
  cost = gamma * jnp.trace(P @ problem.noise) + jnp.trace(curvature @ covariance) + divergence
  return Evaluation(P, cost / (1.0 - gamma))


def value(solution: Solution | Evaluation, state: Array) -> Array:
  """V(s) = -sᵀPs - c.

  Args:
    solution: of `soft`, `hard`, `kl_regularised` or `evaluate`.
    state: `[..., n]`.

  Returns:
    `[...]`.
  """
  return -_quadratic(solution.P, state) - solution.constant


def q(problem: LinearQuadratic, solution: Solution | Evaluation, state: Array, action: Array) -> Array:
  """Q(s, a) = r(s, a) + γ E[V(s')]; the divergence at s itself is not in it.

  Args:
    problem: the problem.
    solution: as in `value`.
    state: `[..., n]`. action: `[..., d]`.

  Returns:
    `[...]`. For `soft`, Q - V = α log π; for `kl_regularised`, Q - V = α log(π/p).
  """
  reward = -_quadratic(problem.Q, state) - _quadratic(problem.R, action)
  mean = state @ problem.A.T + action @ problem.B.T
  return reward + problem.discount * (value(solution, mean) - jnp.trace(solution.P @ problem.noise))


def log_prob(solution: Solution, state: Array, action: Array) -> Array:
  """log N(a; -K s, Σ), the log-density of a policy with positive definite covariance.

  Args:
    solution: of `soft` or `kl_regularised`.
    state: `[..., n]`. action: `[..., d]`.

  Returns:
    `[...]`.
  """
  size = len(solution.covariance)
  distance = _quadratic(inverse(solution.covariance), action + state @ solution.gain.T)
  return -0.5 * (distance + size * math.log(2.0 * math.pi) + log_det(solution.covariance))


def _regularised(
  problem: LinearQuadratic, alpha: Array, penalty: Array, prior_gain: Array, log_volume: Array
) -> Solution:
  """`kl_regularised` with M = penalty and log|Σ_p| = log_volume; M = 0 and -d log 2π make it `soft`."""
  P, H, gain = _optimum(problem, penalty, prior_gain)
  gamma, size = problem.discount, len(H)
  divergence = 0.5 * alpha * (log_det(H) + log_volume + size * jnp.log(2.0 / alpha))
  constant = (gamma * jnp.trace(P @ problem.noise) + divergence) / (1.0 - gamma)
  return Solution(P, gain, 0.5 * alpha * inverse(H), constant, H)


def _optimum(problem: LinearQuadratic, penalty: Array, prior_gain: Array) -> tuple[Array, Array, Array]:
  """P, H and K of the cost sᵀQs + aᵀRa + (a + K_p s)ᵀM(a + K_p s).

  With a = u - (R + M)⁻¹M K_p s the cross term is gone: a standard problem in u, whose state cost
  K_pᵀ (M - M(R + M)⁻¹M) K_p = K_pᵀ R (R + M)⁻¹M K_p is written without a difference, so that a narrow prior keeps it.
  """
  A, B, gamma = problem.A, problem.B, problem.discount
  Q, R = symmetric(problem.Q), symmetric(problem.R)
  total = R + penalty
  shift = jnp.linalg.solve(total, penalty @ prior_gain)
  root = jnp.sqrt(gamma)
  P = riccati(root * (A - B @ shift), root * B, Q + symmetric(prior_gain.T @ R @ shift), total)
  H = total + gamma * symmetric(B.T @ P @ B)
  return P, H, jnp.linalg.solve(H, penalty @ prior_gain + gamma * B.T @ P @ A)


def _quadratic(matrix: Array, x: Array) -> Array:
  return jnp.sum((x @ matrix) * x, axis=-1)


def inverse(matrix: Array) -> Array:
  """X⁻¹ of a symmetric matrix, symmetric."""
  return symmetric(jnp.linalg.inv(matrix))


def log_det(matrix: Array) -> Array:
  """log|det X|."""
  return jnp.linalg.slogdet(matrix).logabsdet


def flat_log_volume(problem: LinearQuadratic) -> Array:
  """log|Σ_p| of the unnormalised prior log p = 0."""
  return jnp.asarray(-problem.B.shape[1] * math.log(2.0 * math.pi), problem.B.dtype)


def temperature_of(problem: LinearQuadratic, temperature: float | Array, *, zero: bool = False) -> Array:
  """The temperature as an array of the problem's type, checked as far as it is concrete."""
  known = concrete(temperature)
  if known is not None:
    number = known[0]
    if number.shape or not (number >= 0.0 if zero else number > 0.0) or not np.isfinite(number):
      allowed = ">= 0" if zero else "> 0"
      raise ValueError(f"temperature must be a finite number {allowed} (vmap for several); got {temperature}")
  return jnp.asarray(temperature, problem.A.dtype)


def gaussian_of(
  problem: LinearQuadratic, gain: Any, covariance: Any, *, prefix: str = "", strict: bool
) -> tuple[Array, Array]:
  """A policy's gain and covariance as arrays of the problem's type, checked as far as they are concrete."""
  n, d = problem.B.shape
  gain, covariance = jnp.asarray(gain, problem.A.dtype), jnp.asarray(covariance, problem.A.dtype)
  check_shape(f"{prefix}gain", gain, (d, n), f"B {problem.B.shape}")
  check_shape(f"{prefix}covariance", covariance, (d, d), f"B {problem.B.shape}")
  known = concrete(gain, covariance)
  if known is not None:
    check_finite(f"{prefix}gain", known[0])
    check_definite(f"{prefix}covariance", known[1], strict=strict)
  return gain, symmetric(covariance)
