"""What options are worth, to a policy that chose among them and acted."""

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses, returns
from varl.networks import Network
from varl.policies import OPTION, OPTION_ADVANTAGE, PREVIOUS, Choice, of_option
from varl.step import descend
from varl.types import Array, Batch, Design, Extras, Key, Metrics, Observation, Params, TrainStep, Transition, Value


def option_value(
  network: Network,
  optimizer: optax.GradientTransformation,
  choosing: Choice,
  *,
  gamma: float | Array = 0.99,
  lam: float | Array = 0.95,
  choice_weight: float | Array = 1.0,
  reward_scale: float | Array = 1.0,
  group: str = "value",
) -> Value:
  """Q of every option, regressed on λ-returns from the option that acted; the mean over options is exact.

    V(s, o') = Σ_o π(o|s, o') [Q(s, o', o) - b α log π(o|s, o')]
    G_t = c r_t - α log π(a_t|s_t, o_t)/p(a_t)
          + γ m_t [(1 - λ) V(s'_t, o_t) + λ (G_{t+1} - b α log π(o_{t+1}|s_{t+1}, o_t))]
    L = ½ (Q(s_t, o_{t-1}, o_t) - G_t)²

  `prepare` gives G ("value_target"), the action's advantage G_t - Q(s_t, o_{t-1}, o_t) ("advantage") and those of all
  options, Q(s, o', o) - b α log π(o|s, o') - V(s, o') ("option_advantage"), whose sum weighted by the gradient of
  π(o|s, o') is that of V.

  Args:
    network: Q, `[..., o + n] -> [..., n]`, of the observation and the option before, one-hot.
    optimizer: for it.
    choosing: the choice of the posterior (`posteriors.options`).
    gamma: γ, the discount a step; 1 where every episode ends.
    lam: λ in [0, 1].
    choice_weight: b >= 0, of the choice's price beside that of actions; 0: an option costs nothing.
    reward_scale: c, multiplies the reward.
    group: the parameter group's name.

  Returns:
    A Value. Metrics: `v`, the mean of Q of the options that acted.

  Raises:
    ValueError: a concrete γ or λ outside [0, 1], a negative weight; from `q` always: options are valued, not actions.
  """
  checks.arguments(least={"choice_weight": choice_weight})
  checks.share("gamma", gamma)
  checks.share("lam", lam)
  count = choosing.options

  def of_options(params: Params, obs: Observation, previous: Array) -> Array:
    """Q `[..., n]`, on flat rows as in the loss."""
    before = jax.nn.one_hot(previous, count, dtype=obs.dtype)
    inputs = jnp.concatenate([obs, before], axis=-1)
    return network.apply(params[group], inputs.reshape(-1, inputs.shape[-1])).reshape(*obs.shape[:-1], count)

  def price(design: Design, params: Params) -> Array:
    return choice_weight * design.temperature.value(params)

  def of_state(design: Design, params: Params, obs: Observation, previous: Array) -> Array:
    log_option = choosing.log_prob(params, obs, previous)
    each = of_options(params, obs, previous) - price(design, params) * log_option
    return jnp.sum(jnp.exp(log_option) * each, axis=-1)

  def q(params: Params, obs: Observation, action: Array) -> Array:
    raise ValueError(
      "values.option_value values options, not actions; a posterior that asks for Q needs values.q_value"
    )

  def prepare(design: Design, params: Params, transitions: Transition, key: Key) -> Extras:
    option, previous = transitions.extras[OPTION], transitions.extras[PREVIOUS]
    alpha, of_choice = design.temperature.value(params), price(design, params)
    log_option = transitions.extras["log_options"]
    every = of_options(params, transitions.obs, previous)
    of_every = every - of_choice * log_option
    now = jnp.sum(jnp.exp(log_option) * of_every, axis=-1)
    after = returns.successors(
      lambda rows: of_state(design, params, rows.next_obs, rows.extras[OPTION]), transitions, now
    )
    log_ratio = transitions.extras["log_prob"] - design.prior.log_prob(params, transitions.obs, transitions.action)
    paid_for = of_choice * of_option(log_option, option)
    reward = reward_scale * transitions.reward - alpha * log_ratio - paid_for
    of_both = returns.gae(reward, transitions.discount, transitions.truncated, now, after, gamma=gamma, lam=lam)
    target = now + of_both + paid_for
    return {
      "value_target": target,
      "advantage": target - of_option(every, option),
      OPTION_ADVANTAGE: of_every - now[..., None],
    }

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      if "value_target" not in batch.extras:
        raise ValueError(f"no value_target in the batch's extras {sorted(batch.extras)}: Agent.prepare makes it")
      target = jax.lax.stop_gradient(batch.extras["value_target"])
      prediction = of_option(of_options(params, batch.obs, batch.extras[PREVIOUS]), batch.extras[OPTION])
      return jnp.mean(losses.squared_error(prediction, target)), {"v": jnp.mean(prediction)}

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  return Value(lambda key: {group: network.init(key)}, q, q, step, prepare=prepare)
