"""Control as exact inference: what was done, and what happened, given that every step was optimal.

The graphical model: s_0 ~ ρ, a_t ~ p(a|s_t), s_{t+1} ~ P(s'|s_t, a_t), and an event O_t with p(O_t|s_t, a_t) =
e^{r(s_t, a_t)/c} that is observed at each of the H steps (rewards above 0 make an unnormalised "probability", which
changes nothing below). In a terminal state no more events are observed.

Dynamics are inferred with the actions, so stochastic ones are taken to turn out well: the posterior policy is that of
an optimist. `soft_value_iteration` is the answer with the dynamics held. The two are the same where dynamics are
deterministic.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import (
  MDP,
  arrivals,
  at_successors,
  log_expected,
  log_prior_of,
  temperature_of,
)
from varl.exact.tabular.values import policy_evaluation, soft_maximum
from varl.types import Array


class Messages(NamedTuple):
  """The posterior given O_0 .. O_{H-1}. In a terminal state the policy is the prior, normalised.

  Attributes:
    q: `[H, S, A]`, c log p(O_t .. O_{H-1} | s_t, a_t): c times the logarithm of the backward message α_t.
    value: `[H+1, S]`, c log p(O_t .. O_{H-1} | s_t), of β_t; the last row is 0.
    log_policy: `[H, S, A]`, log p(a_t | s_t, O).
    log_dynamics: `[H, S, A, S]`, log p(s_{t+1} | s_t, a_t, O); `[H, S, A, K]` for a sparse process.
    log_marginals: `[H+1, S]`, log p(s_t | O), t = 0 .. H.
    log_evidence: scalar, log p(O_0 .. O_{H-1}), in nats.
  """

  q: Array
  value: Array
  log_policy: Array
  log_dynamics: Array
  log_marginals: Array
  log_evidence: Array


def message_passing(m: MDP, *, temperature: Any, horizon: int, log_prior: Any = None) -> Messages:
  """Backward and forward messages, in logarithms.

    Q_t(s, a) = r(s, a) + c log Σ_s' P(s'|s, a) e^{γ V_{t+1}(s')/c},    V_t(s) = c log Σ_a p(a|s) e^{Q_t(s, a)/c}
    p(a|s, O) = p(a|s) e^{(Q_t - V_t)/c},    p(s'|s, a, O) ∝ P(s'|s, a) e^{γ V_{t+1}(s')/c},    p(s_0|O) ∝ ρ e^{V_0/c}

  At γ = 1 this is exact inference in the graphical model. A discount below 1 belongs to no evidence: it makes the
  recursion one of discounted certainty equivalents, which is our choice because deterministic dynamics then still give
  the soft value iteration of the same discount (a model with a discount, Levine's section 2.5, ends episodes at random
  and is optimistic about that, too).

  Args:
    temperature: c > 0, reward per nat.
    horizon: H >= 1.
    log_prior: None for the uniform prior -log A, or whatever broadcasts to `[S, A]`; 0.0 for the unnormalised one.

  Returns:
    `Messages`.

  Raises:
    ValueError: a temperature that is not above 0, a horizon below 1, or a prior without actions.

  Reference: Levine 2018, 1805.00909, sections 2.3 (messages) and 2.4 (posterior dynamics).
  """
  c, log_p, horizon = _checked(m, temperature, log_prior, horizon)
  return _messages(m, c, log_p, horizon)


def log_evidence(m: MDP, *, temperature: Any, horizon: int, log_prior: Any = None) -> Array:
  """log p(O_0 .. O_{H-1}) = log Σ_s ρ(s) e^{V_0(s)/c}, a scalar in nats; arguments as in `message_passing`."""
  c, log_p, horizon = _checked(m, temperature, log_prior, horizon)
  return _evidence(m, c, log_p, horizon)


def elbo(m: MDP, log_policy: Any, *, temperature: Any, horizon: int, log_prior: Any = None) -> Array:
  """The evidence lower bound of a policy: the first state and the dynamics as they are, only the actions inferred.

    E_{ρ, P, π}[Σ_{t<H} γ^t (r(s_t, a_t)/c - log π(a_t|s_t) + log p(a_t|s_t))] <= log p(O_0 .. O_{H-1})    (γ = 1)

  The best of it is soft value iteration's E_ρ[V_0]/c. It reaches the evidence where neither the first state nor the
  dynamics are random.

  Args:
    log_policy: `[S, A]` or `[H, S, A]`, normalised.
    temperature, horizon, log_prior: as in `message_passing`.

  Returns:
    Scalar, in nats.

  Raises:
    ValueError: as `message_passing`; or a policy of the wrong shape.

  Reference: Levine 2018, 1805.00909, section 3.2; Marino et al., "On the Design of Variational RL Algorithms", Eq. 5
  for the family and Eq. 7 for the bound, which is c times this one.
  """
  c, log_p, horizon = _checked(m, temperature, log_prior, horizon)
  value = policy_evaluation(m, log_policy, temperature=c, log_prior=log_p, horizon=horizon).value
  return jnp.sum(m.initial * value[0]) / c


def _checked(m: MDP, temperature: Any, log_prior: Any, horizon: int) -> tuple[Array, Array, int]:
  return temperature_of(m, temperature), log_prior_of(m, log_prior), checks.whole("horizon", horizon)


@partial(jax.jit, static_argnames="horizon")
def _evidence(m: MDP, temperature: Array, log_prior: Array, horizon: int) -> Array:
  _, value = _backward(m, temperature, log_prior, horizon)
  return jax.nn.logsumexp(safe_log(m.initial) + value[0] / temperature)


@partial(jax.jit, static_argnames="horizon")
def _messages(m: MDP, temperature: Array, log_prior: Array, horizon: int) -> Messages:
  c, ended = temperature, m.terminal[:, None]
  log_rest = jax.nn.log_softmax(log_prior)

  def forward(mass: Array, now: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array, Array]]:
    q, value, next_value = now
    log_dynamics = posterior_dynamics(m, next_value, c)
    log_policy = jnp.where(ended, log_rest, log_prior + (q - value[:, None]) / c)
    leaving = jnp.where(m.terminal, 0.0, mass)[:, None] * jnp.exp(log_policy)
    mass = arrivals(m, leaving[..., None] * jnp.exp(log_dynamics)) + jnp.where(m.terminal, mass, 0.0)
    return mass, (log_policy, log_dynamics, mass)

  q, value = _backward(m, c, log_prior, horizon)
  log_joint = safe_log(m.initial) + value[0] / c
  evidence = jax.nn.logsumexp(log_joint)
  first = jnp.exp(log_joint - evidence)
  _, (log_policy, log_dynamics, later) = jax.lax.scan(forward, first, (q, value[:-1], value[1:]))
  return Messages(q, value, log_policy, log_dynamics, safe_log(jnp.concatenate([first[None], later])), evidence)


def _backward(m: MDP, temperature: Array, log_prior: Array, horizon: int) -> tuple[Array, Array]:
  """c log α `[H, S, A]` and c log β `[H+1, S]`."""

  def step(next_value: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
    q, value = message_backup(m, next_value, temperature, log_prior)
    return value, (q, value)

  last = jnp.zeros_like(m.initial)
  _, (q, value) = jax.lax.scan(step, last, None, length=horizon, reverse=True)
  return q, jnp.concatenate([value, last[None]])


def message_backup(m: MDP, next_value: Array, temperature: Array, log_prior: Array) -> tuple[Array, Array]:
  """(r + c log E e^{γV'/c} `[S, A]`, c log Σ_a p e^{Q/c} `[S]`) for V' `[S]`: one backward message, 0 after an end."""
  ahead = temperature * log_expected(m, m.discount * next_value / temperature)
  q = jnp.where(m.terminal[:, None], 0.0, m.reward + ahead)
  return q, jnp.where(m.terminal, 0.0, soft_maximum(q, log_prior, temperature))


def posterior_dynamics(m: MDP, next_value: Array, temperature: Array) -> Array:
  """log of P(s'|s, a) e^{γV'(s')/c}, normalised, shaped as `transition`, for V' `[S]`."""
  ahead = m.discount * next_value / temperature
  return safe_log(m.transition) + at_successors(m, ahead) - log_expected(m, ahead)[..., None]


def safe_log(probability: Array) -> Array:
  """log, -inf at 0, where its derivative is 0 instead of NaN."""
  some = probability > 0
  return jnp.where(some, jnp.log(jnp.where(some, probability, 1.0)), -jnp.inf)
