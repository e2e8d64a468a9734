"""Values: what actions are worth, and how that is learned."""

import jax.numpy as jnp
import optax

from varl import losses
from varl.networks import Critic
from varl.step import chain, copy, descend, track
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, TrainStep, Value


def q_value(
  critic: Critic,
  optimizer: optax.GradientTransformation,
  *,
  gamma: float | Array = 0.99,
  tau: float | Array = 0.005,
  pessimism: str | float | Array = "min",
  regularised: bool = True,
  reward_scale: float | Array = 1.0,
  group: str = "critic",
) -> Value:
  """An ensemble of action values with a slow target copy (1812.05905, Eq. 5-6).

    y = c r + γ m V(s'),   V(s') = Σ_n w_n (Q̄(s', a_n) - α log_ratio_n),   a_n from the posterior at s'
    L = mean over the batch of Σ_i ½ (Q_i(s, a) - y)²,   θ̄ ← (1 - τ) θ̄ + τ θ

  where Q̄ is the pessimistic reduction of the target ensemble, and m = 1 - terminated.

  Args:
    critic: an ensemble (`networks.action_in` for continuous, `networks.action_out` for discrete actions).
    optimizer: for the ensemble's parameters.
    gamma: γ, the discount a step.
    tau: τ, the rate of the target copy.
    pessimism: "min", or κ for mean - κ·std over the ensemble (see `losses.pessimistic`).
    regularised: whether the target pays for divergence from the prior (SAC) or evaluates the plain reward (α = 0,
      VIREL).
    reward_scale: c, multiplies the reward.
    group: the parameter group's name; its copy is "target_<group>".

  Raises:
    ValueError: a concrete γ outside [0, 1), or τ outside (0, 1], or an unknown pessimism.
  """
  if isinstance(gamma, int | float) and not 0.0 <= gamma < 1.0:
    raise ValueError(f"the discount lies in [0, 1), got {gamma}")
  if isinstance(pessimism, str) and pessimism != "min":
    raise ValueError(f"pessimism is 'min' or a number of standard deviations, got {pessimism!r}")
  target = f"target_{group}"
  follow = track(group, into=target, rate=tau)

  def init(key: Key) -> Params:
    params = critic.init(key)
    return {group: params, target: copy(params)}

  def q(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(critic.apply(params[group], obs, action), pessimism)

  def q_target(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(critic.apply(params[target], obs, action), pessimism)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      # Without the extras: what the update shares was drawn for batch.obs.
      following = batch._replace(obs=batch.next_obs, extras={})
      drawn = design.posterior.particles(design, params, following, key)
      alpha = design.temperature.value(params) if regularised else 0.0
      next_q = q_target(params, batch.next_obs, drawn.action)
      next_value = losses.soft_value(next_q, drawn.log_weight, drawn.log_ratio, alpha)
      y = losses.discounted_target(reward_scale * batch.reward, batch.discount, next_value, gamma)
      prediction = critic.apply(params[group], batch.obs, batch.action)
      value = losses.squared_error(prediction, y).sum(axis=0)
      return jnp.mean(value), {"target_q": jnp.mean(y)}

    return chain(descend(group, loss, optimizer, axis=design.axis), follow)

  return Value(init, q, q_target, step)
