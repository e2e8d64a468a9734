"""The types that every part of varl passes to every other: aliases and NamedTuples, no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax

Array = jax.Array
Key = jax.Array
"""A typed key (`jax.random.key`). A function that is given one consumes it."""

ArrayTree = chex.ArrayTree
Scalar = jax.Array
Observation = Any
"""One array `[..., observation_size]`."""

Params = Mapping[str, Any]
"""Every learned array of an agent, by parameter group: "actor", "critic", "target_critic", "temperature", ..."""

State = Mapping[str, Any]
"""What the train step carries beside the parameters (optimiser moments, counters), by transform name."""

Metrics = dict[str, Array]
"""Scalars by name; the names and shapes are the same at every step."""

Carry = Any
"""A policy's memory, one row an environment; `()` for policies without one."""

Extras = dict[str, Array]
"""What the policy recorded beside the action, one row an environment."""


class Transition(NamedTuple):
  """One environment step, or a batch of them with leading axes `[B]` or `[T, B]`.

  Attributes:
    obs: what was observed, `[..., observation_size]`.
    action: the *raw* action `[..., d]`, before squashing to the environment's range (an integer `[...]` for
      discrete actions).
    reward: `[...]`, summed over repeated actions.
    discount: `[...]`, 1 - terminated: 0 where the episode ended by itself, 1 elsewhere, a time limit included.
    next_obs: the observation that the step really led to, also where the environment then reset itself.
    truncated: `[...]`, 1.0 where a time limit cut the episode after this step, else 0.0.
    extras: what the policy recorded, each `[..., *]`; and during an update what its transforms share (`step.share`).
  """

  obs: Any
  action: Array
  reward: Array
  discount: Array
  next_obs: Any
  truncated: Array
  extras: Extras


Batch = Transition


class SideBatch(NamedTuple):
  """What an update finds as `batch.extras["side"]`, where its agent asked for a `side_batch`.

  Attributes:
    rows: a second draw from replay, `[side_batch]`, or as many as a smaller replay can hold.
    stored: int32, how many rows the replay holds.
  """

  rows: Transition
  stored: Array


class Particles(NamedTuple):
  """Weighted action samples from the posterior: what the four axes pass to one another.

  Attributes:
    action: raw actions `[n, B, d]` (`[n, B]` for discrete actions).
    log_weight: `[n, B]`; logsumexp over n is 0.
    log_ratio: `[n, B]`, log π(a|s) - log p(a|s) at each particle.
  """

  action: Array
  log_weight: Array
  log_ratio: Array


class Spec(NamedTuple):
  """What an agent has to know of an environment.

  Attributes:
    observation_size: length of the observation vector.
    action_size: number of action dimensions, or of actions where `discrete`.
    discrete: whether an action is one integer in [0, action_size).
    bounded: whether continuous actions live in [-1, 1] (scaled by the environment boundary) or on the whole line.
    context: how many of the observation's last entries say which task or goal an episode has; no moments scale them.
    privileged: how many entries before these no policy sees, only what is learned with: values, models, rewards.
  """

  observation_size: int
  action_size: int
  discrete: bool = False
  bounded: bool = True
  context: int = 0
  privileged: int = 0


VISIT = "visit"
"""Where among a transition's extras its discounted visitation γ^t is."""

LossFn = Callable[[Params, Batch, Key], tuple[Scalar, Metrics]]
"""`(params, batch, key) -> (scalar, metrics)`, what a gradient step descends: of all groups and one batch `[B]`.

In a design (`varl.agent`) the batch's `obs` and `next_obs` are scaled by the agent's running moments, which are the
group "normalizer" of `params`. Observations that a loss brings itself, such as demonstrations, come as the environment
gives them: `varl.scaled(params, obs)` scales them alike. Actions are raw, before squashing; rewards are not scaled (a
value multiplies them by its own `reward_scale`). In a `TrainStep` of one's own nothing is scaled. The metrics are
scalars, the same at each call.
"""


class Term(NamedTuple):
  """A loss that is added to the loss of a gradient step (`varl.with_term`).

  Attributes:
    name: of the metric `<name>_loss`, its value before the weight.
    loss: the loss.
    weight: multiplies it.
    into: the name of the gradient step.
    stream: the noise stream that its key is folded from.
  """

  name: str
  loss: LossFn
  weight: float | Array
  into: str
  stream: str


class TrainStep(NamedTuple):
  """One change to the parameters; every combinator takes and returns this type.

  Attributes:
    init: `params -> state`, the state of this step: a dict keyed by transform name.
    step: `(params, state, batch, key) -> (params, state, metrics)`. Structure, shapes and dtypes are kept.
    writes: the parameter groups it changes.
    names: the names of the transforms in it; unique within one TrainStep.
    descends: which of these are gradient steps, whose losses take terms.
    terms: the names of the terms in their losses.
  """

  init: Callable[[Params], State]
  step: Callable[[Params, State, Batch, Key], tuple[Params, State, Metrics]]
  writes: tuple[str, ...]
  names: tuple[str, ...]
  descends: tuple[str, ...] = ()
  terms: tuple[str, ...] = ()


class Prior(NamedTuple):
  """p(a|s): what the policy is held to.

  Attributes:
    init: `key -> params`, the prior's own groups; {} where it learns nothing.
    log_prob: `(params, obs, action) -> [n, B]`, for raw actions `[n, B, d]`, in the density of the executed action.
    proposal: `(params, obs, key, n) -> action`, n raw actions `[n, B, d]` a state.
    step: `design -> TrainStep`, the M-step of a learned prior; None where it is fixed.
    mode: `(params, obs) -> action [B, d]`, the action that a prior which acts is judged by; None where it has none.
    renew: `params -> params`, called before each rollout; None where nothing changes then.
  """

  init: Callable[[Key], Params]
  log_prob: Callable[[Params, Observation, Array], Array]
  proposal: Callable[[Params, Observation, Key, int], Array]
  step: Callable[[Design], TrainStep] | None = None
  mode: Callable[[Params, Observation], Array] | None = None
  renew: Callable[[Params], Params] | None = None


class Posterior(NamedTuple):
  """π(a|s): how actions are inferred.

  Attributes:
    init: `key -> params`, the posterior's own groups.
    particles: `(design, params, batch, key) -> Particles` at `batch.obs`. Reparameterised where the policy allows it,
      so that a loss of the particles can be differentiated with respect to the posterior's groups.
    draw: `(design, params, batch, key) -> anything`: what `particles` at `batch.obs` is random in, and whatever else of
      it no loss differentiates. An update draws once and passes it on as `batch.extras["posterior"]`; `particles` draws
      for itself where that is missing.
    act: `(design, params, carry, obs, key) -> (action, carry, extras)`, a raw action `[B, d]` to explore with.
    mode: the same, the action to be judged by.
    carry: `batch size -> carry`, the memory at the start of an episode.
    step: `design -> TrainStep`, the E-step of a parametric posterior; None where inference has no parameters.
    log_prob: `(params, obs, action) -> [n, B]`, for raw actions `[n, B, d]`, differentiable in the posterior's groups;
      None where it has no density at hand.
    evaluate: `(design, params, batch, key) -> (Particles, log_prob [B])`: `particles`, and `log_prob` of
      `batch.action`, for losses that need both: their gradient is one pass back through the policy, of the two apart
      it is two. None where it has no density at hand.
    by_noise: `(params, obs, noise [B, d]) -> raw action [B, d]`, a map of N(0, I) to actions; None where it is none.
  """

  init: Callable[[Key], Params]
  particles: Callable[[Design, Params, Batch, Key], Particles]
  draw: Callable[[Design, Params, Batch, Key], Any]
  act: Callable[[Design, Params, Carry, Observation, Key], tuple[Array, Carry, Extras]]
  mode: Callable[[Design, Params, Carry, Observation, Key], tuple[Array, Carry, Extras]]
  carry: Callable[[int], Carry]
  step: Callable[[Design], TrainStep] | None = None
  log_prob: Callable[[Params, Observation, Array], Array] | None = None
  evaluate: Callable[[Design, Params, Batch, Key], tuple[Particles, Array]] | None = None
  by_noise: Callable[[Params, Observation, Array], Array] | None = None


class Value(NamedTuple):
  """Q(s, a), or V(s) and the advantages of what was done: what actions are worth.

  Attributes:
    init: `key -> params`, with every target group a real copy.
    q: `(params, obs, action) -> [n, B]` for raw actions `[n, B, d]`, the ensemble already reduced.
    q_target: the same from the slow copy.
    step: `design -> TrainStep`, policy evaluation.
    backup: `(design, params, batch, key) -> (Q_i(s, a) [E, B], y [B])` at the batch's transitions: every member's
      prediction, and its target without the price of divergence. None where the value has no such target.
    prepare: `(design, params, transitions, key) -> extras` of transitions `[T, B]` that follow one another:
      "value_target" and, on-policy, "advantage", which the train steps find among their batch's extras. None where one
      transition tells all.
    v: `(params, obs) -> [B]`, V(s) of the policy that acts, where states are valued; None where actions are.
    sequence: 0 where `prepare` is of fresh rollouts, which alone are learned from (on-policy); T where it is of
      sequences of T transitions from replay, in each update.
  """

  init: Callable[[Key], Params]
  q: Callable[[Params, Observation, Array], Array]
  q_target: Callable[[Params, Observation, Array], Array]
  step: Callable[[Design], TrainStep]
  backup: Callable[[Design, Params, Batch, Key], tuple[Array, Array]] | None = None
  prepare: Callable[[Design, Params, Transition, Key], Extras] | None = None
  v: Callable[[Params, Observation], Array] | None = None
  sequence: int = 0


class Temperature(NamedTuple):
  """α: what a nat of divergence from the prior costs, in units of reward.

  Attributes:
    init: `key -> params`, its own groups; {} where it is fixed.
    value: `params -> α`, a scalar.
    step: `design -> TrainStep` where it is adapted, else None.
    side_batch: rows of a second draw from replay that its step asks for at each update; 0: none.
  """

  init: Callable[[Key], Params]
  value: Callable[[Params], Array]
  step: Callable[[Design], TrainStep] | None = None
  side_batch: int = 0


class Outcome(NamedTuple):
  """What a model says one step leads to, in the space of the observations that it was asked at.

  Attributes:
    next_obs: `[..., o]`.
    reward: `[...]`, in the environment's units.
    discount: `[...]`, the probability that the episode goes on; whoever needs 1 - terminated draws it.
  """

  next_obs: Array
  reward: Array
  discount: Array


class Model(NamedTuple):
  """q(s', r, m | s, a): what the world is believed to do. A member of an ensemble is one belief.

  Attributes:
    init: `key -> params`, its own groups; {} where it is known.
    sample: `(params, obs [..., o], action [..., d], key, member) -> Outcome`, one draw a row, reparameterised where the
      model is learned. `member`: integers `[...]`, the belief of each row; None: drawn anew.
    draws: `(params, obs, action, key, member) -> Outcome` with a leading axis: independent draws a row, one of each
      member or all of the row's own, for expectations over what may follow.
    log_prob: `(params, batch) -> [B]`, log q of the batch's outcomes; None where the model has no density at hand.
    step: `design -> TrainStep` on real rows, the model's term of the bound; None where it is known.
    observe: `(params, transitions, valid, axis) -> params`, of each fresh rollout `[T, B]` before it is learned from;
      None where nothing is kept of it.
    record: `(key, shape) -> Extras`, what each transition is stored with for the model; None: nothing.
    imagine: `(design, params, batch, key) -> (batch, metrics)`: the rows that value, posterior, prior and temperature
      learn from in place of the real ones. None: the real ones.
    members: how many beliefs there are.
  """

  init: Callable[[Key], Params]
  sample: Callable[[Params, Observation, Array, Key, Array | None], Outcome]
  draws: Callable[[Params, Observation, Array, Key, Array | None], Outcome]
  log_prob: Callable[[Params, Batch], Array] | None = None
  step: Callable[[Design], TrainStep] | None = None
  observe: Callable[[Params, Transition, Array, str | None], Params] | None = None
  record: Callable[[Key, tuple[int, ...]], Extras] | None = None
  imagine: Callable[[Design, Params, Batch, Key], tuple[Batch, Metrics]] | None = None
  members: int = 1


class Reward(NamedTuple):
  """What is paid in place of, or on top of, the environment's reward.

  Value, posterior, prior and temperature learn from rows that pay what it says at that moment. Its own step, and the
  model's, see the environment's reward.

  Attributes:
    init: `key -> params`, its own groups; {} where it learns nothing.
    value: `(design, params, batch, key) -> reward` of the batch's rows, `[B]` or `[T, B]`, in the environment's units.
      A row of a model is marked by `batch.extras["imagined"]`, 1 there and 0 for a real one; without it all are real.
    step: `design -> TrainStep` on real rows; where the model imagines, it finds the imagined ones of the same update
      as `batch.extras["imagine"][0]`. None where it learns nothing.
    observe: `(params, transitions, valid, axis) -> params`, of each fresh rollout `[T, B]` before it is learned from;
      None where nothing is kept of it.
    prepare: `(design, params, transitions, key) -> extras` of transitions `[T, B]` that follow one another, which
      `value` and `step` then find among them; before the value's own `prepare`. None where one row tells all.
    transfer: the signature of `value`: what is left of it where another agent is paid, without what is of its own
      policy or dynamics; None: `value`; a string: nothing is, for this reason.
  """

  init: Callable[[Key], Params]
  value: Callable[[Design, Params, Batch, Key], Array]
  step: Callable[[Design], TrainStep] | None = None
  observe: Callable[[Params, Transition, Array, str | None], Params] | None = None
  prepare: Callable[[Design, Params, Transition, Key], Extras] | None = None
  transfer: Callable[[Design, Params, Batch, Key], Array] | str | None = None


class Design(NamedTuple):
  """A variational reinforcement-learning algorithm: one choice on each of the four axes, and what stands beside them.

  Attributes:
    prior, posterior, value, temperature: the choices.
    axis: the mapped axis (one of `shard_map`) over which the steps average gradients; None on a single device.
    terms: what an axis' step hands to its gradient steps: `varl.with_term` fills it for one axis; else empty.
    model: what the world is believed to do, for posteriors and values that look ahead; None without one.
    reward: what is paid in place of the environment's reward; None: that.
  """

  prior: Prior
  posterior: Posterior
  value: Value
  temperature: Temperature
  axis: str | None = None
  terms: tuple[Term, ...] = ()
  model: Model | None = None
  reward: Reward | None = None


class AgentState(NamedTuple):
  """What an agent learns: its parameters by group, and the state of its train step."""

  params: Params
  step: State


class Agent(NamedTuple):
  """A complete learner, ready for the loop in `varl.train` or for one of your own.

  Attributes:
    spec: the environment it is built for.
    init: `key -> AgentState`.
    act: `(params, carry, obs, key) -> (action, carry, extras)`: raw actions `[B, d]`, exploring. What is privileged in
      the observations may be left out.
    mode: the same signature; the action to be judged by.
    update: `(state, batch, key) -> (state, metrics)`, one train step on one batch `[B]`; or `[T, B/T]` of steps that
      follow one another, which it prepares itself.
    execute: raw action -> the action in [-1, 1] (or on the whole line, or an integer) that the environment gets.
    carry: `batch size -> carry` at the start of an episode; () for a policy without memory.
    warm_up: the same signature; uniformly random actions for the time before the first update. None: `act` serves.
    renew: `state -> state`, called before each rollout: what earlier ones have shown is put to use (the moments that
      `observe` took in), and what a rollout is compared with is copied (the policy that acts).
    observe: `(state, transitions, valid) -> state`, called on each fresh rollout `[T, B]` before updates (moments).
    on_policy: whether it learns from its latest rollout alone. Nothing between a rollout and the updates on it may then
      change the policy: what `observe` takes in counts from the next `renew` on.
    seeding: whether the first rollout, of `warm_up`'s actions, is for `observe` alone and no update is made on it.
    prepare: `(state, transitions, key) -> transitions`, called on that rollout `[T, B]` before updates on its rows.
    sequence: T where each update's batch is of sequences from replay or of a rollout, `[T, B/T]`; 0: of single
      transitions `[B]`.
    side_batch: rows of a second draw from replay that each update gets as `batch.extras["side"]`; 0: none.
    by_noise: as in `Posterior`, of observations as the environment gives them.
  """

  spec: Spec
  init: Callable[[Key], AgentState]
  act: Callable[[Params, Carry, Observation, Key], tuple[Array, Carry, Extras]]
  mode: Callable[[Params, Carry, Observation, Key], tuple[Array, Carry, Extras]]
  update: Callable[[AgentState, Batch, Key], tuple[AgentState, Metrics]]
  execute: Callable[[Array], Array] = lambda action: action
  carry: Callable[[int], Carry] = lambda batch: ()
  warm_up: Callable[[Params, Carry, Observation, Key], tuple[Array, Carry, Extras]] | None = None
  renew: Callable[[AgentState], AgentState] = lambda state: state
  observe: Callable[[AgentState, Transition, Array], AgentState] = lambda state, transitions, valid: state
  on_policy: bool = False
  seeding: bool = False
  prepare: Callable[[AgentState, Transition, Key], Transition] = lambda state, transitions, key: transitions
  sequence: int = 0
  side_batch: int = 0
  by_noise: Callable[[Params, Observation, Array], Array] | None = None
