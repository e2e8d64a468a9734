"""Stein variational gradient descent, amortised by a sampler network (1608.04471; 1702.08165, section 3.3).

All of it lives in raw (pre-tanh) space, where the particles are free to move. There the density that a Boltzmann policy
has over executed actions a = g(u) changes by the determinant of g: from π(a|s) da = π_u(u|s) du,

  log π_u(u|s) = Q(s, g(u))/α + log p(g(u)|s) + log |det ∂g/∂u| - const.

For g = tanh, ∂g_i/∂u_i = 1 - tanh² u_i, so that the last term is Σ_i log(1 - tanh² u_i), which adds to the score

  ∂/∂u_i log(1 - tanh² u_i) = -2 tanh u_i (1 - tanh² u_i)/(1 - tanh² u_i) = -2 tanh u_i.

It is what keeps particles from running to ±∞ once tanh is flat and Q gives them no slope.
"""

import jax
import jax.numpy as jnp

from varl.types import Array


def raw_log_density(q: Array, log_prior: Array, log_det: Array, alpha: Array | float) -> Array:
  """log π_u(u|s) up to a constant: Q/α + log p + log |det ∂g/∂u| (derived above).

  Args:
    q: `[...]`, Q(s, g(u)), in units of return.
    log_prior: `[...]`, log p(g(u)|s), over executed actions.
    log_det: `[...]`, log |det ∂g/∂u|; 0 where actions are executed as they are.
    alpha: the temperature, > 0.

  Returns:
    `[...]`; its gradient in u is the score that `stein_direction` takes.
  """
  return q / alpha + log_prior + log_det


def squared_distances(x: Array, y: Array) -> Array:
  """‖x_i - y_j‖²: `[K, ..., d]` and `[M, ..., d]` to `[K, M, ...]`."""
  return jnp.sum(jnp.square(x[:, None] - y[None]), axis=-1)


def median_bandwidth(squared: Array, *, floor: float = 1e-3) -> Array:
  """h = med²/log K, the median heuristic: Σ_i κ(x_i, y) is then about 1, whatever the scale.

  Args:
    squared: `[K, M, ...]`, the squared distances; med² is their median over both axes.
    floor: under h, for particles that lie on one another.

  Returns:
    `[...]`, a constant.

  Raises:
    ValueError: K < 2, whose logarithm is 0.

  Reference: Liu & Wang 2016, 1608.04471, section 5; with two sets of particles, as in 1702.08165's published code.
  """
  if len(squared) < 2:
    raise ValueError(f"the median heuristic divides by log K and needs K >= 2 particles, got {len(squared)}")
  squared = jax.lax.stop_gradient(squared)
  median = _median(squared.reshape(-1, *squared.shape[2:]))
  return jnp.maximum(median / jnp.log(float(len(squared))), floor)


def rbf_kernel(x: Array, y: Array, bandwidth: Array | float) -> tuple[Array, Array]:
  """κ(x_i, y_j) = exp(-‖x_i - y_j‖²/h) and its gradient in x, ∇_{x_i} κ = -2 (x_i - y_j) κ/h.

  Args:
    x: `[K, ..., d]`.
    y: `[M, ..., d]`.
    bandwidth: h, `[...]`.

  Returns:
    κ `[K, M, ...]` and the gradient `[K, M, ..., d]`.
  """
  kernel = jnp.exp(-squared_distances(x, y) / bandwidth)
  scaled = -2.0 * (x[:, None] - y[None]) / jnp.asarray(bandwidth)[..., None]
  return kernel, scaled * kernel[..., None]


def stein_direction(fixed: Array, score: Array, updated: Array, *, bandwidth: Array | float | None = None) -> Array:
  """The direction in which the particles u_j come closer to the density in KL, steepest in the kernel's space.

    Δ(u_j) = 1/K Σ_i [κ(u_i, u_j) ∇_{u_i} log π_u(u_i) + ∇_{u_i} κ(u_i, u_j)]

  The first term pulls towards high density, the second pushes particles apart. Expectation and update have a set of
  particles each, so that Δ is an unbiased estimate of its population for a given h.

  Args:
    fixed: `[K, ..., d]`, the particles u_i over which the expectation is taken.
    score: `[K, ..., d]`, ∇ log π_u at them.
    updated: `[M, ..., d]`, the particles u_j.
    bandwidth: h, `[...]`; None: the median heuristic.

  Returns:
    `[M, ..., d]`, a constant.

  Reference: Liu & Wang 2016, 1608.04471, Eq. 8; α times this is Haarnoja et al. 2017, 1702.08165, Eq. 13.
  """
  if bandwidth is None:
    bandwidth = median_bandwidth(squared_distances(fixed, updated))
  kernel, gradient = rbf_kernel(fixed, updated, bandwidth)
  return jax.lax.stop_gradient(jnp.mean(kernel[..., None] * score[:, None] + gradient, axis=0))


def stein_surrogate(updated: Array, direction: Array) -> Array:
  """A loss whose gradient moves a sampler's particles along Δ: -1/M Σ_j ⟨sg(Δ_j), u_j⟩ (1702.08165, Eq. 14).

  Args:
    updated: `[M, B, d]`, differentiable in the sampler's parameters.
    direction: `[M, B, d]`, Δ.

  Returns:
    `[B]`; its value means nothing, only its gradient does.
  """
  return -jnp.mean(jnp.sum(jax.lax.stop_gradient(direction) * updated, axis=-1), axis=0)


def _median(x: Array) -> Array:
  """The median over the first axis of numbers >= 0, to within the largest one times 2⁻³⁰.

  By bisection, which only counts: on a CPU the sorts of `jnp.median` would take several times as long as all the rest
  of an update.
  """
  rank = (len(x) + 1) // 2

  def halve(bounds: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
    low, high = bounds
    middle = 0.5 * (low + high)
    enough = jnp.sum(x <= middle, axis=0) >= rank
    return (jnp.where(enough, low, middle), jnp.where(enough, middle, high)), None

  highest = jnp.max(x, axis=0)
  (_, bound), _ = jax.lax.scan(halve, (jnp.zeros_like(highest), highest), None, length=30)
  lower = jnp.max(jnp.where(x <= bound, x, 0.0), axis=0)
  if len(x) % 2:
    return lower
  following = jnp.min(jnp.where(x > lower, x, jnp.inf), axis=0)
  return 0.5 * (lower + jnp.where(jnp.sum(x <= lower, axis=0) > rank, lower, following))
