"""The model that an optimist learns, and what it is to be paid for living in it.

Exact inference infers the dynamics with the actions. Its posterior is a policy in another process: dynamics tilted
towards what turns out well, and a reward from which that tilt is paid for. Of all models priced in this way it is the
best one, and the price is right: no policy is worth more under any of them than its evidence.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import MDP, canonical, check_horizon, log_prior_of, temperature_of
from varl.exact.tabular.messages import message_backup, posterior_dynamics, safe_log
from varl.exact.tabular.values import MAX_ITERATIONS, fixed_point, soft_scale
from varl.types import Array


class OptimisticModel(NamedTuple):
  """The stationary posterior of policy and dynamics.

  Attributes:
    q: `[S, A]`, Q_o(s, a), in units of reward.
    value: `[S]`, V_o(s).
    log_policy: `[S, A]`; in a terminal state, the prior, normalised.
    log_dynamics: log q*(s'|s, a), shaped as the process' `transition`.
  """

  q: Array
  value: Array
  log_policy: Array
  log_dynamics: Array


def optimistic_model(
  m: MDP,
  *,
  temperature: Any,
  log_prior: Any = None,
  tolerance: float | None = None,
  max_iterations: int = MAX_ITERATIONS,
) -> OptimisticModel:
  """The fixed point of message passing: the best policy and the best model of a process, inferred together.

    V_o(s) = c log Σ_a p(a|s) e^{Q_o(s, a)/c},    Q_o(s, a) = r(s, a) + c log Σ_s' P(s'|s, a) e^{γ V_o(s')/c}
    π ∝ p e^{Q_o/c},    q*(s'|s, a) ∝ P(s'|s, a) e^{γ V_o(s')/c}

  (π, q*) maximise E[Σ γ^t (r - c log π/p - c log q/P)] over all policies and all models.

  Args:
    temperature: c > 0, reward per nat.
    log_prior, tolerance, max_iterations: as in `soft_value_iteration`.

  Returns:
    An `OptimisticModel`.

  Raises:
    ValueError: a temperature that is not above 0, a discount of 1, or a prior without actions.

  Reference: Eysenbach et al. 2021, 2110.02758, and Chow et al. 2020, 2006.05443, who learn it. The recursion is that of
    `message_passing`: Levine 2018, 1805.00909, section 2.4.
  """
  c, log_p = temperature_of(m, temperature), log_prior_of(m, log_prior)
  check_horizon(m, None)
  return _optimistic(m, c, log_p, tolerance, checks.whole("max_iterations", max_iterations))


def corrected_problem(m: MDP, log_dynamics: Any, *, temperature: Any) -> MDP:
  """The process in which a model's error is paid for: dynamics q, reward r - c KL(q(·|s, a) ‖ P(·|s, a)).

    Σ_s' q (r + c log P/q) = r - c KL(q ‖ P)

  Its soft value is at most V_o of `optimistic_model` for every q, and equals it for q*; for q = P it is that of
  `soft_value_iteration` in the process itself.

  Args:
    m: the process P.
    log_dynamics: log q, shaped as `m.transition`, normalised; -inf is allowed.
    temperature: c > 0.

  Returns:
    An `MDP`.

  Raises:
    ValueError: a temperature that is not above 0, another shape, or rows that do not sum to 1 within 1e-5. A model that
      goes where P does not has a reward of -inf.

  Reference: Eysenbach et al. 2020, 2006.13916, section 4, whose reward it is in expectation.
  """
  c = temperature_of(m, temperature)
  log_q = jnp.asarray(log_dynamics, m.reward.dtype)
  if log_q.shape != m.transition.shape:
    raise ValueError(f"log_dynamics must have the shape of transition, {m.transition.shape}; got {log_q.shape}")
  # Rows of terminal states are those of the process, whatever the model says of them.
  log_q = jnp.where(m.terminal[:, None, None], safe_log(m.transition), log_q)
  q = jnp.exp(log_q)
  if not isinstance(q, jax.core.Tracer):
    total = jnp.sum(q, axis=-1)
    if not bool(jnp.all(jnp.abs(total - 1.0) <= 1e-5)):
      raise ValueError(
        f"rows of log_dynamics must sum to 1 (within 1e-5); got {float(total.min())} to {float(total.max())}"
      )
  some = q > 0
  log_ratio = jnp.where(some, jnp.where(some, log_q, 0.0) - safe_log(m.transition), 0.0)
  divergence = jnp.sum(jnp.where(some, q * log_ratio, 0.0), axis=-1)
  return canonical(m._replace(transition=q, reward=m.reward - c * divergence))


@partial(jax.jit, static_argnames="max_iterations")
def _optimistic(m: MDP, temperature: Array, log_prior: Array, tolerance: Any, max_iterations: int) -> OptimisticModel:
  def backup(next_value: Array) -> tuple[Array, Array]:
    return message_backup(m, next_value, temperature, log_prior)

  value = fixed_point(m, lambda value: backup(value)[1], soft_scale(m, temperature), tolerance, max_iterations)
  q, value = backup(value)
  log_policy = log_prior + (q - value[:, None]) / temperature
  log_policy = jnp.where(m.terminal[:, None], jax.nn.log_softmax(log_prior), log_policy)
  return OptimisticModel(q, value, log_policy, posterior_dynamics(m, value, temperature))
