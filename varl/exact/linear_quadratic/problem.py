"""A linear-quadratic problem: its type, what makes one solvable, and random ones."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.exact.linear_quadratic.riccati import symmetric
from varl.types import Array, Key


class LinearQuadratic(NamedTuple):
  """A problem. `linear_quadratic` makes a checked one; under a transformation, `_replace` its fields.

  Attributes:
    A: `[n, n]`. B: `[n, d]`: s' = A s + B a + w.
    Q: `[n, n]`. R: `[d, d]`: r = -(sᵀQs + aᵀRa).
    noise: `[n, n]`, W, the covariance of w.
    discount: scalar γ in (0, 1).
  """

  A: Array
  B: Array
  Q: Array
  R: Array
  noise: Array
  discount: Array


def linear_quadratic(A: Any, B: Any, Q: Any, R: Any, *, noise_covariance: Any, discount: float) -> LinearQuadratic:
  """A checked problem that has exactly one solution, whose states do not outgrow the discount.

  Args:
    A: `[n, n]`. B: `[n, d]`. Q: `[n, n]`, symmetric, positive semi-definite. R: `[d, d]`, symmetric, positive definite.
    noise_covariance: `[n, n]`, W, symmetric, positive semi-definite.
    discount: γ in (0, 1).

  Returns:
    The problem, in the widest floating type among the matrices (that of Python numbers where they are lists).

  Raises:
    ValueError: shapes that do not fit; numbers that are not finite; matrices or a discount outside of what is said
      above; a mode of √γ A on or outside of the unit circle that no action reaches (√γ A, B is not stabilisable: its
      cost is infinite), or that no cost sees (√γ A, Q is not detectable: the best policy would let it grow).

  The arguments must be concrete; `_replace` puts traced fields into a problem later, unchecked. The two conditions are
  the Popov-Belevitch-Hautus tests of the discounted problem.
  """
  given = [np.asarray(m) for m in (A, B, Q, R, noise_covariance)]
  dtype = jnp.result_type(float, *given)
  known = check_matrices(*given[:4])
  noise = np.asarray(given[4], np.float64)
  check_shape("noise_covariance", noise, known[0].shape, "A")
  check_definite("noise_covariance", noise)
  _check_discount(discount)
  F = math.sqrt(discount) * known[0]
  for name, pair, verdict in (
    ("stabilisable", (F, known[1]), "no action reaches it, so its cost is infinite"),
    ("detectable", (F.T, known[2].T), "no cost sees it, so the best policy would let it grow"),
  ):
    mode = _hidden_mode(*pair)
    if mode is not None:
      letter = "B" if name == "stabilisable" else "Q"
      raise ValueError(
        f"(√γ A, {letter}) must be {name}; the mode of √γ A with eigenvalue {mode[0]:.4g} (|λ| >= 1), "
        f"along {np.round(mode[1], 4).tolist()}, is not: {verdict}"
      )
  return LinearQuadratic(*(jnp.asarray(x, dtype) for x in (*known, noise, discount)))


def random(key: Key, states: int, actions: int, *, discount: float = 0.9, noise: float = 0.05) -> LinearQuadratic:
  """A random problem that can also be learned from samples: the states stay bounded, the costs are well conditioned.

  Singular values: of A in [0.5, 1.05] (so none of its eigenvalues exceeds 1.05), of B in [0.5, 1], of Q in [0.5, 1.5],
  of R in [0.1, 0.5], each with random orthogonal factors; W = noise² I. The environment of it is
  `varl.envs.toys.LinearQuadratic(A, B, Q, R, noise)`.

  Args:
    key: consumed.
    states: n >= 1. actions: d >= 1.
    discount: γ in (0, 1). Up to 0.907, 1.05 √γ < 1 and every drawn problem is stabilisable for certain; above, all but
      a set of probability 0.
    noise: standard deviation of w, >= 0.

  Returns:
    A problem; jittable, and `vmap` over keys gives a batch of them.

  Raises:
    ValueError: arguments out of range.
  """
  states, actions = checks.whole("states", states), checks.whole("actions", actions)
  if not 0.0 <= noise < float("inf"):
    raise ValueError(f"noise must be finite and >= 0; got {noise}")
  _check_discount(discount)
  a_key, b_key, q_key, r_key = jax.random.split(key, 4)
  A = _random_matrix(a_key, states, states, 0.5, 1.05)
  eye = jnp.eye(states, dtype=A.dtype)
  return LinearQuadratic(
    A=A,
    B=_random_matrix(b_key, states, actions, 0.5, 1.0),
    Q=_random_covariance(q_key, states, 0.5, 1.5),
    R=_random_covariance(r_key, actions, 0.1, 0.5),
    noise=noise**2 * eye,
    discount=jnp.asarray(discount, A.dtype),
  )


def check_matrices(A: Any, B: Any, Q: Any, R: Any) -> tuple[Any, Any, Any, Any]:
  """The four matrices in float64, checked as `linear_quadratic` says, but for what needs a discount.

  Where one is traced all stay as they are, and only their shapes are checked.

  Raises:
    ValueError: shapes that do not fit, numbers that are not finite, or Q or R not symmetric or not definite.
  """
  known = concrete(A, B, Q, R)
  A, B, Q, R = (jnp.asarray(m) for m in (A, B, Q, R)) if known is None else known
  if B.ndim != 2:
    raise ValueError(f"B must be a matrix [n, d]; got shape {B.shape}")
  n, d = B.shape
  for name, matrix, size in (("A", A, n), ("Q", Q, n), ("R", R, d)):
    check_shape(name, matrix, (size, size), f"B {B.shape}")
  if known is None:
    return A, B, Q, R
  for name, matrix in (("A", A), ("B", B)):
    check_finite(name, matrix)
  check_definite("Q", Q)
  check_definite("R", R, strict=True)
  return A, B, Q, R


def check_shape(name: str, matrix: Any, shape: tuple[int, ...], companion: str) -> None:
  """Raises ValueError where a matrix does not go with its companion."""
  if matrix.shape != shape:
    raise ValueError(f"{name} must have shape {shape} to go with {companion}; got {matrix.shape}")


def check_finite(name: str, matrix: np.ndarray) -> None:
  """Raises ValueError where a number is not finite."""
  if not np.isfinite(matrix).all():
    raise ValueError(f"{name} must be finite; got {matrix.tolist()}")


def check_definite(name: str, matrix: np.ndarray, strict: bool = False) -> None:
  """Raises ValueError where a matrix is not symmetric and positive (semi-)definite."""
  check_finite(name, matrix)
  scale = np.abs(matrix).max()
  least = np.linalg.eigvalsh(matrix).min()
  definite = least > 1e-12 * scale if strict else least >= -1e-6 * scale
  if not definite or not np.allclose(matrix, matrix.T, atol=1e-8 * scale):
    kind = "positive definite" if strict else "positive semi-definite"
    raise ValueError(f"{name} must be symmetric and {kind}; got {matrix.tolist()}")


def _check_discount(discount: float) -> None:
  if not 0.0 < discount < 1.0:
    raise ValueError(f"discount must lie in (0, 1); got {discount}")


def _hidden_mode(F: np.ndarray, B: np.ndarray) -> tuple[complex, np.ndarray] | None:
  """An eigenvalue λ of F, |λ| >= 1, with rank [λI - F, B] < n, and its left eigenvector; None where there is none."""
  scale = max(np.abs(F).max(), 1.0), max(np.abs(B).max(), np.finfo(float).tiny)
  for eigenvalue in np.linalg.eigvals(F):
    if abs(eigenvalue) >= 1.0 - 1e-9:
      pencil = np.concatenate([(eigenvalue * np.eye(len(F)) - F) / scale[0], B / scale[1]], axis=1)
      vectors, sizes, _ = np.linalg.svd(pencil)
      if sizes[-1] < 1e-6:
        real = abs(eigenvalue.imag) < 1e-9
        vector = vectors[:, -1]
        # A singular vector's phase is arbitrary: turn its largest entry to the positive real axis.
        largest = vector[np.argmax(np.abs(vector))]
        vector = vector * (np.abs(largest) / largest)
        return (eigenvalue.real, vector.real) if real else (eigenvalue, vector)
  return None


def _random_matrix(key: Key, rows: int, columns: int, low: float, high: float) -> Array:
  left, right, middle = jax.random.split(key, 3)
  rank = min(rows, columns)
  scale = jax.random.uniform(middle, (rank,), minval=low, maxval=high)
  return (jax.random.orthogonal(left, rows)[:, :rank] * scale) @ jax.random.orthogonal(right, columns)[:rank]


def _random_covariance(key: Key, size: int, low: float, high: float) -> Array:
  basis, middle = jax.random.split(key)
  axes = jax.random.orthogonal(basis, size)
  return symmetric((axes * jax.random.uniform(middle, (size,), minval=low, maxval=high)) @ axes.T)


def concrete(*arrays: Any) -> tuple[np.ndarray, ...] | None:
  """The arrays in float64; None where one is being traced and cannot be looked at."""
  try:
    return tuple(np.asarray(a, np.float64) for a in arrays)
  except jax.errors.TracerArrayConversionError:
    return None
