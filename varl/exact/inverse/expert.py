"""The expert of inverse reinforcement learning: demonstrations, and the weights by which they enter a likelihood."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.exact.tabular import MDP, visitation
from varl.types import Array, Key


class Demonstrations(NamedTuple):
  """N sequences of at most T steps.

  Attributes:
    state: `[N, T]`, integers.
    action: `[N, T]`, integers.
    mask: `[N, T]`, True at the steps that were taken; False after the end, where state and action are ignored.
  """

  state: Array
  action: Array
  mask: Array


def demonstrations(m: MDP, state: Any, action: Any, mask: Any = None) -> Demonstrations:
  """Demonstrations from arrays, checked.

  Args:
    m: the MDP.
    state, action: `[N, T]`, integers.
    mask: `[N, T]`; None for every step in a non-terminal state.

  Returns:
    The demonstrations.

  Raises:
    ValueError: shapes that differ, states or actions out of range, steps after an end, actions in terminal states.
  """
  state, action = np.asarray(state), np.asarray(action)
  if state.ndim != 2 or state.shape != action.shape or 0 in state.shape:
    raise ValueError(f"states and actions must both be [N, T] and not empty, got {state.shape} and {action.shape}")
  terminal = np.asarray(m.terminal)
  for name, array, size in (("states", state, m.reward.shape[0]), ("actions", action, m.reward.shape[1])):
    if not np.issubdtype(array.dtype, np.integer):
      raise ValueError(f"{name} must be integers, got {array.dtype}")
    if array.min() < 0 or array.max() >= size:
      raise ValueError(f"{name} must lie in [0, {size}), got {array.min()} to {array.max()}")
  taken = ~terminal[state] if mask is None else np.asarray(mask, bool)
  if taken.shape != state.shape:
    raise ValueError(f"the mask must have the shape of the states, {state.shape}, got {taken.shape}")
  if (taken[:, 1:] & ~taken[:, :-1]).any():
    raise ValueError("a demonstration goes on after its end: once the mask is False it stays False")
  if (taken & terminal[state]).any():
    raise ValueError(f"an action is taken in a terminal state: {sorted(set(state[taken & terminal[state]].tolist()))}")
  return Demonstrations(jnp.asarray(state, jnp.int32), jnp.asarray(action, jnp.int32), jnp.asarray(taken))


def sample_demonstrations(key: Key, m: MDP, log_policy: Array, n: int, horizon: int) -> Demonstrations:
  """Draws n sequences of a policy; each ends at a terminal state or after `horizon` steps.

  Args:
    key: consumed.
    m: the MDP.
    log_policy: `[S, A]`, or `[H, S, A]` with H = horizon.
    n: N.
    horizon: T.

  Returns:
    The demonstrations, `[n, horizon]`.

  Raises:
    ValueError: sizes below 1, or a policy of another horizon.
  """
  n, horizon = checks.whole("n", n), checks.whole("horizon", horizon)
  if log_policy.ndim == 3 and log_policy.shape[0] != horizon:
    raise ValueError(f"the policy is one for {log_policy.shape[0]} steps, got horizon={horizon}")
  log_policies = jnp.broadcast_to(log_policy, (horizon, *m.reward.shape))

  def one(key: Key) -> tuple[Array, Array, Array]:
    start, walk = jax.random.split(key)

    def step(state: Array, inputs: tuple[Key, Array]) -> tuple[Array, tuple[Array, Array, Array]]:
      for_action, for_successor = jax.random.split(inputs[0])
      action = jax.random.categorical(for_action, inputs[1][state])
      index = jax.random.categorical(for_successor, jnp.log(m.transition[state, action]))
      after = index if m.successor is None else m.successor[state, action, index]
      ended = m.terminal[state]
      return jnp.where(ended, state, after).astype(state.dtype), (state, action, ~ended)

    first = jax.random.categorical(start, jnp.log(m.initial))
    return jax.lax.scan(step, first, (jax.random.split(walk, horizon), log_policies))[1]

  state, action, mask = jax.vmap(one)(jax.random.split(key, n))
  return Demonstrations(state.astype(jnp.int32), action.astype(jnp.int32), mask)


def counts(
  m: MDP, demonstrations: Demonstrations, *, horizon: int | None = None, discount: Array | float | None = None
) -> Array:
  """How often a demonstration takes each action in each state on average, step t weighted by discount^t.

    n_t(s, a) = 1/N Σ_i discount^t [s_t^i = s, a_t^i = a]

  Args:
    m: the MDP.
    demonstrations: `[N, T]`.
    horizon: H >= T, for a policy that depends on time; None sums over time.
    discount: the weights' base; None for the MDP's own γ, 1 for the plain likelihood.

  Returns:
    `[S, A]`, or `[H, S, A]`.

  Raises:
    ValueError: demonstrations longer than the horizon.
  """
  state, action, mask = demonstrations
  steps = state.shape[1]
  if horizon is not None and steps > horizon:
    raise ValueError(f"the demonstrations have {steps} steps, more than the horizon of {horizon}")
  weight = powers(m, steps, discount) / state.shape[0]
  weight = jnp.where(mask, weight, jnp.zeros_like(weight))
  if horizon is None:
    return jnp.zeros_like(m.reward).at[state, action].add(weight)
  time = jnp.broadcast_to(jnp.arange(steps), state.shape)
  return jnp.zeros((horizon, *m.reward.shape), m.reward.dtype).at[time, state, action].add(weight)


def occupancy(m: MDP, log_policy: Array, *, horizon: int | None = None) -> Array:
  """The discounted state-action occupancy of a policy: what `counts` of its demonstrations tend to.

    d_t(s, a) = γ^t P(s_t = s) π_t(a|s);   without a horizon its sum over t

  Args:
    m: the MDP.
    log_policy: `[S, A]` or, with a horizon, `[H, S, A]`.
    horizon: H, or None for an infinite one.

  Returns:
    `[S, A]`, or `[H, S, A]`. Nothing is done in terminal states: 0 there.
  """
  states = visitation(m, log_policy, horizon=horizon)
  if horizon is not None:
    states = powers(m, horizon)[:, None] * states
  return act(m, log_policy, states)


def feature_expectations(m: MDP, log_policy: Array, features: Array, *, horizon: int | None = None) -> Array:
  """E[Σ_t γ^t f(s_t, a_t)] under a policy, by the forward pass of `occupancy`.

  Args:
    m: the MDP.
    log_policy: `[S, A]` or, with a horizon, `[H, S, A]`.
    features: `[S, A, F]`.
    horizon: H, or None for an infinite one.

  Returns:
    `[F]`.

  Reference: Ziebart et al. 2008, Eq. 6 (the second term); Ziebart 2010, chapter 9 (the forward pass).
  """
  return project(occupancy(m, log_policy, horizon=horizon), features)


def empirical_feature_expectations(
  m: MDP, demonstrations: Demonstrations, features: Array, *, discount: Array | float | None = None
) -> Array:
  """The mean over demonstrations of Σ_t γ^t f(s_t, a_t).

  It estimates `feature_expectations` only where every demonstration lasts to the horizon or to a terminal state.

  Args:
    m: the MDP.
    demonstrations: `[N, T]`.
    features: `[S, A, F]`.
    discount: as in `counts`.

  Returns:
    `[F]`.
  """
  return project(counts(m, demonstrations, discount=discount), features)


def powers(m: MDP, steps: int, discount: Array | float | None = None) -> Array:
  """discount^t for t < steps, `[steps]`, in the dtype of `m`; None is its own discount."""
  base = jnp.asarray(m.discount if discount is None else discount, m.reward.dtype)
  return base ** jnp.arange(steps)


def act(m: MDP, log_policy: Array, states: Array) -> Array:
  """ρ(s) π(a|s), and 0 in terminal states; `[..., S]` -> `[..., S, A]`."""
  return jnp.where(m.terminal[:, None], 0.0, states[..., None] * jnp.exp(log_policy))


def project(weights: Array, features: Array) -> Array:
  """Σ weights(s, a) f(s, a), summed over time too where there is one: `[F]`."""
  return jnp.einsum("...sa,saf->f", weights, features, precision=jax.lax.Precision.HIGHEST)
