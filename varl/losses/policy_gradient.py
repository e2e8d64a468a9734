"""Policy gradients: surrogates whose gradient is the policy's, from what was done and how it turned out."""

import jax
import jax.numpy as jnp

from varl.losses.batches import batch_mean
from varl.types import Array


def score_function(log_prob: Array, advantage: Array) -> Array:
  """The likelihood-ratio estimator (Williams 1992, REINFORCE).

    L = -sg(A) log π(a|s),   ∇L = -A ∇log π(a|s)

  With A the reward to come less a baseline, its mean over what the policy does has the gradient of -E[Σ r].

  Args:
    log_prob: `[B]`, log π(a|s) of the actions taken, by the policy that is improved.
    advantage: `[B]`, in units of return; a constant.

  Returns:
    `[B]`.
  """
  return -jax.lax.stop_gradient(advantage) * log_prob


def importance_ratio(log_prob: Array, behaviour_log_prob: Array, advantage: Array) -> Array:
  """The surrogate of a policy near the one that acted (Kakade & Langford 2002; 1502.05477, Eq. 14).

    L = -ρ A,   ρ = π(a|s)/β(a|s)

  At π = β its gradient is `score_function`'s.

  Args:
    log_prob, advantage: as `score_function`.
    behaviour_log_prob: `[B]`, log β(a|s) of the policy that acted; a constant. Ratios are at most e^40, and their
      gradient beyond that is 0: further off they would be infinite, and so would the loss.

  Returns:
    `[B]`.
  """
  return -_ratio(log_prob, behaviour_log_prob) * jax.lax.stop_gradient(advantage)


def clipped_ratio(
  log_prob: Array, behaviour_log_prob: Array, advantage: Array, clip: Array | float
) -> tuple[Array, Array]:
  """PPO's surrogate: no gain from a ratio further than `clip` from 1 (Schulman et al. 2017, 1707.06347, Eq. 7).

    L = -min(ρ A, clip(ρ, 1 - c, 1 + c) A)

  Args:
    log_prob, behaviour_log_prob, advantage: as `importance_ratio`.
    clip: c > 0.

  Returns:
    (L `[B]`, and 1.0 where the clip holds the gradient at zero).
  """
  advantage = jax.lax.stop_gradient(advantage)
  ratio = _ratio(log_prob, behaviour_log_prob)
  plain, clipped = ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage
  return -jnp.minimum(plain, clipped), (clipped < plain).astype(log_prob.dtype)


def standardised(advantage: Array, axis: str | None = None) -> Array:
  """(A - mean)/std over the batch, and over the members of a mapped axis, whatever the scale of A.

  Args:
    advantage: `[B]`.
    axis: a mapped axis whose members' rows belong to one batch.

  Returns:
    `[B]`; zeros where all are the same. A deviation below 1e-6 of the largest |A| is rounding, and is not divided by.
  """
  largest = jnp.max(jnp.abs(advantage))
  largest = jax.lax.stop_gradient(largest) if axis is None else jax.lax.pmax(jax.lax.stop_gradient(largest), axis)
  advantage = advantage / jnp.where(largest > 0, largest, 1.0)
  centred = advantage - batch_mean(advantage, axis)
  return centred * jax.lax.rsqrt(jnp.maximum(batch_mean(jnp.square(centred), axis), 1e-12))


_LARGEST = 40.0
"""The largest logarithm of a ratio that is followed: e^40 times anything here is finite in float32."""


def _ratio(log_prob: Array, behaviour_log_prob: Array) -> Array:
  return jnp.exp(jnp.minimum(log_prob - jax.lax.stop_gradient(behaviour_log_prob), _LARGEST))
