"""Action values that an expert's rows alone determine, and the value of an algorithm that has none."""

import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.networks import Critic
from varl.step import descend, stream_key
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, TrainStep, Value
from varl.values.actions import check


def inverse_soft_q(
  critic: Critic,
  optimizer: optax.GradientTransformation,
  *,
  regularisation: float | Array,
  gamma: float | Array = 0.99,
  pessimism: str | float | Array = "min",
  reward_scale: float | Array = 1.0,
  group: str = "critic",
) -> Value:
  """Action values whose implied reward sets an expert's rows apart: inverse soft Q-learning with the χ² regulariser.

    L = Σ_i -E[φ(r_i)] + E[V(s) - γ m V(s')]/c,   r_i = (Q_i(s, a) - γ m V(s'))/c,   φ(r) = r - r²/(4α)
    V(s) = Σ_n w_n (Q(s, a_n) - α_T log_ratio_n),   a_n from the posterior at s

  The batch's rows are taken for the expert's (`demonstrations.learner`). The gradient runs through V at both ends; the
  posterior's actions are constants of it. With the posterior that is soft-optimal for Q, V is its soft maximum. Where
  s' is random, r is estimated from one draw, and its square is too large by γ² Var V(s').

  Args:
    critic, optimizer, gamma, pessimism, reward_scale, group: as in `values.q_value`; γ is the discount, c
      `reward_scale`. There is no slow copy.
    regularisation: α > 0; rewards lie below 2α where φ is worth anything.

  Returns:
    A Value. Metrics: `implied_reward`, the mean of r; `v`, the mean of V(s); `critic_loss`.

  Raises:
    ValueError: a concrete α that is not above 0, or γ outside [0, 1); an unknown pessimism.

  Reference: Garg et al. 2021, 2106.12142, Eq. 10 and appendix B; the second term by the expert's own visits: section 5.
  """
  checks.arguments(above={"regularisation": regularisation})
  check(gamma, pessimism)

  def q(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(critic.apply(params[group], obs, action), pessimism)

  def soft(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    drawn = design.posterior.particles(design, params, batch._replace(extras={}), key)
    alpha = design.temperature.value(params)
    return losses.soft_value(q(params, batch.obs, drawn.action), drawn.log_weight, drawn.log_ratio, alpha)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      here = soft(design, params, batch, stream_key(key, "here"))
      following = (
        gamma * batch.discount * soft(design, params, batch._replace(obs=batch.next_obs), stream_key(key, "there"))
      )
      reward = (critic.apply(params[group], batch.obs, batch.action) - following) / reward_scale
      each = (here - following) / reward_scale - losses.inverse_soft_q(reward, regularisation)
      return jnp.mean(jnp.sum(each, axis=0)), {"implied_reward": jnp.mean(reward), "v": jnp.mean(here)}

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  return Value(lambda key: {group: critic.init(key)}, q, q, step)


def none() -> Value:
  """No value: Q = 0, and nothing is learned. For policies that are learned from actions alone."""

  def q(params: Params, obs: Observation, action: Array) -> Array:
    return jnp.zeros((len(action), *jnp.shape(obs)[:-1]), jnp.result_type(float))

  def step(design: Design) -> TrainStep:
    return TrainStep(lambda params: {}, lambda params, state, batch, key: (params, state, {}), (), ())

  return Value(lambda key: {}, q, q, step)
