"""Posteriors that plan with the design's model: sequential Monte Carlo over futures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks, losses
from varl.posteriors.boltzmann import take
from varl.step import POSTERIOR_STREAM
from varl.types import (
  Array,
  Batch,
  Carry,
  Design,
  Extras,
  Key,
  Metrics,
  Model,
  Observation,
  Params,
  Particles,
  Posterior,
  TrainStep,
)

TARGETS = ("variational", "optimistic")

ValueFn = Callable[[Design, Params, Observation, Key], Array]
"""`(design, params, obs [rows, o], key) -> V [rows]`, in units of (scaled) return: the value that plans end in."""

UNDRAWN = -1
"""The carry of an episode whose member is not drawn yet."""

RECORDED = ("plan_effective_samples", "plan_resamplings", "plan_weight_entropy", "plan_improvement")
"""What a planned action is stored with, one number a row; an update reports its batch's means."""


def smc(
  policy: Posterior,
  *,
  particles: int = 32,
  horizon: int = 4,
  gamma: float | Array = 0.99,
  reward_scale: float | Array = 1.0,
  target: str = "variational",
  resample_below: float | Array = 0.5,
  value_samples: int = 8,
  value: ValueFn | None = None,
  infer: bool = False,
  thompson: bool = False,
) -> Posterior:
  """Acts by planning with the design's model; learns as `policy` does, which proposes (Piché et al. 2019).

  N particles start in the state, take actions of the proposal π and go where the model leads. With V in units of
  return, c the reward scale and α the temperature, a step multiplies a particle's weight by e^Δ:

    variational:  Δ = (E[c r + γ m V(s')] - V(s))/α + log p(a|s) - log π(a|s),   E over the model's draws
    optimistic:   Δ = (c r + γ m V(s') - V(s))/α + log p(a|s) - log π(a|s),      s', r as sampled

  The first converges to the variational posterior p e^{(Q - V)/α}, SAC's; the second to the posterior p(a|O), which
  also infers the dynamics. The published weight subtracts log E e^{V(s)} from a sampled V(s'), which converges to
  neither where the world is noisy (`exact.tabular.planning_limit`, "mixed"). After a predicted end a weight is frozen.
  Where the effective sample size 1/Σ w² falls below a share of N, all particles of a state are resampled,
  systematically, and carry their root action along; never after the last step, which would make the read-out's weights
  equal. `act` takes a root action by its weight. `mode` takes the root action of the highest estimated density, its
  weight times the proposal's density; of discrete ones, that of the largest weight.

  With an exact proposal all weights are equal, and planning adds nothing; with one sample of V its noise adds to the
  weights.

  Args:
    policy: proposes by its `act`, which records "log_prob"; it has no memory. Its step, particles and density stay.
    particles: N.
    horizon: h, steps that are planned.
    gamma: γ, c: `reward_scale`, as in the design's value.
    target: "variational" or "optimistic".
    resample_below: the share of N.
    value_samples: K, proposals by which V(s) = α log mean_k e^{Q(s, a_k)/α} p/π is estimated, once for each state that
      a particle reaches: what one step adds is what the next one subtracts.
    value: V itself, where it is known; None: as above.
    infer: whether the particles at a batch's states are planned too: root actions with their weights, an E-step for a
      learned prior. Their log_ratio is log(N w), so the proposal has to be that prior (`acting_by_prior`).
    thompson: whether `act` plans an episode through by one member of the model, drawn at its start and kept in the
      carry (Thompson sampling): it tries what some belief holds for best. `mode` and `infer` plan with all members.

  Returns:
    A Posterior. `act` records `RECORDED`: the effective sample size at the end over N, resamplings, the entropy of the
    root actions' weights in nats, and the improvement over the proposal in units of return: the mean of the root
    actions' one-step advantages E[c r + γ m V(s')] - V(s) by their weights, less their plain mean.

  Raises:
    ValueError: a count below 1, an unknown target, a share outside [0, 1]; when it is used, a design without a model, a
      policy with memory, or one that records no log_prob.

  Reference: Piché et al. 2019, "Probabilistic Planning with Sequential Monte Carlo methods", Algorithm 1, whose weight
    is the third of `planning_limit`; discounts, ends and the two targets are of this library. Thompson sampling by a
    member of an ensemble: Osband et al. 2016, 1602.04621.
  """
  particles, horizon = checks.whole("particles", particles), checks.whole("horizon", horizon)
  value_samples = checks.whole("value_samples", value_samples)
  if target not in TARGETS:
    raise ValueError(f"target is one of {', '.join(TARGETS)}; got {target!r}")
  checks.share("resample_below", resample_below)
  if jax.tree.leaves(policy.carry(1)):
    raise ValueError("planning proposes from a policy without memory, but this one has a carry")

  def propose(design: Design, params: Params, obs: Array, key: Key) -> tuple[Array, Array]:
    action, _, extras = policy.act(design, params, (), obs, key)
    if "log_prob" not in extras:
      raise ValueError(f"the proposal records no log_prob, only {sorted(extras)}; planning weighs actions by it")
    return action, extras["log_prob"]

  def estimate(design: Design, params: Params, obs: Array, key: Key) -> Array:
    def one(key: Key) -> tuple[Array, Array]:
      return propose(design, params, obs, key)

    action, log_proposal = jax.vmap(one)(jax.random.split(key, value_samples))
    alpha = design.temperature.value(params)
    q = design.value.q(params, obs, action)
    log_prior = design.prior.log_prob(params, obs, action)
    return alpha * (jax.nn.logsumexp(q / alpha + log_prior - log_proposal, axis=0) - jnp.log(float(value_samples)))

  worth = estimate if value is None else value

  def plan(
    design: Design, params: Params, obs: Observation, key: Key, member: Array | None = None
  ) -> tuple[Particles, dict[str, Array]]:
    """Root actions `[N, B, *]` with their weights, and `RECORDED` `[B]`."""
    model = _model(design)
    batch = obs.shape[:-1]
    held = None if member is None else jnp.tile(member.reshape(-1), particles)
    states = jnp.broadcast_to(obs.reshape(-1, obs.shape[-1]), (particles, obs.size // obs.shape[-1], obs.shape[-1]))
    count = states.shape[1]
    alpha = design.temperature.value(params)
    value_key, roll_key = jax.random.split(key)

    def v(at: Array, key: Key) -> Array:
      rows = at.reshape(-1, at.shape[-1])
      return worth(design, params, rows, key).reshape(at.shape[:-1])

    def advance(state: Any, inputs: tuple[Key, Array]) -> tuple[Any, Array]:
      at, now, alive, log_weight, first, root, root_log_prob, lineage, resampled = state
      step_key, index = inputs
      act_key, model_key, end_key, draws_key, choose_key, next_key = jax.random.split(step_key, 6)
      rows = at.reshape(-1, at.shape[-1])
      action, log_proposal = propose(design, params, rows, act_key)
      log_prior = design.prior.log_prob(params, rows, action[None])[0]
      next_obs, reward, survival = model.sample(params, rows, action, model_key, held)
      goes_on = jax.random.bernoulli(end_key, survival)
      if target == "optimistic":
        following = v(next_obs, next_key)
        ahead = reward_scale * reward + gamma * goes_on * following
      else:
        drawn = model.draws(params, rows, action, draws_key, held)
        both = v(jnp.concatenate([next_obs[None], drawn.next_obs]), next_key)
        following = both[0]
        ahead = jnp.mean(reward_scale * drawn.reward + gamma * drawn.discount * both[1:], axis=0)
      gained = ahead.reshape(particles, count) - now
      change = gained / alpha + (log_prior - log_proposal).reshape(particles, count)
      log_weight = log_weight + jnp.where(alive, change, 0.0)
      first = jnp.where(index == 0, gained, first)
      alive = alive & goes_on.reshape(particles, count)
      action = action.reshape(particles, count, *action.shape[1:])
      root = jax.tree.map(lambda old, new: jnp.where(index == 0, new, old), root, action)
      root_log_prob = jnp.where(index == 0, log_proposal.reshape(particles, count), root_log_prob)
      log_weight = jax.nn.log_softmax(log_weight, axis=0)
      size = jnp.exp(-jax.nn.logsumexp(2.0 * log_weight, axis=0))
      again = (size < resample_below * particles) & (index < horizon - 1)
      chosen = jnp.where(again, losses.systematic_resample(log_weight, choose_key), jnp.arange(particles)[:, None])
      moved = (next_obs.reshape(at.shape), following.reshape(now.shape), alive, root, root_log_prob, lineage)
      moved = jax.tree.map(lambda x: _gather(x, chosen), moved)
      log_weight = jnp.where(again, -jnp.log(float(particles)), log_weight)
      at, now, alive, root, root_log_prob, lineage = moved
      return (at, now, alive, log_weight, first, root, root_log_prob, lineage, resampled + again), size

    shape = (particles, count)
    empty = jax.eval_shape(lambda rows: propose(design, params, rows, key)[0], states.reshape(-1, states.shape[-1]))
    now = v(states[:1], value_key)
    now = jnp.broadcast_to(now, shape)
    begin = (
      states,
      now,
      jnp.ones(shape, bool),
      jnp.full(shape, -jnp.log(float(particles)), now.dtype),
      jnp.zeros(shape, now.dtype),
      jnp.zeros((*shape, *empty.shape[1:]), empty.dtype),
      jnp.zeros(shape, now.dtype),
      jnp.broadcast_to(jnp.arange(particles)[:, None], shape),
      jnp.zeros(count, jnp.int32),
    )
    last, sizes = jax.lax.scan(advance, begin, (jax.random.split(roll_key, horizon), jnp.arange(horizon)))
    _, _, _, log_weight, first, root, root_log_prob, lineage, resampled = last
    mass = _mass_of_roots(jnp.exp(log_weight), lineage)
    recorded = {
      "plan_effective_samples": sizes[-1] / particles,
      "plan_resamplings": resampled.astype(now.dtype),
      "plan_weight_entropy": -jnp.sum(jnp.where(mass > 0, mass * jnp.log(jnp.where(mass > 0, mass, 1.0)), 0.0), axis=0),
      "plan_improvement": jnp.sum(mass * first, axis=0) - jnp.mean(first, axis=0),
    }
    found = Particles(root, log_weight, log_weight + jnp.log(float(particles)))
    found = jax.tree.map(lambda x: x.reshape(particles, *batch, *x.shape[2:]), found)
    recorded = jax.tree.map(lambda x: x.reshape(batch), recorded)
    of_roots = {"lineage": lineage, "root_log_prob": root_log_prob}
    return found, recorded | {name: x.reshape(particles, *batch) for name, x in of_roots.items()}

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    if thompson:
      key, member_key = jax.random.split(key)
      drawn = jax.random.randint(member_key, carry.shape, 0, _model(design).members, carry.dtype)
      carry = jnp.where(carry == UNDRAWN, drawn, carry)
    plan_key, choose_key = jax.random.split(key)
    found, recorded = plan(design, params, obs, plan_key, carry if thompson else None)
    index = jax.random.categorical(choose_key, found.log_weight, axis=0)
    return take(found.action, index), carry, {name: recorded[name] for name in RECORDED}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    found, recorded = plan(design, params, obs, jax.random.key(0))
    discrete = jnp.issubdtype(found.action.dtype, jnp.integer)
    same = found.action if discrete else recorded["lineage"]
    mass = jnp.sum(jnp.where(same[:, None] == same[None], jnp.exp(found.log_weight), 0.0), axis=1)
    density = jnp.log(mass) + (0.0 if discrete else recorded["root_log_prob"])
    return take(found.action, jnp.argmax(density, axis=0)), carry, {name: recorded[name] for name in RECORDED}

  def inferred(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    return shared if shared is not None else jax.lax.stop_gradient(plan(design, params, batch.obs, key)[0])

  def step(design: Design) -> TrainStep:
    own = TrainStep(lambda params: {}, _nothing, (), ()) if policy.step is None else policy.step(design)

    def run(params: Params, state: Any, batch: Batch, key: Key) -> tuple[Params, Any, Metrics]:
      params, state, metrics = own.step(params, state, batch, key)
      found = {name: jnp.mean(batch.extras[name]) for name in RECORDED if name in batch.extras}
      return params, state, {**metrics, **found}

    return own._replace(step=run)

  acting = policy._replace(act=act, mode=mode, step=step)
  if thompson:
    acting = acting._replace(carry=lambda batch: jnp.full(batch, UNDRAWN, jnp.int32))
  return acting._replace(particles=inferred, draw=inferred, evaluate=None) if infer else acting


def _nothing(params: Params, state: Any, batch: Batch, key: Key) -> tuple[Params, Any, Metrics]:
  return params, state, {}


def _model(design: Design) -> Model:
  if design.model is None:
    raise ValueError("planning needs a model: design._replace(model=models.ensemble(...) or models.known(...))")
  return design.model


def _gather(x: Array, index: Array) -> Array:
  """Rows `index` `[N, B]` of `[N, B, *]`, column by column."""
  return jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), axis=0)


def _mass_of_roots(weight: Array, lineage: Array) -> Array:
  """The summed weight of each first particle's descendants, `[N, B]`."""

  def column(weight: Array, lineage: Array) -> Array:
    return jnp.zeros_like(weight).at[lineage].add(weight)

  return jax.vmap(column, in_axes=1, out_axes=1)(weight, lineage)
