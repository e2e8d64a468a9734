"""The matrix equations: Riccati's for the best policy and Lyapunov's for a given one."""

import jax
import jax.numpy as jnp

from varl.types import Array

_DOUBLINGS = 64
"""At most so many: 2^64 steps of value iteration, where a float64 has no digits left to change."""


@jax.custom_jvp
def riccati(A: Array, B: Array, Q: Array, R: Array) -> Array:
  """P = Q + AᵀPA - AᵀPB (R + BᵀPB)⁻¹ BᵀPA, by doubling: iterate k is value iteration's 2^k-th from 0.

  F, the closed loop over all those steps, tells how much of the future is missing: ‖F‖² of it.

  Reference: Chu, Fan, Lin & Wang 2004, "Structure-preserving algorithms for periodic discrete-time algebraic Riccati
    equations", International Journal of Control 77.
  """
  size, eye = len(A), jnp.eye(len(A), dtype=A.dtype)
  negligible = jnp.finfo(A.dtype).eps

  def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
    F, _, _, count = carry
    return (jnp.max(jnp.square(F)) > negligible) & (count < _DOUBLINGS)

  def double(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
    F, G, P, count = carry
    solved = jnp.linalg.solve(eye + G @ P, jnp.concatenate([F, G], axis=1))
    after, reached = solved[:, :size], solved[:, size:]
    return F @ after, symmetric(G + F @ reached @ F.T), symmetric(P + F.T @ P @ after), count + 1

  G = symmetric(B @ jnp.linalg.solve(R, B.T))
  F, _, P, _ = jax.lax.while_loop(unfinished, double, (A, G, Q, jnp.int32(0)))
  return jnp.where(jnp.max(jnp.square(F)) <= negligible, P, jnp.nan)


@riccati.defjvp
def _riccati_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
  """dP = Fᵀ dP F + (the equation's own change at fixed P), F = A - BK: the implicit function theorem."""
  P = riccati(*primals)
  A, B, _, R = primals
  gain = jnp.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)

  def equation(A: Array, B: Array, Q: Array, R: Array) -> Array:
    cross = B.T @ P @ A
    return Q + A.T @ P @ A - cross.T @ jnp.linalg.solve(R + B.T @ P @ B, cross)

  _, change = jax.jvp(equation, primals, tangents)
  return P, symmetric(lyapunov(A - B @ gain, change[None])[0])


def lyapunov(F: Array, costs: Array) -> Array:
  """X = FᵀXF + S for each S of `costs` `[k, n, n]`, as one linear system of n² unknowns."""
  system = jnp.eye(F.size, dtype=F.dtype) - jnp.kron(F.T, F.T)
  return jnp.linalg.solve(system, costs.reshape(len(costs), -1).T).T.reshape(costs.shape)


def policy_cost(F: Array, cost: Array) -> Array:
  """P = FᵀPF + cost; NaN where F is not stable: X = FᵀXF + I is positive definite exactly where it is."""
  P, visits = lyapunov(F, jnp.stack([symmetric(cost), jnp.eye(len(F), dtype=F.dtype)]))
  stable = jnp.linalg.eigvalsh(symmetric(jax.lax.stop_gradient(visits)))[0] > 0
  return jnp.where(stable, symmetric(P), jnp.nan)


def symmetric(matrix: Array) -> Array:
  """½ (X + Xᵀ): rounding must not accumulate in what theory keeps symmetric."""
  return 0.5 * (matrix + matrix.T)
