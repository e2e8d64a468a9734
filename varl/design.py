"""The one place where the four axes are glued into an agent."""

from typing import Any

import jax
import jax.numpy as jnp

from varl import normalize
from varl.policies import Head
from varl.step import POSTERIOR_STREAM, SIDE, joint, share, stream_key
from varl.types import (
  Agent,
  AgentState,
  Array,
  Batch,
  Carry,
  Design,
  Extras,
  Key,
  Metrics,
  Observation,
  Params,
  Spec,
  Transition,
)

NORMALIZER = "normalizer"
"""The parameter group of the running observation moments."""


def agent(design: Design, spec: Spec, head: Head, *, normalize_observations: bool = True) -> Agent:
  """Glues a design into an agent.

  One update is `joint` of the axes' steps: value, posterior, prior and temperature all read the same old parameters, as
  Haarnoja's, Brax's and Acme's implementations do. Every function of the axes sees normalised observations.

  Args:
    design: prior × posterior × value × temperature.
    spec: the environment's sizes.
    head: the policy's head, which knows the action space.
    normalize_observations: whether running moments (group "normalizer") scale the observations.

  Raises:
    ValueError: two axes that name one parameter group, or write one; a side batch beside sequences.
  """
  if design.value.sequence and design.temperature.side_batch:
    raise ValueError("a temperature with a side batch, such as bellman_residual, needs a value of single transitions")
  axes: tuple[Any, ...] = (design.value, design.posterior, design.prior, design.temperature)
  steps = [axis.step(design) for axis in axes if axis.step is not None]

  def draw(params: Params, batch: Batch, key: Key) -> Any:
    return design.posterior.draw(design, params, batch, key)

  update_all = share(POSTERIOR_STREAM, draw, joint(*steps))

  def init(key: Key) -> AgentState:
    params: dict[str, object] = {NORMALIZER: normalize.init(spec.observation_size)} if normalize_observations else {}
    for name, axis in zip(("value", "posterior", "prior", "temperature"), axes, strict=True):
      groups = axis.init(stream_key(key, name))
      twice = sorted(groups.keys() & params.keys())
      if twice:
        raise ValueError(f"the design's {name} names the parameter groups {twice}, which another part has already")
      params |= groups
    return AgentState(params, update_all.init(params))

  def scale(params: Params, obs: Observation) -> Observation:
    return normalize.apply(params[NORMALIZER], obs) if normalize_observations else obs

  def scale_batch(params: Params, batch: Batch) -> Batch:
    return batch._replace(obs=scale(params, batch.obs), next_obs=scale(params, batch.next_obs))

  def act(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    return design.posterior.act(design, params, carry, scale(params, obs), key)

  def mode(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    return design.posterior.mode(design, params, carry, scale(params, obs), key)

  def update(state: AgentState, batch: Batch, key: Key) -> tuple[AgentState, Metrics]:
    ndim = batch.reward.ndim
    if ndim not in (1, 2) or (ndim == 2 and design.value.prepare is None):
      allowed = "[B]" if design.value.prepare is None else "[B], or [T, B] of steps that follow one another"
      raise ValueError(f"a batch for this agent is {allowed}; got rewards of shape {batch.reward.shape}")
    batch = scale_batch(state.params, batch)
    if ndim == 2:
      batch = batch._replace(extras={**batch.extras, **extend(state.params, batch, stream_key(key, "prepare"))})
      batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    side: Any = batch.extras.get(SIDE)
    if side is not None:
      side = side._replace(rows=scale_batch(state.params, side.rows))
      batch = batch._replace(extras={**batch.extras, SIDE: side})
    params, step, metrics = update_all.step(state.params, state.step, batch, key)
    return AgentState(params, step), {**metrics, "alpha": design.temperature.value(params)}

  def observe(state: AgentState, transitions: Transition, valid: Array) -> AgentState:
    params = state.params
    if normalize_observations:
      moments = normalize.update(params[NORMALIZER], transitions.obs, valid, axis=design.axis)
      params = {**params, NORMALIZER: jax.lax.stop_gradient(moments)}
    if design.prior.renew is not None:
      params = design.prior.renew(params)
    return state._replace(params=params)

  def extend(params: Params, transitions: Transition, key: Key) -> Extras:
    """What the value makes of transitions that follow one another, their observations scaled."""
    value_prepare: Any = design.value.prepare
    extras: Extras = jax.lax.stop_gradient(value_prepare(design, params, transitions, key))
    return extras

  def prepare(state: AgentState, transitions: Transition, key: Key) -> Transition:
    extras = extend(state.params, scale_batch(state.params, transitions), key)
    return transitions._replace(extras={**transitions.extras, **extras})

  bounded = head.uniform is not None
  uniform: Any = head.uniform
  uniform_log_prob: Any = head.uniform_log_prob

  def warm_up(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    _, carry, extras = act(params, carry, obs, key)
    action = uniform(key, obs.shape[:-1])
    if "log_prob" in extras:  # of the behaviour, for off-policy corrections: here the uniform's
      extras = {**extras, "log_prob": jnp.full_like(extras["log_prob"], uniform_log_prob)}
    return action, carry, extras

  made = Agent(
    spec=spec,
    init=init,
    act=act,
    mode=mode,
    update=update,
    execute=head.execute,
    carry=design.posterior.carry,
    warm_up=warm_up if bounded else None,
    observe=observe,
    side_batch=design.temperature.side_batch,
  )
  if design.value.prepare is not None and not design.value.sequence:
    return made._replace(on_policy=True, prepare=prepare)
  return made._replace(sequence=design.value.sequence)
