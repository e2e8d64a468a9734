"""State values of the policy that acted, for algorithms that learn from rollouts."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses, returns
from varl.networks import Network
from varl.step import descend, repeat
from varl.types import Array, Batch, Design, Extras, Key, Metrics, Observation, Params, TrainStep, Transition, Value


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
    optimizer: for its parameters; a schedule in it counts descents, `updates` of them on each batch.
    gamma: γ, the discount a step; 1 where every episode ends.
    lam: λ in [0, 1].
    regularised: whether the return pays for divergence from the prior.
    reward_scale: c, multiplies the reward.
    updates: descents on each batch.
    group: the parameter group's name.

  Raises:
    ValueError: a concrete γ or λ outside [0, 1], or no update; from `q` always, for there is none.
  """
  checks.share("gamma", gamma)
  checks.share("lam", lam)
  updates = checks.whole("updates", updates)

  def value(params: Params, obs: Observation) -> Array:
    # On flat rows, as in the loss: where `prepare` is of the same rows, XLA then passes the network once for both.
    return network.apply(params[group], obs.reshape(-1, obs.shape[-1])).reshape(obs.shape[:-1])

  def q(params: Params, obs: Observation, action: Array) -> Array:
    raise ValueError("values.lambda_value values states, not actions; a posterior that asks for Q needs values.q_value")

  def prepare(design: Design, params: Params, transitions: Transition, key: Key) -> Extras:
    reward = reward_scale * transitions.reward
    if regularised:
      density: Any = design.posterior.log_prob
      own = (params, transitions.obs, transitions.action)
      reward = reward - design.temperature.value(params) * (density(*own) - design.prior.log_prob(*own))
    now = value(params, transitions.obs)
    after = returns.successors(lambda rows: value(params, rows.next_obs), transitions, now)
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

    descent = descend(group, loss, optimizer, axis=design.axis, terms=design.terms)
    return descent if updates == 1 else repeat(updates, descent)

  return Value(lambda key: {group: network.init(key)}, q, q, step, prepare=prepare, v=value)
