"""Where imitation by a classifier ends, exactly: the best discriminator, its fixed points, and IQ-Learn's."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.exact.inverse.expert import occupancy
from varl.exact.tabular import MDP, SoftSolution, soft_value_iteration
from varl.exact.tabular.mdp import concrete, log_prior_of, temperature_of
from varl.exact.tabular.messages import safe_log
from varl.losses import payoff
from varl.types import Array


class Imitation(NamedTuple):
  """A policy that imitates, and what it is paid.

  Attributes:
    reward: `[S, A]`.
    log_policy: `[S, A]`, the soft-optimal one of that reward.
    residual: scalar, the largest change that one more step would make to a log-probability; for `iq_learn`, the largest
      entry of the objective's gradient.
  """

  reward: Array
  log_policy: Array
  residual: Array


def absorbing(m: MDP) -> tuple[MDP, Array]:
  """The process in which whoever ends stays for ever, with one action left, so that a reward can be paid there, too.

  Returns:
    (the process, without a terminal state; log_prior `[S, A]`: 0 for each action, and for the first alone where the
    process ended).

  Reference: Kostrikov et al. 2019, 1809.02925, section 4.2.
  """
  ended = m.terminal[:, None]
  first = jnp.arange(m.reward.shape[1])[None, :] == 0
  log_prior = jnp.where(ended & ~first, -jnp.inf, jnp.zeros_like(m.reward))
  return m._replace(terminal=jnp.zeros_like(m.terminal)), log_prior


def optimal_logit(expert: Array, learner: Array) -> Array:
  """The logit of the best discriminator D* = ρ_E/(ρ_E + ρ_π) of two normalised occupancies: log ρ_E - log ρ_π.

  Args:
    expert, learner: `[S, A]`; each is normalised here. 0 where neither has been.

  Returns:
    `[S, A]`.

  Reference: Goodfellow et al. 2014, 1406.2661, proposition 1; Ho and Ermon 2016, 1606.03476, Eq. 14.
  """
  logs = [safe_log(x / jnp.sum(x)) for x in (jnp.asarray(expert), jnp.asarray(learner))]
  seen = (logs[0] > -jnp.inf) | (logs[1] > -jnp.inf)
  return jnp.where(seen, logs[0] - jnp.where(seen, logs[1], 0.0), 0.0)


def adversarial_fixed_point(
  m: MDP,
  log_expert: Any,
  *,
  form: str,
  temperature: Any,
  log_prior: Any = 0.0,
  iterations: int = 200,
) -> Imitation:
  """The policy that is soft-optimal for what the best discriminator of it and the expert pays: where GAIL ends.

    π = argmax E[Σ γ^t (g(D*) + c H(π))],    D* = ρ_E/(ρ_E + ρ_π),    ρ: normalised discounted occupancies

  It is the expert where the reward's form neither pays for survival nor for an end, or ends are no loss (`absorbing`),
  and the temperature is low; elsewhere it is not, however many demonstrations there are.

  Args:
    m: the process; its reward is ignored.
    log_expert: `[S, A]`, the expert's policy, positive wherever the learner may act.
    form: as in `losses.payoff`.
    temperature: c > 0.
    log_prior: as in `soft_value_iteration`; 0.0: c pays for entropy.
    iterations: of Newton's method on the log-probabilities, each with a line search.

  Returns:
    An `Imitation`.

  Raises:
    ValueError: an unknown form, another shape, or a temperature that is not above 0.

  Reference: Ho and Ermon 2016, 1606.03476, Eq. 15 and 16; the bias of its forms: Kostrikov et al. 2019, 1809.02925,
    section 4.
  """
  payoff(jnp.zeros(()), form)
  c, log_p = temperature_of(m, temperature), log_prior_of(m, log_prior)
  log_expert = jnp.asarray(log_expert, m.reward.dtype)
  if log_expert.shape != m.reward.shape:
    raise ValueError(f"log_expert must have shape {m.reward.shape}; got {log_expert.shape}")
  return _adversarial(m, log_expert, c, log_p, form, checks.whole("iterations", iterations))


def iq_learn(
  m: MDP, expert: Any, *, regularisation: Any, temperature: Any, log_prior: Any = 0.0, iterations: int = 100
) -> Imitation:
  """IQ-Learn's optimum with the χ² regulariser, over all rewards.

    max_r  Σ_{s,a} ρ_E (r - r²/(4α)) - E_{s_0}[V_r(s_0)],    V_r: the soft value of r
    at the optimum  r = 2α (1 - ρ_π/ρ_E),  π the soft-optimal policy of r

  The policy tends to the expert's as 1/α.

  Args:
    m: the process; its reward is ignored.
    expert: ρ_E `[S, A]`, the expert's `occupancy`, positive in every state that is not terminal.
    regularisation: α > 0.
    temperature: c > 0.
    log_prior: as in `soft_value_iteration`; 0.0: c pays for entropy.
    iterations: of Newton's method on r, each with a line search.

  Returns:
    An `Imitation`.

  Raises:
    ValueError: a shape that differs, an expert who never takes some action, or a number that is not above 0.

  Reference: Garg et al. 2021, 2106.12142, section 4 and appendix B (χ²).
  """
  c, log_p = temperature_of(m, temperature), log_prior_of(m, log_prior)
  expert = jnp.asarray(expert, m.reward.dtype)
  if expert.shape != m.reward.shape:
    raise ValueError(f"expert must have shape {m.reward.shape}; got {expert.shape}")
  known, terminal, alpha = concrete(expert), concrete(m.terminal), concrete(regularisation)
  if known is not None and terminal is not None and not (known[~terminal] > 0).all():
    state, action = np.argwhere((known <= 0) & ~terminal[:, None])[0]
    raise ValueError(f"the expert must take every action where it is; it never takes {action} in state {state}")
  if alpha is not None and not (np.ndim(alpha) == 0 and alpha > 0):
    raise ValueError(f"regularisation must be above 0; got {regularisation}")
  return _iq(m, expert, jnp.asarray(regularisation, m.reward.dtype), c, log_p, checks.whole("iterations", iterations))


def _soft(m: MDP, reward: Array, temperature: Array, log_prior: Array) -> SoftSolution:
  return soft_value_iteration(m._replace(reward=reward), temperature=temperature, log_prior=log_prior)


@partial(jax.jit, static_argnames=("form", "iterations"))
def _adversarial(
  m: MDP, log_expert: Array, temperature: Array, log_prior: Array, form: str, iterations: int
) -> Imitation:
  expert = occupancy(m, log_expert)
  free = (log_prior > -jnp.inf) & ~m.terminal[:, None]

  def policy_of(x: Array) -> Array:
    return jax.nn.log_softmax(jnp.where(free, x, jnp.where(m.terminal[:, None], 0.0, -jnp.inf)), axis=-1)

  def reward_of(log_policy: Array) -> Array:
    return jnp.where(free, payoff(optimal_logit(expert, occupancy(m, log_policy)), form), 0.0)

  def error(x: Array) -> Array:
    log_policy = policy_of(x)
    best = _soft(m, reward_of(log_policy), temperature, log_prior).log_policy
    return jnp.where(free, best - log_policy, 0.0)

  def newton(x: Array, _: None) -> tuple[Array, None]:
    # A constant added to a state's x changes nothing: the row's mean stays, which makes the system regular.
    slope = jax.jacobian(error)(x).reshape(x.size, x.size)
    means = jnp.kron(jnp.eye(len(x), dtype=x.dtype), jnp.ones((x.shape[1], x.shape[1]), x.dtype))
    fixed = jnp.diag(jnp.where(free, 0.0, 1.0).ravel())
    step = jnp.linalg.solve(slope - means - fixed, -error(x).ravel()).reshape(x.shape)
    return _searched(x, step, lambda x: jnp.sum(jnp.square(error(x)))), None

  start = jnp.where(free, log_expert, 0.0)
  x, _ = jax.lax.scan(newton, start, None, length=iterations)
  log_policy = policy_of(x)
  return Imitation(reward_of(log_policy), log_policy, jnp.max(jnp.abs(error(x))))


@partial(jax.jit, static_argnames="iterations")
def _iq(m: MDP, expert: Array, alpha: Array, temperature: Array, log_prior: Array, iterations: int) -> Imitation:
  live = ~m.terminal[:, None]

  def cost(reward: Array) -> Array:
    value = _soft(m, jnp.where(live, reward, 0.0), temperature, log_prior).value
    return jnp.sum(m.initial * value) - jnp.sum(jnp.where(live, expert * (reward - reward**2 / (4 * alpha)), 0.0))

  def newton(reward: Array, _: None) -> tuple[Array, None]:
    curvature = jax.hessian(cost)(reward).reshape(reward.size, reward.size)
    curvature = curvature + jnp.diag(jnp.where(live, 0.0, jnp.ones_like(reward)).ravel())  # nothing is paid at an end
    step = -jnp.linalg.solve(curvature, jax.grad(cost)(reward).ravel()).reshape(reward.shape)
    return _searched(reward, step, cost), None

  reward, _ = jax.lax.scan(newton, jnp.zeros_like(m.reward), None, length=iterations)
  log_policy = _soft(m, jnp.where(live, reward, 0.0), temperature, log_prior).log_policy
  return Imitation(reward, log_policy, jnp.max(jnp.abs(jnp.where(live, jax.grad(cost)(reward), 0.0))))


def _searched(x: Array, step: Array, cost: Any) -> Array:
  """x + 2^-k step of the least cost, or x itself."""
  sizes = jnp.concatenate([jnp.exp2(-jnp.arange(20.0)), jnp.zeros(1)]).astype(x.dtype)
  costs = jax.vmap(lambda size: cost(x + size * step))(sizes)
  return x + sizes[jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf))] * step
