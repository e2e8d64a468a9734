"""Values: what actions are worth, and how that is learned."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import losses, returns
from varl.networks import Critic, Network
from varl.step import POSTERIOR_STREAM, chain, copy, descend, every, joint, repeat, track
from varl.types import (
  Array,
  Batch,
  Design,
  Extras,
  Key,
  Metrics,
  Observation,
  Params,
  Particles,
  State,
  TrainStep,
  Transition,
  Value,
)


class Correction(NamedTuple):
  """How `q_value` makes its targets along sequences from replay, in place of one step: `retrace` or `n_step`.

  Attributes:
    sequence: transitions a sequence; targets near its end look less far ahead.
    target: `((reward, discount, truncated), next_value, taken, gamma) -> [T, ...]`, where taken() is (Q̄(s, a), log ρ)
      of the actions taken: log ρ is of the policy that is evaluated against the behaviour.
  """

  sequence: int
  target: Callable[[tuple[Array, Array, Array], Array, Callable[[], tuple[Array, Array]], float | Array], Array]


def retrace(sequence: int, lam: float | Array = 1.0) -> Correction:
  """λ-returns, cut where the policy does what the behaviour would rather not (1606.02647; `returns.retrace`).

  Raises:
    ValueError: sequences shorter than 2, or a concrete λ outside [0, 1].
  """
  if isinstance(lam, int | float) and not 0.0 <= lam <= 1.0:
    raise ValueError(f"lam lies in [0, 1], got {lam}")

  def target(row: Any, next_value: Array, taken: Any, gamma: float | Array) -> Array:
    reward, discount, truncated = row
    q, log_rho = taken()
    return returns.retrace(reward, discount, truncated, q, next_value, log_rho, gamma=gamma, lam=lam)

  return Correction(_length(sequence), target)


def n_step(sequence: int) -> Correction:
  """Returns of as many rewards as the sequence has left, as if all of it were the policy's own (`n_step_return`).

  Raises:
    ValueError: sequences shorter than 2.
  """

  def target(row: Any, next_value: Array, taken: Any, gamma: float | Array) -> Array:
    reward, discount, truncated = row
    return returns.n_step_return(reward, discount, truncated, next_value, gamma=gamma, n=sequence)

  return Correction(_length(sequence), target)


def _length(sequence: int) -> int:
  if sequence < 2:
    raise ValueError(f"a correction takes sequences of at least 2 transitions, got {sequence}")
  return sequence


def q_value(
  critic: Critic,
  optimizer: optax.GradientTransformation,
  *,
  gamma: float | Array = 0.99,
  tau: float | Array = 0.005,
  target_every: int = 1,
  pessimism: str | float | Array = "min",
  regularised: bool = True,
  reward_scale: float | Array = 1.0,
  evaluates: Callable[[Design, Params, Batch, Key], Particles] | None = None,
  correction: Correction | None = None,
  group: str = "critic",
) -> Value:
  """An ensemble of action values with a slow target copy (1812.05905, Eq. 5-6).

    y = c r + γ m V(s'),   V(s') = Σ_n w_n (Q̄(s', a_n) - α log_ratio_n),   a_n from the posterior at s'
    L = mean over the batch of Σ_i ½ (Q_i(s, a) - y)²,   θ̄ ← (1 - τ) θ̄ + τ θ

  where Q̄ is the pessimistic reduction of the target ensemble, and m = 1 - terminated. With a correction y is its
  target, of Q̄ along sequences from replay.

  Args:
    critic: an ensemble (`networks.action_in` for continuous, `networks.action_out` for discrete actions).
    optimizer: for the ensemble's parameters.
    gamma: γ, the discount a step.
    tau: τ, the rate of the target copy.
    target_every: updates between two movements of the target; with τ = 1 it is a hard copy.
    pessimism: "min", or κ for mean - κ·std over the ensemble (see `losses.pessimistic`).
    regularised: whether the target pays for divergence from the prior (SAC) or evaluates the plain reward (α = 0,
      VIREL).
    reward_scale: c, multiplies the reward.
    evaluates: `(design, params, batch, key) -> Particles` at `batch.obs`, the policy whose value this is; by default
      the posterior. `priors.samples` and `priors.every_action` evaluate the prior, as MPO does.
    correction: `retrace` or `n_step`, of the policy of `evaluates`; None is one step.
    group: the parameter group's name; its copy is "target_<group>".

  Raises:
    ValueError: a concrete γ outside [0, 1) or τ outside (0, 1]; an unknown pessimism; a correction of a regularised
      value.
  """
  _check(gamma, pessimism)
  if correction is not None and regularised:
    raise ValueError("a correction is of the plain return: regularised must be False")
  target = f"target_{group}"
  follow = track(group, into=target, rate=tau)
  if target_every != 1:
    follow = every(target_every, follow)

  def init(key: Key) -> Params:
    params = critic.init(key)
    return {group: params, target: copy(params)}

  def q(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(critic.apply(params[group], obs, action), pessimism)

  def q_target(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(critic.apply(params[target], obs, action), pessimism)

  def following_value(design: Design, params: Params, batch: Batch, key: Key, alpha: Array | float) -> Array:
    # Without the extras: what the update shares was drawn for batch.obs.
    following = batch._replace(obs=batch.next_obs, extras={})
    drawn = (evaluates or design.posterior.particles)(design, params, following, key)
    next_q = q_target(params, batch.next_obs, drawn.action)
    return losses.soft_value(next_q, drawn.log_weight, drawn.log_ratio, alpha)

  def corrected(correction: Correction, design: Design, params: Params, sequences: Transition, key: Key) -> Extras:
    def taken() -> tuple[Array, Array]:
      density: Any = design.posterior.log_prob if evaluates is None else design.prior.log_prob
      if density is None:
        raise ValueError(
          "retrace needs a policy with a density, such as posteriors.direct or a prior that is evaluated"
        )
      own = (params, sequences.obs, sequences.action)
      return q_target(*own), density(*own) - sequences.extras["log_prob"]

    row = (reward_scale * sequences.reward, sequences.discount, sequences.truncated)
    next_value = following_value(design, params, sequences, key, 0.0)
    return {"value_target": correction.target(row, next_value, taken, gamma)}

  def regression(design: Design, params: Params, batch: Batch, key: Key, alpha: Array | float) -> tuple[Array, Array]:
    if correction is not None:
      return critic.apply(params[group], batch.obs, batch.action), batch.extras["value_target"]
    next_value = following_value(design, params, batch, key, alpha)
    y = losses.discounted_target(reward_scale * batch.reward, batch.discount, next_value, gamma)
    return critic.apply(params[group], batch.obs, batch.action), y

  def backup(design: Design, params: Params, batch: Batch, key: Key) -> tuple[Array, Array]:
    return regression(design, params, batch, key, 0.0)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      alpha = design.temperature.value(params) if regularised else 0.0
      prediction, y = regression(design, params, batch, key, alpha)
      value = losses.squared_error(prediction, y).sum(axis=0)
      return jnp.mean(value), {"target_q": jnp.mean(y)}

    return chain(descend(group, loss, optimizer, axis=design.axis), follow)

  if correction is None:
    return Value(init, q, q_target, step, backup)
  prepare = functools.partial(corrected, correction)
  return Value(init, q, q_target, step, prepare=prepare, sequence=correction.sequence)


def state_value(
  critic: Critic,
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  gamma: float | Array = 0.99,
  tau: float | Array = 0.005,
  pessimism: str | float | Array = "min",
  regularised: bool = True,
  reward_scale: float | Array = 1.0,
  group: str = "critic",
  state_group: str = "value",
) -> Value:
  """Action values, and beside them a state value that has the slow copy (1801.01290, Eq. 5-8).

    L_V = ½ (V(s) - Σ_n w_n (Q(s, a_n) - α log_ratio_n))²,   a_n from the posterior at s
    L_Q = Σ_i ½ (Q_i(s, a) - y)²,   y = c r + γ m V̄(s'),   V̄ ← (1 - τ) V̄ + τ V

  Both are means over the batch and read the same old parameters; V's target is the pessimistic reduction of the Q's
  themselves, which have no slow copy. The actions are those that the policy's loss draws at the same states.

  Args:
    critic, optimizer, gamma, tau, pessimism, reward_scale, group: as in `q_value`; the optimiser serves both networks.
    network: V, `obs [..., o] -> [..., 1]`.
    regularised: whether V pays for divergence from the prior (SAC v1), or is E[Q] (α = 0, VIREL).
    state_group: V's parameter group; its copy is "target_<state_group>".

  Returns:
    A Value whose `q_target` is `q`, and whose `backup` is y with the live V, as VIREL's published code has it.

  Raises:
    ValueError: as `q_value`, or one group for both.
  """
  _check(gamma, pessimism)
  if group == state_group:
    raise ValueError(f"the action value and the state value are different groups, got {group!r} for both")
  target = f"target_{state_group}"
  follow = track(state_group, into=target, rate=tau)

  def init(key: Key) -> Params:
    critic_key, value_key = jax.random.split(key)
    params = network.init(value_key)
    return {group: critic.init(critic_key), state_group: params, target: copy(params)}

  def q(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(critic.apply(params[group], obs, action), pessimism)

  def regression(params: Params, batch: Batch, source: str) -> tuple[Array, Array]:
    next_value = network.apply(params[source], batch.next_obs)[..., 0]
    y = losses.discounted_target(reward_scale * batch.reward, batch.discount, next_value, gamma)
    return critic.apply(params[group], batch.obs, batch.action), y

  def backup(design: Design, params: Params, batch: Batch, key: Key) -> tuple[Array, Array]:
    return regression(params, batch, state_group)

  def step(design: Design) -> TrainStep:
    def q_loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      prediction, y = regression(params, batch, target)
      return jnp.mean(losses.squared_error(prediction, y).sum(axis=0)), {"target_q": jnp.mean(y)}

    def v_loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = design.posterior.particles(design, params, batch, key)
      alpha = design.temperature.value(params) if regularised else 0.0
      y = losses.soft_value(q(params, batch.obs, drawn.action), drawn.log_weight, drawn.log_ratio, alpha)
      prediction = network.apply(params[state_group], batch.obs)[..., 0]
      return jnp.mean(losses.squared_error(prediction, y)), {"v": jnp.mean(prediction)}

    of_states = descend(state_group, v_loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis)
    return chain(joint(descend(group, q_loss, optimizer, axis=design.axis), of_states), follow)

  return Value(init, q, q, step, backup)


def lambda_value(
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  gamma: float | Array = 0.99,
  lam: float | Array = 0.95,
  regularised: bool = False,
  reward_scale: float | Array = 1.0,
  updates: int = 1,
  group: str = "value",
) -> Value:
  """A state value of the policy that acted, regressed on the λ-returns of its rollout; its advantages are GAE's.

    L = ½ (V(s) - G)²,   G = V(s) + A,   A_t = Σ_l (γλ)^l δ_{t+l},   δ_t = r'_t + γ m_t V(s'_t) - V(s_t)
    r' = c r, and regularised c r - α (log π(a|s) - log p(a|s)) at the action taken

  `prepare` gives A ("advantage") and G ("value_target"), of the parameters as they then are; λ = 1 is the reward to
  come with V as a baseline. The divergence inside the return makes the score function's gradient that of
  E[Σ c r - α KL(π ‖ p)] (Levine 2018, 1805.00909, section 4.1), which a bonus on the current state alone is not.

  Args:
    network: V, `obs [..., o] -> [..., 1]`.
    optimizer: for its parameters.
    gamma: γ, the discount a step; 1 where every episode ends.
    lam: λ in [0, 1].
    regularised: whether the return pays for divergence from the prior.
    reward_scale: c, multiplies the reward.
    updates: descents on each batch.
    group: the parameter group's name.

  Raises:
    ValueError: a concrete γ or λ outside [0, 1], or no update; from `q` always, for there is none.
  """
  for name, share in (("gamma", gamma), ("lam", lam)):
    if isinstance(share, int | float) and not 0.0 <= share <= 1.0:
      raise ValueError(f"{name} lies in [0, 1], got {share}")

  def value(params: Params, obs: Observation) -> Array:
    return network.apply(params[group], obs)[..., 0]

  def following(params: Params, transitions: Transition, now: Array) -> Array:
    """V(s'): of the row after, but at a rollout's end, and where a cut episode's true next state is not in that row."""
    after = jnp.concatenate([now[1:], value(params, transitions.next_obs[-1:])])
    cut = transitions.truncated > 0
    return jax.lax.cond(
      jnp.any(cut[:-1]), lambda: jnp.where(cut, value(params, transitions.next_obs), after), lambda: after
    )

  def q(params: Params, obs: Observation, action: Array) -> Array:
    raise ValueError("values.lambda_value values states, not actions; a posterior that asks for Q needs values.q_value")

  def prepare(design: Design, params: Params, transitions: Transition, key: Key) -> Extras:
    reward = reward_scale * transitions.reward
    if regularised:
      density: Any = design.posterior.log_prob
      own = (params, transitions.obs, transitions.action)
      reward = reward - design.temperature.value(params) * (density(*own) - design.prior.log_prob(*own))
    now = value(params, transitions.obs)
    after = following(params, transitions, now)
    advantage = returns.gae(reward, transitions.discount, transitions.truncated, now, after, gamma=gamma, lam=lam)
    return {"advantage": advantage, "value_target": now + advantage}

  def step(design: Design) -> TrainStep:
    if regularised and design.posterior.log_prob is None:
      raise ValueError("a return that pays for divergence needs a posterior with a density, such as posteriors.direct")

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      if "value_target" not in batch.extras:
        raise ValueError(f"no value_target in the batch's extras {sorted(batch.extras)}: Agent.prepare makes it")
      target = jax.lax.stop_gradient(batch.extras["value_target"])
      prediction = value(params, batch.obs)
      return jnp.mean(losses.squared_error(prediction, target)), {"v": jnp.mean(prediction)}

    descent = descend(group, loss, optimizer, axis=design.axis)
    return descent if updates == 1 else repeat(updates, descent)

  return Value(lambda key: {group: network.init(key)}, q, q, step, prepare=prepare)


def _check(gamma: float | Array, pessimism: str | float | Array) -> None:
  if isinstance(gamma, int | float) and not 0.0 <= gamma < 1.0:
    raise ValueError(f"the discount lies in [0, 1), got {gamma}")
  if isinstance(pessimism, str) and pessimism != "min":
    raise ValueError(f"pessimism is 'min' or a number of standard deviations, got {pessimism!r}")


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
  if isinstance(weight, int | float) and not weight >= 0:
    raise ValueError(f"the penalty on actions out of bounds is >= 0, got {weight}")

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
  if isinstance(scale, int | float) and not 0.0 <= scale <= 1.0:
    raise ValueError(f"Munchausen's scale lies in [0, 1], got {scale}")
  if isinstance(floor, int | float) and not floor <= 0.0:
    raise ValueError(f"Munchausen's floor is at most 0, got {floor}")

  def step(design: Design) -> TrainStep:
    inner = value.step(design)

    def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
      policy = design.posterior.particles(design, params, batch, key).log_weight  # exact: the key is not looked at
      log_prob = jnp.take_along_axis(policy, batch.action[None], axis=0)[0]
      bonus = losses.munchausen_bonus(log_prob, design.temperature.value(params), scale, floor)
      mean = jnp.mean(bonus) if design.axis is None else jax.lax.pmean(jnp.mean(bonus), design.axis)
      rewarded = batch._replace(reward=batch.reward + bonus / reward_scale)
      params, state, metrics = inner.step(params, state, rewarded, key)
      return params, state, {**metrics, "munchausen_bonus": mean}

    return inner._replace(step=run)

  return value._replace(step=step)
