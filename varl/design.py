"""The one place where the four axes are glued into an agent."""

import functools
import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax.errors import FlaxError

from varl import checks, networks, normalize
from varl.memory import MEMORY, Memory
from varl.normalize import NORMALIZER, scaled
from varl.policies import Head
from varl.step import IMAGINE_STREAM, POSTERIOR_STREAM, REWARD_STREAM, SIDE, copy, joint, replace, share, stream_key
from varl.types import (
  Agent,
  AgentState,
  Array,
  Batch,
  Carry,
  Design,
  Extras,
  Key,
  LossFn,
  Metrics,
  Model,
  Observation,
  Params,
  Posterior,
  Prior,
  Reward,
  Spec,
  Temperature,
  Term,
  TrainStep,
  Transition,
  Value,
)

OBSERVED = "observed"
"""The parameter group of an on-policy agent's moments of all frames so far, which scale from the next rollout on."""

_AXES = (Prior, Posterior, Value, Temperature, Model, Reward)
Axis = TypeVar("Axis", Prior, Posterior, Value, Temperature, Model, Reward)


def with_term(
  axis: Axis,
  loss: LossFn,
  *,
  name: str,
  weight: float | Array = 1.0,
  into: str | None = None,
  stream: str | None = None,
) -> Axis:
  """The same axis, with a term in the loss that its step descends: one gradient of the sum, one optimiser, one clip.

    θ_G ← θ_G + optimizer(∇_{θ_G} [L(θ) + w L_term(θ)])

    design = design._replace(posterior=varl.with_term(design.posterior, cloning, name="cloning", weight=0.1))

  It is logged as `<name>_loss`, before the weight. It sees what the axis' own loss sees (`types.LossFn`): a batch whose
  observations are scaled, and on several devices the rows of one, over which its mean is taken. Beside a memory these
  observations are the memory's rows, which no other network than its recurrent ones can read.

  Args:
    axis: a prior, posterior, value, temperature, model or reward that learns by a gradient step; it takes any number
      of terms.
    loss: `(params, batch, key) -> (scalar, metrics)`.
    name: of the term.
    weight: w; a number, or an array that may be traced. A concrete 0 leaves the term out of the sum; it is reported
      all the same.
    into: the gradient step, by its name, which is the parameter group's where nothing else is said; None: the only one.
    stream: the noise stream that the term's key is folded from; None: its name. `step.POSTERIOR_STREAM` is that of the
      actions drawn at the batch's states.

  Raises:
    ValueError: no axis, or one that learns nothing; a loss that is no function, a concrete weight that is not finite;
      in `varl.agent`, a step without the gradient step `into`, or with several and none named.
  """
  if not isinstance(axis, _AXES):
    raise ValueError(f"a term joins an axis of a design, as design.posterior is; got {type(axis).__name__}")
  if not callable(loss):
    raise ValueError(f"the term {name!r} is a function (params, batch, key) -> (scalar, metrics); got {loss!r}")
  if axis.step is None:
    raise ValueError(f"a term {name!r} joins a loss, but this {type(axis).__name__.lower()} learns nothing")
  if isinstance(weight, int | float) and not math.isfinite(weight):
    raise ValueError(f"the weight of a term is finite, got {weight}")
  make = axis.step

  def step(design: Design) -> TrainStep:
    found = make(design)
    allowed = f"the gradient steps of this {type(axis).__name__.lower()} are {list(found.descends)}"
    if not found.descends:
      raise ValueError(f"the term {name!r} joins a gradient step, but {allowed}: {list(found.names)} are none")
    if into is None and len(found.descends) > 1:
      raise ValueError(f"{allowed}: say which one the term {name!r} joins by `into`")
    target = found.descends[0] if into is None else into
    if target not in found.descends:
      raise ValueError(f"the term {name!r} joins {target!r}, but {allowed}")
    term = Term(name, loss, weight, target, name if stream is None else stream)
    made = make(design._replace(terms=(*design.terms, term)))
    if name not in made.terms:
      raise ValueError(
        f"the gradient step {target!r} takes no terms: it is made without `descend(..., terms=design.terms)`"
      )
    return made

  return axis._replace(step=step)


def agent(
  design: Design, spec: Spec, head: Head, *, normalize_observations: bool = True, memory: Memory | None = None
) -> Agent:
  """Glues a design into an agent.

  One update is `joint` of the axes' steps: value, posterior, prior and temperature all read the same old parameters, as
  Haarnoja's, Brax's and Acme's implementations do. Every function and every loss of the axes sees observations that are
  scaled by the running moments, in the batch, in the side batch and when acting; `scaled` does so to any others.

  Fresh frames change the moments. Off-policy they do so at once. On-policy a policy whose observations are scaled anew
  is another policy than the one that acted, so the moments of a rollout scale from the next one on (`renew`), and what
  acts, what the updates improve and what an evaluation judges see the same ones. The first moments come from a rollout
  of random actions that nothing is learned from (`Agent.seeding`).

  Args:
    design: prior × posterior × value × temperature.
    spec: the environment's sizes.
    head: the policy's head, which knows the action space.
    normalize_observations: whether running moments (group "normalizer") scale the observations; on-policy the group
      "observed" holds those of all frames so far.
    memory: of the design's networks that are `memory.recurrent`; None: they see the present observation alone.

  Raises:
    ValueError: another thing in the place of a design, an axis, a spec or a head; two axes that name one parameter
      group, or write one; a policy that needs what is privileged; a side batch beside sequences; a term that finds no
      gradient step to join; a memory beside what learns from single transitions or from sequences of its own.
  """
  checks.instance(design, Design, "a varl.Design")
  checks.instance(spec, Spec, "a Spec, as varl.envs.spec(env) gives it,")
  checks.instance(head, Head, "a head of varl.policies, such as tanh_gaussian(spec.action_size),")
  for name, kind in zip(("prior", "posterior", "value", "temperature", "model", "reward"), _AXES, strict=True):
    if (axis := getattr(design, name)) is not None or name not in Design._field_defaults:
      checks.instance(axis, kind, f"a varl.{kind.__name__} as the design's {name}")
  if design.terms:
    raise ValueError("the terms of a design are those of one axis: varl.with_term(design.posterior, ...) adds one")
  if design.value.sequence and design.temperature.side_batch:
    raise ValueError("a temperature with a side batch, such as bellman_residual, needs a value of single transitions")
  on_policy = design.value.prepare is not None and not design.value.sequence
  if memory is not None:
    _check_memory(design, memory, on_policy)
  axes: dict[str, Any] = {name: getattr(design, name) for name in ("value", "posterior", "prior", "temperature")}
  steps = [axis.step(design) for axis in axes.values() if axis.step is not None]
  model, reward = design.model, design.reward

  def draw(params: Params, batch: Batch, key: Key) -> Any:
    return design.posterior.draw(design, params, batch, key)

  def pay(params: Params, batch: Batch, key: Key) -> Batch:
    """The batch, and the side batch with it, with what the design's reward says now."""
    if reward is None:
      return batch
    side: Any = batch.extras.get(SIDE)
    if side is not None:
      key, side_key = jax.random.split(key)
      side = side._replace(rows=pay(params, side.rows, side_key))
      batch = batch._replace(extras={**batch.extras, SIDE: side})
    return batch._replace(reward=reward.value(design, params, batch, key))

  update_all = share(POSTERIOR_STREAM, draw, joint(*steps))
  if reward is not None:
    update_all = replace(REWARD_STREAM, lambda params, batch, key: (pay(params, batch, key), {}), update_all)
  imagine: Any = None if model is None else model.imagine

  def imagined(params: Params, batch: Batch, key: Key) -> tuple[Batch, Metrics]:
    made: Any = batch.extras[IMAGINE_STREAM]
    return made

  if imagine is not None:
    update_all = replace(IMAGINE_STREAM, imagined, update_all)
  beside: dict[str, Any] = {name: part for name, part in (("model", model), ("reward", reward)) if part is not None}
  axes |= beside
  # These learn from real rows and the environment's reward.
  update_all = joint(update_all, *(part.step(design) for part in beside.values() if part.step is not None))
  if imagine is not None:  # once for all that read them
    update_all = share(IMAGINE_STREAM, lambda params, batch, key: imagine(design, params, batch, key), update_all)

  def init(key: Key) -> AgentState:
    checks.key(key)
    moments = ((NORMALIZER, OBSERVED) if on_policy else (NORMALIZER,)) if normalize_observations else ()
    params: dict[str, object] = {group: normalize.init(spec.observation_size) for group in moments}
    for name, axis in axes.items():
      groups = axis.init(stream_key(key, name))
      twice = sorted(groups.keys() & {NORMALIZER, *params})
      if twice:
        raise ValueError(f"the design's {name} names the parameter groups {twice}, which another part has already")
      params |= groups
    return AgentState(params, update_all.init(params))

  def scale_batch(params: Params, batch: Batch) -> Batch:
    return batch._replace(obs=scaled(params, batch.obs), next_obs=scaled(params, batch.next_obs))

  def sight(params: Params, obs: Observation) -> Observation:
    """What the policy sees of observations, scaled: no function that acts is given what is privileged."""
    return networks.visible(spec, scaled(params, networks.whole(spec, obs)))

  def remembering(choose: Any) -> Any:
    """The same, of raw observations, and with its memory carried along."""

    def acting(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
      obs = sight(params, obs)
      if memory is None:
        found: tuple[Array, Carry, Extras] = choose(params, carry, obs, key)
        return found
      held: Any = carry
      action, inner, extras = choose(params, held["policy"], memory.see(held["memory"], obs), key)
      later = memory.after(params, held["memory"], obs, action)
      return action, {"policy": inner, "memory": later}, {**extras, MEMORY: memory.record(held["memory"])}

    return acting

  def explore(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    if model is None or model.record is None:
      return design.posterior.act(design, params, carry, obs, key)
    act_key, record_key = jax.random.split(key)
    action, carry, extras = design.posterior.act(design, params, carry, obs, act_key)
    return action, carry, {**extras, **model.record(record_key, obs.shape[:-1])}

  def act(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    checks.key(key)
    found: tuple[Array, Carry, Extras] = remembering(explore)(params, carry, obs, key)
    return found

  mode = remembering(functools.partial(design.posterior.mode, design))

  def by_noise(params: Params, obs: Observation, noise: Array) -> Array:
    mapped: Any = design.posterior.by_noise
    action: Array = mapped(params, sight(params, obs), noise)
    return action

  def start(batch: int) -> Carry:
    inner = design.posterior.carry(batch)
    return inner if memory is None else {"policy": inner, "memory": memory.carry(batch)}

  def update(state: AgentState, batch: Batch, key: Key) -> tuple[AgentState, Metrics]:
    checks.key(key)
    ndim = batch.reward.ndim
    sequences = memory is not None and memory.length > 0  # which the memory checks itself
    if not sequences and (ndim not in (1, 2) or (ndim == 2 and design.value.prepare is None)):
      allowed = "[B]" if design.value.prepare is None else "[B], or [T, B] of steps that follow one another"
      raise ValueError(f"a batch for this agent is {allowed}; got rewards of shape {batch.reward.shape}")
    batch = scale_batch(state.params, batch)
    if memory is not None:
      batch, ndim = memory.sequence_rows(batch), 1
    if ndim == 2:
      batch = batch._replace(extras={**batch.extras, **extend(state.params, batch, stream_key(key, "prepare"))})
      batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    side: Any = batch.extras.get(SIDE)
    if side is not None:
      side = side._replace(rows=scale_batch(state.params, side.rows))
      batch = batch._replace(extras={**batch.extras, SIDE: side})
    params, step, metrics = update_all.step(state.params, state.step, batch, key)
    return AgentState(params, step), {**metrics, "alpha": design.temperature.value(params)}

  def renew(state: AgentState) -> AgentState:
    params = state.params
    if normalize_observations and on_policy:
      params = {**params, NORMALIZER: copy(params[OBSERVED])}
    if design.prior.renew is not None:
      params = design.prior.renew(params)
    return state._replace(params=params)

  def observe(state: AgentState, transitions: Transition, valid: Array) -> AgentState:
    params = state.params
    if normalize_observations:
      group = OBSERVED if on_policy else NORMALIZER
      moments = normalize.update(params[group], transitions.obs, valid, axis=design.axis, context=spec.context)
      params = {**params, group: moments}
    for part in beside.values():
      if part.observe is not None:
        params = part.observe(params, scale_batch(params, transitions), valid, design.axis)
    return state._replace(params=jax.lax.stop_gradient(params)) if params is not state.params else state

  def extend(params: Params, transitions: Transition, key: Key) -> Extras:
    """What the value makes of transitions that follow one another, their observations scaled."""
    value_prepare: Any = design.value.prepare
    made: Extras = {}
    if reward is not None and reward.prepare is not None:
      made = reward.prepare(design, params, transitions, stream_key(key, REWARD_STREAM))
      transitions = transitions._replace(extras={**transitions.extras, **made})
    transitions = pay(params, transitions, stream_key(key, REWARD_STREAM))
    extras: Extras = jax.lax.stop_gradient({**made, **value_prepare(design, params, transitions, key)})
    return extras

  def prepare(state: AgentState, transitions: Transition, key: Key) -> Transition:
    seen = scale_batch(state.params, transitions)
    extras = extend(state.params, seen if memory is None else memory.step_rows(state.params, seen), key)
    return transitions._replace(extras={**transitions.extras, **extras})

  bounded = head.uniform is not None
  uniform: Any = head.uniform
  uniform_log_prob: Any = head.uniform_log_prob

  def warm_up(params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    _, carry, extras = act(params, carry, obs, key)
    action = uniform(key, obs.shape[:-1])
    if memory is not None:  # which is of the action that is taken
      held: Any = carry
      carry = {**held, "memory": memory.acted(held["memory"], action)}
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
    carry=start,
    warm_up=warm_up if bounded else None,
    renew=renew,
    observe=observe,
    side_batch=design.temperature.side_batch,
    by_noise=None if design.posterior.by_noise is None or memory is not None else by_noise,
  )
  if spec.privileged:
    _check_sight(made)
  if on_policy:
    length = 0 if memory is None else memory.length
    return made._replace(on_policy=True, seeding=normalize_observations, prepare=prepare, sequence=length)
  return made._replace(sequence=design.value.sequence if memory is None else memory.burn_in + memory.length)


def _check_sight(agent: Agent) -> None:
  """Raises ValueError where a policy does not act from the part of the observation that it may see."""

  def act(key: Key) -> Any:
    params, obs = agent.init(key).params, jnp.zeros((1, agent.spec.observation_size))
    return [choose(params, agent.carry(1), obs, key)[0] for choose in (agent.act, agent.mode)]

  try:
    jax.eval_shape(act, jax.random.key(0))
  except (TypeError, ValueError, FlaxError) as error:
    raise ValueError(
      f"{agent.spec.privileged} of the observation's {agent.spec.observation_size} entries are privileged, and this "
      "algorithm's policy cannot act without them (it asks its values or its model, or its network sees all): take one "
      "whose policy is a network of components.actor, as sac, mpo and ppo have"
    ) from error


def _check_memory(design: Design, memory: Memory, on_policy: bool) -> None:
  """Raises ValueError where a design does not learn from sequences as they were stored."""
  if design.model is not None or design.reward is not None or design.temperature.side_batch or design.value.sequence:
    raise ValueError(
      "a memory is of a policy and its values: a model, a reward that is learned, a side batch and corrections along "
      "sequences see single observations"
    )
  if on_policy and memory.burn_in:
    raise ValueError(f"a rollout's memory is of the policy that acted, and needs no burn-in; got {memory.burn_in}")
