"""Posteriors that are the Boltzmann policy of the value, without a network of their own: sampled and enumerated."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks, losses, policies
from varl.policies import Head
from varl.step import POSTERIOR_STREAM
from varl.types import Array, Batch, Carry, Design, Extras, Key, Observation, Params, Particles, Posterior

Proposal = Callable[[Design, Params, Observation, Key, int], tuple[Array, Array]]
"""`(design, params, obs, key, n) -> (action, log_prob)`: n raw actions `[n, B, d]` a state, and the log-density
`[n, B]` of the executed ones under what they were drawn from."""


def prior_proposal(design: Design, params: Params, obs: Observation, key: Key, n: int) -> tuple[Array, Array]:
  """Proposes from the design's prior, for a prior that is a density: V = α log mean exp(Q/α).

  The uniform prior's log p = 0 is not the density of its samples; `uniform_proposal` knows that.
  """
  action = design.prior.proposal(params, obs, key, n)
  return action, design.prior.log_prob(params, obs, action)


def uniform_proposal(head: Head) -> Proposal:
  """Proposes uniformly from a bounded action space (1702.08165, appendix C.2: the start of training).

  Raises:
    ValueError: the head's action space is unbounded.
  """
  if head.uniform is None:
    raise ValueError("an unbounded action space has no uniform proposals; use gaussian_proposal")
  uniform: Any = head.uniform
  log_density: Any = head.uniform_log_prob

  def propose(design: Design, params: Params, obs: Observation, key: Key, n: int) -> tuple[Array, Array]:
    shape = (n, *jnp.shape(obs)[:-1])
    return uniform(key, shape), jnp.full(shape, log_density, float)

  return propose


def gaussian_proposal(action_size: int, std: float | Array) -> Proposal:
  """Proposes from N(0, std² I) for every state, for actions on the whole line.

  Args:
    action_size: d.
    std: its deviation, wide enough to reach every action that matters.
  """
  normal = policies.normal(jnp.zeros(action_size), jnp.broadcast_to(jnp.asarray(std, float), (action_size,)))

  def propose(design: Design, params: Params, obs: Observation, key: Key, n: int) -> tuple[Array, Array]:
    action = normal.sample(seed=key, sample_shape=(n, *jnp.shape(obs)[:-1]))
    return action, normal.log_prob(action)

  return propose


def ranked(*, samples: int = 20) -> Posterior:
  """The prior's own actions weighed by the rank of their slow Q̄ alone (`losses.rank_weights`); no parameters, no step.

  log_ratio is log(N w): the divergence from equal weights, a constant. It does not act: `acting_by_prior`.

  Args:
    samples: N, actions a state.

  Raises:
    ValueError: fewer than two samples.
  """
  samples = checks.whole("samples", samples, least=2)

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    if shared is not None:
      return shared
    action = design.prior.proposal(params, batch.obs, key, samples)
    log_weight = losses.rank_weights(design.value.q_target(params, batch.obs, action))
    log_ratio = jnp.where(jnp.isfinite(log_weight), log_weight + jnp.log(float(samples)), 0.0)
    return jax.lax.stop_gradient(Particles(action, log_weight, log_ratio))

  return Posterior(lambda key: {}, particles, particles, _cannot_act, _cannot_act, lambda batch: ())


def boltzmann(proposal: Proposal = prior_proposal, *, samples: int = 50, act_samples: int = 64) -> Posterior:
  """π(a|s) ∝ p(a|s) exp(Q(s, a)/α) by self-normalised importance sampling; no parameters, no step.

    a_n ~ q(·|s),   w_n = softmax_n(Q_n/α + log p_n - log q_n)

  `particles` weighs by the slow copy Q̄, so that `losses.soft_value` of Q̄ at them is α log mean_n exp(Q̄/α) p/q, soft
  Q-learning's target. `act` weighs by Q itself, and takes one of `act_samples` proposals by its weight: a draw from π
  up to a bias of the order of one over the effective number of proposals. `mode` climbs to the highest density
  Q/α + log p (`best`), from proposals that are always the same.

  Args:
    proposal: what actions are proposed by.
    samples: proposals a state in `particles`.
    act_samples: proposals a state in `act`, and that `mode` starts from.

  Raises:
    ValueError: fewer than one proposal.
  """
  samples, act_samples = checks.whole("samples", samples), checks.whole("act_samples", act_samples)

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    if shared is not None:
      return shared
    return weigh(design, params, batch.obs, *proposal(design, params, batch.obs, key, samples))

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    propose_key, choose_key = jax.random.split(key)
    action, log_proposal = proposal(design, params, obs, propose_key, act_samples)
    alpha = design.temperature.value(params)
    q = design.value.q(params, obs, action)
    log_weight, _ = losses.boltzmann_weights(
      q, log_proposal, alpha, log_prior=design.prior.log_prob(params, obs, action)
    )
    return take(action, jax.random.categorical(choose_key, log_weight, axis=0)), carry, {}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    action, _ = proposal(design, params, obs, jax.random.key(0), act_samples)
    return best(design, params, obs, action), carry, {}

  return Posterior(lambda key: {}, particles, particles, act, mode, lambda batch: ())


def softmax(head: Head) -> Posterior:
  """π(a|s) = p(a|s) exp((Q(s, a) - V(s))/α) over finitely many actions, all of them particles; no network, no step.

  `particles` weighs by the slow copy Q̄, so that `losses.soft_value` of Q̄ at them is α log Σ_a p exp(Q̄/α); `act` and
  `mode` go by Q itself.

  Args:
    head: `policies.categorical(A)`.
  """

  def every(obs: Observation) -> Array:
    return policies.every_action(head.size, jnp.shape(obs)[:-1])

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    action = every(batch.obs)
    log_prior = design.prior.log_prob(params, batch.obs, action)
    q = design.value.q_target(params, batch.obs, action)
    log_weight = jax.nn.log_softmax(q / design.temperature.value(params) + log_prior, axis=0)
    return jax.lax.stop_gradient(Particles(action, log_weight, log_weight - log_prior))

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> tuple[()]:
    return ()  # nothing is random

  def outputs(design: Design, params: Params, obs: Observation) -> Array:
    action = every(obs)
    q = design.value.q(params, obs, action) / design.temperature.value(params)
    return jnp.moveaxis(q + design.prior.log_prob(params, obs, action), 0, -1)

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    action, log_prob = head.sample_and_log_prob(outputs(design, params, obs), key, 1)
    return action[0], carry, {"log_prob": log_prob[0]}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    of_all = outputs(design, params, obs)
    action = head.mode(of_all)
    return action, carry, {"log_prob": head.log_prob(of_all, action)}

  return Posterior(lambda key: {}, particles, draw, act, mode, lambda batch: ())


def taken(*, share: float | Array = 0.5, budget: float | Array | None = None) -> Posterior:
  """The Boltzmann policy of the advantages among the actions that were taken (V-MPO, 1909.12238, Eq. 3).

    ψ_b = softmax over the batch's top `share` of A_b/η, 0 for the others

  One particle a state: the action taken, with weight B ψ_b, so that a mean over the batch is a sum over ψ. `log_ratio`
  is log(ψ_b |D̃|), whose weighted mean is the divergence of ψ from equal weights on the rows that are followed: with it
  `temperatures.kl_budget` has the gradient of V-MPO's dual. It does not act: `acting_by_prior`.

  Args:
    share: of the batch that is followed.
    budget: ε of the temperature, which weights of so few rows may be unable to reach; None: that is not looked at.

  Raises:
    ValueError: a share outside (0, 1]; at the update, a batch without advantages, or a concrete budget that its rows
      cannot reach: η would fall without end.
  """
  checks.share("share", share, lower_open=True)

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    if shared is not None:
      return shared
    if "advantage" not in batch.extras:
      raise ValueError(f"no advantages in the batch's extras {sorted(batch.extras)}; use values.lambda_value")
    advantage, eta = batch.extras["advantage"], design.temperature.value(params)
    rows = advantage.size * _members(design.axis)
    if isinstance(share, int | float):
      kept = max(int(share * rows), 1)
      checks.reachable(budget, kept, name=f"{kept}", of=f"{kept} rows (a share of {share:g} of a batch of {rows})")
    log_weight, log_count = losses.top_weights(advantage, eta, share=share, axis=design.axis)
    log_ratio = jnp.where(jnp.isfinite(log_weight), log_weight + log_count, 0.0)
    drawn = Particles(batch.action[None], (log_weight + jnp.log(float(rows)))[None], log_ratio[None])
    return jax.lax.stop_gradient(drawn)

  return Posterior(lambda key: {}, particles, particles, _cannot_act, _cannot_act, lambda batch: ())


def _cannot_act(*_: Any) -> Any:
  raise ValueError("this posterior weighs actions and chooses none; wrap it in acting_by_prior")


def _members(axis: str | None) -> int:
  return 1 if axis is None else jax.lax.axis_size(axis)


def acting_by_prior(posterior: Posterior) -> Posterior:
  """The same posterior, but the prior acts: for a learned one, which is the policy and follows the posterior (MPO)."""

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    action = design.prior.proposal(params, obs, key, 1)
    return action[0], carry, {"log_prob": design.prior.log_prob(params, obs, action)[0]}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    if design.prior.mode is None:
      raise ValueError("this prior has no mode to be judged by; use priors.learned or priors.fixed")
    action = design.prior.mode(params, obs)
    return action, carry, {"log_prob": design.prior.log_prob(params, obs, action)}

  return posterior._replace(act=act, mode=mode)


def weigh(design: Design, params: Params, obs: Observation, action: Array, log_proposal: Array) -> Particles:
  """Proposals as particles of the Boltzmann policy of Q̄; constants, for nothing is reparameterised."""
  log_weight, log_ratio = losses.boltzmann_weights(
    design.value.q_target(params, obs, action),
    log_proposal,
    design.temperature.value(params),
    log_prior=design.prior.log_prob(params, obs, action),
  )
  return jax.lax.stop_gradient(Particles(action, log_weight, log_ratio))


def raw_log_density(design: Design, params: Params, head: Head, obs: Observation, raw: Array) -> Array:
  """log of the Boltzmann policy's density of raw actions, up to a constant: Q/α + log p + log |det ∂g/∂u| (`[n, B]`).

  Args:
    design, params: give Q, α and log p.
    head: the action space, whose g squashes.
    obs: `[B, o]`.
    raw: `[n, B, d]`, u; what is differentiated in it is the score.
  """
  q = design.value.q(params, obs, raw)
  log_prior = design.prior.log_prob(params, obs, raw)
  return losses.raw_log_density(q, log_prior, log_det(head, raw), design.temperature.value(params))


def log_det(head: Head, raw: Array) -> Array:
  """log |det ∂g/∂u|: what the densities of a raw and of its executed action differ by, whatever the distribution."""
  neutral = jnp.zeros(head.size)
  return head.distribution(neutral).log_prob(raw) - head.log_prob(neutral, raw)


def best(design: Design, params: Params, obs: Observation, action: Array, *, starts: int = 4, steps: int = 20) -> Array:
  """The action of highest density Q/α + log p in each state, `[B, d]`, found from the proposals `[n, B, d]`.

  The best few proposals climb the density's gradient, and the highest point on any of their ways is the action: it is
  never worse than the best proposal, which alone is far from the maximum in more than one dimension. A step follows the
  gradient's sign in each dimension; its length, at first a quarter of the proposals' deviation, grows by a fifth where
  the sign stays and halves where it turns (Rprop, Riedmiller & Braun 1993), so that neither the scale of Q nor the
  kinks of a critic matter. Discrete actions are only chosen from.

  Args:
    design, params: give Q, α and log p.
    obs: `[B, o]`.
    action: the proposals, raw.
    starts: how many of them climb.
    steps: of each.
  """

  def density(action: Array) -> Array:
    alpha = design.temperature.value(params)
    return design.value.q(params, obs, action) + alpha * design.prior.log_prob(params, obs, action)

  first = density(action)
  if not jnp.issubdtype(action.dtype, jnp.floating):
    return take(action, jnp.argmax(first, axis=0))
  chosen = jax.lax.top_k(jnp.moveaxis(first, 0, -1), min(starts, len(action)))[1]
  start = jnp.take_along_axis(action, jnp.moveaxis(chosen, -1, 0)[..., None], axis=0)
  longest = jnp.broadcast_to(0.25 * jnp.std(action, axis=0), start.shape)

  def total(action: Array) -> tuple[Array, Array]:
    each = density(action)
    return jnp.sum(each), each

  def climb(state: Any, _: None) -> tuple[Any, None]:
    now, length, previous, highest, at = state
    slope, each = jax.grad(total, has_aux=True)(now)
    higher = each > at
    highest, at = jnp.where(higher[..., None], now, highest), jnp.where(higher, each, at)
    sign = jnp.sign(slope)
    length = length * jnp.where(sign * previous < 0, 0.5, jnp.where(sign * previous > 0, 1.2, 1.0))
    length = jnp.minimum(length, longest)
    return (now + sign * length, length, sign, highest, at), None

  lowest = jnp.full(start.shape[:-1], -jnp.inf, first.dtype)
  begin = (start, longest, jnp.zeros_like(start), start, lowest)
  (last, _, _, highest, at), _ = jax.lax.scan(climb, begin, None, length=steps)
  ended = density(last)
  highest, at = jnp.where((ended > at)[..., None], last, highest), jnp.maximum(ended, at)
  return take(highest, jnp.argmax(at, axis=0))


def take(action: Array, index: Array) -> Array:
  """Action number `index` `[B]` of `[n, B, d]` (or `[n, B]`)."""
  index = index.reshape(1, *index.shape, *(1,) * (action.ndim - index.ndim - 1))
  return jnp.take_along_axis(action, index, axis=0)[0]
