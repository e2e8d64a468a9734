"""Options as auxiliary variables in a finite process, enumerated: every trajectory, every sequence of options.

The joint policy chooses an option and then an action,

  π(o_t|s_t, o_{t-1}) = q_cont δ(o_t = o_{t-1}) + (1 - q_cont) π_o(o_t|s_t),   π(a_t|s_t, o_t)

without continuation at t = 0. The trajectory's density π(τ) = Σ_o π(τ, o) is its marginal. A reverse model q̃ of the
options makes a bound of it that can be sampled:

  E[Σ_t r_t/c + log p(a_t) - log π(a_t|s_t, o_t) - log π(o_t|s_t, o_{t-1}) + log q̃(o_t|·)]
    <= E[Σ_t r_t/c + log p(τ)/π(τ)]

with equality where q̃ is the posterior of the options given the trajectory. That posterior factors forward in time over
(o_{t-1}, s_{t:}, a_{t:}), and backward over (o_{t+1}, s_{:t+1}, a_{:t}): a window of the future helps the one, a window
of the past the other. NumPy, in double precision.
"""

from typing import Any, NamedTuple

import numpy as np

from varl import checks
from varl.exact.tabular.mdp import MDP, dense

LARGEST = 2_000_000
"""Trajectories times sequences of options that are enumerated at most."""


class OptionPolicy(NamedTuple):
  """A policy over O options.

  Attributes:
    option: `[S, O]`, π_o(o|s), what is chosen where the option before does not go on.
    action: `[S, O, A]`, π(a|s, o).
    continuation: `[S]` or a number, q_cont in [0, 1]: the probability of going on with the option before.
  """

  option: Any
  action: Any
  continuation: Any


class OptionBound(NamedTuple):
  """What a window of the reverse model leaves of the bound, in nats.

  Attributes:
    evidence: E[Σ r/c + log p(τ)/π(τ)], the bound of the policy whose options are summed out.
    bound: the same with the best q̃ of that window in place of the posterior.
    gap: evidence - bound, the information about the options that the window does not hold.
    log_evidence: log p(R̂ = 1), which neither exceeds.
    information: I(o; τ) = E[log π(o|τ) - log π(o)], of whole sequences.
  """

  evidence: float
  bound: float
  gap: float
  log_evidence: float
  information: float


def option_bound(
  m: MDP,
  policy: OptionPolicy,
  *,
  horizon: int,
  temperature: float = 1.0,
  window: int | None = None,
  direction: str = "forward",
  past: bool = False,
) -> OptionBound:
  """The bound of a policy over options with the best reverse model of a window, by enumeration.

  Args:
    m: a small process. Its discount is not used: returns are of `horizon` steps.
    policy: over its states.
    horizon: T, steps; terminal states stay, and pay nothing.
    temperature: c > 0, reward per nat; the prior of actions is uniform.
    window: K, steps of the trajectory that q̃ sees beside the present one; None: all.
    direction: "forward", q̃(o_t|o_{t-1}, s_{t:t+K}, a_{t:t+K}), or "backward", q̃(o_t|o_{t+1}, s_{t-K:t+1}, a_{t-K:t}).
    past: of the forward model: whether the window lies before t in place of after it, which adds nothing to o_{t-1}
      and the present.

  Returns:
    An `OptionBound`.

  Raises:
    ValueError: fewer than one option or step, more than `LARGEST` pairs, an unknown direction, a negative window, or
      distributions that do not sum to 1.

  Reference: the bound is that of auxiliary variables, Agakov and Barber 2004; the factorisations follow from the
    policy's own.
  """
  option, action = np.asarray(policy.option, np.float64), np.asarray(policy.action, np.float64)
  states, actions = m.reward.shape
  count = option.shape[-1]
  stay = np.broadcast_to(np.asarray(policy.continuation, np.float64), (states,))
  if option.shape != (states, count) or action.shape != (states, count, actions) or count < 1:
    raise ValueError(
      f"a policy over options has option [S, O] and action [S, O, A] with S = {states}, A = {actions}; got "
      f"{option.shape} and {action.shape}"
    )
  for name, rows in (("option", option), ("action", action)):
    if (rows < 0).any() or not np.allclose(rows.sum(axis=-1), 1.0, atol=1e-6):
      raise ValueError(f"{name} holds distributions over its last axis, which sum to 1 and are not negative")
  if (stay < 0).any() or (stay > 1).any():
    raise ValueError("the probability of going on lies in [0, 1]")
  if direction not in ("forward", "backward"):
    raise ValueError(f"direction is forward or backward; got {direction!r}")
  horizon = checks.whole("horizon", horizon)
  window = None if window is None else checks.whole("window", window, least=0)
  size = states * (actions * states * count) ** horizon
  if size > LARGEST:
    raise ValueError(f"{size:,} trajectories with their options are more than {LARGEST:,}; a shorter horizon")
  return _bound(m, option, action, stay, horizon, float(temperature), window, direction, past)


def _bound(
  m: MDP,
  option: np.ndarray,
  action: np.ndarray,
  stay: np.ndarray,
  horizon: int,
  temperature: float,
  window: int | None,
  direction: str,
  past: bool,
) -> OptionBound:
  full = dense(m)
  transition, reward = np.asarray(full.transition, np.float64), np.asarray(full.reward, np.float64)
  reward = np.where(np.asarray(m.terminal)[:, None], 0.0, reward)
  states, actions = reward.shape
  count = option.shape[-1]

  # Columns: s_0, a_0, o_0, s_1, ..., s_T of every path that is possible.
  paths = np.arange(states)[:, None]
  log_joint = _log(np.asarray(m.initial, np.float64))
  log_world, paid = log_joint.copy(), np.zeros(states)
  for t in range(horizon):
    s = paths[:, -1]
    a, o, following = (x.ravel() for x in np.meshgrid(*map(np.arange, (actions, count, states)), indexing="ij"))
    rows = np.repeat(np.arange(len(paths)), len(a))
    a, o, following = (np.tile(x, len(paths)) for x in (a, o, following))
    s = s[rows]
    chosen = option[s, o]
    if t:
      chosen = stay[s] * (o == paths[rows, -2]) + (1.0 - stay[s]) * chosen
    step = _log(transition[s, a, following])
    log_joint = log_joint[rows] + _log(chosen) + _log(action[s, o, a]) + step
    log_world = log_world[rows] + step - np.log(actions)
    paid = paid[rows] + reward[s, a] / temperature
    paths = np.column_stack([paths[rows], a, o, following])
    keep = np.isfinite(log_joint)
    paths, log_joint, log_world, paid = paths[keep], log_joint[keep], log_world[keep], paid[keep]

  columns = np.arange(horizon)
  at = {"s": 3 * np.arange(horizon + 1), "a": 3 * columns + 1, "o": 3 * columns + 2}
  weight = np.exp(log_joint)
  world = paths[:, np.concatenate([at["s"], at["a"]])]
  log_marginal = _log(_sums(world, weight))
  evidence = float(np.sum(weight * (paid + log_world - log_marginal)))
  log_options = _log(_sums(paths[:, at["o"]], weight))

  log_reverse = np.zeros(len(paths))
  for t in range(horizon):
    seen = _seen(t, horizon, window, direction, past)
    given = paths[:, [at[kind][i] for kind, i in seen]]
    both = np.column_stack([given, paths[:, at["o"][t]]])
    log_reverse += _log(_sums(both, weight)) - _log(_sums(given, weight))
  bound = float(np.sum(weight * (paid + log_world - log_joint + log_reverse)))
  total = _evidence(m.initial, transition, reward / temperature, horizon)
  information = float(np.sum(weight * (log_joint - log_marginal - log_options)))
  return OptionBound(evidence, bound, evidence - bound, total, information)


def _seen(t: int, horizon: int, window: int | None, direction: str, past: bool) -> list[tuple[str, int]]:
  """What q̃ of o_t sees: (kind, time) of each variable."""
  reach = horizon if window is None else window
  seen: list[tuple[str, int]] = []
  if direction == "forward":
    seen += [("o", t - 1)] if t else []
    first, last = (max(t - reach, 0), t) if past else (t, min(t + reach, horizon - 1))
    seen += [(kind, i) for i in range(first, last + 1) for kind in ("s", "a")]
    if not past and t + reach >= horizon:
      seen += [("s", horizon)]
  else:
    seen += [("o", t + 1)] if t + 1 < horizon else []
    seen += [(kind, i) for i in range(max(t - reach, 0), t + 1) for kind in ("s", "a")] + [("s", t + 1)]
  return seen


def _sums(keys: np.ndarray, weight: np.ndarray) -> np.ndarray:
  """For each row the total weight of the rows with the same key."""
  if keys.shape[1] == 0:
    return np.full(len(weight), weight.sum())
  base = int(keys.max()) + 1
  flat = np.zeros(len(keys), np.int64)
  for column in keys.T:
    flat = flat * base + column
    _, flat = np.unique(flat, return_inverse=True)
  return np.bincount(flat, weights=weight)[flat]


def _evidence(initial: Any, transition: np.ndarray, reward: np.ndarray, horizon: int) -> float:
  """log E_p[exp Σ r/c] under the prior's uniform actions."""
  message = np.zeros(len(reward))
  for _ in range(horizon):
    backed = np.exp(reward) * np.einsum("sat,t->sa", transition, np.exp(message))
    message = np.log(backed.mean(axis=1))
  return float(np.log(np.sum(np.asarray(initial, np.float64) * np.exp(message))))


def _log(x: np.ndarray) -> np.ndarray:
  with np.errstate(divide="ignore"):
    found: np.ndarray = np.log(x)
  return found
