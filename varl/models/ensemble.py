"""A probabilistic ensemble: several Gaussian networks that each learn the same world from their own share of it."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from varl import checks, losses, normalize, policies
from varl.networks import Network, state_action
from varl.normalize import NORMALIZER
from varl.step import descend
from varl.types import (
  Array,
  Batch,
  Design,
  Extras,
  Key,
  Metrics,
  Model,
  Observation,
  Outcome,
  Params,
  Spec,
  TrainStep,
  Transition,
)

BOOTSTRAP = "bootstrap"
"""Where among a transition's extras its weight for each member is."""

ENDS = ("learned", "never")
_POISSON = np.cumsum([math.exp(-1.0) / math.factorial(k) for k in range(8)])
"""P(w <= k) of Poisson(1), k = 0 .. 7: inverted, since JAX draws its own from one kind of key only."""


def outputs_of(spec: Spec) -> int:
  """How many outputs a network of `ensemble` has: mean and log-variance of s' and r, and the logit of going on."""
  return 2 * (spec.observation_size + 1) + 1


def inputs_of(spec: Spec) -> int:
  """How many inputs it has: the observation and the executed action (one-hot where discrete)."""
  return spec.observation_size + spec.action_size


def ensemble(
  spec: Spec,
  network: Network,
  optimizer: optax.GradientTransformation,
  *,
  members: int = 5,
  elites: int | None = None,
  execute: Callable[[Array], Array] = lambda action: action,
  difference: bool = True,
  ends: str | Callable[[Observation], Array] = "learned",
  log_variance: tuple[float, float] = (-10.0, 0.5),
  bounds_weight: float | Array = 0.01,
  bootstrap: bool = True,
  memory: float | Array = 0.99,
  group: str = "model",
) -> Model:
  """Members q_i(s', r, m | s, a) = N(x; μ_i, diag σ_i²) Bernoulli(m; p_i), trained by likelihood (1805.12114).

    x = ((s' - s, r) - mean) / std,  each dimension at unit scale
    L = Σ_i mean_b w_ib (Σ_j ½ ((x_j - μ_ij)² / σ_ij² + log σ_ij²) + BCE(m, p_i)) + c Σ (max - min of log σ²)
    log σ² = min + softplus(max - softplus(max - raw) - min)

  One likelihood over targets of different scales learns the largest alone (2412.14312); here the moments of the fresh
  rollouts' targets scale them. They live in the space of scaled observations, as everything of a design does; where
  the observation moments move, the targets' follow, and the networks after both.

  Args:
    spec: the environment's sizes.
    network: `[..., inputs_of(spec)] -> [..., outputs_of(spec)]`, one member.
    optimizer: for all members and their bounds.
    members: E.
    elites: how many members, those of lowest error on fresh rollouts, `sample` and `draws` use; None: all.
    execute: raw action -> executed action, which the networks see.
    difference: whether s' - s is predicted, or s' itself.
    ends: "learned", "never", or a function `next_obs [..., o] (scaled) -> discount [...]` that is known.
    log_variance: (min, max) of log σ² at unit scale: where the learned bounds start, or what is held.
    bounds_weight: c, what pulls the learned bounds together; 0 holds them.
    bootstrap: whether each row counts w ~ Poisson(1) times for each member, the same at every update, or once for all.
    memory: in [0, 1), how much of the error on fresh rollouts is that of earlier ones.
    group: the parameter group's name; beside it "<group>_scale" and "<group>_fresh".

  Returns:
    A Model. `sample` without a member deals the rows out to the members (TS-1 of 1805.12114): one pass for all rows.
    Metrics: `<group>_error`, mean squared error at unit scale on rows that are learned from; `<group>_fresh_error`,
    the same on fresh rollouts before they are; `<group>_spread`, deviation of the members' means (what more data would
    tell); `<group>_variance`, mean predicted variance (what it would not).

  Raises:
    ValueError: fewer than one member, elites outside [1, members], unknown ends, bounds or a memory out of range; at
      the call, actions of the other kind.

  Reference: Chua et al. 2018, 1805.12114, section 4 and appendix A.1 (bounds); Janner et al. 2019, 1906.08253, appendix
    B (elites). Each member's bootstrap is the online one: Poisson counts, drawn once a row (Oza & Russell 2001).
  """
  members = checks.whole("members", members)
  elites = None if elites is None else checks.whole("elites", elites, below=members + 1)
  if not callable(ends) and ends not in ENDS:
    raise ValueError(f"ends is a function or one of {', '.join(ENDS)}; got {ends!r}")
  low, high = log_variance
  if not low < high:
    raise ValueError(f"the bounds of log σ² are (min, max) with min < max, got {log_variance}")
  checks.share("memory", memory, upper_open=True)
  size = spec.observation_size + 1
  scale_group, fresh_group = f"{group}_scale", f"{group}_fresh"
  some = None if elites in (None, members) else elites

  def init(key: Key) -> Params:
    bounds = {"min": jnp.full(size, low, float), "max": jnp.full(size, high, float)}
    return {
      group: {"members": jax.vmap(network.init)(jax.random.split(key, members)), "bounds": bounds},
      scale_group: normalize.init(size),
      fresh_group: {"error": jnp.zeros(members), "rollouts": jnp.zeros((), jnp.int32)},
    }

  inputs = state_action(spec, execute)

  def predict(own: Any, x: Array) -> tuple[Array, Array, Array]:
    """(mean, log σ², logit) of each member at its own rows `[E, ..., inputs]`."""
    raw = jax.vmap(network.apply)(own["members"], x)
    bounds = own["bounds"] if _positive(bounds_weight) else jax.lax.stop_gradient(own["bounds"])
    spread = losses.soft_bounds(raw[..., size : 2 * size], bounds["min"], bounds["max"])
    return raw[..., :size], spread, raw[..., -1]

  def everywhere(own: Any, x: Array) -> tuple[Array, Array, Array]:
    return predict(own, jnp.broadcast_to(x, (_count(own), *x.shape)))

  def of_member(own: Any, x: Array, member: Array) -> tuple[Array, Array, Array]:
    index = jnp.broadcast_to(member % _count(own), x.shape[:-1])

    def row(y: Array) -> Array:
      return jnp.take_along_axis(y, index.reshape(1, *index.shape, *(1,) * (y.ndim - 1 - index.ndim)), axis=0)[0]

    mean, spread, logit = everywhere(own, x)
    return row(mean), row(spread), row(logit)

  def targets(params: Params, rows: Transition) -> Array:
    following = rows.next_obs - rows.obs if difference else rows.next_obs
    both = jnp.concatenate([following, rows.reward[..., None]], axis=-1)
    return normalize.apply(params[scale_group], both, clip=math.inf)

  def chosen(params: Params) -> Any:
    """The members that are used."""
    if some is None:
      return params[group]
    best = jnp.argsort(params[fresh_group]["error"])[:some]
    return {**params[group], "members": jax.tree.map(lambda x: x[best], params[group]["members"])}

  def outcome(params: Params, obs: Array, prediction: tuple[Array, Array, Array], key: Key) -> Outcome:
    mean, spread, logit = prediction
    x = mean + jnp.exp(0.5 * spread) * jax.random.normal(key, mean.shape, mean.dtype)
    both = normalize.invert(params[scale_group], x)
    next_obs = obs + both[..., :-1] if difference else both[..., :-1]
    if NORMALIZER in params:  # as scaled observations are
      next_obs = jnp.clip(next_obs, -normalize.CLIP, normalize.CLIP)
    if callable(ends):
      discount = ends(next_obs)
    elif ends == "never":
      discount = jnp.ones_like(logit)
    else:
      discount = jax.nn.sigmoid(logit)
    return Outcome(next_obs, both[..., -1], discount)

  def sample(params: Params, obs: Observation, action: Array, key: Key, member: Array | None = None) -> Outcome:
    own, x = chosen(params), inputs(obs, action)
    deal_key, draw_key = jax.random.split(key)
    if member is None:
      prediction = _dealt(lambda rows: predict(own, rows), x, _count(own), deal_key)
    else:
      prediction = of_member(own, x, member)
    return outcome(params, obs, prediction, draw_key)

  def draws(params: Params, obs: Observation, action: Array, key: Key, member: Array | None = None) -> Outcome:
    own, x = chosen(params), inputs(obs, action)
    if member is None:
      return outcome(params, obs, everywhere(own, x), key)
    prediction = of_member(own, x, member)
    return jax.vmap(lambda key: outcome(params, obs, prediction, key))(jax.random.split(key, _count(own)))

  def log_prob(params: Params, batch: Batch) -> Array:
    own = params[group]
    mean, spread, logit = everywhere(own, inputs(batch.obs, batch.action))
    normal = policies.normal(mean, jnp.exp(0.5 * spread))
    each = normal.log_prob(targets(params, batch))
    moments = params[scale_group]
    volume = jnp.sum(jnp.log(normalize.invert(moments, jnp.ones(size)) - normalize.invert(moments, jnp.zeros(size))))
    if ends == "learned":
      each = each - optax.sigmoid_binary_cross_entropy(logit, batch.discount)
    return jax.nn.logsumexp(each, axis=0) - jnp.log(float(members)) - volume

  def squared(params: Params, rows: Transition) -> tuple[Array, tuple[Array, Array, Array]]:
    """Each member's squared error at unit scale `[E, ...]`, and its prediction."""
    prediction = everywhere(params[group], inputs(rows.obs, rows.action))
    return jnp.mean(jnp.square(targets(params, rows) - prediction[0]), axis=-1), prediction

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      mean, spread, logit = everywhere(params[group], inputs(batch.obs, batch.action))
      x = targets(params, batch)
      each = losses.gaussian_loss(x, mean, spread)
      if ends == "learned":
        each = each + optax.sigmoid_binary_cross_entropy(logit, batch.discount)
      if bootstrap and BOOTSTRAP in batch.extras:
        each = each * jnp.moveaxis(batch.extras[BOOTSTRAP], -1, 0)
      total = jnp.sum(jnp.mean(each, axis=-1))
      if _positive(bounds_weight):
        bounds = params[group]["bounds"]
        total = total + bounds_weight * jnp.sum(bounds["max"] - bounds["min"])
      return total, {
        f"{group}_error": jnp.mean(jnp.square(x - mean)),
        f"{group}_fresh_error": jnp.mean(params[fresh_group]["error"]),
        f"{group}_spread": jnp.mean(jnp.std(mean, axis=0)),
        f"{group}_variance": jnp.mean(jnp.exp(spread)),
      }

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  def observe(params: Params, transitions: Transition, valid: Array, axis: str | None = None) -> Params:
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[valid.ndim :]), transitions._replace(extras={}))
    kept = valid.reshape(-1)
    following = rows.next_obs - rows.obs if difference else rows.next_obs
    seen = jnp.concatenate([following, rows.reward[:, None]], axis=-1)
    # Before their error is measured: else a dimension that was constant so far would have one without bound.
    params = {**params, scale_group: normalize.update(params[scale_group], seen, kept, axis=axis)}
    error, _ = squared(params, rows)
    count = jnp.sum(kept.astype(error.dtype))
    total = jnp.sum(jnp.where(kept, error, 0.0), axis=-1)
    if axis is not None:
      total, count = jax.lax.psum((total, count), axis)
    old = params[fresh_group]
    now = jnp.where(count > 0, total / jnp.maximum(count, 1.0), old["error"])
    keep = jnp.where(old["rollouts"] > 0, memory, 0.0)
    fresh = {"error": keep * old["error"] + (1.0 - keep) * now, "rollouts": optax.safe_increment(old["rollouts"])}
    return {**params, fresh_group: fresh}

  def record(key: Key, shape: tuple[int, ...]) -> Extras:
    uniform = jax.random.uniform(key, (*shape, members))
    counts = uniform[..., None] > jnp.asarray(_POISSON, uniform.dtype)
    return {BOOTSTRAP: jnp.sum(counts, axis=-1, dtype=uniform.dtype)}

  return Model(
    init=init,
    sample=sample,
    draws=draws,
    log_prob=log_prob,
    step=step,
    observe=observe,
    record=record if bootstrap else None,
    members=members if some is None else some,
  )


def _count(own: Any) -> int:
  return len(jax.tree.leaves(own["members"])[0])


def _positive(weight: float | Array) -> bool:
  return not isinstance(weight, int | float) or weight > 0


def _dealt(apply: Callable[[Array], Any], x: Array, members: int, key: Key) -> Any:
  """`apply` of `[E, rows, inputs]`, where each of the rows `[..., inputs]` is dealt to one member."""
  rows = x.reshape(-1, x.shape[-1])
  share = -(-len(rows) // members)
  hands = rows[jnp.arange(members * share) % len(rows)].reshape(members, share, -1)
  first = jax.random.randint(key, (), 0, members)

  def back(y: Array) -> Array:
    y = jnp.roll(y, -first, axis=0)
    return y.reshape(members * share, *y.shape[2:])[: len(rows)].reshape(*x.shape[:-1], *y.shape[2:])

  return jax.tree.map(back, apply(jnp.roll(hands, first, axis=0)))
