"""What the outputs of a critic say about the distribution of the return: on a grid, as a histogram, as quantiles."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from varl import checks, losses
from varl.types import Array


class Returns(NamedTuple):
  """How K outputs of a critic are read and learned, in place of one number: an argument of `values.q_value`.

  Attributes:
    size: K.
    value: `outputs [..., K] -> [...]`, what the action is worth to the policy: the mean, or the mean of the worst.
    loss: `(outputs [..., K], z [..., M], p [..., M]) -> [...]` on returns z of probabilities p, which are constants.
    atoms: `outputs -> (z [..., K], p [..., K])`, the distribution itself; None where the outputs describe a number,
      which is learned from the mean of the target.
  """

  size: int
  value: Callable[[Array], Array]
  loss: Callable[[Array, Array, Array], Array]
  atoms: Callable[[Array], tuple[Array, Array]] | None = None


def categorical(low: float | Array, high: float | Array, count: int = 51, *, risk: float | Array = 1.0) -> Returns:
  """Probabilities of K returns on a grid, by cross-entropy on the projected target: C51.

    p = softmax(outputs),   L = -Σ_i m_i log p_i,   m = `losses.categorical_projection`(r + γ m z', p')

  Args:
    low, high: the grid's ends, z_1 and z_K. What lies beyond counts as the end, and the mean with it.
    count: K.
    risk: λ in (0, 1]: the policy improves the mean of the worst share λ of the returns; 1: the mean.

  Raises:
    ValueError: concrete ends that are not low < high, fewer than two atoms, λ outside (0, 1].

  Reference: Bellemare, Dabney, Munos 2017, 1707.06887, Eq. 7 and Algorithm 1.
  """
  count = _count(count, low, high)
  support = low + (high - low) * jnp.arange(count) / (count - 1)

  def atoms(outputs: Array) -> tuple[Array, Array]:
    return jnp.broadcast_to(support, outputs.shape), jax.nn.softmax(outputs, axis=-1)

  def loss(outputs: Array, z: Array, p: Array) -> Array:
    return losses.cross_entropy(outputs, losses.categorical_projection(z, p, support))

  return Returns(count, _at_risk(atoms, risk), loss, atoms)


def hl_gauss(low: float | Array, high: float | Array, count: int = 51) -> Returns:
  """One number, learned as the mean of a histogram: regression by classification.

    Q = Σ_i p_i x_i,   p = softmax(outputs),   L = -Σ_i m_i log p_i,   m = `losses.histogram_target`(y), σ = .75 bins

  The spread of the histogram is σ's and not the return's. Beyond [low, high] there are bins for 3σ more on each side
  (`losses.padded_support`), without which values near the ends are drawn inside.

  Args:
    low, high: the smallest and the largest return.
    count: K, those of the padding among them.

  Raises:
    ValueError: concrete ends that are not low < high, or too few bins for the padding.

  Reference: Farebrother et al. 2024, 2403.03950, Eq. 2-4.
  """
  count = _count(count, low, high)
  support = losses.padded_support(low, high, count)
  std = 0.75 * (support[1] - support[0])

  def value(outputs: Array) -> Array:
    return jnp.sum(jax.nn.softmax(outputs, axis=-1) * support, axis=-1)

  def loss(outputs: Array, z: Array, p: Array) -> Array:
    return losses.cross_entropy(outputs, losses.histogram_target(jnp.sum(z * p, axis=-1), support, std))

  return Returns(count, value, loss)


def quantile(count: int = 51, *, kappa: float | Array = 1.0, risk: float | Array = 1.0) -> Returns:
  """K quantiles of the return, at (i + ½)/K, by the Huber quantile loss: QR-DQN. It needs no bounds on the return.

    θ = outputs,   L = `losses.quantile_loss`(θ, r + γ m θ')

  The mean of the quantiles stands for the mean of the return, which it misses by what lies beyond the outermost ones.

  Args:
    count: K.
    kappa: κ, in units of return: errors within it count by their square, which makes the outputs less than quantiles.
    risk: as `categorical`'s.

  Raises:
    ValueError: fewer than two quantiles, a concrete κ below 0, λ outside (0, 1].

  Reference: Dabney et al. 2018, 1710.10044, Eq. 9 and 10.
  """
  count = _count(count)
  checks.arguments(least={"kappa": kappa})

  def atoms(outputs: Array) -> tuple[Array, Array]:
    return outputs, jnp.full_like(outputs, 1.0 / count)

  def loss(outputs: Array, z: Array, p: Array) -> Array:
    return losses.quantile_loss(outputs, z, probabilities=p, kappa=kappa)

  return Returns(count, _at_risk(atoms, risk), loss, atoms)


def following(z: Array, p: Array, log_weight: Array, log_ratio: Array, alpha: Array | float) -> tuple[Array, Array]:
  """The soft return of a state: a mixture over the actions that the policy may take, less what their divergence costs.

    Z(s) = Z(s, a_n) - α log_ratio_n with probability w_n

  Its mean is `losses.soft_value` of the means.

  Args:
    z, p: `[n, B, K]`, the returns of each particle's action and their probabilities.
    log_weight, log_ratio: `[n, B]`, of the particles.
    alpha: the temperature.

  Returns:
    Returns and their probabilities, `[B, n·K]` each.
  """
  z = z - (alpha * log_ratio)[..., None]
  p = p * jnp.exp(log_weight)[..., None]
  return _joined(z), _joined(p)


def pessimistic(z: Array, p: Array, pessimism: str | float | Array) -> tuple[Array, Array]:
  """One distribution of an ensemble's, whose mean is the pessimistic one of the means (`losses.pessimistic`).

  By "min" it is that of the member with the lowest mean; by κ the mixture of all, moved down by κ deviations of the
  means.

  Args:
    z, p: `[E, ..., K]`, of every member.
    pessimism: "min" or κ.

  Returns:
    `[..., K]` each, or `[..., E·K]` by κ.
  """
  means = jnp.sum(z * p, axis=-1)
  if isinstance(pessimism, str):
    lowest = jnp.argmin(means, axis=0)[None, ..., None]
    return jnp.take_along_axis(z, lowest, axis=0)[0], jnp.take_along_axis(p, lowest, axis=0)[0]
  moved = losses.pessimistic(means, pessimism) - jnp.mean(means, axis=0)
  return _joined(z + moved[..., None]), _joined(p / len(p))


def _joined(x: Array) -> Array:
  """`[n, ..., K] -> [..., n·K]`."""
  return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)


def _at_risk(atoms: Callable[[Array], tuple[Array, Array]], risk: float | Array) -> Callable[[Array], Array]:
  checks.share("risk", risk, lower_open=True)
  if isinstance(risk, int | float) and risk == 1.0:
    return lambda outputs: jnp.sum(jnp.multiply(*atoms(outputs)), axis=-1)
  return lambda outputs: losses.conditional_value_at_risk(*atoms(outputs), risk)


def _count(count: int, low: float | Array = 0.0, high: float | Array = 1.0) -> int:
  count = checks.whole("count", count, least=2)
  if isinstance(low, int | float) and isinstance(high, int | float) and not low < high:
    raise ValueError(f"the returns of a grid have low < high, got {low} and {high}")
  return count
