"""What changes a value that there is: a penalty on its actions, a bonus on its rewards."""

import jax.numpy as jnp

from varl import checks, losses
from varl.types import Array, Batch, Design, Key, Metrics, Params, State, TrainStep, Value


def out_of_bounds_penalty(value: Value, weight: float | Array) -> Value:
  """Makes actions outside [-1, 1] worth less to the policy: for a Gaussian that is not squashed.

    Q(s, a) ← Q(s, a) - w Σ_i (a_i - clip(a_i, -1, 1))²

  The environment clips actions, so that Q is flat out there and nothing else calls the policy back. The value learns
  as before: only what it answers to the E-step changes.

  Args:
    value: of actions.
    weight: w, in units of return.

  Raises:
    ValueError: a concrete weight that is negative.
  """
  checks.arguments(least={"weight": weight})

  def penalty(action: Array) -> Array:
    return weight * jnp.sum(jnp.square(action - jnp.clip(action, -1.0, 1.0)), axis=-1)

  return value._replace(
    q=lambda params, obs, action: value.q(params, obs, action) - penalty(action),
    q_target=lambda params, obs, action: value.q_target(params, obs, action) - penalty(action),
  )


def munchausen(
  value: Value, *, scale: float | Array, floor: float | Array = -1.0, reward_scale: float | Array = 1.0
) -> Value:
  """Adds to the reward, before `value` learns from it, what the slow copy's policy thought of the action (2007.14430).

    c r ← c r + m [α log π̄(a|s)]_{l0}^0

  For a posterior whose particles are all actions, weighed by the policy (`posteriors.softmax`).

  Args:
    value: of actions.
    scale: m, in [0, 1]; 0 leaves `value` what it is.
    floor: l0 <= 0, in units of scaled reward.
    reward_scale: c, as `value` has it.

  Raises:
    ValueError: a concrete m outside [0, 1], or l0 above 0.
  """
  checks.share("scale", scale)
  if isinstance(floor, int | float) and not floor <= 0.0:
    raise ValueError(f"Munchausen's floor is at most 0, got {floor}")

  def step(design: Design) -> TrainStep:
    inner = value.step(design)

    def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
      policy = design.posterior.particles(design, params, batch, key).log_weight  # exact: the key is not looked at
      log_prob = jnp.take_along_axis(policy, batch.action[None], axis=0)[0]
      bonus = losses.munchausen_bonus(log_prob, design.temperature.value(params), scale, floor)
      rewarded = batch._replace(reward=batch.reward + bonus / reward_scale)
      params, state, metrics = inner.step(params, state, rewarded, key)
      return params, state, {**metrics, "munchausen_bonus": losses.batch_mean(bonus, design.axis)}

    return inner._replace(step=run)

  return value._replace(step=step)
