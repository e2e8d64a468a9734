"""Two decisions on which inference objectives part from the reward they stand for. Constructions of our own.

They make concrete what VIREL holds against its predecessors (1811.01132): maximum-entropy RL prefers a large room of
mediocre actions (`maxent_room`), and pseudo-likelihood methods prefer a lottery for its jackpot (`lottery`). In both,
the first action decides, and every objective's choice of it has a closed form.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl.exact import tabular, virel
from varl.exact.tabular.mdp import concrete
from varl.types import Array

FIRST_ROOM, SECOND_ROOM = 0, 1
"""The first actions of `maxent_room`."""

SAFE, GAMBLE = 0, 1
"""The first actions of `lottery`."""

_HORIZON = 2


class Problem(NamedTuple):
  """A decision process whose states have different numbers of actions.

  Attributes:
    mdp: two steps long and undiscounted; state 0 is the first. Every state has A labels. Where it has k < A actions,
      the labels from k on repeat action 0 and add no choice.
    log_count: `[S, A]`, 0 for a label that is an action, -inf for one that repeats another. As a log-prior it makes the
      entropy that of the k actions; without it a room would be as large as its number of labels.
  """

  mdp: tabular.MDP
  log_count: Array


class Verdicts(NamedTuple):
  """The first action that each objective prefers, int32: the mode of its policy in state 0.

  Attributes:
    reward: maximises E[Σ r]: value iteration.
    maxent: maximises E[Σ r] + c H: soft value iteration, every action counting equally.
    pseudo_likelihood: minimises KL(p(τ|O) ‖ q(τ)) over policies, with p(O|τ) = exp(Σ r/c) and a uniform prior. Given
      the dynamics, its minimiser is the posterior p(a|s, O) of message passing.
    virel: the Boltzmann policy at the end of VIREL's EM.
  """

  reward: Array
  maxent: Array
  pseudo_likelihood: Array
  virel: Array


def maxent_room(k1: Any, r1: Any, r2: Any, *, actions: int | None = None) -> Problem:
  """Two rooms: one with k₁ final actions that all pay r₁, one with a single final action that pays r₂.

  The first action pays nothing and chooses the room. A reward maximiser compares r₁ with r₂; MaxEnt compares
  r₁ + c log k₁ with r₂ (`maxent_margin`). States: start, first room, second room, end.

  Args:
    k1: the number of final actions in the first room, >= 1.
    r1, r2: rewards.
    actions: A, the number of labels, at least k1 and 2; None for the least. Must be given where k1 is traced.

  Raises:
    ValueError: a room without actions, or more actions than labels.
  """
  known = concrete(k1)
  if known is not None and known < 1:
    raise ValueError(f"a room needs at least one action, got k1={k1}")
  if actions is None:
    if known is None:
      raise ValueError("actions, the number of labels, must be given where k1 is traced")
    actions = max(2, int(known))
  if actions < 2 or (known is not None and known > actions):
    raise ValueError(f"actions must be at least 2 and at least k1={k1}, got {actions}")
  dtype = jnp.result_type(r1, r2, 1.0)
  state, label = jnp.arange(4), jnp.arange(actions)
  # From the start to a room, from a room to the end.
  after = jnp.where(state[:, None] > 0, 3, jnp.where(label == SECOND_ROOM, 2, 1))
  pay = jnp.stack([jnp.asarray(r, dtype) for r in (0.0, r1, r2, 0.0)])
  m = tabular.mdp(
    (after[..., None] == state).astype(dtype),
    jnp.broadcast_to(pay[:, None], (4, actions)),
    discount=1.0,
    initial=state == 0,
    terminal=state == 3,
  )
  return Problem(m, _log_count(jnp.stack([jnp.asarray(k) for k in (2, k1, 1, actions)]), actions, dtype))


def lottery(safe: Any, jackpot: Any, chance: Any, *, blank: Any = 0.0) -> Problem:
  """A safe reward, or a ticket that may win the jackpot: `tabular.lottery` with its counts, also for traced numbers.

  A reward maximiser compares `safe` with the mean p J + (1 - p) L; pseudo-likelihood compares p(O|a) = E[e^{r/c}],
  which the jackpot rules (`pseudo_likelihood_margin`). States: start, won, lost, end; won and lost have one action.

  Args:
    safe: the certain reward.
    jackpot: J.
    chance: p in [0, 1].
    blank: L, what a ticket pays that does not win.

  Raises:
    ValueError: a chance outside [0, 1].
  """
  known = concrete(chance)
  if known is not None and not 0 <= known <= 1:
    raise ValueError(f"chance must be in [0, 1]; got {chance}")
  dtype = jnp.result_type(safe, jackpot, chance, blank, 1.0)
  form = tabular.lottery()
  transition = jnp.asarray(form.transition, dtype).at[0, GAMBLE, 1:3].set(jnp.stack([chance, 1.0 - chance]))
  reward = jnp.zeros_like(form.reward, dtype).at[0, SAFE].set(safe).at[1].set(jackpot).at[2].set(blank)
  m = tabular.mdp(transition, reward, discount=1.0, initial=form.initial, terminal=form.terminal)
  return Problem(m, _log_count(jnp.array([2, 1, 1, 2]), 2, dtype))


def maxent_margin(k1: Any, r1: Any, r2: Any, temperature: Any) -> Array:
  """r₁ + c log k₁ - r₂: MaxEnt's mode is the first room exactly where this is positive, c log k₁ > r₂ - r₁."""
  return r1 + temperature * jnp.log(jnp.asarray(k1, jnp.result_type(r1, r2, temperature, 1.0))) - r2


def certainty_equivalent(jackpot: Any, chance: Any, temperature: Any, *, blank: Any = 0.0) -> Array:
  """c log E[e^{r/c}] = c log(p e^{J/c} + (1 - p) e^{L/c}): the safe reward that makes the evidence as likely.

  It grows from the lottery's mean at c → ∞ to the jackpot at c → 0.
  """
  win = jnp.log(chance) + jackpot / temperature
  return temperature * jnp.logaddexp(win, jnp.log1p(-chance) + blank / temperature)


def pseudo_likelihood_margin(safe: Any, jackpot: Any, chance: Any, temperature: Any, *, blank: Any = 0.0) -> Array:
  """c log E[e^{r/c}] - safe: pseudo-likelihood gambles exactly where this is positive, E[e^{r/c}] > e^{safe/c}."""
  return certainty_equivalent(jackpot, chance, temperature, blank=blank) - safe


def verdicts(
  problem: Problem,
  temperature: Array | float,
  *,
  iterations: int = 4,
  m_step: str = "evaluation",
  q: Array | None = None,
) -> Verdicts:
  """What each objective chooses first in one problem.

  Args:
    problem: two steps long.
    temperature: c > 0, reward per nat. VIREL has no temperature; it takes c as the constant of its residual, so that it
      is put to the same test.
    iterations, m_step, q: of `virel.expectation_maximisation`.

  Returns:
    The verdicts, scalars; an exact tie goes to action 0.
  """
  m, log_count = problem
  hard = tabular.hard_value_iteration(m, horizon=_HORIZON)
  maxent = tabular.soft_value_iteration(m, temperature=temperature, horizon=_HORIZON, log_prior=log_count)
  uniform = log_count - jax.nn.logsumexp(log_count, axis=-1, keepdims=True)
  posterior = tabular.message_passing(m, temperature=temperature, horizon=_HORIZON, log_prior=uniform)
  history = virel.expectation_maximisation(
    m, iterations=iterations, scale=temperature, m_step=m_step, horizon=_HORIZON, q=q
  )

  def mode(preference: Array) -> Array:
    return jnp.argmax(preference).astype(jnp.int32)

  return Verdicts(
    reward=mode(hard.q[0, 0]),
    maxent=mode(maxent.log_policy[0, 0]),
    pseudo_likelihood=mode(posterior.log_policy[0, 0]),
    virel=mode(history.log_policy[-1, 0]),
  )


def sweep(problems: Problem, temperature: Array, **options: Any) -> Verdicts:
  """`verdicts` of a batch: problems stacked by `jax.vmap` of a construction, temperatures `[N]`, verdicts `[N]`."""
  return jax.vmap(lambda problem, c: verdicts(problem, c, **options))(problems, temperature)


def _log_count(counts: Array, actions: int, dtype: Any) -> Array:
  return jnp.where(jnp.arange(actions) < counts[:, None], 0.0, -jnp.inf).astype(dtype)
