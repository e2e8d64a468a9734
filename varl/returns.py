"""Returns of sequences: n-step, TD(λ), GAE, Retrace and V-trace, all on one backward recursion.

Everywhere:

- Arrays are `[T, ...]`, time first and any batch axes after it. Row t is the transition from s_t by a_t; the last row
  bootstraps from its own successor.
- `discount` is m = 1 - terminated: a terminated row bootstraps nothing. `truncated` says that a time limit or the
  rollout's reset ended the episode there: such a row bootstraps from its own successor's value, and nothing of the row
  after it, which belongs to another episode, reaches it. Where both are set, the row is terminated.
- `next_value` is the value of the *true* successor s'_t, the state before a reset. Within an episode it is V(s_{t+1}).
- What a row does not use may be anything, NaN too: the value of a terminal state, or of another episode.
- Results are in the reward's units, and differentiable: a loss that takes one for a target stops the gradient itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.types import Array, Transition


class VTrace(NamedTuple):
  """What V-trace gives, each `[T, ...]`.

  Attributes:
    value: vs_t, the target of V(s_t).
    advantage: ρ_t (r_t + γ m_t vs_{t+1} - V(s_t)), for the policy's gradient.
  """

  value: Array
  advantage: Array


def recursion(start: Array, factor: Array) -> Array:
  """x_t = start_t + factor_t x_{t+1}, backward from x_T = 0: every return here is of this form.

  Where the factor is 0 the row after does not count, whatever it is.

  Args:
    start, factor: `[T, ...]`.

  Returns:
    `[T, ...]`.
  """

  def back(after: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
    start, factor = row
    x = start + _times(factor, after)
    return x, x

  return jax.lax.scan(back, jnp.zeros_like(start[0]), (start, factor), reverse=True)[1]


def successors(of_next: Callable[[Transition], Array], transitions: Transition, value: Array) -> Array:
  """V(s'_t) of a rollout, with as few evaluations as that takes.

  It is that of the row after, but in the rollout's last row, and where a cut episode's true next state is not in the
  row after. What a terminated row gets is of another episode, and counts nowhere.

  Args:
    of_next: `rows [t, N, ...] -> V(s') [t, N]`.
    transitions: `[T, N]`.
    value: V(s_t), `[T, N]`.

  Returns:
    `[T, N]`.
  """
  after = jnp.concatenate([value[1:], of_next(jax.tree.map(lambda x: x[-1:], transitions))])
  cut = transitions.truncated > 0
  return jax.lax.cond(jnp.any(cut[:-1]), lambda: jnp.where(cut, of_next(transitions), after), lambda: after)


def lambda_return(
  reward: Array, discount: Array, truncated: Array, next_value: Array, *, gamma: Array | float, lam: Array | float
) -> Array:
  """The TD(λ) return (Sutton & Barto 2018, section 12.1).

    G_t = r_t + γ m_t ((1 - λ_t) V(s'_t) + λ_t G_{t+1}),   λ_t = 0 at an episode's or the sequence's end, λ elsewhere

  λ = 0 is the one-step target, λ = 1 the Monte Carlo return (to the episode's end, or to a bootstrap where it is cut).

  Args:
    reward, discount, truncated, next_value: `[T, ...]`.
    gamma: the discount a step.
    lam: λ in [0, 1].

  Raises:
    ValueError: shapes that differ, no row, or a concrete λ outside [0, 1].
  """
  _check(reward, lam, discount=discount, truncated=truncated, next_value=next_value)
  follows = lam * _goes_on(discount, truncated)
  continues = gamma * discount
  return recursion(reward + _times(continues * (1.0 - follows), next_value), continues * follows)


def gae(
  reward: Array,
  discount: Array,
  truncated: Array,
  value: Array,
  next_value: Array,
  *,
  gamma: Array | float,
  lam: Array | float,
) -> Array:
  """The generalised advantage estimate (Schulman et al. 2015, 1506.02438, Eq. 16).

    A_t = δ_t + γ m_t λ_t A_{t+1},   δ_t = r_t + γ m_t V(s'_t) - V(s_t),   λ_t as in `lambda_return`

  It is G_t(λ) - V(s_t).

  Args:
    reward, discount, truncated, next_value, gamma, lam: as `lambda_return`.
    value: V(s_t), `[T, ...]`.

  Raises:
    ValueError: as `lambda_return`.
  """
  _check(reward, lam, discount=discount, truncated=truncated, value=value, next_value=next_value)
  continues = gamma * discount
  return recursion(reward + _times(continues, next_value) - value, continues * lam * _goes_on(discount, truncated))


def n_step_return(
  reward: Array, discount: Array, truncated: Array, next_value: Array, *, gamma: Array | float, n: int
) -> Array:
  """The n-step return, shorter where the episode or the sequence ends before (Sutton & Barto 2018, Eq. 7.1).

    G_t^1 = r_t + γ m_t V(s'_t),   G_t^n = r_t + γ m_t G_{t+1}^{n-1} where the sequence goes on, G_t^1 elsewhere

  Args:
    reward, discount, truncated, next_value, gamma: as `lambda_return`.
    n: rewards in it at most.

  Raises:
    ValueError: shapes that differ, no row, or n below 1.
  """
  _check(reward, 0.0, discount=discount, truncated=truncated, next_value=next_value)
  n = checks.whole("n", n)
  goes_on = _goes_on(discount, truncated) > 0

  def longer(bootstrap: Array, _: None) -> tuple[Array, None]:
    one_more = reward + _times(gamma * discount, bootstrap)
    return jnp.where(goes_on, jnp.roll(one_more, -1, axis=0), next_value), None

  bootstrap, _ = jax.lax.scan(longer, next_value, None, length=min(n, len(reward)) - 1)
  return reward + _times(gamma * discount, bootstrap)


def retrace(
  reward: Array,
  discount: Array,
  truncated: Array,
  q: Array,
  next_value: Array,
  log_rho: Array,
  *,
  gamma: Array | float,
  lam: Array | float = 1.0,
) -> Array:
  """The Retrace(λ) target of Q, off-policy (Munos et al. 2016, 1606.02647, Eq. 3-4).

    Q^ret_t = r_t + γ m_t (E_π Q(s'_t, ·) + c_{t+1} (Q^ret_{t+1} - Q(s_{t+1}, a_{t+1}))),   c = λ min(1, π/μ)

  with c_{t+1} = 0 where the episode or the sequence ends.

  Args:
    reward, discount, truncated, gamma: as `lambda_return`.
    q: Q(s_t, a_t) of the taken actions, `[T, ...]`.
    next_value: E_π Q(s'_t, ·), with the entropy or without.
    log_rho: log π(a_t|s_t) - log μ(a_t|s_t) of the taken actions, `[T, ...]`.
    lam: λ in [0, 1].

  Raises:
    ValueError: as `lambda_return`.
  """
  _check(reward, lam, discount=discount, truncated=truncated, q=q, next_value=next_value, log_rho=log_rho)
  trace = lam * jnp.exp(jnp.minimum(log_rho, 0.0))
  continues = gamma * discount
  # The recursion is in Q^ret - Q, so that a trace that is cut takes nothing of the row after it.
  follows = _times(_goes_on(discount, truncated), jnp.roll(trace, -1, axis=0))
  error = recursion(reward + _times(continues, next_value) - q, continues * follows)
  return q + error


def vtrace(
  reward: Array,
  discount: Array,
  truncated: Array,
  value: Array,
  next_value: Array,
  log_rho: Array,
  *,
  gamma: Array | float,
  lam: Array | float = 1.0,
  clip_rho: Array | float = 1.0,
  clip_c: Array | float = 1.0,
) -> VTrace:
  """V-trace (Espeholt et al. 2018, 1802.01561, Eq. 1 and section 4.2).

    vs_t = V(s_t) + ρ_t δ_t + γ m_t c_t (vs_{t+1} - V(s_{t+1})),   δ_t = r_t + γ m_t V(s'_t) - V(s_t)
    ρ_t = min(ρ̄, π/μ),   c_t = λ min(c̄, π/μ), 0 where the episode or the sequence ends

  The advantage's vs_{t+1} is V(s'_t) there.

  Args:
    reward, discount, truncated, next_value, gamma: as `lambda_return`.
    value: V(s_t), `[T, ...]`.
    log_rho: as `retrace`.
    lam: λ in [0, 1].
    clip_rho: ρ̄, which decides what policy is evaluated; at infinity it is π.
    clip_c: c̄, which decides how fast.

  Raises:
    ValueError: as `lambda_return`.
  """
  arrays = {"value": value, "next_value": next_value, "log_rho": log_rho}
  _check(reward, lam, discount=discount, truncated=truncated, **arrays)
  # min(ρ̄, e^x) as e^min(log ρ̄, x): e^x itself overflows, and its gradient is then no number where ρ̄ holds.
  rho, trace = (jnp.exp(jnp.minimum(jnp.log(clip), log_rho)) for clip in (clip_rho, clip_c))
  trace = lam * trace
  goes_on, continues = _goes_on(discount, truncated), gamma * discount
  error = recursion(rho * (reward + _times(continues, next_value) - value), continues * goes_on * trace)
  after = next_value + _times(goes_on, jnp.roll(error, -1, axis=0))
  return VTrace(value + error, rho * (reward + _times(continues, after) - value))


def _goes_on(discount: Array, truncated: Array) -> Array:
  """1.0 where row t + 1 continues row t's episode, 0.0 where that ends and in the last row."""
  ends = (discount == 0) | (truncated != 0)
  return jnp.where(ends, 0.0, 1.0).at[-1].set(0.0)


def _times(factor: Array, x: Array) -> Array:
  """Their product, 0 where the factor is 0: there x may be no number."""
  return factor * jnp.where(factor == 0, 0.0, x)


def _check(reward: Array, lam: Array | float, **arrays: Array) -> None:
  if reward.ndim < 1 or len(reward) < 1:
    raise ValueError(f"a return needs at least one row, got rewards of shape {reward.shape}")
  for name, array in arrays.items():
    if array.shape != reward.shape:
      raise ValueError(f"{name} has the reward's shape {reward.shape}, got {array.shape}")
  checks.share("lam", lam)
