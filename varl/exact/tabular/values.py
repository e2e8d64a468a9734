"""Soft and hard value iteration, policy evaluation and state visitation.

The dynamics are kept as they are: the policy is the only thing inferred (the variational solution). Infinite horizons
are fixed points with implicit derivatives, forward and backward, of any order; none of the iterations is kept.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import (
  MDP,
  advance,
  check_horizon,
  expected,
  log_prior_of,
  policy_of,
  temperature_of,
  transition_matrix,
)
from varl.types import Array

MAX_ITERATIONS = 100_000


class SoftSolution(NamedTuple):
  """The optimum of Σ γ^t (r - c KL(π ‖ p)), in units of reward.

  Attributes:
    q: `[S, A]`, or `[H, S, A]` with a horizon H, by time step.
    value: `[S]`, or `[H+1, S]`, whose last row is 0.
    log_policy: `[S, A]`, or `[H, S, A]`: log π = log p + (q - value)/c; in a terminal state, the prior, normalised.
  """

  q: Array
  value: Array
  log_policy: Array


class HardSolution(NamedTuple):
  """The optimum of Σ γ^t r.

  Attributes:
    q: `[S, A]`, or `[H, S, A]` with a horizon H, by time step.
    value: `[S]`, or `[H+1, S]`, whose last row is 0.
    policy: int32 `[S]`, or `[H, S]`: the first action of the largest q.
  """

  q: Array
  value: Array
  policy: Array


class Evaluation(NamedTuple):
  """What a policy is worth.

  Attributes:
    q: `[S, A]`, or `[H, S, A]` with a horizon H: without the KL of the state itself, as in SAC.
    value: `[S]`, or `[H+1, S]`, whose last row is 0: E_π[q] - c KL(π ‖ p).
  """

  q: Array
  value: Array


_Solution = TypeVar("_Solution", SoftSolution, HardSolution)


def soft_value_iteration(
  m: MDP,
  *,
  temperature: Any,
  horizon: int | None = None,
  log_prior: Any = None,
  tolerance: float | None = None,
  max_iterations: int = MAX_ITERATIONS,
) -> SoftSolution:
  """The optimal policy under a KL to the prior, and its values.

    Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s'),    V(s) = c log Σ_a p(a|s) e^{Q(s, a)/c},    V(terminal) = 0

  Args:
    temperature: c > 0, reward per nat.
    horizon: number of steps; None for the fixed point.
    log_prior: None for the uniform prior -log A, or whatever broadcasts to `[S, A]`; 0.0 for the entropy of SAC.
    tolerance: the fixed point's iteration ends once max_s |ΔV| <= tolerance · scale, the scale being the largest of
      |V|, |r| and c log A; V is then within γ/(1-γ) times that of its limit. None, and whatever is below, is 4 machine
      epsilons, under which rounding keeps V moving.
    max_iterations: at which the fixed point's iteration ends in any case; 100,000 reach float64's end for γ <= 0.9996.

  Returns:
    A `SoftSolution`, differentiable in rewards, transitions, discount, temperature and prior.

  Raises:
    ValueError: a temperature that is not above 0, a horizon below 1, none at discount 1, or a prior without actions.

  Reference: Levine 2018, 1805.00909, section 3.1; Marino et al., "On the Design of Variational RL Algorithms", Eq. 7
  for the objective and Eq. 11 for the policy.
  """
  c, log_p = temperature_of(m, temperature), log_prior_of(m, log_prior)
  horizon = check_horizon(m, horizon)
  return _soft(m, c, log_p, tolerance, horizon, checks.whole("max_iterations", max_iterations))


def hard_value_iteration(
  m: MDP, *, horizon: int | None = None, tolerance: float | None = None, max_iterations: int = MAX_ITERATIONS
) -> HardSolution:
  """The optimal deterministic policy and its values.

    Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s'),    V(s) = max_a Q(s, a),    V(terminal) = 0

  Args:
    horizon, tolerance, max_iterations: as in `soft_value_iteration`.

  Returns:
    A `HardSolution`.

  Raises:
    ValueError: a horizon below 1, or none at discount 1.
  """
  horizon = check_horizon(m, horizon)
  return _hard(m, tolerance, horizon, checks.whole("max_iterations", max_iterations))


def policy_evaluation(
  m: MDP, log_policy: Any, *, temperature: Any = 0.0, log_prior: Any = None, horizon: int | None = None
) -> Evaluation:
  """What following π is worth, its divergence from the prior paid for.

    V(s) = Σ_a π(a|s) Q(s, a) - c KL(π(·|s) ‖ p(·|s)),    Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s')

  With an infinite horizon V solves the linear system (I - γ P_π) V = r_π: directly for a dense process, by its own
  iteration to rounding for a sparse one, which never has a matrix `[S, S]`.

  Args:
    log_policy: `[S, A]`, normalised, -inf allowed; or `[H, S, A]` with a horizon H.
    temperature: c >= 0; 0 for the plain return.
    log_prior, horizon: as in `soft_value_iteration`.

  Returns:
    An `Evaluation`.

  Raises:
    ValueError: a negative temperature, a policy of the wrong shape, a horizon below 1, none at discount 1, or a prior
      without actions.

  Reference: Marino et al., "On the Design of Variational RL Algorithms", Eq. 8 to 10.
  """
  c, log_p = temperature_of(m, temperature, zero=True), log_prior_of(m, log_prior)
  horizon = check_horizon(m, horizon)
  return _evaluate(m, c, log_p, policy_of(m, log_policy, horizon))


def visitation(m: MDP, log_policy: Any, *, horizon: int | None = None) -> Array:
  """How often π is in each state; whoever reaches a terminal state stays there and is counted.

    d(s) = Σ_t γ^t P(s_t = s | π),    the solution of d = ρ + γ P_πᵀ d,    Σ_s d(s) = 1/(1 - γ)

  Args:
    log_policy: `[S, A]`, normalised; or `[H, S, A]` with a horizon H.
    horizon: H for the distributions of s_0 .. s_{H-1}, which are not discounted; None for d.

  Returns:
    `[S]`, or `[H, S]`.

  Raises:
    ValueError: a policy of the wrong shape, a horizon below 1, or none at discount 1.
  """
  horizon = check_horizon(m, horizon)
  return _visit(m, policy_of(m, log_policy, horizon))


def action_value(m: MDP, next_value: Array) -> Array:
  """Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s'), `[S, A]`, and 0 in terminal states, for V `[S]`."""
  return jnp.where(m.terminal[:, None], 0.0, m.reward + m.discount * expected(m, next_value))


def greedy(q: Array) -> tuple[Array, Array]:
  """(argmax_a Q, max_a Q) of `[..., A]`; the maximum's derivative is that of the entry taken, the first among equals.

  The derivative of jnp.max divides by how many entries equal the maximum, which are none where XLA has computed them
  twice and rounded them in two ways.
  """
  policy = jnp.argmax(q, axis=-1).astype(jnp.int32)
  return policy, jnp.take_along_axis(q, policy[..., None], axis=-1)[..., 0]


def soft_maximum(q: Array, log_prior: Array, temperature: Array) -> Array:
  """c log Σ_a p(a) e^{q(a)/c} over the last axis; keeps its digits as c → 0, where it becomes the maximum."""
  # Only what is left of q is divided by c: a rounding of q/c as a whole is one of many nats.
  top = jax.lax.stop_gradient(jnp.max(jnp.where(log_prior > -jnp.inf, q, -jnp.inf), axis=-1))
  return top + temperature * jax.nn.logsumexp(log_prior + (q - top[..., None]) / temperature, axis=-1)


def soft_scale(m: MDP, temperature: Array) -> Array:
  """What a step can be worth: the larger of |r| and c log A, to which a fixed point's tolerance is relative."""
  return jnp.maximum(jnp.max(jnp.abs(m.reward)), temperature * jnp.log(jnp.asarray(m.reward.shape[1], m.reward.dtype)))


def fixed_point(m: MDP, operator: Callable[[Array], Array], scale: Array, tolerance: Any, max_iterations: int) -> Array:
  """V = operator(V), for a contraction with modulus γ over `[S]`; iterated from 0, differentiated implicitly."""

  def solve(_: Any, start: Array) -> Array:
    return _iterate(operator, start, scale, tolerance, max_iterations)

  def tangent_solve(residual: Callable[[Array], Array], target: Array) -> Array:
    # residual is J - I, with J the operator's derivative, which contracts as the operator does.
    return jax.lax.custom_linear_solve(residual, target, solve=_solve_residual, transpose_solve=_solve_residual)

  return jax.lax.custom_root(lambda value: operator(value) - value, jnp.zeros_like(m.initial), solve, tangent_solve)


@partial(jax.jit, static_argnames=("horizon", "max_iterations"))
def _soft(
  m: MDP, temperature: Array, log_prior: Array, tolerance: Any, horizon: int | None, max_iterations: int
) -> SoftSolution:
  log_rest = jax.nn.log_softmax(log_prior)

  def solution(next_value: Array) -> SoftSolution:
    q = action_value(m, next_value)
    value = jnp.where(m.terminal, 0.0, soft_maximum(q, log_prior, temperature))
    log_policy = log_prior + (q - value[:, None]) / temperature
    return SoftSolution(q, value, jnp.where(m.terminal[:, None], log_rest, log_policy))

  if horizon is not None:
    return _backwards(m, solution, horizon)
  scale = soft_scale(m, temperature)
  return solution(fixed_point(m, lambda value: solution(value).value, scale, tolerance, max_iterations))


@partial(jax.jit, static_argnames=("horizon", "max_iterations"))
def _hard(m: MDP, tolerance: Any, horizon: int | None, max_iterations: int) -> HardSolution:
  def solution(next_value: Array) -> HardSolution:
    q = action_value(m, next_value)
    policy, best = greedy(q)
    return HardSolution(q, jnp.where(m.terminal, 0.0, best), policy)

  if horizon is not None:
    return _backwards(m, solution, horizon)
  scale = jnp.max(jnp.abs(m.reward))
  return solution(fixed_point(m, lambda value: solution(value).value, scale, tolerance, max_iterations))


@jax.jit
def _evaluate(m: MDP, temperature: Array, log_prior: Array, log_policy: Array) -> Evaluation:
  policy = jnp.exp(log_policy)
  # At c = 0 the divergence is not asked for, and may be infinite; 0 log 0 is 0.
  counts = (policy > 0) & (temperature > 0)
  log_ratio = jnp.where(counts, log_policy, 0.0) - jnp.where(counts, log_prior, 0.0)
  cost = temperature * jnp.sum(policy * log_ratio, axis=-1)

  def state_value(q: Array, policy: Array, cost: Array) -> Array:
    return jnp.where(m.terminal, 0.0, jnp.sum(policy * q, axis=-1) - cost)

  if log_policy.ndim == 2:
    earned = state_value(m.reward, policy, cost)
    if m.successor is None:
      matrix = jnp.where(m.terminal[:, None], 0.0, transition_matrix(m, log_policy))
      value = jnp.linalg.solve(_identity_minus(m.discount * matrix), earned)
    else:
      value = _neumann(lambda v: state_value(m.discount * expected(m, v), policy, jnp.zeros_like(cost)), earned)
    return Evaluation(action_value(m, value), value)

  def step(next_value: Array, now: tuple[Array, Array]) -> tuple[Array, Evaluation]:
    q = action_value(m, next_value)
    value = state_value(q, *now)
    return value, Evaluation(q, value)

  last = jnp.zeros_like(m.initial)
  _, found = jax.lax.scan(step, last, (policy, cost), reverse=True)
  return Evaluation(found.q, jnp.concatenate([found.value, last[None]]))


@jax.jit
def _visit(m: MDP, log_policy: Array) -> Array:
  policy = jnp.exp(log_policy)
  if log_policy.ndim == 3:
    return jax.lax.scan(lambda mass, now: (advance(m, now, mass), mass), m.initial, policy)[1]
  if m.successor is None:
    return jnp.linalg.solve(_identity_minus(m.discount * transition_matrix(m, log_policy).T), m.initial)
  return _neumann(lambda mass: m.discount * advance(m, policy, mass), m.initial)


def _identity_minus(matrix: Array) -> Array:
  return jnp.eye(len(matrix), dtype=matrix.dtype) - matrix


def _neumann(operator: Callable[[Array], Array], target: Array) -> Array:
  """x = target + operator(x), for a linear contraction over `[S]`, iterated to rounding; differentiable."""
  solve = _solve_residual
  return jax.lax.custom_linear_solve(lambda x: operator(x) - x, -target, solve=solve, transpose_solve=solve)


def _solve_residual(residual: Callable[[Array], Array], target: Array) -> Array:
  """The x of (J - I) x = target, from x ← J x - target."""
  return _iterate(lambda x: residual(x) + x - target, -target, jnp.zeros_like(target[0]), None, MAX_ITERATIONS)


def _iterate(
  operator: Callable[[Array], Array], start: Array, scale: Array, tolerance: Any, max_iterations: int
) -> Array:
  """x ← operator(x) until it changes by no more than `tolerance` times the larger of max |x| and `scale`."""
  least = 4.0 * float(jnp.finfo(start.dtype).eps)
  relative = jnp.asarray(least if tolerance is None else jnp.maximum(tolerance, least), start.dtype)

  def unfinished(carry: tuple[Array, Array, Array]) -> Array:
    _, moving, count = carry
    return moving & (count < max_iterations)

  def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    x, _, count = carry
    new = operator(x)
    # A NaN compares false, and ends it.
    moving = jnp.max(jnp.abs(new - x)) > relative * jnp.maximum(jnp.max(jnp.abs(new)), scale)
    return new, moving, count + 1

  return jax.lax.while_loop(unfinished, step, (start, jnp.bool_(True), jnp.int32(0)))[0]


def _backwards(m: MDP, solution: Callable[[Array], _Solution], horizon: int) -> _Solution:
  """The solutions of `horizon` steps, from what comes after the last one: 0."""

  def step(next_value: Array, _: None) -> tuple[Array, _Solution]:
    now = solution(next_value)
    return now.value, now

  last = jnp.zeros_like(m.initial)
  _, found = jax.lax.scan(step, last, None, length=horizon, reverse=True)
  return found._replace(value=jnp.concatenate([found.value, last[None]]))
