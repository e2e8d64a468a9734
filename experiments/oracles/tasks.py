"""Several finite processes as tasks, whose shared prior is known exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.oracles.rows import MANY, Oracle, Row, Scale, floats, loop
from experiments.oracles.runs import spread
from varl import agents
from varl.envs import Tasks, spec, with_skill
from varl.envs.tabular import Tabular
from varl.exact import information, tabular

STATES, ACTIONS, TASKS, COUNT = 5, 3, 3, 3
DISCOUNT, EPISODE_LENGTH = 0.9, 60
"""A time limit at which what is left of the discounted return is less than two thousandths."""


def problem(index: jax.Array) -> tabular.MDP:
  """Three random processes of the same sizes, stacked."""
  keys = jax.random.split(jax.random.fold_in(jax.random.key(1200), index), TASKS)
  return jax.vmap(lambda key: tabular.random_mdp(key, STATES, ACTIONS, discount=DISCOUNT))(keys)


def environment(tasks: tabular.MDP) -> Tasks:
  return Tasks([Tabular(jax.tree.map(lambda leaf, i=i: leaf[i], tasks)) for i in range(TASKS)])


def observations() -> jax.Array:
  """Every state of every task, `[K S, o]`."""
  states, which = jnp.eye(STATES), jnp.eye(TASKS)
  pairs = [jnp.concatenate([jnp.tile(s, (TASKS, 1)), which], axis=-1) for s in states]
  return jnp.stack(pairs, axis=1).reshape(TASKS * STATES, -1)


def learned(
  module: Any, config: dict[str, Any], tasks: tabular.MDP, key: jax.Array, settings: varl.Settings, updates: int
) -> Any:
  """(log π_i `[K, S, A]`, log π_0 `[S, A]`) after a run."""
  env = environment(tasks)
  env_spec = spec(env)
  made = module.Config(gamma=DISCOUNT, decay_updates=updates, **config)
  agent, design = module.make(env_spec, made), module.design(env_spec, made)
  params = varl.make_trainer(env, agent, settings).run(key)[0].agent.params
  obs = observations()
  actions = jnp.broadcast_to(jnp.arange(ACTIONS)[:, None], (ACTIONS, len(obs)))
  log_prior = jax.nn.log_softmax(design.prior.log_prob(params, obs, actions) / share(made), axis=0)
  return policies_of(design, params), jnp.moveaxis(log_prior, 0, -1).reshape(TASKS, STATES, ACTIONS)[0]


def batch_of(obs: jax.Array) -> varl.Batch:
  """Rows that stay where they are."""
  zero = jnp.zeros(len(obs))
  return varl.Batch(obs, jnp.zeros(len(obs), int), zero, zero + 1.0, obs, zero, {})


def policies_of(design: varl.Design, params: Any) -> jax.Array:
  """log π_i `[K, S, A]` of a posterior whose particles are all actions."""
  drawn = design.posterior.particles(design, params, batch_of(observations()), jax.random.key(0))
  return jnp.moveaxis(drawn.log_weight, 0, -1).reshape(TASKS, STATES, ACTIONS)


def share(config: Any) -> Any:
  """α, which `Prior.log_prob` is multiplied by."""
  if not hasattr(config, "entropy_cost"):
    return 1.0
  return config.divergence_cost / (config.divergence_cost + config.entropy_cost)


def over_problems(
  algorithm: str,
  scale: Scale,
  updates: int,
  kept: float,
  one: Any,
  limits: dict[str, tuple[float, float]],
  *,
  name: str,
  label: str = "",
) -> list[Row]:
  """`one(index, key, settings, updates) -> {quantity: (got, exact, error)}` for every problem and seed, as rows.

  Args:
    algorithm, scale: of the oracle.
    updates: of the full form; the short one makes a quarter.
    kept: the share of the run's rows that replay keeps, the newest.
    one: a run.
    limits: by quantity the tolerance of the full and of the short form.
    name, label: before and after the problem's number.
  """
  count, run_updates = scale.problems(COUNT, 1), scale.updates(updates, updates // 4)
  # Not of a pool of first states: its tasks are not equally many.
  settings = loop(
    run_updates, warm_up=1_024, rollouts=None, steps_each=MANY, episode_length=EPISODE_LENGTH, reset="fresh",
    replay_capacity=int(kept * MANY * run_updates),
  )  # fmt: skip
  seeds = jnp.stack([jax.random.key(seed) for seed in scale.seeds])
  each = [np.repeat(np.arange(count), len(scale.seeds)), np.tile(np.arange(len(scale.seeds)), count)]

  def run(index: jax.Array, key: jax.Array) -> Any:
    return one(index, key, settings, run_updates)

  found = spread(run, jnp.asarray(each[0]), seeds[each[1]], together=True)
  rows = []
  for quantity, limit in limits.items():
    of_problems = (np.asarray(x).reshape(count, -1) for x in found[quantity])
    for index, (got, exact, errors) in enumerate(zip(*of_problems, strict=True)):
      row = float(np.mean(got)), float(np.mean(exact)), floats(errors), scale.tolerance(*limit)
      rows.append(Row(algorithm, f"{name} {index}{label}", quantity, *row))
  return rows


def measured(
  config: dict[str, Any], updates: int, measure: Any, limits: dict[str, tuple[float, float]], label: str = ""
) -> Oracle:
  """Three tasks: `measure(tasks, log_policy, log_prior) -> {quantity: (got, exact, error)}` of each run."""

  def run(algorithm: str, scale: Scale) -> list[Row]:
    module = agents.load(algorithm)

    def one(index: jax.Array, key: jax.Array, settings: varl.Settings, run_updates: int) -> Any:
      tasks = problem(index)
      return measure(tasks, *learned(module, config, tasks, key, settings, run_updates))

    return over_problems(algorithm, scale, updates, 0.75, one, limits, name="3 random tasks", label=label)

  return run


def total_variation(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
  """The largest over tasks of the mean over states."""
  return jnp.max(jnp.mean(0.5 * jnp.sum(jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)), axis=-1), axis=-1))


def distilled(config: dict[str, Any], *, divergence: float, entropy: float, updates: int, label: str = "") -> Oracle:
  """Distral's fixed point: total variation of each task's policy and of the prior, the largest over tasks."""
  costs = {"divergence_cost": divergence, "entropy_cost": entropy}

  def measure(tasks: tabular.MDP, log_policy: jax.Array, log_prior: jax.Array) -> Any:
    exact = tabular.distral(tasks, divergence=divergence, entropy=entropy, iterations=500)
    zero = jnp.zeros(())
    uniform = jnp.full_like(log_prior, -jnp.log(ACTIONS))
    return {
      "policies, total variation": (zero, zero, total_variation(log_policy, exact.log_policy)),
      "prior, total variation": (
        total_variation(log_prior[None], uniform[None]),
        total_variation(exact.log_prior[-1][None], uniform[None]),
        total_variation(log_prior[None], exact.log_prior[-1][None]),
      ),
    }

  limits = {"policies, total variation": (0.03, 0.09), "prior, total variation": (0.03, 0.09)}
  return measured({**config, **costs}, updates, measure, limits, label)


def told(config: dict[str, Any], *, temperature: float, updates: int) -> Oracle:
  """Skills on a random process: the learned bound is the information between skill and next state under the learned
  policies, and these are soft-optimal for what q pays.

  Args:
    config: of the algorithm.
    temperature: α.
    updates: of the full form.
  """

  def run(algorithm: str, scale: Scale) -> list[Row]:
    module = agents.load(algorithm)

    def one(index: jax.Array, key: jax.Array, settings: varl.Settings, run_updates: int) -> Any:
      m = jax.tree.map(lambda leaf: leaf[0], problem(index))
      env = with_skill(Tabular(m), TASKS)
      made = module.Config(gamma=DISCOUNT, decay_updates=run_updates, initial_temperature=temperature, **config)
      agent, design = module.make(spec(env), made), module.design(spec(env), made)
      params = varl.make_trainer(env, agent, settings).run(key)[0].agent.params
      log_policy = policies_of(design, params)
      rows = batch_of(observations())
      log_q = design.reward.value(design, params, rows, key).reshape(TASKS, STATES)  # log q(z|s') - log p(z)

      def visits(own: jax.Array) -> jax.Array:
        steps = jnp.broadcast_to(own, (EPISODE_LENGTH, *own.shape))
        before = jnp.mean(tabular.visitation(m, steps, horizon=EPISODE_LENGTH), axis=0)
        return jnp.einsum("s,sa,sat->t", before, jnp.exp(own), tabular.dense(m).transition)

      arrivals = jax.vmap(visits)(log_policy)
      exact = information.mutual_information(jnp.full(TASKS, 1.0 / TASKS), arrivals)
      bound = jnp.mean(jnp.sum(arrivals * log_q, axis=-1))

      def best(of_skill: jax.Array) -> jax.Array:
        paid = tabular.dense(m).transition @ of_skill
        return tabular.soft_value_iteration(m._replace(reward=paid), temperature=temperature, log_prior=0.0).log_policy

      zero = jnp.zeros(())
      return {
        "information, as a share of log n": (bound, exact, jnp.abs(bound - exact) / jnp.log(float(TASKS))),
        "policies, total variation": (zero, zero, total_variation(log_policy, jax.vmap(best)(log_q))),
      }

    limits = {"information, as a share of log n": (0.02, 0.1), "policies, total variation": (0.03, 0.1)}
    return over_problems(algorithm, scale, updates, 0.5, one, limits, name="random process")

  return run


def informed(config: dict[str, Any], *, temperature: float, updates: int) -> Oracle:
  """The mean divergence from the default policy is the information about the task; and π is best for that prior.

  The information is enumerated from the learned policies and their visits of episodes as long as the run's.
  """

  def measure(tasks: tabular.MDP, log_policy: jax.Array, log_prior: jax.Array) -> Any:
    def visits(m: tabular.MDP, own: jax.Array) -> jax.Array:
      steps = jnp.broadcast_to(own, (EPISODE_LENGTH, *own.shape))
      return jnp.sum(tabular.visitation(m, steps, horizon=EPISODE_LENGTH), axis=0)

    visited = jax.vmap(visits)(tasks, log_policy)
    kl = jnp.sum(jnp.exp(log_policy) * (log_policy - log_prior), axis=-1)
    of_states = visited / visited.sum()
    mean_kl = jnp.sum(of_states * kl)
    inputs = visited / visited.sum(axis=0)
    told = information.mutual_information(inputs.T, jnp.moveaxis(jnp.exp(log_policy), 0, 1))
    exact = jnp.sum(of_states.sum(axis=0) * told)
    best = jax.vmap(lambda m: tabular.soft_value_iteration(m, temperature=temperature, log_prior=log_prior))(tasks)
    zero = jnp.zeros(())
    return {
      "divergence from the prior": (mean_kl, exact, jnp.abs(mean_kl - exact) / exact),
      "policies, total variation": (zero, zero, total_variation(log_policy, best.log_policy)),
    }

  limits = {"divergence from the prior": (0.02, 0.1), "policies, total variation": (0.03, 0.09)}
  return measured({**config, "temperature": temperature}, updates, measure, limits)
