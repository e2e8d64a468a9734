"""VIREL on a finite MDP with a tabular action value (1811.01132): the temperature is the error still left in Q.

The paper's ω is the table Q itself here, its expectations are sums, and `scale` is c, its constant before the residual.
Q-values of terminal states mean nothing: nothing reads them, and the functions here return 0 for them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact import tabular
from varl.types import Array

_OPERATORS = ("optimal", "boltzmann")
_M_STEPS = ("evaluation", "backup", "optimal")


def boltzmann(q: Array, epsilon: Array | float) -> Array:
  """The policy that Q stands for, in logs; at ε = 0 its limit, uniform over the maximisers.

    π(a|s) = exp(Q(s, a)/ε) / Σ_b exp(Q(s, b)/ε)

  Args:
    q: `[..., A]`, in units of reward.
    epsilon: scalar, or broadcast to `[..., 1]`; >= 0, in units of reward per nat. Numbers below the smallest normal
      one of the dtype count as 0.

  Returns:
    log π `[..., A]`. It is finite everywhere: no entry is below half the dtype's least number, whose exponential is
    exactly 0, so that π log π is a number too.

  Reference: 1811.01132, section 3 (the Boltzmann policy π_ω).
  """
  q = jnp.asarray(q)
  epsilon = jnp.asarray(epsilon, q.dtype)
  limits = jnp.finfo(q.dtype)
  advantage = q - jax.lax.stop_gradient(jnp.max(q, axis=-1, keepdims=True))
  warm = epsilon >= limits.tiny
  scaled = jnp.where(warm, advantage / jnp.where(warm, epsilon, 1.0), jnp.where(advantage < 0, limits.min, 0.0))
  scaled = jnp.maximum(scaled, limits.min / 4)
  return scaled - jax.nn.logsumexp(scaled, axis=-1, keepdims=True)


def bellman(m: tabular.MDP, q: Array, *, log_policy: Array | None = None) -> Array:
  """One Bellman backup: T* Q = r + γ E[max_b Q(s', b)], or T^π Q = r + γ E[Σ_b π(b|s') Q(s', b)].

  Args:
    m: the MDP.
    q: `[S, A]`.
    log_policy: `[S, A]`, log π; None for the optimal operator T*.

  Returns:
    `[S, A]`; 0 in terminal states.
  """
  value = tabular.greedy(q)[1] if log_policy is None else jnp.sum(jnp.exp(log_policy) * q, axis=-1)
  backup = m.reward + m.discount * tabular.expected(m, jnp.where(m.terminal, 0.0, value))
  return jnp.where(m.terminal[:, None], 0.0, backup)


def residual(
  m: tabular.MDP,
  q: Array,
  *,
  scale: Array | float = 1.0,
  weight: Array | None = None,
  log_policy: Array | None = None,
) -> Array:
  """ε = c Σ_s,a w(s, a) (T Q - Q)²(s, a): how far Q is from a fixed point of T, as a temperature.

  With T = T* it is 0 exactly where Q is Q*. The paper defines ε_ω by the evaluation operator T_ω of the very Boltzmann
  policy that ε_ω makes (`boltzmann_residual`); the authors' talk writes T*; and their actor-critic puts the operator
  T^π of the current actor in its place, which `log_policy` gives. At ε = 0 they agree: the policy is then greedy, and
  T^π Q = T* Q.

  Args:
    m: the MDP.
    q: `[S, A]`.
    scale: c > 0, in 1/reward, since ε is an error squared and a temperature is not. The paper has c/2 in its place; the
      published code has no ½.
    weight: `[S, A]` or what broadcasts to it, w >= 0 with sum 1, a distribution over states and actions. None is the
      uniform one over the actions of all states that are not terminal.
    log_policy: `[S, A]`, log π of the evaluation operator T^π; None for T*.

  Returns:
    The scalar ε.

  Reference: 1811.01132, section 3 (ε_ω), section 4 (the actor's operator).
  """
  error = jnp.where(m.terminal[:, None], 0.0, bellman(m, q, log_policy=log_policy) - q)
  return scale * jnp.sum(_weight(m, weight) * jnp.square(error))


def boltzmann_residual(m: tabular.MDP, q: Array, *, scale: Array | float = 1.0, weight: Array | None = None) -> Array:
  """The paper's ε_ω: the residual under the evaluation operator of the Boltzmann policy that it defines itself.

    ε = R(ε),   R(ε) = c Σ w (T^π Q - Q)²,   π ∝ exp(Q/ε)

  R is continuous and bounded and R(0) >= 0, so that there is a solution; there may be several where c is large. This is
  the least one as far as a grid of factor 2 can tell, found by bisection. It is not differentiable.

  Args, Returns and Reference: as `residual`.
  """
  live, weight = ~m.terminal[:, None], _weight(m, weight)

  def excess(epsilon: Array) -> Array:
    return residual(m, q, scale=scale, weight=weight, log_policy=boltzmann(q, epsilon)) - epsilon

  # T^π Q lies between the backups of the largest and of the smallest action value, whatever π is.
  lowest = -bellman(m._replace(reward=-m.reward), -q)
  bound = jnp.maximum(jnp.square(bellman(m, q) - q), jnp.square(lowest - q))
  top = scale * jnp.sum(weight * jnp.where(live, bound, 0.0))
  grid = top * 2.0 ** -jnp.arange(40, -1, -1, dtype=q.dtype)
  # R never exceeds the end of the grid, whatever rounding says there.
  first = jnp.argmax((jax.vmap(excess)(grid) <= 0).at[-1].set(True))
  low = jnp.where(first > 0, grid[first - 1], 0.0)

  def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bracket
    middle = (low + high) / 2
    above = excess(middle) > 0
    return jnp.where(above, middle, low), jnp.where(above, high, middle)

  return jax.lax.fori_loop(0, jnp.finfo(q.dtype).nmant + 2, halve, (low, grid[first]))[0]


def lower_bound(q: Array, epsilon: Array | float, log_policy: Array, *, weight: Array) -> Array:
  """The objective of both steps of EM, in nats.

    L(ω, θ) = E_d [E_π [Q_ω/ε_ω] + H(π_θ)]

  Args:
    q: `[S, A]`, Q_ω.
    epsilon: scalar, ε_ω > 0.
    log_policy: `[S, A]`, log π_θ, finite where its probability is 0.
    weight: `[S]`, d(s), a distribution over states.

  Returns:
    A scalar, at most `log_partition`; the difference is E_d[KL(π_θ ‖ π_ω)].

  Reference: 1811.01132, section 4 (the ELBO of variational actor-critic).
  """
  return jnp.sum(weight * jnp.sum(jnp.exp(log_policy) * (q / epsilon - log_policy), axis=-1))


def log_partition(q: Array, epsilon: Array | float, *, weight: Array) -> Array:
  """L(ω) = E_d log Σ_a exp(Q_ω/ε_ω), the `lower_bound` under the exact E-step π_θ = π_ω; arguments as there."""
  return jnp.sum(weight * jax.nn.logsumexp(q / epsilon, axis=-1))


def e_step_gradient(q: Array, epsilon: Array | float, log_policy: Array, *, weight: Array) -> Array:
  """The actor's gradient, ε ∇_θ L(ω, θ), in the logits θ `[S, A]` of a softmax policy.

    ε ∇_θ L = E_d [E_π [Q_ω ∇_θ log π_θ] + ε ∇_θ H(π_θ)]
            = d(s) π(a|s) (A(s, a) - E_π A(s, ·)),   A = Q_ω - ε log π_θ

  It is 0 exactly at π_θ = π_ω, the Boltzmann policy, wherever d(s) > 0.

  Args:
    q, epsilon, log_policy, weight: as in `lower_bound`; ε = 0 is allowed.

  Returns:
    `[S, A]`, in units of reward.

  Reference: 1811.01132, section 4 (E-step); the second line is its tabular form.
  """
  policy = jnp.exp(log_policy)
  advantage = q - epsilon * log_policy
  mean = jnp.sum(policy * advantage, axis=-1, keepdims=True)
  return weight[:, None] * policy * (advantage - mean)


def m_step_gradient(q: Array, log_policy: Array, *, weight: Array, error: Callable[[Array], Array]) -> Array:
  """The critic's gradient, ε² ∇_ω L(ω, θ), in the table Q itself.

    ε² ∇_ω L = ε E_dπ [∇_ω Q_ω] - E_dπ [Q_ω] ∇_ω ε_ω
             = ε d(s) π(a|s) - E_dπ [Q] ∂ε/∂Q(s, a)

  As ε falls only its second term is left: descent on the residual, at a rate E[Q]. That rate must be positive (shift
  the rewards where it is not), or ascent on L raises the residual; `expectation_maximisation` follows the residual
  itself and so does not depend on the sign. Under the exact E-step, π_θ = π_ω, this is also ε² ∇_ω of `log_partition`.

  Args:
    q, log_policy, weight: as in `lower_bound`.
    error: `q -> ε`, differentiable: `residual` with all but its q bound. The policy in it, if any, is a constant.

  Returns:
    `[S, A]`, in units of reward.

  Reference: 1811.01132, section 4 (M-step); the second line is its tabular form.
  """
  epsilon, slope = jax.value_and_grad(error)(q)
  mass = weight[:, None] * jnp.exp(log_policy)
  return epsilon * mass - jnp.sum(mass * q) * slope


class EM(NamedTuple):
  """N iterations of exact EM; row k is the state before iteration k, and the last row the outcome.

  Attributes:
    q: `[N + 1, S, A]`, Q_ω.
    epsilon: `[N + 1]`, its residual ε_ω.
    log_policy: `[N + 1, S, A]`, log π_ω, the E-step's answer.
    expected_return: `[N + 1]`, J(π_ω) from the initial distribution.
  """

  q: Array
  epsilon: Array
  log_policy: Array
  expected_return: Array


def expectation_maximisation(
  m: tabular.MDP,
  *,
  iterations: int,
  scale: Array | float = 0.1,
  weight: Array | None = None,
  operator: str = "optimal",
  m_step: str = "evaluation",
  step: Array | float = 1.0,
  horizon: int | None = None,
  q: Array | None = None,
) -> EM:
  """VIREL's EM with exact steps.

    E-step:  π ← π_ω ∝ exp(Q/ε),  ε the residual of Q         (maximises L(ω, ·))
    M-step:  Q ← Q + step (target - Q),  target = Q^π, T^π Q or T* Q

  The M-step of the paper raises L(ω, ·) at the given policy, which as ε falls is to lower the residual
  (`m_step_gradient`), and its actor-critic does so by policy evaluation. Here that is done to its end ("evaluation"),
  by one backup ("backup"), or towards the optimal operator's fixed point ("optimal").

  "optimal" ends at Q* and ε = 0 for every `scale`. With the other two the policy is in the target, and ε feeds the
  noise that it measures: where `scale` times the spread of returns (a number without unit) is large, EM stops at a
  stochastic policy with ε > 0. Where it is small, ε falls to 0, faster than geometrically under "evaluation", and the
  policy becomes greedy and optimal.

  Args:
    m: the MDP. With `horizon=None` its discount must be below 1.
    iterations: N >= 0.
    scale, weight: c and w of `residual`.
    operator: whose residual ε is: "optimal" (T*) or "boltzmann" (T_ω, see `boltzmann_residual`).
    m_step: "evaluation", "backup" or "optimal".
    step: in (0, 1].
    horizon: policies are evaluated to their end (None), or over this many steps, which is exact where every episode is
      over by then, at any discount.
    q: `[S, A]`, where to start; zeros by default.

  Returns:
    The history.

  Raises:
    ValueError: an unknown operator or M-step, or a negative number of iterations.

  Reference: 1811.01132, section 4.
  """
  if operator not in _OPERATORS:
    raise ValueError(f"operator is one of {list(_OPERATORS)}, got {operator!r}")
  if m_step not in _M_STEPS:
    raise ValueError(f"m_step is one of {list(_M_STEPS)}, got {m_step!r}")
  iterations = checks.whole("iterations", iterations, least=0)
  temperature = residual if operator == "optimal" else boltzmann_residual

  def iterate(q: Array, _: None) -> tuple[Array, EM]:
    epsilon = temperature(m, q, scale=scale, weight=weight)
    log_policy = boltzmann(q, epsilon)
    evaluation = tabular.policy_evaluation(m, log_policy, horizon=horizon)
    first = evaluation if horizon is None else jax.tree.map(lambda x: x[0], evaluation)
    if m_step == "evaluation":
      target = jnp.where(m.terminal[:, None], 0.0, first.q)
    else:
      target = bellman(m, q, log_policy=None if m_step == "optimal" else log_policy)
    row = EM(q, epsilon, log_policy, jnp.sum(m.initial * first.value))
    return q + step * (target - q), row

  start = jnp.zeros_like(m.reward) if q is None else jnp.asarray(q, m.reward.dtype)
  start = jnp.where(m.terminal[:, None], 0.0, start)
  return jax.lax.scan(iterate, start, None, length=iterations + 1)[1]


def _weight(m: tabular.MDP, weight: Array | None) -> Array:
  if weight is not None:
    return jnp.asarray(weight, m.reward.dtype)
  live = jnp.broadcast_to(~m.terminal[:, None], m.reward.shape).astype(m.reward.dtype)
  return live / jnp.sum(live)
