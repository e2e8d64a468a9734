"""Soft Q-learning's equations: the soft maximum over actions, sampled or enumerated (1702.08165), and Munchausen's
bonus (2007.14430).

Everything is of the Boltzmann policy π(a|s) = p(a|s) exp((Q(s, a) - V(s))/α), whose V makes it sum to one.
"""

import jax
import jax.numpy as jnp

from varl.types import Array


def importance_value(q: Array, log_proposal: Array, alpha: Array | float, *, log_prior: Array | float = 0.0) -> Array:
  """The soft value of a continuous action space, by importance sampling.

    V(s) = α log ∫ p(a|s) exp(Q(s, a)/α) da ≈ α log 1/N Σ_n exp(Q(s, a_n)/α) p(a_n|s)/q(a_n|s),   a_n ~ q(·|s)

  exp(V/α) is estimated without bias; V itself comes out low, by about α/2N times the relative variance of the summands.

  Args:
    q: `[N, B]`, Q at the proposed actions, in units of return.
    log_proposal: `[N, B]`, log q(a_n|s), the density they were drawn from.
    alpha: the temperature, in return per nat, > 0.
    log_prior: `[N, B]`, log p(a_n|s), in the same measure as `log_proposal`; 0 is the improper uniform prior, with
      which V is the paper's.

  Returns:
    `[B]`.

  Reference: Haarnoja et al. 2017, 1702.08165, Eq. 10.
  """
  return alpha * (jax.nn.logsumexp(q / alpha + log_prior - log_proposal, axis=0) - jnp.log(float(len(q))))


def boltzmann_weights(
  q: Array, log_proposal: Array, alpha: Array | float, *, log_prior: Array | float = 0.0
) -> tuple[Array, Array]:
  """Proposed actions weighed so that they stand for the Boltzmann policy.

    w_n = softmax_n(Q_n/α + log p_n - log q_n),    log π_n - log p_n = (Q_n - V)/α = log(N w_n) + log q_n - log p_n

  with V of `importance_value`: `losses.soft_value(q, log_weight, log_ratio, alpha)` is exactly that V.

  Args: as `importance_value`.

  Returns:
    (log_weight, log_ratio), each `[N, B]`.
  """
  log_importance = log_prior - log_proposal
  log_weight = jax.nn.log_softmax(q / alpha + log_importance, axis=0)
  return log_weight, log_weight + jnp.log(float(len(q))) - log_importance


def enumerated_value(q: Array, alpha: Array | float, *, log_prior: Array | float = 0.0) -> Array:
  """The soft value of finitely many actions: V(s) = α log Σ_a p(a|s) exp(Q(s, a)/α) (1702.08165, Eq. 5, as a sum).

  Args:
    q: `[A, B]`, of every action.
    alpha: the temperature, > 0.
    log_prior: `[A, B]`; 0 counts every action once, which makes divergence from it negative entropy.

  Returns:
    `[B]`.
  """
  return alpha * jax.nn.logsumexp(q / alpha + log_prior, axis=0)


def munchausen_bonus(log_prob: Array, alpha: Array | float, scale: Array | float, floor: Array | float) -> Array:
  """What Munchausen reinforcement learning adds to the reward: its own log-policy.

    m [α log π(a|s)]_{l0}^0

  With l0 = -∞ the fixed point's policy softmax(Q/α) is the soft-optimal one at the temperature (1 - m) α, reached under
  an implicit KL penalty of weight m α between successive policies (Theorem 1).

  Args:
    log_prob: `[B]`, log π(a|s) of the action taken, by the slow copy's policy.
    alpha: the temperature (the paper's τ).
    scale: m (the paper's α), in [0, 1].
    floor: l0 <= 0, in units of reward; it bounds the bonus where the policy is nearly deterministic.

  Returns:
    `[B]`, in units of reward; a constant.

  Reference: Vieillard et al. 2020, 2007.14430, Eq. 1-2 and section 4.
  """
  return jax.lax.stop_gradient(scale * jnp.clip(alpha * log_prob, floor, 0.0))
