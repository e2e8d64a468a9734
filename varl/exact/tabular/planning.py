"""What planning by sequential Monte Carlo converges to: the sum over all trajectories, for each way of weighing them.

A particle's root action a_0 is read out at the end of h steps by the particle's weight, the product of the steps' own.
Resampling changes no expectation, so the limit of infinitely many particles is the sum over all trajectories of
Π π(a_t|s_t) P(s_{t+1}|s_t, a_t) e^{Δ_t}, by root action.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import (
  MDP,
  at_successors,
  expected,
  log_expected,
  log_prior_of,
  temperature_of,
)
from varl.exact.tabular.messages import message_passing, safe_log
from varl.exact.tabular.values import soft_value_iteration
from varl.types import Array

WEIGHTS = ("expected", "sampled", "mixed")


class PlanningLimit(NamedTuple):
  """The limit of infinitely many particles.

  Attributes:
    log_policy: `[S, A]`, the logarithm of the normalised weight of each root action, from each state.
    log_mass: `[S]`, the logarithm of the expected weight; 0 where the weights are those of a posterior.
  """

  log_policy: Array
  log_mass: Array


def planning_limit(
  m: MDP,
  log_policy: Any,
  *,
  temperature: Any,
  horizon: int,
  weight: str = "expected",
  steps: int | None = None,
  log_prior: Any = None,
) -> PlanningLimit:
  """The root policy that particles weighed in this way converge to, with exact values of H steps to go.

    expected:  Δ = (r + γ E V(s') - V(s))/c + log p - log π,      V of `soft_value_iteration`
    sampled:   Δ = (r + γ V_o(s') - V_o(s))/c + log p - log π,    V_o of `message_passing`
    mixed:     Δ = (r + γ V(s'))/c - log E e^{γV(s)/c} + log p - log π,   V of `soft_value_iteration`

  The first is the variational posterior p e^{(Q - V)/c}, the second the optimistic posterior p(a|s, O), for any
  proposal with the prior's support. The third, the sampled V beside the logarithm of an expectation over where the
  step before has led, tilts the dynamics by e^{V} and then counts V once more: where dynamics are random, no number of
  particles makes it one of the two. At the root, whose state is given, it subtracts V(s).

  Args:
    log_policy: `[S, A]`, the proposal π, normalised.
    temperature: c > 0.
    horizon: H, steps to go from the root.
    weight: "expected", "sampled" or "mixed".
    steps: h, steps that are planned, of the H; by default all.
    log_prior: as in `soft_value_iteration`.

  Returns:
    A `PlanningLimit`; in a terminal state, the proposal with mass 1.

  Raises:
    ValueError: an unknown weight, or steps outside [1, horizon]; as `soft_value_iteration`.

  Reference: Piché et al. 2019, "Probabilistic Planning with Sequential Monte Carlo methods", Algorithm 1, whose weight
    is the third.
  """
  if weight not in WEIGHTS:
    raise ValueError(f"weight is one of {', '.join(WEIGHTS)}; got {weight!r}")
  horizon = checks.whole("horizon", horizon)
  steps = horizon if steps is None else checks.whole("steps", steps, below=horizon + 1)
  c, log_p = temperature_of(m, temperature), log_prior_of(m, log_prior)
  solve = message_passing if weight == "sampled" else soft_value_iteration
  value = solve(m, temperature=c, horizon=horizon, log_prior=log_p).value
  proposal = jnp.broadcast_to(jnp.asarray(log_policy, m.reward.dtype), m.reward.shape)
  return _limit(m, c, log_p, proposal, value, steps, weight)


@partial(jax.jit, static_argnames=("steps", "weight"))
def _limit(
  m: MDP, c: Array, log_prior: Array, log_policy: Array, value: Array, steps: int, weight: str
) -> PlanningLimit:
  log_rows = safe_log(m.transition)
  ended = m.terminal[:, None]

  def step(t: int, log_rest: Array, last: bool) -> Array:
    """log Σ_s' P e^{Δ} rest(s') of step t for each root (s, a), `[S, A]`, but for -V(s) and the proposal's ratio."""
    now = m.reward / c
    if weight == "expected":
      return now + m.discount * expected(m, value[t + 1]) / c + log_expected(m, log_rest)
    ahead = m.discount * value[t + 1] / c
    paths = log_rows + at_successors(m, ahead + log_rest)
    if weight == "mixed" and not last:
      # What the next step subtracts in place of its V(s) is of this step's successors: it is subtracted here.
      going = at_successors(m, jnp.where(m.terminal, 0.0, 1.0).astype(m.reward.dtype))
      paths = paths - going * log_expected(m, ahead)[..., None]
    return now + jax.nn.logsumexp(paths, axis=-1)

  log_rest = jnp.zeros_like(value[0])
  for t in reversed(range(steps)):
    log_weight = jnp.where(log_policy > -jnp.inf, log_prior, -jnp.inf) + step(t, log_rest, last=t == steps - 1)
    if weight != "mixed" or t == 0:
      log_weight = log_weight - value[t][:, None] / c
    log_weight = jnp.where(ended, log_policy, log_weight)
    log_rest = jax.nn.logsumexp(log_weight, axis=-1)
  return PlanningLimit(log_weight - log_rest[:, None], log_rest)
