"""Action values: an ensemble with a slow copy, or beside a state value that has it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.networks import Critic, Network
from varl.step import POSTERIOR_STREAM, chain, copy, descend, every, joint, track
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
  TrainStep,
  Transition,
  Value,
)
from varl.values import distributions, expansions
from varl.values.corrections import Correction
from varl.values.distributions import Returns


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
  expansion: expansions.Expansion | None = None,
  returns: Returns | None = None,
  group: str = "critic",
) -> Value:
  """An ensemble of action values with a slow target copy (1812.05905, Eq. 5-6).

    y = c r + γ m V(s'),   V(s') = Σ_n w_n (Q̄(s', a_n) - α log_ratio_n),   a_n from the posterior at s'
    L = mean over the batch of Σ_i ½ (Q_i(s, a) - y)²,   θ̄ ← (1 - τ) θ̄ + τ θ

  where Q̄ is the pessimistic reduction of the target ensemble, and m = 1 - terminated. With a correction y is its
  target, of Q̄ along sequences from replay; with an expansion V(s') is one through the design's model. With `returns`
  the critic's outputs are those of a distribution, Q is what it reads of them, and L its loss: on the distribution of
  y over s' and the return from there, where it has atoms; else on y.

  Args:
    critic: an ensemble (`networks.action_in` for continuous, `networks.action_out` for discrete actions), with as many
      outputs as `returns` has.
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
    expansion: `mve` or `steve`, along the posterior's own actions; None: none.
    returns: `categorical`, `hl_gauss` or `quantile`; None: a number, by its squared error.
    group: the parameter group's name; its copy is "target_<group>".

  Raises:
    ValueError: a concrete γ outside [0, 1) or τ outside (0, 1]; an unknown pessimism; a correction of a regularised
      value, or one beside an expansion; either with a distribution that has atoms.
  """
  check(gamma, pessimism)
  target_every = checks.whole("target_every", target_every)
  if correction is not None and regularised:
    raise ValueError("a correction is of the plain return: regularised must be False")
  if correction is not None and expansion is not None:
    raise ValueError("a target is corrected along real sequences or expanded through a model, not both")
  atoms = None if returns is None else returns.atoms
  if atoms is not None and not (correction is None and expansion is None):
    raise ValueError("the distribution of the return is learned from one step, without a correction or an expansion")
  target = f"target_{group}"
  follow = track(group, into=target, rate=tau)
  if target_every != 1:
    follow = every(target_every, follow)

  def init(key: Key) -> Params:
    params = critic.init(key)
    return {group: params, target: copy(params)}

  def worth(outputs: Array) -> Array:
    return outputs if returns is None else returns.value(outputs)

  def q(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(worth(critic.apply(params[group], obs, action)), pessimism)

  def q_target(params: Params, obs: Observation, action: Array) -> Array:
    return losses.pessimistic(worth(critic.apply(params[target], obs, action)), pessimism)

  def following_value(
    design: Design, params: Params, batch: Batch, key: Key, alpha: Array | float
  ) -> tuple[Array, Metrics]:
    # Without the extras: what the update shares was drawn for batch.obs.
    following = batch._replace(obs=batch.next_obs, extras={})
    particles = evaluates or design.posterior.particles
    if expansion is not None:
      return expansions.following_value(
        expansion, design, params, following, key, particles=particles, pessimism=pessimism, alpha=alpha, gamma=gamma,
        reward_scale=reward_scale, q_each=lambda params, *at: worth(critic.apply(params[target], *at)),
      )  # fmt: skip
    drawn = particles(design, params, following, key)
    next_q = q_target(params, batch.next_obs, drawn.action)
    return losses.soft_value(next_q, drawn.log_weight, drawn.log_ratio, alpha), {}

  def regression(
    design: Design, params: Params, batch: Batch, key: Key, alpha: Array | float
  ) -> tuple[Array, Array, Metrics]:
    """The critic's outputs at the batch, their target y, and metrics."""
    outputs = critic.apply(params[group], batch.obs, batch.action)
    if correction is not None:
      return outputs, batch.extras["value_target"], {}
    next_value, metrics = following_value(design, params, batch, key, alpha)
    y = losses.discounted_target(reward_scale * batch.reward, batch.discount, next_value, gamma)
    return outputs, y, metrics

  def distribution(
    design: Design, params: Params, batch: Batch, key: Key, alpha: Array | float
  ) -> tuple[Array, Array, Array]:
    """The critic's outputs at the batch, the returns of their target `[B, M]`, and the probabilities of these."""
    drawn = (evaluates or design.posterior.particles)(
      design, params, batch._replace(obs=batch.next_obs, extras={}), key
    )
    returns_of: Any = atoms
    z, p = returns_of(critic.apply(params[target], batch.next_obs, drawn.action))
    z, p = distributions.pessimistic(z, p, pessimism)
    z, p = distributions.following(z, p, drawn.log_weight, drawn.log_ratio, alpha)
    row = (reward_scale * batch.reward[:, None], batch.discount[:, None])
    outputs = critic.apply(params[group], batch.obs, batch.action)
    return outputs, losses.discounted_target(*row, z, gamma), p

  def backup(design: Design, params: Params, batch: Batch, key: Key) -> tuple[Array, Array]:
    if atoms is None:
      outputs, y, _ = regression(design, params, batch, key, 0.0)
      return worth(outputs), y
    outputs, z, p = distribution(design, params, batch, key, 0.0)
    return jnp.sum(jnp.multiply(*atoms(outputs)), axis=-1), jnp.sum(z * p, axis=-1)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      alpha = design.temperature.value(params) if regularised else 0.0
      if returns is None:
        prediction, y, metrics = regression(design, params, batch, key, alpha)
        value = losses.squared_error(prediction, y)
      elif atoms is None:
        outputs, y, metrics = regression(design, params, batch, key, alpha)
        value = returns.loss(outputs, y[:, None], jnp.ones_like(y)[:, None])
      else:
        outputs, z, p = distribution(design, params, batch, key, alpha)
        value, y, metrics = returns.loss(outputs, z, p), jnp.sum(z * p, axis=-1), {}
      return jnp.mean(value.sum(axis=0)), {"target_q": jnp.mean(y), **metrics}

    return chain(descend(group, loss, optimizer, axis=design.axis, terms=design.terms), follow)

  if correction is None:
    return Value(init, q, q_target, step, backup)

  def prepare(design: Design, params: Params, sequences: Transition, key: Key) -> Extras:
    def taken() -> tuple[Array, Array]:
      density: Any = design.posterior.log_prob if evaluates is None else design.prior.log_prob
      if density is None:
        raise ValueError(
          "retrace needs a policy with a density, such as posteriors.direct or a prior that is evaluated"
        )
      own = (params, sequences.obs, sequences.action)
      return q_target(*own), density(*own) - sequences.extras["log_prob"]

    row = (reward_scale * sequences.reward, sequences.discount, sequences.truncated)
    next_value, _ = following_value(design, params, sequences, key, 0.0)
    return {"value_target": correction.target(row, next_value, taken, gamma)}

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
  check(gamma, pessimism)
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

    of_states = descend(state_group, v_loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)
    return chain(joint(descend(group, q_loss, optimizer, axis=design.axis, terms=design.terms), of_states), follow)

  return Value(init, q, q, step, backup)


def check(gamma: float | Array, pessimism: str | float | Array) -> None:
  """Raises ValueError for a concrete discount outside [0, 1), or an unknown pessimism."""
  checks.share("gamma", gamma, upper_open=True)
  if isinstance(pessimism, str) and pessimism != "min":
    raise ValueError(f"pessimism is 'min' or a number of standard deviations, got {pessimism!r}")
