"""Finite horizons, with the dynamics held (variational) or inferred with the actions (optimistic)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.exact.linear_quadratic.problem import LinearQuadratic
from varl.exact.linear_quadratic.riccati import symmetric
from varl.exact.linear_quadratic.solve import Solution, flat_log_volume, gaussian_of, inverse, log_det, temperature_of
from varl.types import Array

TARGETS = ("variational", "optimistic")


def finite_horizon(
  problem: LinearQuadratic,
  *,
  temperature: float | Array,
  horizon: int,
  target: str = "variational",
  prior_gain: Array | np.ndarray | None = None,
  prior_covariance: Array | np.ndarray | None = None,
) -> Solution:
  """The optimal posterior of each of the last H steps; after them nothing is paid.

    variational:  N = γ P',                          k = γ (c' + tr(P'W))
    optimistic:   N = γ P' (I + (2γ/α) W P')⁻¹,      k = γ c' + (α/2) log|I + (2γ/α) W P'|
    M = (α/2) Σ_p⁻¹,   H = R + M + BᵀNB,   G = M K_p + BᵀNA
    P = Q + K_pᵀ M K_p + AᵀNA - GᵀH⁻¹G,   c = k + (α/2) log|(2/α) H Σ_p|
    π(a|s) = N(-H⁻¹G s, (α/2) H⁻¹)

  where P', c' are those of the next step. The first keeps the dynamics (E V'), as `kl_regularised` does in the limit;
  the second infers them with the actions (α log E e^{γV'/α}), as `tabular.message_passing` does.

  Args:
    problem: the problem; its discount may here be 1 (by `_replace`).
    temperature: α > 0.
    horizon: H >= 1.
    target: "variational" or "optimistic".
    prior_gain: `[d, n]`, K_p, 0 if None. prior_covariance: `[d, d]`, Σ_p; None for the unnormalised prior log p = 0.

  Returns:
    A `Solution` whose fields have a leading axis `[H]`, by time step: `[0]` is the first of the H.

  Raises:
    ValueError: an unknown target, a horizon below 1, a prior's gain without its covariance, or as `kl_regularised`.

  Reference: Levine 2018, 1805.00909, sections 2 and 3, of a linear-Gaussian model; the optimistic recursion is that of
    Whittle 1981, "Risk-Sensitive Linear/Quadratic/Gaussian Control", Advances in Applied Probability 13.
  """
  if target not in TARGETS:
    raise ValueError(f"target is one of {', '.join(TARGETS)}; got {target!r}")
  horizon = checks.whole("horizon", horizon)
  alpha = temperature_of(problem, temperature)
  if prior_covariance is None:
    if prior_gain is not None:
      raise ValueError("prior_gain needs prior_covariance beside it; got None")
    penalty, K_p, log_volume = jnp.zeros_like(problem.R), jnp.zeros_like(problem.B.T), flat_log_volume(problem)
  else:
    gain = jnp.zeros_like(problem.B.T) if prior_gain is None else prior_gain
    K_p, covariance = gaussian_of(problem, gain, prior_covariance, prefix="prior_", strict=True)
    penalty, log_volume = 0.5 * alpha * inverse(covariance), log_det(covariance)
  return _backward(problem, alpha, penalty, K_p, log_volume, int(horizon), target == "optimistic")


@partial(jax.jit, static_argnames=("horizon", "optimistic"))
def _backward(
  problem: LinearQuadratic,
  alpha: Array,
  penalty: Array,
  prior_gain: Array,
  log_volume: Array,
  horizon: int,
  optimistic: bool,
) -> Solution:
  A, B, gamma, W = problem.A, problem.B, problem.discount, symmetric(problem.noise)
  Q, R = symmetric(problem.Q), symmetric(problem.R)
  eye = jnp.eye(len(A), dtype=A.dtype)

  def ahead(P: Array, c: Array) -> tuple[Array, Array]:
    if not optimistic:
      return gamma * P, gamma * (c + jnp.trace(P @ W))
    spread = eye + (2.0 * gamma / alpha) * W @ P
    return gamma * symmetric(jnp.linalg.solve(spread.T, P.T).T), gamma * c + 0.5 * alpha * log_det(spread)

  def back(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Solution]:
    N, k = ahead(*carry)
    H = symmetric(R + penalty + B.T @ N @ B)
    G = penalty @ prior_gain + B.T @ N @ A
    gain = jnp.linalg.solve(H, G)
    P = symmetric(Q + prior_gain.T @ penalty @ prior_gain + A.T @ N @ A - G.T @ gain)
    c = k + 0.5 * alpha * (log_det(H) + log_volume + len(H) * jnp.log(2.0 / alpha))
    return (P, c), Solution(P, gain, 0.5 * alpha * inverse(H), c, H)

  end = (jnp.zeros_like(Q), jnp.zeros((), Q.dtype))
  _, steps = jax.lax.scan(back, end, None, length=horizon, reverse=True)
  return steps
