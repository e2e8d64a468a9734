"""Likelihoods of demonstrations under soft-optimal policies, and the gradient in the reward by one forward pass."""

import jax
import jax.numpy as jnp

from varl.exact.inverse.expert import Demonstrations, act, powers, project
from varl.exact.tabular import MDP, arrivals, message_passing, visitation
from varl.exact.tabular.mdp import concrete, log_prior_of
from varl.types import Array, Scalar


def log_likelihood(
  m: MDP, log_policy: Array, demonstrations: Demonstrations, *, discount: Array | float | None = None
) -> Array:
  """The causal log-likelihood of each demonstration, without the dynamics' own, which no reward changes.

    Σ_t discount^t log π_t(a_t|s_t)

  Its mean is the module's L with the `counts` of the same discount. Weighted by the MDP's γ its expectation has the
  feature mismatch for gradient; with discount=1 it is the plain likelihood, which for γ < 1 has not.

  Args:
    m: the MDP.
    log_policy: `[S, A]`, or `[H, S, A]` with H >= T.
    demonstrations: `[N, T]`.
    discount: as in `counts`.

  Returns:
    `[N]`, in nats.

  Raises:
    ValueError: demonstrations longer than the policy's horizon.

  Reference: Ziebart 2010, chapter 9 (the policy); the weights as in Gleave and Toyer 2022 (2203.11409).
  """
  state, action, mask = demonstrations
  steps = state.shape[1]
  if log_policy.ndim == 2:
    log_probs = log_policy[state, action]
  elif steps <= log_policy.shape[0]:
    log_probs = log_policy[jnp.arange(steps), state, action]
  else:
    raise ValueError(f"the demonstrations have {steps} steps, the policy {log_policy.shape[0]}")
  return jnp.sum(jnp.where(mask, powers(m, steps, discount) * log_probs, 0.0), axis=-1)


def expected_log_likelihood(log_policy: Array, weights: Array) -> Scalar:
  """L = Σ_t Σ_{s,a} n_t(s, a) log π_t(a|s), of an expert known by its weights.

  Args:
    log_policy: `[S, A]` or `[H, S, A]`.
    weights: n, of the same shape: an `occupancy`, or `counts`.

  Returns:
    A scalar, in nats.
  """
  return jnp.sum(jnp.where(weights != 0, weights * jnp.where(weights != 0, log_policy, 0.0), 0.0))


def trajectory_log_likelihood(
  m: MDP, demonstrations: Demonstrations, *, temperature: Array | float, log_prior: Array | float | None = None
) -> Array:
  """The original MaxEnt IRL's log-likelihood of each demonstration, given its first state, without the dynamics' own.

    p(τ | s_0, O) ∝ Π_t P(s_{t+1}|s_t, a_t) p(a_t|s_t) e^{r(s_t, a_t) / c},
    log p = Σ_t [log p(a_t|s_t) + r(s_t, a_t) / c] - V_0(s_0) / c + (the dynamics' own)

  V is message passing's: the distribution tilts the dynamics towards reward along with the actions, so that under
  stochastic dynamics its policy is optimistic and its gradient another than `gradient`. Under deterministic dynamics
  it equals `log_likelihood` of the soft-optimal policy. The discount must be 1, and demonstrations last T steps or to
  a terminal state.

  Args:
    m: the MDP, its reward r_ψ.
    demonstrations: `[N, T]`; the horizon is T.
    temperature: c, reward per nat.
    log_prior: None for the uniform prior, or an array broadcast to `[S, A]`.

  Returns:
    `[N]`, in nats.

  Raises:
    ValueError: a discount other than 1 (where its value is known).

  Reference: Ziebart et al. 2008, Eq. 4, there an approximation of a prior over action sequences.
  """
  discount = concrete(m.discount)
  if discount is not None and discount != 1:
    raise ValueError(f"the distribution over trajectories is undiscounted: discount must be 1, got {discount}")
  state, action, mask = demonstrations
  horizon = state.shape[1]
  value = message_passing(m, temperature=temperature, horizon=horizon, log_prior=log_prior).value[0]
  score = log_prior_of(m, log_prior) + m.reward / temperature
  return jnp.sum(jnp.where(mask, score[state, action], 0.0), axis=-1) - value[state[:, 0]] / temperature


def reward_gradient(m: MDP, log_policy: Array, weights: Array, *, temperature: Array | float) -> Array:
  """∂L/∂r, by one forward pass of the soft-optimal policy (the module's docstring derives it).

    ∂L/∂r(s, a) = 1/c Σ_t (n_t(s, a) - d_t(s, a))

  Args:
    m: the MDP.
    log_policy: the soft-optimal policy of the reward, `[S, A]` (infinite horizon) or `[H, S, A]`.
    weights: n, of the same shape: an `occupancy`, or `counts`.
    temperature: c, reward per nat.

  Returns:
    `[S, A]`.

  Raises:
    ValueError: weights of another shape than the policy.

  Reference: Ziebart et al. 2008, Eq. 6; Ziebart 2010, algorithms 9.1 and 9.3.
  """
  if weights.shape != log_policy.shape:
    raise ValueError(f"weights must have the shape of the policy, {log_policy.shape}, got {weights.shape}")
  discount = m.discount.astype(weights.dtype)
  if log_policy.ndim == 2:
    # ρ = γ Pᵀ d + (w - γ Pᵀ n): the visitation of the policy from w - γ Pᵀ n, be it a distribution or not.
    source = weights.sum(-1) - discount * _push(m, weights)
    return (weights - act(m, log_policy, visitation(m._replace(initial=source), log_policy))) / temperature

  def step(carry: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
    surplus, total = carry  # γ Σ P (d - n) of the step before; Σ_t (n - d) so far
    log_pi, n = inputs
    difference = n - act(m, log_pi, n.sum(-1) + surplus)
    return (-discount * _push(m, difference), total + difference), None

  start = jnp.zeros_like(m.initial), jnp.zeros_like(m.reward)
  return jax.lax.scan(step, start, (log_policy, weights))[0][1] / temperature


def gradient(m: MDP, features: Array, log_policy: Array, weights: Array, *, temperature: Array | float) -> Array:
  """∂L/∂ψ for a linear reward r_ψ = f·ψ.

    ∂L/∂ψ = 1/c (Σ n f - Σ d f)

  With an expert's `occupancy` this is 1/c (expert minus soft-optimal feature expectations).

  Args:
    m, log_policy, weights, temperature: as `reward_gradient`.
    features: f, `[S, A, F]`.

  Returns:
    `[F]`.

  Reference: Ziebart et al. 2008, Eq. 6.
  """
  return project(reward_gradient(m, log_policy, weights, temperature=temperature), features)


def _push(m: MDP, flow: Array) -> Array:
  """Σ_{s,a} P(s'|s,a) flow(s, a), `[S]`."""
  return arrivals(m, flow[..., None] * m.transition)
