"""Maximum a posteriori policy optimisation: E-step's temperature, M-step's likelihood and trust region.

1806.06920 (MPO) and 1812.02256 (relative entropy regularised policy iteration, whose trust region is decoupled).
"""

import jax
import jax.numpy as jnp

from varl.types import Array


def temperature_dual(q: Array, eta: Array | float, epsilon: Array | float) -> Array:
  """What the E-step's temperature minimises, so that its weights stay within KL ε of the samples' own policy.

    g(η) = η ε + η log 1/N Σ_n exp(Q_n/η),   ∂g/∂η = ε - KL(w ‖ 1/N),   w = softmax_n(Q_n/η)

  The gradient is that of a Lagrange multiplier's loss η sg(ε - KL), by which `temperatures.kl_budget` adapts η.

  Args:
    q: `[N, B]`, of actions drawn from the policy that is improved, in units of return; a constant.
    eta: η > 0, in return per nat.
    epsilon: ε, in nats.

  Returns:
    `[B]`, its mean over the batch being the objective.

  Reference: Abdolmaleki et al. 2018, 1806.06920, Eq. 9; 1812.02256, Eq. 4.
  """
  scaled = jax.lax.stop_gradient(q) / eta
  return eta * (epsilon + jax.nn.logsumexp(scaled, axis=0) - jnp.log(float(len(q))))


def weighted_likelihood(log_prob: Array, log_weight: Array) -> Array:
  """The M-step's loss: a weighted maximum likelihood, of the E-step's particles under the new policy.

    L(s) = -Σ_n w_n log π_θ(a_n|s)

  Args:
    log_prob: `[N, B]`, log π_θ(a_n|s).
    log_weight: `[N, B]`, logsumexp over n is 0; a constant.

  Returns:
    `[B]`.

  Reference: 1806.06920, Eq. 10-11; 1812.02256, Eq. 6.
  """
  return -jnp.sum(jax.lax.stop_gradient(jnp.exp(log_weight)) * log_prob, axis=0)


def rank_weights(q: Array) -> Array:
  """Weights of the E-step that depend on the order of the actions alone: no temperature, and the same at any scale.

    w_n ∝ max(0, log((N + 1)/2) - log rank_n),   rank 1 for the largest Q

  These are the weights of CMA-ES (Hansen 2016, 1604.00772, Eq. 49), of which 1812.02256 takes rank-based weights to be
  the counterpart; about half of the actions, those below the median, get none.

  Args:
    q: `[N, B]`, N at least 2.

  Returns:
    log w `[N, B]`, -inf where w is 0; logsumexp over N is 0.

  Raises:
    ValueError: fewer than two actions.
  """
  n = len(q)
  if n < 2:
    raise ValueError(f"ranks need at least two actions a state, got {n}")
  rank = 1.0 + jnp.argsort(jnp.argsort(-q, axis=0), axis=0)
  weight = jnp.maximum(jnp.log((n + 1) / 2) - jnp.log(rank), 0.0)
  return jnp.log(weight / jnp.sum(weight, axis=0))
