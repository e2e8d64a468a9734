"""Several tasks that share a prior, with exact expectations: the fixed point of Distral."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import MDP, check_discount
from varl.exact.tabular.values import soft_value_iteration, visitation
from varl.types import Array


class Distral(NamedTuple):
  """The course of N iterations over K tasks, the start among them.

  Attributes:
    log_prior: `[N+1, S, A]`, log π_0; the last is what has been learned.
    objective: `[N+1]`, J of the best policies under each of these priors, in units of reward.
    log_policy: `[K, S, A]`, the tasks' policies under the last prior.
    q: `[K, S, A]`, their soft values.
    visits: `[K, S]`, their discounted visitations.
  """

  log_prior: Array
  objective: Array
  log_policy: Array
  q: Array
  visits: Array


def distral(tasks: MDP, *, divergence: Any, entropy: Any, iterations: int = 500, weighted: bool = True) -> Distral:
  """Alternates the tasks' best policies under a shared prior with the best prior for these policies.

    J(π_0, π_1..π_K) = Σ_i E_{π_i}[Σ_t γ^t (r_i - c_KL log(π_i/π_0) - c_Ent log π_i)]
    π_i = π_0^α e^{β (Q_i - V_i)},   V_i = β⁻¹ log Σ_a π_0^α e^{β Q_i},   α = c_KL/(c_KL + c_Ent),  β = 1/(c_KL + c_Ent)
    π_0(a|s) = Σ_i d_i(s) π_i(a|s) / Σ_i d_i(s),   d_i the discounted visitation

  Each step maximises J in its own argument, so that it never falls. Without the visitations as weights the second one
  does not, and J may fall.

  Args:
    tasks: K processes of the same sizes, stacked on a leading axis.
    divergence: c_KL > 0.
    entropy: c_Ent >= 0; at 0 the priors' support shrinks and the tasks' policies with it.
    iterations: N.
    weighted: whether the mixture is by visitation, or of equal parts.

  Returns:
    A `Distral`.

  Raises:
    ValueError: a process alone, a cost out of range, fewer than one iteration, a discount of 1.

  Reference: Teh et al. 2017, 1707.04175, Eq. 1-7.
  """
  if tasks.reward.ndim != 3:
    raise ValueError(f"several tasks have rewards [K, S, A], got {tasks.reward.shape}")
  checks.arguments(above={"divergence": divergence}, least={"entropy": entropy})
  iterations = checks.whole("iterations", iterations)
  check_discount(tasks.discount)
  return _run(tasks, jnp.asarray(divergence, float), jnp.asarray(entropy, float), iterations, weighted)


@partial(jax.jit, static_argnames=("iterations", "weighted"))
def _run(tasks: MDP, divergence: Array, entropy: Array, iterations: int, weighted: bool) -> Distral:
  temperature = divergence + entropy
  share = divergence / temperature

  def improve(log_prior: Array) -> tuple[Array, Array, Array, Array]:
    def one(m: MDP) -> tuple[Array, Array, Array, Array]:
      best = soft_value_iteration(m, temperature=temperature, log_prior=share * log_prior)
      log_policy = jax.nn.log_softmax(best.log_policy)
      return log_policy, best.q, jnp.sum(m.initial * best.value), visitation(m, log_policy)

    log_policy, q, value, visits = jax.vmap(one)(tasks)
    return log_policy, q, jnp.sum(value), visits

  def step(log_prior: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
    log_policy, _q, objective, visits = improve(log_prior)
    weight = visits if weighted else jnp.ones_like(visits)
    share_of = jnp.log(weight) - jnp.log(jnp.sum(weight, axis=0))
    mixed = jax.nn.logsumexp(log_policy + share_of[..., None], axis=0)
    # A state that no task visits keeps its prior.
    new = jnp.where(jnp.sum(weight, axis=0)[:, None] > 0, jax.nn.log_softmax(mixed), log_prior)
    return new, (log_prior, objective)

  states, actions = tasks.reward.shape[1:]
  start = jnp.full((states, actions), -jnp.log(actions), tasks.reward.dtype)
  last, (log_priors, objectives) = jax.lax.scan(step, start, None, length=iterations)
  log_policy, q, objective, visits = improve(last)
  return Distral(jnp.concatenate([log_priors, last[None]]), jnp.append(objectives, objective), log_policy, q, visits)
