"""Distributions of the return on a grid or as quantiles: targets, losses, and what is read from them."""

import jax
import jax.numpy as jnp

from varl import checks
from varl.types import Array


def categorical_projection(atoms: Array, probabilities: Array, support: Array) -> Array:
  """Σ_j p_j δ(z_j) on a grid of other atoms, each mass shared between its two neighbours.

    m_i = Σ_j p_j [1 - |clip(z_j, x_1, x_K) - x_i|/Δ]_0^1

  The mean is kept where every z_j lies between x_1 and x_K.

  Args:
    atoms: `[..., N]`, z: for a distributional Bellman target r + γ m x.
    probabilities: `[..., N]`, p.
    support: `[K]`, x, evenly spaced and rising; K >= 2.

  Returns:
    `[..., K]`.

  Reference: Bellemare, Dabney, Munos 2017, 1707.06887, Eq. 7.
  """
  within = jnp.clip(atoms, support[0], support[-1])
  distance = jnp.abs(within[..., None, :] - support[:, None]) / (support[1] - support[0])
  return jnp.sum(jnp.clip(1.0 - distance, 0.0, 1.0) * probabilities[..., None, :], axis=-1)


def histogram_target(value: Array, support: Array, std: Array | float) -> Array:
  """A scalar target as a histogram: the mass that N(y, σ²) has in each bin, of all that it has in any (HL-Gauss).

    m_i = (Φ((x_i + Δ/2 - y)/σ) - Φ((x_i - Δ/2 - y)/σ)) / (Φ((x_K + Δ/2 - y)/σ) - Φ((x_1 - Δ/2 - y)/σ))

  Its mean is y where the support reaches at least 3σ beyond y on both sides; at the end of the grid it lies up to .8 σ
  inside. `padded_support` makes such a grid.

  Args:
    value: `[...]`, y, held within the grid's outer edges.
    support: `[K]`, the bins' centres, evenly spaced and rising.
    std: σ > 0, in units of return; .75 Δ in the paper.

  Returns:
    `[..., K]`.

  Reference: Farebrother et al. 2024, 2403.03950, Eq. 4; Imani and White 2018, 1806.04613.
  """
  width = support[1] - support[0]
  edges = jnp.concatenate([support - 0.5 * width, support[-1:] + 0.5 * width])
  y = jnp.clip(value, edges[0], edges[-1])[..., None]
  below = jax.scipy.special.ndtr((edges - y) / std)
  mass = below[..., 1:] - below[..., :-1]
  return mass / (below[..., -1:] - below[..., :1])


def padded_support(
  low: float | Array, high: float | Array, bins: int, *, width_in_std: float = 0.75, reach: float = 3.0
) -> Array:
  """The centres of bins that reach beyond [low, high] by so many σ of `histogram_target`, where σ is `width_in_std` Δ.

  Args:
    low, high: the returns that there are.
    bins: K.
    width_in_std: σ/Δ.
    reach: in σ.

  Returns:
    `[K]`.

  Raises:
    ValueError: concrete ends that are not low < high, or too few bins for the padding.
  """
  if isinstance(low, int | float) and isinstance(high, int | float) and not low < high:
    raise ValueError(f"a support has low < high, got {low} and {high}")
  bins, pad = checks.whole("bins", bins), reach * width_in_std
  if bins - 1 <= 2 * pad:
    raise ValueError(f"{bins} bins leave none between paddings of {pad:g} bins on each side; more than {2 * pad + 1:g}")
  width = (high - low) / (bins - 1 - 2 * pad)
  return low - pad * width + width * jnp.arange(bins)


def cross_entropy(logits: Array, target: Array) -> Array:
  """-Σ_i m_i log p_i, p = softmax(logits): what a categorical critic descends, on a projected or a histogram target.

  Args:
    logits: `[..., K]`.
    target: `[..., K]`, m; a constant of the loss.

  Returns:
    `[...]`, at least the target's entropy.

  Reference: Bellemare, Dabney, Munos 2017, 1707.06887, Algorithm 1; Farebrother et al. 2024, 2403.03950, Eq. 2.
  """
  return -jnp.sum(jax.lax.stop_gradient(target) * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def quantile_loss(
  quantiles: Array, targets: Array, *, probabilities: Array | None = None, kappa: Array | float = 1.0
) -> Array:
  """The Huber quantile loss of all pairs: the quantiles at (i + ½)/N of the targets minimise it (κ = 0).

    Σ_i Σ_j p_j |τ_i - 1{y_j < θ_i}| H_κ(y_j - θ_i)/κ,    H_κ(u) = ½ u² for |u| <= κ, else κ (|u| - κ/2)

  Args:
    quantiles: `[..., N]`, θ.
    targets: `[..., M]`, y; a constant of the loss.
    probabilities: `[..., M]`, p; None: 1/M each.
    kappa: κ >= 0; 0: |u| in place of H_κ(u)/κ.

  Returns:
    `[...]`.

  Reference: Dabney et al. 2018, 1710.10044, Eq. 9 and 10.
  """
  count = quantiles.shape[-1]
  middle = (jnp.arange(count, dtype=quantiles.dtype) + 0.5) / count
  error = jax.lax.stop_gradient(targets)[..., None, :] - quantiles[..., :, None]
  weight = jnp.abs(middle[:, None] - jax.lax.stop_gradient(error < 0))
  size = jnp.abs(error)
  safe = jnp.where(jnp.asarray(kappa) > 0, kappa, 1.0)
  huber = jnp.where(size <= kappa, 0.5 * jnp.square(error) / safe, size - 0.5 * kappa)
  if probabilities is None:
    return jnp.sum(jnp.mean(weight * huber, axis=-1), axis=-1)
  return jnp.sum(weight * huber * jax.lax.stop_gradient(probabilities)[..., None, :], axis=(-2, -1))


def conditional_value_at_risk(atoms: Array, probabilities: Array, level: Array | float) -> Array:
  """The mean of the worst share of the returns.

    CVaR_λ = 1/λ Σ_i z_i min(p_i, [λ - Σ_{j<i} p_j]_+),   z rising

  Args:
    atoms: `[..., N]` or `[N]`, in any order.
    probabilities: `[..., N]`, or a constant such as 1/N for quantiles.
    level: λ in (0, 1]; 1 is the mean.

  Returns:
    `[...]`.

  Reference: Rockafellar and Uryasev 2000, for discrete distributions; Dabney et al. 2018, 1806.06923, section 3.
  """
  atoms, probabilities = jnp.broadcast_arrays(atoms, probabilities)
  order = jnp.argsort(atoms, axis=-1)
  atoms = jnp.take_along_axis(atoms, order, axis=-1)
  probabilities = jnp.take_along_axis(probabilities, order, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  counted = jnp.clip(level - before, 0.0, probabilities)
  return jnp.sum(atoms * counted, axis=-1) / level
