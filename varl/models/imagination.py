"""Imagined rows: what the axes learn from in place of real transitions, made anew at each update from the model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks
from varl.step import IMAGINED, SIDE
from varl.types import Array, Batch, Design, Key, Metrics, Model, Params, Transition

Schedule = Callable[[Array], Array | float]
"""`fresh rollouts so far (int32) -> length`, in steps; it is rounded and held within [1, horizon]."""


def imagined(
  model: Model,
  *,
  horizon: int = 1,
  schedule: Schedule | None = None,
  real_share: float | Array = 0.05,
  group: str = "imagination",
) -> Model:
  """The same model, from whose short rollouts value, posterior, prior and temperature learn (MBPO, 1906.08253).

    s_0 ~ the batch's states,   a_t ~ π(·|s_t),   (s_{t+1}, r_t, m_t) ~ q(·|s_t, a_t),   t = 0 .. H-1

  Rollouts branch from the batch's states under the present policy, in as many rows as the batch has. Where one reaches
  a predicted end or its length it branches anew from another of the batch's states, so that no row lies past an end.
  Nothing is kept between updates. The model itself learns from the real rows.

  Args:
    model: learned or known.
    horizon: H, the longest rollout, in steps.
    schedule: the present length by the number of fresh rollouts (iterations of the loop) so far; None: H.
    real_share: in [0, 1], how much of the batch stays real; may be traced.
    group: the parameter group that counts fresh rollouts, for a schedule.

  Returns:
    A Model with `imagine`, whose rows are marked by `batch.extras["imagined"]`. Its metrics: `imagined_ended`, the
    share of imagined steps that the model ends an episode after; `imagined_reward`, their mean reward;
    `imagined_length`, the present length.

  Raises:
    ValueError: a horizon below 1, or a share outside [0, 1].
  """
  horizon = checks.whole("horizon", horizon)
  checks.share("real_share", real_share)

  def init(key: Key) -> Params:
    counted = {} if schedule is None else {group: {"rollouts": jnp.zeros((), jnp.int32)}}
    return {**model.init(key), **counted}

  def observe(params: Params, transitions: Transition, valid: Array, axis: str | None) -> Params:
    if model.observe is not None:
      params = model.observe(params, transitions, valid, axis)
    if schedule is None:
      return params
    return {**params, group: {"rollouts": params[group]["rollouts"] + 1}}

  def imagine(design: Design, params: Params, batch: Batch, key: Key) -> tuple[Batch, Metrics]:
    rows = len(batch.reward)
    lanes = -(-rows // horizon)
    length = jnp.asarray(horizon, jnp.int32)
    if schedule is not None:
      length = jnp.clip(jnp.round(schedule(params[group]["rollouts"])), 1, horizon).astype(jnp.int32)
    start_key, roll_key = jax.random.split(key)
    starts = jax.random.randint(start_key, (horizon + 1, lanes), 0, rows)
    fresh = design.posterior.carry(lanes)

    def advance(state: Any, inputs: Any) -> tuple[Any, Any]:
      obs, carry, age = state
      step_key, branch = inputs
      act_key, model_key, end_key = jax.random.split(step_key, 3)
      action, carry, _ = design.posterior.act(design, params, carry, obs, act_key)
      next_obs, reward, survival = model.sample(params, obs, action, model_key, None)
      discount = jax.random.bernoulli(end_key, survival).astype(reward.dtype)
      row = Transition(obs, action, reward, discount, next_obs, jnp.zeros_like(reward), {})
      age = age + 1
      anew = (discount == 0.0) | (age >= length)
      carry = jax.tree.map(lambda new, old: jnp.where(_like(anew, old), new, old), fresh, carry)
      obs = jnp.where(anew[:, None], batch.obs[branch], next_obs)
      return (obs, carry, jnp.where(anew, 0, age)), row

    begin = (batch.obs[starts[0]], fresh, jnp.zeros(lanes, jnp.int32))
    _, made = jax.lax.scan(advance, begin, (jax.random.split(roll_key, horizon), starts[1:]))
    made = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:rows], made)
    real = jnp.arange(rows) < real_share * rows
    mixed = jax.tree.map(
      lambda own, new: jnp.where(_like(real, own), own, new.astype(own.dtype)), batch._replace(extras={}), made
    )
    side = {SIDE: batch.extras[SIDE]} if SIDE in batch.extras else {}
    return mixed._replace(extras={IMAGINED: 1.0 - real.astype(made.reward.dtype), **side}), {
      "imagined_ended": jnp.mean(1.0 - made.discount),
      "imagined_reward": jnp.mean(made.reward),
      "imagined_length": length.astype(made.reward.dtype),
    }

  return model._replace(init=init, observe=observe, imagine=imagine)


def _like(mask: Array, x: Array) -> Array:
  """`mask` `[rows]` with the trailing axes of x."""
  return mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim))
