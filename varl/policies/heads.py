"""Policy heads: distrax distributions over raw actions, and the divergences between them.

A network gives `outputs`; a `Head` says what distribution they mean. Raw actions are kept everywhere: `execute` maps
one to the action that the environment gets, and `log_prob` is the log-density of that *executed* action, computed
from the raw one, since inverting tanh loses everything once it saturates.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp

from varl import checks
from varl.types import Array, Key


class Part(NamedTuple):
  """One part of a policy that a trust region holds by itself: the mean, the covariance, or all of it.

  Attributes:
    outputs: `[..., size]`, this part of the new outputs beside the rest of the old ones.
    kl: `[..., k]`, KL(old ‖ outputs), one a dimension where it is a sum over dimensions, else k = 1; exactly 0 where
      new and old are the same.
  """

  outputs: Array
  kl: Array


class Head(NamedTuple):
  """What a policy network's outputs mean.

  Attributes:
    size: how many outputs the network must have.
    distribution: `outputs [..., size] -> distrax.Distribution` over raw actions.
    noise: `(key, n, shape) -> [n, *shape, size of one action's noise]`: all that is random in n actions for outputs
      `[*shape, size]`.
    transform: `(outputs [..., size], noise [n, ..., *]) -> (action [n, ..., d], log_prob [n, ...])`, differentiable in
      the outputs for continuous actions (the reparameterisation).
    sample_and_log_prob: `(outputs, key, n) -> (action, log_prob)`: `transform` of `noise`.
    log_prob: `(outputs, action) -> [...]`, of the executed action, from the raw one.
    mode: `outputs -> action [..., d]`, the raw action of the distribution's mode before squashing.
    execute: raw action -> executed action.
    uniform: `(key, shape) -> action [*shape, d]`: raw actions whose executed ones are uniform; None on an unbounded
      space.
    uniform_log_prob: the log-density (log-probability) of that uniform distribution, per action; None with it.
    kl: `(outputs q, outputs p) -> [...]`, KL(q ‖ p) in nats; of one with tanh it is that of the one without.
    decouple: `(old outputs, new outputs) -> {name: Part}`, the parts of the policy: "mean" and "covariance" of a
      Gaussian (k = d of a diagonal one, 1 of a full one), "policy" of a categorical one.
  """

  size: int
  distribution: Callable[[Array], distrax.Distribution]
  noise: Callable[[Key, int, tuple[int, ...]], Array]
  transform: Callable[[Array, Array], tuple[Array, Array]]
  sample_and_log_prob: Callable[[Array, Key, int], tuple[Array, Array]]
  log_prob: Callable[[Array, Array], Array]
  mode: Callable[[Array], Array]
  execute: Callable[[Array], Array]
  uniform: Callable[[Key, tuple[int, ...]], Array] | None
  uniform_log_prob: float | None
  kl: Callable[[Array, Array], Array]
  decouple: Callable[[Array, Array], dict[str, Part]]


def tanh_log_det(raw: Array) -> Array:
  """log |d tanh(u)/du| = 2 (log 2 - u - softplus(-2u)), per dimension; finite for every finite u."""
  return 2.0 * (jnp.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))


def normal(loc: Array, std: Array) -> distrax.Distribution:
  """A diagonal Gaussian N(loc, diag(std²)) over the last axis."""
  return distrax.Independent(distrax.Normal(loc, std), reinterpreted_batch_ndims=1)


def gaussian(action_size: int, *, init_std: float | Array = 1.0, min_std: float = 1e-3) -> Head:
  """A diagonal Gaussian on the whole line: u ~ N(μ, σ²), executed as it is.

  The outputs are (μ, ρ) with σ = min_std + softplus(ρ + c), and c such that σ = init_std at ρ = 0.

  Args:
    action_size: d.
    init_std: σ of a network that gives zeros.
    min_std: the floor under σ.

  Raises:
    ValueError: sizes or deviations out of range.
  """
  action_size = checks.whole("action_size", action_size)
  to_normal = _normal_head("gaussian", init_std, min_std)
  noise = _normal_noise(action_size)

  def transform(outputs: Array, noise: Array) -> tuple[Array, Array]:
    return _reparameterise(to_normal(outputs), noise)

  return Head(
    size=2 * action_size,
    distribution=to_normal,
    noise=noise,
    transform=transform,
    sample_and_log_prob=_sampler(noise, transform),
    log_prob=lambda outputs, action: to_normal(outputs).log_prob(action),
    mode=lambda outputs: outputs[..., :action_size],
    execute=lambda action: action,
    uniform=None,
    uniform_log_prob=None,
    kl=_gaussian_divergence(to_normal),
    decouple=_gaussian_parts(to_normal),
  )


def tanh_gaussian(action_size: int, *, init_std: float | Array = 1.0, min_std: float = 1e-3) -> Head:
  """A squashed diagonal Gaussian on (-1, 1): a = tanh(u), u ~ N(μ, σ²).

  log π(a) = log N(u; μ, σ²) - Σ_i 2 (log 2 - u_i - softplus(-2 u_i))

  The outputs are those of `gaussian`.

  Args:
    action_size: d.
    init_std: σ of a network that gives zeros.
    min_std: the floor under σ.

  Raises:
    ValueError: sizes or deviations out of range.

  Reference: Haarnoja et al. 2018, 1812.05905, appendix C, Eq. 26; the form of the log-determinant keeps every term
    finite.
  """
  action_size = checks.whole("action_size", action_size)
  to_normal = _normal_head("tanh_gaussian", init_std, min_std)
  noise = _normal_noise(action_size)

  def transform(outputs: Array, noise: Array) -> tuple[Array, Array]:
    raw, log_prob = _reparameterise(to_normal(outputs), noise)
    return raw, log_prob - tanh_log_det(raw).sum(-1)

  def uniform(key: Key, shape: tuple[int, ...]) -> Array:
    # tanh(u) is uniform on (-1, 1) where u is logistic with scale ½.
    return 0.5 * jax.random.logistic(key, (*shape, action_size))

  return Head(
    size=2 * action_size,
    distribution=to_normal,
    noise=noise,
    transform=transform,
    sample_and_log_prob=_sampler(noise, transform),
    log_prob=lambda outputs, action: to_normal(outputs).log_prob(action) - tanh_log_det(action).sum(-1),
    mode=lambda outputs: outputs[..., :action_size],
    execute=jnp.tanh,
    uniform=uniform,
    uniform_log_prob=-action_size * math.log(2.0),
    kl=_gaussian_divergence(to_normal),
    decouple=_gaussian_parts(to_normal),
  )


def full_gaussian(action_size: int, *, init_std: float | Array = 1.0, min_std: float = 1e-3) -> Head:
  """A Gaussian with a full covariance on the whole line: u ~ N(μ, L Lᵀ), executed as it is.

  The outputs are μ, ρ and the d (d - 1)/2 entries of L below its diagonal, row by row; L's diagonal is
  min_std + softplus(ρ + c), and c such that it is init_std at ρ = 0. Its parts (`decouple`) have one KL each, and no
  KL a dimension.

  Args:
    action_size: d.
    init_std: L's diagonal of a network that gives zeros.
    min_std: the floor under it.

  Raises:
    ValueError: sizes or deviations out of range.
  """
  action_size = checks.whole("action_size", action_size)
  shift = _checked_shift("full_gaussian", init_std, min_std)
  below = jnp.tril_indices(action_size, -1)
  noise = _normal_noise(action_size)

  def split(outputs: Array) -> tuple[Array, Array]:
    loc, rho, rest = jnp.split(outputs, [action_size, 2 * action_size], axis=-1)
    diagonal = min_std + jax.nn.softplus(rho + shift)
    lower = jnp.zeros((*outputs.shape[:-1], action_size, action_size)).at[..., *below].set(rest)
    return loc, lower + diagonal[..., None] * jnp.eye(action_size)

  def distribution(outputs: Array) -> distrax.Distribution:
    loc, lower = split(outputs)
    return distrax.MultivariateNormalTri(loc, lower)

  def transform(outputs: Array, noise: Array) -> tuple[Array, Array]:
    loc, lower = split(outputs)
    log_prob = -0.5 * jnp.square(noise) - jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1))
    action = loc + jnp.einsum("...ij,...j->...i", lower, noise)
    return action, jnp.sum(log_prob - 0.5 * math.log(2.0 * math.pi), axis=-1)

  def log_prob(outputs: Array, action: Array) -> Array:
    loc, lower = split(outputs)
    whitened = _solve(lower, action - loc)
    density = -0.5 * jnp.square(whitened) - jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1))
    return jnp.sum(density - 0.5 * math.log(2.0 * math.pi), axis=-1)

  def of_means(outputs: Array, other: Array) -> Array:
    """½ (μ - μ')ᵀ Σ⁻¹ (μ - μ'), Σ of the second."""
    loc, lower = split(other)
    return 0.5 * jnp.sum(jnp.square(_solve(lower, outputs[..., :action_size] - loc)), axis=-1)

  def of_covariances(q_outputs: Array, p_outputs: Array) -> Array:
    """½ [tr(Σ_p⁻¹ Σ_q) - d - log(|Σ_q|/|Σ_p|)] = ½ ‖E‖² + Σ_i (E_ii - log(1 + E_ii)),  E = L_p⁻¹ (L_q - L_p)."""
    (_, q_lower), (_, p_lower) = split(q_outputs), split(p_outputs)
    change = jax.scipy.linalg.solve_triangular(p_lower, q_lower - p_lower, lower=True)
    diagonal = jnp.diagonal(change, axis1=-2, axis2=-1)
    return 0.5 * jnp.sum(jnp.square(change), axis=(-2, -1)) + jnp.sum(diagonal - jnp.log1p(diagonal), axis=-1)

  def decouple(old: Array, new: Array) -> dict[str, Part]:
    return {
      "mean": Part(
        jnp.concatenate([new[..., :action_size], old[..., action_size:]], axis=-1), of_means(new, old)[..., None]
      ),
      "covariance": Part(
        jnp.concatenate([old[..., :action_size], new[..., action_size:]], axis=-1), of_covariances(old, new)[..., None]
      ),
    }

  return Head(
    size=2 * action_size + len(below[0]),
    distribution=distribution,
    noise=noise,
    transform=transform,
    sample_and_log_prob=_sampler(noise, transform),
    log_prob=log_prob,
    mode=lambda outputs: outputs[..., :action_size],
    execute=lambda action: action,
    uniform=None,
    uniform_log_prob=None,
    kl=lambda q, p: of_means(q, p) + of_covariances(q, p),
    decouple=decouple,
  )


def categorical(actions: int) -> Head:
  """One of a finite number of actions; the outputs are logits `[..., actions]`, an action is an integer `[...]`.

  Args:
    actions: how many there are.

  Raises:
    ValueError: fewer than one action.
  """
  actions = checks.whole("actions", actions)

  def distribution(outputs: Array) -> distrax.Distribution:
    return distrax.Categorical(logits=outputs)

  def noise(key: Key, n: int, shape: tuple[int, ...]) -> Array:
    return jax.random.gumbel(key, (n, *shape, actions))

  def transform(outputs: Array, noise: Array) -> tuple[Array, Array]:
    action = jnp.argmax(outputs + noise, axis=-1)
    return action, distribution(outputs).log_prob(action)

  return Head(
    size=actions,
    distribution=distribution,
    noise=noise,
    transform=transform,
    sample_and_log_prob=_sampler(noise, transform),
    log_prob=lambda outputs, action: distribution(outputs).log_prob(action),
    mode=lambda outputs: jnp.argmax(outputs, axis=-1),
    execute=lambda action: action,
    uniform=lambda key, shape: jax.random.randint(key, shape, 0, actions),
    uniform_log_prob=-math.log(actions),
    kl=categorical_kl,
    decouple=lambda old, new: {"policy": Part(new, categorical_kl(old, new)[..., None])},
  )


def is_discrete(head: Head) -> bool:
  """Whether a head's actions are integers, `head.size` of them."""
  noise = jax.eval_shape(lambda: head.noise(jax.random.key(0), 1, ()))
  action, _ = jax.eval_shape(head.transform, jnp.zeros(head.size), noise)
  return bool(jnp.issubdtype(action.dtype, jnp.integer))


def every_action(actions: int, shape: tuple[int, ...]) -> Array:
  """All discrete actions in each state of a batch of that shape: `[actions, *shape]`."""
  return jnp.broadcast_to(jnp.arange(actions).reshape(-1, *(1,) * len(shape)), (actions, *shape))


def gaussian_kl(q_loc: Array, q_std: Array, p_loc: Array, p_std: Array) -> Array:
  """KL(q ‖ p) between diagonal Gaussians, per dimension `[..., d]`; exactly 0 where q is p.

  KL = ½ [(μ_q - μ_p)²/σ_p² + σ_q²/σ_p² - 1 - log(σ_q²/σ_p²)]
  """
  return 0.5 * jnp.square((q_loc - p_loc) / p_std) + _std_divergence(q_std, p_std)


def decoupled_gaussian_kl(q_loc: Array, q_std: Array, p_loc: Array, p_std: Array) -> tuple[Array, Array]:
  """The two halves of KL(q ‖ p), each with the other's parameter held at the old policy q; per dimension `[..., d]`.

  KL_μ = ½ (μ_q - μ_p)²/σ_q²,    KL_Σ = ½ [σ_q²/σ_p² - 1 - log(σ_q²/σ_p²)]

  Args:
    q_loc, q_std: the old policy.
    p_loc, p_std: the new one.

  Returns:
    (KL_μ, KL_Σ). Both are exactly 0 where q is p, and keep their digits at 1e-6, where covariance budgets lie: there is
    no ε inside a logarithm, and no difference of numbers near 1.

  Reference: Abdolmaleki et al. 2018, 1812.02256, section 4.2 and appendix.
  """
  return 0.5 * jnp.square((q_loc - p_loc) / q_std), _std_divergence(q_std, p_std)


def categorical_kl(q_logits: Array, p_logits: Array) -> Array:
  """KL(q ‖ p) = Σ_a q_a (log q_a - log p_a) of logits `[..., A]`: `[...]`, exactly 0 where q is p."""
  log_q, log_p = jax.nn.log_softmax(q_logits), jax.nn.log_softmax(p_logits)
  return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)


def _gaussian_divergence(to_normal: Callable[[Array], distrax.Distribution]) -> Callable[[Array, Array], Array]:
  def kl(q_outputs: Array, p_outputs: Array) -> Array:
    q, p = to_normal(q_outputs), to_normal(p_outputs)
    return jnp.sum(gaussian_kl(q.mean(), q.stddev(), p.mean(), p.stddev()), axis=-1)

  return kl


def _gaussian_parts(
  to_normal: Callable[[Array], distrax.Distribution],
) -> Callable[[Array, Array], dict[str, Part]]:
  def decouple(old: Array, new: Array) -> dict[str, Part]:
    (old_loc, old_rho), (loc, rho) = jnp.split(old, 2, axis=-1), jnp.split(new, 2, axis=-1)
    before, after = to_normal(old), to_normal(new)
    mean, covariance = decoupled_gaussian_kl(before.mean(), before.stddev(), after.mean(), after.stddev())
    return {
      "mean": Part(jnp.concatenate([loc, old_rho], axis=-1), mean),
      "covariance": Part(jnp.concatenate([old_loc, rho], axis=-1), covariance),
    }

  return decouple


def _std_divergence(q_std: Array, p_std: Array) -> Array:
  change = (q_std - p_std) / p_std
  near = jnp.abs(change) < 0.5
  # log1p keeps the digits of a small change; of a large one towards 0, 1 + change has lost them.
  log_ratio = jnp.where(near, jnp.log1p(jnp.where(near, change, 0.0)), jnp.log(q_std) - jnp.log(p_std))
  return 0.5 * (jnp.expm1(2.0 * log_ratio) - 2.0 * log_ratio)


def _normal_noise(action_size: int) -> Callable[[Key, int, tuple[int, ...]], Array]:
  # Without the barrier XLA inverts the error function anew inside each reader of the noise.
  return lambda key, n, shape: jax.lax.optimization_barrier(jax.random.normal(key, (n, *shape, action_size)))


def _reparameterise(distribution: distrax.Distribution, noise: Array) -> tuple[Array, Array]:
  """u = μ + σ ε, and its log-density from ε: the difference u - μ would lose digits where |μ| is large beside σ."""
  std = distribution.stddev()
  log_prob = -0.5 * jnp.square(noise) - jnp.log(std) - 0.5 * math.log(2.0 * math.pi)
  return distribution.mean() + std * noise, jnp.sum(log_prob, axis=-1)


def _sampler(
  noise: Callable[[Key, int, tuple[int, ...]], Array], transform: Callable[[Array, Array], tuple[Array, Array]]
) -> Callable[[Array, Key, int], tuple[Array, Array]]:
  return lambda outputs, key, n: transform(outputs, noise(key, n, outputs.shape[:-1]))


def _normal_head(name: str, init_std: float | Array, min_std: float) -> Callable[[Array], distrax.Distribution]:
  shift = _checked_shift(name, init_std, min_std)

  def distribution(outputs: Array) -> distrax.Distribution:
    loc, rho = jnp.split(outputs, 2, axis=-1)
    return normal(loc, min_std + jax.nn.softplus(rho + shift))

  return distribution


def _checked_shift(name: str, init_std: float | Array, min_std: float) -> float | Array:
  """c, with which min_std + softplus(0 + c) = init_std; a traced one passes unchecked."""
  if isinstance(init_std, jax.Array):
    return init_std - min_std + jnp.log(-jnp.expm1(min_std - init_std))
  if not 0.0 <= min_std < init_std < math.inf:
    raise ValueError(f"{name} needs 0 <= min_std < init_std < inf, got min_std={min_std}, init_std={init_std}")
  return init_std - min_std + math.log(-math.expm1(min_std - init_std))


def _solve(lower: Array, x: Array) -> Array:
  """L⁻¹ x for `[..., d, d]` and `[..., d]`, whose batches are broadcast."""
  shape = jnp.broadcast_shapes(lower.shape[:-2], x.shape[:-1])
  lower = jnp.broadcast_to(lower, (*shape, *lower.shape[-2:]))
  x = jnp.broadcast_to(x, (*shape, x.shape[-1]))
  return jax.scipy.linalg.solve_triangular(lower, x[..., None], lower=True)[..., 0]
