"""Targets that look further ahead through the design's model: model-based value expansion."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks, losses
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Particles


class Expansion(NamedTuple):
  """How `q_value` expands its targets: `mve` or `steve`.

  Attributes:
    horizon: H, steps of the model after the real one.
    weighed: whether all horizons up to H count by their inverse variances, or H alone.
  """

  horizon: int
  weighed: bool


def mve(horizon: int) -> Expansion:
  """The target of the longest horizon: model-based value expansion (Feinberg et al. 2018, 1803.00101).

    V_H(s') = E[Σ_{k<H} γ^k D_k (c r_k - α log_ratio_k) + γ^H D_H V̄(s_H)],   s_0 = s',  D_k = m_0 ... m_{k-1}

  Rollouts follow the posterior and one member of the model each; V_H is their mean. H = 0 is the plain target.

  Raises:
    ValueError: a horizon below 1.
  """
  return Expansion(checks.whole("horizon", horizon), False)


def steve(horizon: int) -> Expansion:
  """All horizons up to H by their inverse variances: stochastic ensemble value expansion (1807.01675, section 3).

    V(s') = Σ_{h <= H} w_h V_h(s'),   w_h ∝ 1/σ_h²,   σ_h² over all members of the model and of the critic ensemble

  Where the model's members disagree about what follows, the target falls back on the critic. It takes two critics at
  least, since σ_0² is theirs alone.

  Raises:
    ValueError: a horizon below 1.
  """
  return Expansion(checks.whole("horizon", horizon), True)


def following_value(
  expansion: Expansion,
  design: Design,
  params: Params,
  following: Batch,
  key: Key,
  *,
  q_each: Callable[[Params, Observation, Array], Array],
  particles: Callable[[Design, Params, Batch, Key], Particles],
  pessimism: str | float | Array,
  alpha: float | Array,
  gamma: float | Array,
  reward_scale: float | Array,
) -> tuple[Array, Metrics]:
  """V at `following.obs` `[B, o]`, expanded.

  Args:
    expansion: which.
    design, params, key: of the update.
    following: the batch, its `obs` where the value is asked for.
    q_each: `(params, obs, action [n, B, d]) -> [C, n, B]`, every slow critic.
    particles: of the policy that is evaluated.
    pessimism: reduces the critics, for each member and horizon; members are averaged.
    alpha, gamma, reward_scale: α, γ and c of the value.

  Returns:
    V `[B]`, and "expansion_steps": the mean number of the model's steps in it.

  Raises:
    ValueError: no model, a posterior with memory or without log_prob, or weights by variance of a single critic.
  """
  if design.model is None:
    raise ValueError("an expanded target needs a model: design._replace(model=models.ensemble(...))")
  if jax.tree.leaves(design.posterior.carry(1)):
    raise ValueError("a target is expanded along a posterior without memory, but this one has a carry")
  model, rows = design.model, len(following.reward)

  def tiled(x: Array) -> Array:
    return jnp.broadcast_to(x, (model.members, *x.shape)).reshape(-1, *x.shape[1:])

  many = jax.tree.map(tiled, following._replace(extras={}))
  member = jnp.repeat(jnp.arange(model.members), rows)

  def worth(obs: Array, key: Key) -> Array:
    """V of every critic, `[C, E B]`."""
    drawn = particles(design, params, many._replace(obs=obs), key)
    q = q_each(params, obs, drawn.action)
    return jax.vmap(lambda one: losses.soft_value(one, drawn.log_weight, drawn.log_ratio, alpha))(q)

  def counted(total: Array, weight: Array, value: Array) -> Array:
    return total + jnp.where(weight > 0, weight * value, 0.0)

  def advance(state: Any, key: Key) -> tuple[Any, Array]:
    obs, total, weight = state
    value_key, act_key, model_key = jax.random.split(key, 3)
    until = counted(total, weight, worth(obs, value_key))
    action, _, extras = design.posterior.act(design, params, (), obs, act_key)
    if "log_prob" not in extras:
      raise ValueError("a target is expanded along a posterior that records log_prob, and this one does not")
    log_ratio = extras["log_prob"] - design.prior.log_prob(params, obs, action[None])[0]
    next_obs, reward, discount = model.sample(params, obs, action, model_key, member)
    total = counted(total, weight, reward_scale * reward - alpha * log_ratio)
    return (next_obs, total, weight * gamma * discount), until

  last_key, *_ = keys = jax.random.split(key, expansion.horizon + 1)
  nothing = jnp.zeros(len(many.reward), many.obs.dtype)
  (obs, total, weight), shorter = jax.lax.scan(advance, (many.obs, nothing, nothing + 1.0), keys[1:])
  longest = counted(total, weight, worth(obs, last_key))
  every = jnp.concatenate([shorter, longest[None]]).reshape(expansion.horizon + 1, -1, model.members, rows)
  means = jnp.mean(losses.pessimistic(jnp.moveaxis(every, 1, 0), pessimism), axis=1)
  if not expansion.weighed:
    return means[-1], {"expansion_steps": jnp.full((), expansion.horizon, means.dtype)}
  if every.shape[1] < 2:
    raise ValueError("steve weighs horizons by their variance over the critics, and needs two of them at least; got 1")
  weights = losses.inverse_variance_weights(jnp.var(every, axis=(1, 2)))
  steps = jnp.sum(weights * jnp.arange(expansion.horizon + 1.0)[:, None], axis=0)
  return jnp.sum(weights * means, axis=0), {"expansion_steps": jnp.mean(steps)}
