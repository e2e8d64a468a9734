"""A policy that is an invertible map of noise: a normalising flow whose parameters the network gives for each state."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.policies.heads import Head, Part, tanh_log_det
from varl.types import Array, Key

CANDIDATES = 64
"""Draws that the mode is the likeliest of."""


def flow(
  action_size: int,
  *,
  init_std: float | Array = 1.0,
  layers: int = 4,
  hidden: int = 16,
  squashed: bool = True,
  largest: float = 0.5,
) -> Head:
  """A real-NVP policy: u = f_s(ξ), ξ ~ N(0, I), executed as tanh(u), or as it is on an unbounded space.

    f_s = couplings one after another, each of which moves one half of the dimensions by the other:
    x_b ← x_b e^{σ(x_a)} + μ(x_a),    (σ, μ) = W₂ tanh(W₁ x_a + b₁) + b₂,   σ within ±`largest`
    log π(u|s) = log N(ξ; 0, I) - Σ σ - log |det ∂tanh|,   ξ = f_s⁻¹(u)

  The network gives every coupling's W and b for the state (a hypernetwork), W₁ and b₁ beside fixed random ones, so that
  the policy is a `Head` like any other. At zero outputs it is N(0, init_std² I), each coupling ready to move. A flow
  can have several modes in a state, which no Gaussian has. In one dimension there is no other half, and it is Gaussian.

  Args:
    action_size: d.
    init_std: σ at zero outputs.
    layers: couplings; the half that moves alternates.
    hidden: units of each coupling's network.
    squashed: whether actions are executed as tanh(u).
    largest: bound on a coupling's log-scale.

  Returns:
    A Head. Its mode is the likeliest of `CANDIDATES` draws that are always the same. It has no divergence in closed
    form: `kl` and `decouple` raise ValueError, so that no trust region holds it.

  Raises:
    ValueError: sizes or a deviation out of range.

  Reference: Dinh, Sohl-Dickstein, Bengio 2016, 1605.08803, Eq. 7-8; as policies: Haarnoja et al. 2018, 1804.02808,
    section 4.1.
  """
  action_size = checks.whole("action_size", action_size)
  layers, hidden = checks.whole("layers", layers), checks.whole("hidden", hidden)
  for name, number in (("init_std", init_std), ("largest", largest)):
    if isinstance(number, int | float) and not 0.0 < number < math.inf:
      raise ValueError(f"flow needs a finite {name} above 0, got {number}")
  halves = _halves(action_size, layers)
  shapes = [((hidden, len(a)), (hidden,), (2 * len(b), hidden), (2 * len(b),)) for a, b in halves]
  sizes = [math.prod(shape) for layer in shapes for shape in layer]
  ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
  # W₁ and b₁: with all of them at zero nothing but b₂ would have a gradient.
  rng = np.random.default_rng(0)
  starts = [rng.normal(size=size) * (i % 4 < 2) for i, size in enumerate(sizes)]
  offset = jnp.asarray(np.concatenate(starts), float)

  def parameters(outputs: Array) -> list[tuple[Array, ...]]:
    flat = iter(jnp.split(outputs + offset, ends, axis=-1))
    return [tuple(next(flat).reshape(*outputs.shape[:-1], *shape) for shape in layer) for layer in shapes]

  def coupling(weights: tuple[Array, ...], x_a: Array) -> tuple[Array, Array]:
    """(log-scale, shift) `[..., |b|]`."""
    w1, b1, w2, b2 = weights
    inner = jnp.tanh(jnp.einsum("...ij,...j->...i", w1, x_a) + b1)
    both = jnp.einsum("...ij,...j->...i", w2, inner) + b2
    log_scale, shift = jnp.split(both, 2, axis=-1)
    return largest * jnp.tanh(log_scale / largest), shift

  def forward(outputs: Array, noise: Array) -> tuple[Array, Array]:
    """(u, log |det ∂u/∂ξ|)."""
    u, log_det = jnp.asarray(init_std * noise), action_size * jnp.log(jnp.asarray(init_std, float))
    for weights, (a, b) in zip(parameters(outputs), halves, strict=True):
      log_scale, shift = coupling(weights, u[..., a])
      u = u.at[..., b].set(u[..., b] * jnp.exp(log_scale) + shift)
      log_det = log_det + jnp.sum(log_scale, axis=-1)
    return u, log_det

  def inverse(outputs: Array, u: Array) -> tuple[Array, Array]:
    """(ξ, log |det ∂u/∂ξ|)."""
    u = jnp.asarray(u)
    log_det = action_size * jnp.log(jnp.asarray(init_std, float))
    for weights, (a, b) in reversed(list(zip(parameters(outputs), halves, strict=True))):
      log_scale, shift = coupling(weights, u[..., a])
      u = u.at[..., b].set((u[..., b] - shift) * jnp.exp(-log_scale))
      log_det = log_det + jnp.sum(log_scale, axis=-1)
    return u / init_std, log_det

  def of_noise(noise: Array) -> Array:
    return jnp.sum(-0.5 * jnp.square(noise) - 0.5 * math.log(2.0 * math.pi), axis=-1)

  def squash(raw: Array) -> Array:
    return tanh_log_det(raw).sum(-1) if squashed else jnp.zeros(raw.shape[:-1], raw.dtype)

  def noise(key: Key, n: int, shape: tuple[int, ...]) -> Array:
    return jax.lax.optimization_barrier(jax.random.normal(key, (n, *shape, action_size)))

  def transform(outputs: Array, noise: Array) -> tuple[Array, Array]:
    raw, log_det = forward(outputs, noise)
    return raw, of_noise(noise) - log_det - squash(raw)

  def log_prob(outputs: Array, action: Array) -> Array:
    found, log_det = inverse(outputs, action)
    return of_noise(found) - log_det - squash(action)

  def mode(outputs: Array) -> Array:
    fixed = jax.random.normal(jax.random.key(0), (CANDIDATES, action_size)).at[0].set(0.0)
    fixed = fixed.reshape(CANDIDATES, *(1,) * (outputs.ndim - 1), action_size)
    raw, density = transform(outputs, jnp.broadcast_to(fixed, (CANDIDATES, *outputs.shape[:-1], action_size)))
    likeliest = jnp.argmax(density, axis=0)
    return jnp.take_along_axis(raw, likeliest[None, ..., None], axis=0)[0]

  def distribution(outputs: Array) -> Any:
    raise ValueError("a flow is sampled and has a density; it has no mean or deviation in closed form")

  def no_divergence(*_: Array) -> Any:
    raise ValueError("a flow has no divergence in closed form, so that no trust region holds it; use a Gaussian policy")

  def decouple(old: Array, new: Array) -> dict[str, Part]:
    parts: dict[str, Part] = no_divergence(old, new)
    return parts

  def uniform(key: Key, shape: tuple[int, ...]) -> Array:
    return 0.5 * jax.random.logistic(key, (*shape, action_size))

  return Head(
    size=sum(sizes),
    distribution=distribution,
    noise=noise,
    transform=transform,
    sample_and_log_prob=lambda outputs, key, n: transform(outputs, noise(key, n, outputs.shape[:-1])),
    log_prob=log_prob,
    mode=mode,
    execute=jnp.tanh if squashed else lambda action: action,
    uniform=uniform if squashed else None,
    uniform_log_prob=-action_size * math.log(2.0) if squashed else None,
    kl=no_divergence,
    decouple=decouple,
  )


def _halves(d: int, layers: int) -> list[tuple[list[int], list[int]]]:
  """(what is read, what is moved) of each coupling; of one dimension nothing is read."""
  if d == 1:
    return [([], [0])] * layers
  first, second = list(range(d // 2)), list(range(d // 2, d))
  return [(first, second) if i % 2 == 0 else (second, first) for i in range(layers)]
