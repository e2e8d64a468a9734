"""Finite Markov decision processes as arrays, and the few operations that know how their transitions are stored.

Everything that depends on the storage, dense or sparse, is `expected`, `log_expected`, `at_successors`, `arrivals` and
`transition_matrix`; the algorithms are written with these. Shapes are those of one problem: batches are `jax.vmap`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.types import Array

# TensorFloat-32 and bfloat16, the defaults of some accelerators, would make answers here less than exact.
_PRECISION = jax.lax.Precision.HIGHEST


class MDP(NamedTuple):
  """A finite Markov decision process with S states and A actions. Made, and checked, by `mdp`.

  Attributes:
    transition: `[S, A, S]`, P(s'|s, a); or `[S, A, K]`, the probability of `successor[s, a, k]`.
    reward: `[S, A]`, r(s, a).
    initial: `[S]`, ρ(s), the distribution of the first state.
    discount: scalar in [0, 1], γ.
    terminal: bool `[S]`. Nothing is paid or chosen in a terminal state: its value is 0, the logarithm of its message
      is 0, its rows of `transition` and `reward` are ignored, and whoever is in it stays.
    successor: int32 `[S, A, K]` of the sparse form, or None. A successor may be named twice; its probabilities add up.
  """

  transition: Array
  reward: Array
  initial: Array
  discount: Array
  terminal: Array
  successor: Array | None = None


def mdp(
  transition: Any,
  reward: Any,
  *,
  discount: Any,
  initial: Any = None,
  terminal: Any = None,
  successor: Any = None,
) -> MDP:
  """An `MDP` from arrays, checked where they are concrete. Terminal rows become: stay, and nothing is paid.

  Args:
    transition: `[S, A, S]`, or `[S, A, K]` with `successor`. Rows (the last axis) sum to 1.
    reward: `[S, A]`.
    discount: scalar in [0, 1].
    initial: `[S]`, sums to 1; None for uniform over the states that are not terminal.
    terminal: bool `[S]`; None for no terminal state.
    successor: integers `[S, A, K]` in [0, S).

  Returns:
    The process, in the widest floating dtype of `transition` and `reward`.

  Raises:
    ValueError: shapes that do not fit; entries that are negative, not finite or out of range; rows that do not sum to
      1 within 1e-5 (those of terminal states are not looked at). Under a JAX transformation only shapes are checked.
  """
  transition, reward = jnp.asarray(transition), jnp.asarray(reward)
  # A Python float: integers become JAX's default floating type, floats stay as they are.
  dtype = jnp.result_type(transition, reward, 1.0)
  transition, reward, discount = (jnp.asarray(x, dtype) for x in (transition, reward, discount))
  if reward.ndim != 2 or 0 in reward.shape:
    raise ValueError(f"reward must be [states, actions]; got shape {reward.shape}")
  states = reward.shape[0]
  terminal = jnp.zeros(states, bool) if terminal is None else jnp.asarray(terminal, bool)
  if successor is not None:
    successor = jnp.asarray(successor)
    if not jnp.issubdtype(successor.dtype, jnp.integer):
      raise ValueError(f"successor must hold integers; got {successor.dtype}")
    successor = successor.astype(jnp.int32)
  _check_shapes(transition, reward, discount, terminal, successor)
  if initial is None:
    free = ~terminal
    initial = free.astype(dtype) / jnp.maximum(jnp.sum(free), 1).astype(dtype)
  initial = jnp.asarray(initial, dtype)
  if initial.shape != (states,):
    raise ValueError(f"initial must have shape {(states,)} to go with reward {reward.shape}; got {initial.shape}")
  _check_numbers(MDP(transition, reward, initial, discount, terminal, successor))
  return canonical(MDP(transition, reward, initial, discount, terminal, successor))


def dense(m: MDP) -> MDP:
  """The same process with `transition` `[S, A, S]` and no `successor`."""
  if m.successor is None:
    return m
  states, actions = m.reward.shape
  rows = jnp.arange(states)[:, None, None], jnp.arange(actions)[None, :, None]
  table = jnp.zeros((states, actions, states), m.transition.dtype).at[(*rows, m.successor)].add(m.transition)
  return m._replace(transition=table, successor=None)


def expected(m: MDP, value: Array) -> Array:
  """Σ_s' P(s'|s, a) value(s'), for `value` `[S]`: `[S, A]`."""
  if m.successor is None:
    return jnp.einsum("sat,t->sa", m.transition, value, precision=_PRECISION)
  return jnp.sum(m.transition * value[m.successor], axis=-1)


def log_expected(m: MDP, log_value: Array) -> Array:
  """log Σ_s' P(s'|s, a) e^{log_value(s')}, for `log_value` `[S]`: `[S, A]`."""
  return jax.nn.logsumexp(at_successors(m, log_value), axis=-1, b=m.transition)


def at_successors(m: MDP, value: Array) -> Array:
  """`value` `[S]` at the successor that each entry of `transition` is about: `[S, A, K]` sparse, `[1, 1, S]` dense."""
  return value[None, None, :] if m.successor is None else value[m.successor]


def arrivals(m: MDP, flow: Array) -> Array:
  """What arrives in each state: `flow`, shaped as `transition`, summed by successor to `[S]`."""
  if m.successor is None:
    return jnp.sum(flow, axis=(0, 1))
  return jnp.zeros(m.terminal.shape, flow.dtype).at[m.successor].add(flow)


def advance(m: MDP, policy: Array, mass: Array) -> Array:
  """The distribution a step later, Σ_s,a mass(s) π(a|s) P(s'|s, a), where those in terminal states stay.

  Args:
    policy: `[S, A]`, π(a|s), probabilities.
    mass: `[S]`.

  Returns:
    `[S]`, with the sum of `mass`.
  """
  leaving = jnp.where(m.terminal, 0.0, mass)[:, None] * policy
  if m.successor is None:
    arrived = jnp.einsum("sa,sat->t", leaving, m.transition, precision=_PRECISION)
  else:
    arrived = arrivals(m, leaving[..., None] * m.transition)
  return arrived + jnp.where(m.terminal, mass, 0.0)


def transition_matrix(m: MDP, log_policy: Array) -> Array:
  """P_π(s'|s) = Σ_a π(a|s) P(s'|s, a), `[S, S]`, for `log_policy` `[S, A]`; a terminal state stays."""
  transition = dense(m).transition
  matrix = jnp.einsum("sa,sat->st", jnp.exp(log_policy), transition, precision=_PRECISION)
  return jnp.where(m.terminal[:, None], jnp.eye(len(matrix), dtype=matrix.dtype), matrix)


def policy_of(m: MDP, log_policy: Array, horizon: int | None) -> Array:
  """`log_policy` in the dtype of `m`: `[S, A]`, or `[H, S, A]` where there is a horizon H.

  Raises:
    ValueError: another shape.
  """
  log_policy = jnp.asarray(log_policy, m.reward.dtype)
  shape = m.reward.shape
  allowed = (shape,) if horizon is None else (shape, (horizon, *shape))
  if log_policy.shape not in allowed:
    raise ValueError(f"log_policy must have shape {' or '.join(map(str, allowed))}; got {log_policy.shape}")
  return log_policy if horizon is None else jnp.broadcast_to(log_policy, (horizon, *shape))


def log_prior_of(m: MDP, log_prior: Any) -> Array:
  """`log_prior` as `[S, A]`: None is the uniform prior -log A; 0.0 the unnormalised one, whose KL is minus the entropy.

  Raises:
    ValueError: a shape that does not broadcast to `[S, A]`; NaN or +inf; a state that has no action (all -inf).
  """
  shape, dtype = m.reward.shape, m.reward.dtype
  if log_prior is None:
    return jnp.full(shape, -np.log(shape[1]), dtype)
  known, log_prior = concrete(log_prior), jnp.asarray(log_prior, dtype)
  try:
    table = jnp.broadcast_to(log_prior, shape)
  except ValueError as error:
    raise ValueError(f"log_prior must broadcast to [states, actions] {shape}; got shape {log_prior.shape}") from error
  if known is not None:
    best = np.broadcast_to(known, shape).max(axis=1)
    if not np.isfinite(best).all():
      state = np.flatnonzero(~np.isfinite(best))[0]
      raise ValueError(
        f"log_prior must be finite for some action of every state; its maximum in state {state} is {best[state]}"
      )
  return table


def temperature_of(m: MDP, temperature: Any, *, zero: bool = False) -> Array:
  """`temperature` as a scalar in the dtype of `m`.

  Raises:
    ValueError: not a scalar; not finite, or not above 0 (or 0 where `zero` allows it).
  """
  known = concrete(temperature)
  if known is not None and not (known.ndim == 0 and np.isfinite(known) and (known > 0 or (zero and known == 0))):
    raise ValueError(f"temperature must be one finite number {'>=' if zero else '>'} 0; got {temperature}")
  return jnp.asarray(temperature, m.reward.dtype)


def check_horizon(m: MDP, horizon: int | None) -> int | None:
  """The horizon; raises ValueError for one below 1, and for none where the discount is 1 and sums would not end."""
  if horizon is None:
    discount = concrete(m.discount)
    if discount is not None and not discount < 1:
      raise ValueError(f"an infinite horizon needs discount < 1; got {discount}: give horizon=H")
    return None
  return checks.whole("horizon", horizon)


def check_discount(discount: Any) -> None:
  """Raises ValueError for a concrete discount that is not in [0, 1]."""
  known = concrete(discount)
  if known is not None and not np.all((known >= 0) & (known <= 1)):
    raise ValueError(f"discount must be in [0, 1]; got {discount}")


def concrete(x: Any) -> np.ndarray | None:
  """`x` as a NumPy array, or None where a JAX transformation has hidden its numbers."""
  try:
    return np.asarray(x)
  except jax.errors.TracerArrayConversionError:
    return None


@jax.jit
def canonical(m: MDP) -> MDP:
  """One form for the rows that are ignored, so that no number in there (a NaN, say) reaches a result or a gradient."""
  ended, states = m.terminal[:, None, None], len(m.terminal)
  here = jnp.arange(states, dtype=jnp.int32)[:, None, None]
  if m.successor is None:
    successor, stay = None, here == jnp.arange(states)
  else:
    successor, stay = jnp.where(ended, here, m.successor), jnp.arange(m.successor.shape[-1]) == 0
  return m._replace(
    transition=jnp.where(ended, stay.astype(m.transition.dtype), m.transition),
    reward=jnp.where(m.terminal[:, None], 0.0, m.reward),
    successor=successor,
  )


def _check_shapes(transition: Array, reward: Array, discount: Array, terminal: Array, successor: Array | None) -> None:
  states, actions = reward.shape
  if successor is None:
    if transition.shape != (states, actions, states):
      raise ValueError(
        f"transition must have shape {(states, actions, states)} to go with reward {reward.shape} (or [S, A, K] with a "
        f"successor of the same shape); got {transition.shape}"
      )
  elif transition.ndim != 3 or transition.shape[:2] != reward.shape or transition.shape[2] < 1:
    raise ValueError(f"sparse transition must be [S, A, K] to go with reward {reward.shape}; got {transition.shape}")
  elif successor.shape != transition.shape:
    raise ValueError(f"successor must have the shape of transition, {transition.shape}; got {successor.shape}")
  if terminal.shape != (states,):
    raise ValueError(f"terminal must have shape {(states,)} to go with reward {reward.shape}; got {terminal.shape}")
  if discount.shape != ():
    raise ValueError(f"discount must be a scalar; got shape {discount.shape}")


def _check_numbers(m: MDP) -> None:
  """Raises for what is wrong in those arrays that are concrete."""
  transition, reward, initial, discount, terminal, successor = (None if x is None else concrete(x) for x in m)
  if discount is not None:
    check_discount(discount)
  if terminal is None:
    return
  live = np.flatnonzero(~terminal)
  if not live.size:
    raise ValueError("every state is terminal; at least one must not be")
  if initial is not None:
    _check_distribution("initial", initial[None], lambda row: "")
  if transition is not None:
    _check_distribution("transition", transition[live], lambda row: f" in state {live[row[0]]}, action {row[1]}")
  if reward is not None and not np.isfinite(reward[live]).all():
    row = np.argwhere(~np.isfinite(reward[live]))[0]
    raise ValueError(f"reward must be finite; got {reward[live][tuple(row)]} in state {live[row[0]]}, action {row[1]}")
  if successor is not None and not (successor[live].min() >= 0 and successor[live].max() < len(terminal)):
    low, high = successor[live].min(), successor[live].max()
    raise ValueError(f"successor must be in [0, {len(terminal)}); got {low} to {high}")


def _check_distribution(name: str, rows: np.ndarray, place: Callable[[np.ndarray], str]) -> None:
  """Raises where the last axis of `rows` is no distribution; `place` says in words which row."""
  total = rows.sum(axis=-1, dtype=np.float64)
  faults = (
    ("be finite", ~np.isfinite(rows).all(axis=-1), total),
    ("not be negative", (rows < 0).any(axis=-1), rows.min(axis=-1)),
    ("sum to 1 (within 1e-5)", np.abs(total - 1.0) > 1e-5, total),
  )
  for rule, wrong, number in faults:
    if wrong.any():
      row = np.argwhere(wrong)[0]
      raise ValueError(f"{name} must {rule}; got {number[tuple(row)]}{place(row)}")
