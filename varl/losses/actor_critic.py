"""Soft actor-critic's equations for a weighted set of action samples (1812.05905; 2010.10670)."""

import functools

import jax
import jax.numpy as jnp

from varl.types import Array


def soft_value(q: Array, log_weight: Array, log_ratio: Array, alpha: Array | float) -> Array:
  """The value of acting by the posterior, its divergence from the prior paid for.

    V(s) = Σ_n w_n (Q(s, a_n) - α log_ratio_n)

  With equal weights of samples of π this is SAC's V (1812.05905, Eq. 3); with self-normalised weights w =
  softmax(Q/α) over prior samples, whose log_ratio is log(n w_n), it equals α log mean_n exp(Q/α), soft Q-learning's
  (1702.08165, Eq. 10).

  Args:
    q: `[n, B]`, in units of return.
    log_weight: `[n, B]`, logsumexp over n is 0.
    log_ratio: `[n, B]`, log π - log p, in nats.
    alpha: the temperature, in return per nat; 0 leaves the value unregularised.

  Returns:
    `[B]`.
  """
  return jnp.sum(jnp.exp(log_weight) * (q - alpha * log_ratio), axis=0)


def policy_divergence(q: Array, log_weight: Array, log_ratio: Array, alpha: Array | float) -> Array:
  """α KL(π ‖ p exp(Q/α)) up to a constant, minimised by the Boltzmann posterior (1812.05905, Eq. 7 and 9).

    L(s) = Σ_n w_n (α log_ratio_n - Q(s, a_n)) = -V(s)

  Gradients flow through q and log_ratio by the reparameterised actions; the weights and α are constants.

  Args and Returns: as `soft_value`.
  """
  constant = jax.lax.stop_gradient
  return -soft_value(q, constant(log_weight), log_ratio, constant(alpha))


def expected_divergence(q: Array, log_weight: Array, log_ratio: Array, alpha: Array | float) -> Array:
  """`policy_divergence` where the particles are *all* actions and the weights the policy itself (1910.07207, Eq. 12).

    L(s) = Σ_a π(a|s) (α log_ratio_a - Q(s, a)) = -V(s)

  Gradients flow through the weights and log_ratio; Q and α are constants.

  Args:
    q: `[A, B]`.
    log_weight: `[A, B]`, log π(a|s).
    log_ratio: `[A, B]`, log π - log p.
    alpha: the temperature.

  Returns:
    `[B]`.
  """
  constant = jax.lax.stop_gradient
  return -soft_value(constant(q), log_weight, log_ratio, constant(alpha))


def moment_penalty(loc: Array, std: Array) -> Array:
  """What keeps a Gaussian policy's raw mean and deviation from drifting where Q is flat, as where tanh saturates.

    L(s) = mean_i (μ_i² + (log σ_i)²)

  Args:
    loc: `[..., d]`, μ of the raw action.
    std: `[..., d]`, σ.

  Returns:
    `[...]`. Not in the papers: the published code of SAC v1 and of VIREL adds it to the policy's loss, times 1e-3.
  """
  return jnp.mean(jnp.square(loc) + jnp.square(jnp.log(std)), axis=-1)


def discounted_target(reward: Array, discount: Array, next_value: Array, gamma: Array | float) -> Array:
  """y = r + γ m V(s'), with m = 0 where the episode ended by itself; a constant (1812.05905, Eq. 2).

  Args:
    reward: `[B]`.
    discount: `[B]`, m = 1 - terminated. A time limit is no termination: its step bootstraps on its true next
      observation.
    next_value: `[B]`, V at that next observation.
    gamma: in [0, 1).

  Returns:
    `[B]`.
  """
  # A terminal state's value does not exist; where it came out non-finite it must not poison the product with 0.
  bootstrap = jnp.where(discount > 0, discount * next_value, 0.0)
  return jax.lax.stop_gradient(reward + gamma * bootstrap)


def squared_error(prediction: Array, target: Array) -> Array:
  """½ (Q - y)² (1812.05905, Eq. 5); the target is broadcast over a leading ensemble axis."""
  return 0.5 * jnp.square(prediction - target)


def pessimistic(q: Array, pessimism: float | Array | str) -> Array:
  """One value from an ensemble `[E, ...]`.

  Args:
    q: `[E, ...]`.
    pessimism: "min" for min_i Q_i (1812.05905, section 6), or κ for mean_i Q_i - κ std_i Q_i (2010.10670, section 4);
      κ = 1 is the minimum of two, κ = 0 the mean.

  Returns:
    `[...]`.

  Raises:
    ValueError: a string other than "min".
  """
  if isinstance(pessimism, str):
    if pessimism != "min":
      raise ValueError(f"pessimism is 'min' or a number of standard deviations, got {pessimism!r}")
    # Two members at a time. jnp.min over the axis has a derivative that divides by how many members equal the minimum,
    # which is none where XLA computes q twice and rounds it in two ways.
    return functools.reduce(jnp.minimum, q)
  mean = jnp.mean(q, axis=0)
  variance = jnp.mean(jnp.square(q - mean), axis=0)
  # The gradient of a root is infinite at 0, where the members agree.
  std = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
  return mean - pessimism * std
