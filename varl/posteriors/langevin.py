"""The Boltzmann policy of the value by a Markov chain: Langevin's dynamics on the density of raw actions."""

from typing import Any

import jax
import jax.numpy as jnp

from varl import checks, losses
from varl.policies import Head
from varl.posteriors.boltzmann import Proposal, boltzmann, raw_log_density
from varl.types import (
  Array,
  Batch,
  Carry,
  Design,
  Extras,
  Key,
  Metrics,
  Observation,
  Params,
  Posterior,
  State,
  TrainStep,
)

ACCEPTANCE = "acceptance"
"""Where among a transition's extras the share of the chain's moves that were taken is."""


def langevin(
  start: Proposal,
  head: Head,
  *,
  action_size: int,
  steps: int = 10,
  step_size: float | Array = 0.05,
  adjusted: bool = True,
  adaptation: float | Array = 0.05,
  value_samples: int = 50,
  act_samples: int = 64,
) -> Posterior:
  """π(a|s) ∝ p(a|s) exp(Q(s, a)/α) by a chain of raw actions that each environment carries on; no parameters.

    u ← u + ε ∇_u log π_u(u|s) + √(2ε) ξ,   log π_u(u|s) = Q(s, g(u))/α + log p + log |det ∂g/∂u|

  An adjusted chain (MALA) takes a move with the probability that leaves π_u as it is; an unadjusted one takes each. In
  each new state the chain goes on from the action of the state before, so that within an episode it tends to stay in
  one mode. At an episode's start it is a draw of `boltzmann`'s, of `act_samples` proposals by their weight.

  A chain gives no density, so `particles` are those of `boltzmann`: the value is by importance. So is `mode`, which
  climbs from the proposals.

  Args:
    start: what proposes actions for the value, and at an episode's start.
    head: the action space, continuous.
    action_size: d.
    steps: of the chain in each state.
    step_size: ε at an episode's start.
    adjusted: whether moves may be refused.
    adaptation: η, the rate at which log ε follows the share of moves that an adjusted chain takes
      (`losses.langevin_step_size`); 0 holds it.
    value_samples: proposals a state for the value.
    act_samples: proposals a state that a chain starts from, and `mode`.

  Returns:
    A Posterior, whose `act` records `acceptance`, the share of moves taken, which its step reports.

  Raises:
    ValueError: fewer than one step, proposal or dimension; a step size not above 0, a rate below 0.
  """
  value_samples, act_samples = checks.whole("value_samples", value_samples), checks.whole("act_samples", act_samples)
  action_size, steps = checks.whole("action_size", action_size), checks.whole("steps", steps)
  checks.arguments(above={"step_size": step_size}, least={"adaptation": adaptation})
  proposed = boltzmann(start, samples=value_samples, act_samples=act_samples)

  def carry(batch: int) -> Carry:
    return {
      "action": jnp.zeros((batch, action_size)),
      "log_step": jnp.broadcast_to(jnp.log(jnp.asarray(step_size, float)), (batch,)),
      "fresh": jnp.ones(batch, bool),
    }

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    held: Any = carry
    start_key, chain_key = jax.random.split(key)
    first, _, _ = proposed.act(design, params, (), obs, start_key)
    begin = jnp.where(held["fresh"][..., None], first, held["action"])

    def density(raw: Array) -> tuple[Array, Array]:
      each = raw_log_density(design, params, head, obs, raw[None])[0]
      return jnp.sum(each), each  # states do not see one another

    def look(raw: Array) -> tuple[Array, Array]:
      slope, each = jax.grad(density, has_aux=True)(raw)
      return slope, each

    def move(state: Any, key: Key) -> tuple[Any, Array]:
      raw, slope, at, log_step = state
      noise_key, take_key = jax.random.split(key)
      step = jnp.exp(log_step)
      to = losses.langevin_move(raw, slope, step, jax.random.normal(noise_key, raw.shape, raw.dtype))
      to_slope, to_at = look(to)
      if adjusted:
        log_accepted = losses.langevin_acceptance(raw, slope, at, to, to_slope, to_at, step)
        taken = jnp.log(jax.random.uniform(take_key, at.shape, at.dtype)) < log_accepted
        log_step = losses.langevin_step_size(log_step, log_accepted, adaptation)
      else:
        taken = jnp.isfinite(to_at)  # what has no density is gone to by no chain
      row = taken[..., None]
      return (jnp.where(row, to, raw), jnp.where(row, to_slope, slope), jnp.where(taken, to_at, at), log_step), taken

    (raw, _, _, log_step), taken = jax.lax.scan(
      move, (begin, *look(begin), held["log_step"]), jax.random.split(chain_key, steps)
    )
    after = {"action": raw, "log_step": log_step, "fresh": jnp.zeros_like(held["fresh"])}
    return raw, after, {ACCEPTANCE: jnp.mean(taken.astype(raw.dtype), axis=0)}

  def step(design: Design) -> TrainStep:
    def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
      accepted = batch.extras.get(ACCEPTANCE)  # of rows that it acted in
      return params, state, {} if accepted is None else {ACCEPTANCE: jnp.mean(accepted)}

    return TrainStep(lambda params: {}, run, (), ())

  return proposed._replace(act=act, carry=carry, step=step)
