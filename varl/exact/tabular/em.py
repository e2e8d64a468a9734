"""Expectation maximisation with a learned prior, with exact expectations: the tabular limit of MPO and its kin."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import MDP, check_horizon, log_prior_of, temperature_of
from varl.exact.tabular.values import policy_evaluation, soft_value_iteration
from varl.types import Array


class EM(NamedTuple):
  """The course of N iterations, the start among them.

  Attributes:
    log_prior: `[N+1, S, A]`, normalised; the last is what has been learned.
    objective: `[N+1]`, J under each of these priors, in units of reward.
  """

  log_prior: Array
  objective: Array


def expectation_maximisation(
  m: MDP,
  *,
  temperature: Any,
  iterations: int,
  log_prior: Any = None,
  e_step: Literal["optimal", "one_step"] = "optimal",
) -> EM:
  """Alternates the best posterior under the prior with the best prior for that posterior, which is the posterior.

    J(π, p) = E_{ρ, P, π}[Σ_t γ^t (r - c KL(π ‖ p))]
    E-step: π_n(a|s) ∝ p_n(a|s) e^{Q_n(s, a)/c}        M-step: p_{n+1} = π_n

  What Q_n is, what `objective` reports, and why that never falls, in any state and so in the mean over ρ:

  - "optimal": Q_n is soft value iteration's under p_n, the objective J(π_n, p_n) = E_ρ[V_n]. π_n maximises J(·, p_n)
    in every state; p_{n+1} = π_n maximises J(π_n, ·), as the KL is then 0. Neither step can lower J.
  - "one_step": Q_n is the plain return of following p_n itself (MPO's E-step at a fixed temperature), and the objective
    is that return, J(p_n, p_n). This E-step does not maximise J(·, p_n), yet raises it: in every state the mean of Q_n
    under π_n, its KL paid, is c log E_p_n[e^{Q_n/c}] >= E_p_n[Q_n], so J(p_n, p_n) <= J(π_n, p_n) <= J(π_n, π_n), the
    last because the KL is then 0.

  Args:
    temperature: c > 0, reward per nat. The smaller, the larger the steps.
    iterations: N >= 1.
    log_prior: the first prior, normalised here; None for the uniform one. Actions that it excludes stay excluded.
    e_step: as above.

  Returns:
    An `EM`.

  Raises:
    ValueError: a temperature that is not above 0, fewer than one iteration, another e_step, a discount of 1, or a prior
      without actions.

  Reference: Marino et al., "On the Design of Variational RL Algorithms", Algorithm 1, Eq. 7 and 11; Abdolmaleki et al.
  2018, 1806.06920, section 3, for the one-step form.
  """
  c, log_p = temperature_of(m, temperature), log_prior_of(m, log_prior)
  check_horizon(m, None)
  if e_step not in ("optimal", "one_step"):
    raise ValueError(f"e_step must be 'optimal' or 'one_step'; got {e_step!r}")
  iterations = checks.whole("iterations", iterations)
  return _run(m, c, jax.nn.log_softmax(log_p), iterations, e_step)


@partial(jax.jit, static_argnames=("iterations", "e_step"))
def _run(m: MDP, temperature: Array, log_prior: Array, iterations: int, e_step: str) -> EM:
  def infer(log_p: Array) -> tuple[Array, Array]:
    """The posterior under `log_p` `[S, A]`, and the objective there."""
    if e_step == "optimal":
      optimum = soft_value_iteration(m, temperature=temperature, log_prior=log_p)
      # Normalised again: over hundreds of iterations the rounding of each would add up.
      return jax.nn.log_softmax(optimum.log_policy), jnp.sum(m.initial * optimum.value)
    followed = policy_evaluation(m, log_p)
    return jax.nn.log_softmax(log_p + followed.q / temperature), jnp.sum(m.initial * followed.value)

  def step(log_p: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
    log_posterior, objective = infer(log_p)
    return log_posterior, (log_p, objective)

  # One iteration more than asked for, which tells the last prior's objective.
  _, (log_priors, objective) = jax.lax.scan(step, log_prior, None, length=iterations + 1)
  return EM(log_priors, objective)
