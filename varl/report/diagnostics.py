"""How well a posterior infers: its objective by inference iteration, and its distance from the best of its family.

Everything here works on a design and its parameters, at observations as the axes see them: where the agent normalises,
`normalize.apply(params["normalizer"], obs)`. The networks of a design see these observations alone: one that remembers
(`varl.agent(..., memory=...)`) reads rows of its memory, and is not for these functions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.policies import Head
from varl.posteriors import objective
from varl.posteriors.iterative import Inference
from varl.types import Array, Design, Key, Observation, Params, Transition


class Gap(NamedTuple):
  """The amortisation gap by state, each `[B]`, in units of return.

  Attributes:
    gap: optimum - posterior. An estimate: near 0 it can come out negative.
    posterior: J̃ of the posterior.
    optimum: J̃ of the policy that long ascent found.
    outputs: that policy, `[B, head.size]`.
  """

  gap: Array
  posterior: Array
  optimum: Array
  outputs: Array


def objective_by_iteration(design: Design, params: Params, obs: Observation, key: Key, *, rounds: int = 16) -> Array:
  """J̃ of every inference iterate, averaged over independent inferences (Marino et al. 2019, Fig. 2).

  Args:
    design: one whose posterior is `posteriors.iterative`.
    params: of all groups.
    obs: `[B, o]`.
    key: consumed: one key a round.
    rounds: inferences.

  Returns:
    `[K + 1, B]`, the start first, in units of return.

  Raises:
    ValueError: another posterior, or no round.
  """
  rounds = checks.whole("rounds", rounds)

  def once(key: Key) -> Array:
    run = design.posterior.draw(design, params, _at(obs), key)
    if not isinstance(run, Inference):
      raise ValueError(f"only posteriors.iterative has an objective by iteration; this one draws {type(run).__name__}")
    return run.objective

  return jnp.mean(jax.lax.map(once, jax.random.split(key, rounds)), axis=0)


def posterior_objective(
  design: Design, params: Params, obs: Observation, key: Key, *, rounds: int = 64, target: bool = True
) -> Array:
  """J̃(s) of a posterior from its own particles, whatever it is: E[Q] - α KL(π ‖ p), `[B]`.

  Args:
    design, params, obs: as `objective_by_iteration`.
    key: consumed: one key a round.
    rounds: independent draws of particles, averaged.
    target: whether Q is the value's slow copy, or the learning one.

  Raises:
    ValueError: no round.
  """
  batch, rounds = _at(obs), checks.whole("rounds", rounds)

  def once(key: Key) -> Array:
    drawn = design.posterior.particles(design, params, batch, key)
    q = (design.value.q_target if target else design.value.q)(params, obs, drawn.action)
    return losses.soft_value(q, drawn.log_weight, drawn.log_ratio, design.temperature.value(params))

  return jnp.mean(jax.lax.map(once, jax.random.split(key, rounds)), axis=0)


def amortisation_gap(
  design: Design,
  head: Head,
  params: Params,
  obs: Observation,
  key: Key,
  *,
  steps: int = 1_000,
  learning_rate: float = 0.05,
  samples: int = 32,
  rounds: int = 64,
  restarts: int = 4,
  target: bool = True,
) -> Gap:
  """How much better each state's policy could be within its family (Cremer et al. 2018; 2010.10670).

    gap(s) = max_λ J̃(s, λ) - J̃(s; posterior),   the maximum by long gradient ascent on λ itself

  The ascent is Adam with a rate that falls to 0 on a cosine, under fresh noise at every step, from several starts: the
  posterior's mode (at the head's first deviation), the head's 0, and random ones around 0 (unit deviation). The best of
  them is chosen by one estimate and judged by another, so that choosing does not flatter it.

  Args:
    design: whose posterior is judged; any.
    head: the family within which the best policy is sought; its outputs are (μ, ρ).
    params, obs: as `objective_by_iteration`.
    key: consumed, by splitting.
    steps: of the ascent.
    learning_rate: at its start, in units of λ.
    samples: actions a state and step; judging uses `rounds` times as many.
    rounds: draws that judge, of posterior and optimum.
    restarts: starts beside the posterior's mode, the head's 0 among them.
    target: whether Q is the value's slow copy, or the learning one.

  Raises:
    ValueError: fewer than one step, sample, round or start.
  """
  steps, samples = checks.whole("steps", steps), checks.whole("samples", samples)
  rounds, restarts = checks.whole("rounds", rounds), checks.whole("restarts", restarts)
  checks.arguments(above={"learning_rate": learning_rate})
  batch = obs.shape[:-1]
  start_key, ascent_key, choice_key, judge_key, posterior_key = jax.random.split(key, 5)
  climb = objective.ascent(design, head, params, target=target)
  adam = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

  def ascend(outputs: Array, key: Key) -> Array:
    def one(state: Any, key: Key) -> tuple[Any, None]:
      outputs, moments = state
      _, slope = climb(obs, outputs, head.noise(key, samples, batch))
      updates, moments = adam.update(-slope, moments)
      return (optax.apply_updates(outputs, updates), moments), None

    (outputs, _), _ = jax.lax.scan(one, (outputs, adam.init(outputs)), jax.random.split(key, steps))
    return outputs

  def judge(outputs: Array, key: Key) -> Array:
    def once(key: Key) -> Array:
      noise = head.noise(key, samples, batch)
      return objective.estimate(design, head, params, obs, outputs, noise, target=target)

    return jnp.mean(jax.lax.map(once, jax.random.split(key, rounds)), axis=0)

  starts = jax.random.normal(start_key, (restarts, *batch, head.size)).at[0].set(0.0)
  location, *_ = design.posterior.mode(design, params, design.posterior.carry(len(obs)), obs, start_key)
  from_mode = jnp.concatenate([location, jnp.zeros((*batch, head.size - location.shape[-1]))], axis=-1)
  starts = jnp.concatenate([from_mode[None], starts])
  reached = jax.lax.map(lambda pair: ascend(*pair), (starts, jax.random.split(ascent_key, len(starts))))
  scores = jax.lax.map(lambda outputs: judge(outputs, choice_key), reached)
  best = jnp.argmax(scores, axis=0)
  outputs = jnp.take_along_axis(reached, best[None, ..., None], axis=0)[0]
  optimum = judge(outputs, judge_key)
  posterior = posterior_objective(design, params, obs, posterior_key, rounds=rounds, target=target)
  return Gap(optimum - posterior, posterior, optimum, outputs)


def _at(obs: Observation) -> Transition:
  """A batch that is nothing but its observations."""
  nothing = jnp.zeros(obs.shape[:-1])
  return Transition(obs, nothing, nothing, nothing, obs, nothing, {})
