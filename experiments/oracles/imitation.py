"""Imitation on finite processes, where its end is known.

In each update a learned reward sees rows of the present policy's exact occupancy, and the agent that it pays rows of
all states and actions, so that what is measured is where the two end and not how the agent explores.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.oracles.rows import Oracle, Row, Scale, floats
from varl import agents, demonstrations, models, policies
from varl.demonstrations import Demonstrations
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.exact import inverse, tabular
from varl.step import IMAGINED

STATES, ACTIONS, COUNT, ROWS = 5, 3, 5, 400_000
DISCOUNT = 0.9
STAY = 0.7

TABLE = {
  "hidden": (), "reward_hidden": (64,), "learning_rate": 1e-2, "reward_learning_rate": 1e-3, "tau": 0.05,
  "normalize_observations": False, "adapt_temperature": False, "critics": 1, "penalty": 0.0, "gamma": DISCOUNT,
}  # fmt: skip
"""Policies and values are linear on one-hot states, tables; rewards see a state and an action side by side."""


class Problem(NamedTuple):
  """A process, its expert `[S, A]`, rows drawn from the expert's normalised discounted occupancy, and its name."""

  process: tabular.MDP
  log_expert: jax.Array
  demonstrations: Demonstrations
  name: str


def problem(m: tabular.MDP, log_expert: jax.Array, name: str, *, seed: int = 0) -> Problem:
  """A problem of an expert on a process; `ROWS` of its rows are demonstrations."""
  rows = draw(m, log_expert, jax.random.key(seed), ROWS)
  found = demonstrations.of_arrays(
    spec(Tabular(m)), rows.obs, rows.action, rows.next_obs, terminated=rows.discount == 0, reward=rows.reward,
    episode=np.arange(ROWS),
  )  # fmt: skip
  return Problem(m, log_expert, found, name)


def random_problem(index: int, *, branching: int | None = None) -> Problem:
  """A random process with a random expert; every second one can end."""
  key, expert_key = jax.random.split(jax.random.key(900 + index))
  m = tabular.random_mdp(key, STATES, ACTIONS, discount=DISCOUNT, branching=branching, terminal=index % 2)
  return problem(m, jax.nn.log_softmax(jax.random.normal(expert_key, m.reward.shape)), f"random process {index}")


def stay_or_exit() -> Problem:
  """One live state, in which the expert stays with probability .7 and else ends."""
  transition = np.zeros((2, 2, 2))
  transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1.0
  m = tabular.mdp(transition, np.zeros((2, 2)), discount=0.9, initial=[1.0, 0.0], terminal=[False, True])
  return problem(m, jnp.log(jnp.asarray([[STAY, 1.0 - STAY], [0.5, 0.5]])), "stay or exit")


def draw(m: tabular.MDP, log_policy: jax.Array, key: jax.Array, n: int) -> varl.Batch:
  """n rows of a policy's normalised discounted occupancy, in states that are not terminal."""
  rows = of_pairs(m, jnp.where(m.terminal[:, None], 0.0, inverse.occupancy(m, log_policy)), key, n)
  return rows._replace(extras={"log_prob": log_policy[jnp.argmax(rows.obs, axis=-1), rows.action]})


def of_pairs(m: tabular.MDP, weight: jax.Array, key: jax.Array, n: int) -> varl.Batch:
  """n rows whose states and actions are drawn in proportion to `weight` `[S, A]`."""
  pair_key, next_key = jax.random.split(key)
  pair = jax.random.categorical(pair_key, jnp.log(weight.ravel()), shape=(n,))
  state, action = pair // m.reward.shape[1], pair % m.reward.shape[1]
  following = jax.random.categorical(next_key, jnp.log(m.transition[state, action]))
  if m.successor is not None:
    following = m.successor[state, action, following]
  one_hot = jnp.eye(len(m.terminal))
  return varl.Batch(
    one_hot[state], action.astype(jnp.int32), m.reward[state, action], 1.0 - m.terminal[following],
    one_hot[following], jnp.zeros(n), {},
  )  # fmt: skip


def trained(
  algorithm: str, of: Problem, config: dict[str, Any], seeds: tuple[int, ...], *, updates: int, batch_size: int = 256
) -> tuple[list[Any], Any]:
  """The parameters of each seed after so many updates on rows of the policy as it is at each, and the design."""
  module, m = agents.load(algorithm), of.process
  sizes = spec(Tabular(m))
  full = module.Config(**{
    "decay_updates": updates, "demonstrations": of.demonstrations,
    **{name: value for name, value in TABLE.items() if hasattr(module.Config, name)}, **config,
  })  # fmt: skip
  agent, design = module.make(sizes, full), module.design(sizes, full)
  if design.reward is not None:
    head = policies.categorical(sizes.action_size)
    agent = varl.agent(design._replace(model=everywhere(m)), sizes, head, normalize_observations=False)

  def update(state: Any, key: jax.Array) -> tuple[Any, None]:
    rows_key, key = jax.random.split(key)
    rows = draw(m, policy_of(design, state.params, m), rows_key, batch_size)
    return agent.update(state, rows, key)[0], None

  def run(key: jax.Array) -> Any:
    init_key, key = jax.random.split(key)
    return jax.lax.scan(update, agent.init(init_key), jax.random.split(key, updates))[0].params

  found = jax.jit(jax.vmap(run))(jnp.stack([jax.random.key(seed) for seed in seeds]))
  return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(seeds))], design


def everywhere(m: tabular.MDP) -> varl.Model:
  """Rows of the process itself in place of the policy's own: of all live states and all actions, equally often."""
  known = models.known(Tabular(m).outcome)

  def imagine(design: varl.Design, params: Any, batch: varl.Batch, key: jax.Array) -> tuple[varl.Batch, Any]:
    live = jnp.where(m.terminal[:, None], 0.0, jnp.ones_like(m.reward))
    made = of_pairs(m, live, key, len(batch.reward))
    return made._replace(extras={IMAGINED: jnp.ones(len(batch.reward))}), {}

  return known._replace(imagine=imagine)


def policy_of(design: varl.Design, params: Any, m: tabular.MDP) -> jax.Array:
  """log π `[S, A]`."""
  states = jnp.eye(len(m.terminal))
  actions = jnp.broadcast_to(jnp.arange(m.reward.shape[1])[:, None], m.reward.T.shape)
  if design.posterior.log_prob is None:  # Boltzmann
    return jax.nn.log_softmax(design.value.q(params, states, actions).T / design.temperature.value(params), axis=-1)
  return design.posterior.log_prob(params, states, actions).T


def distance(m: tabular.MDP, log_policy: jax.Array, other: jax.Array) -> jax.Array:
  """The total variation of two policies, the mean over states that are not terminal."""
  each = 0.5 * jnp.sum(jnp.abs(jnp.exp(log_policy) - jnp.exp(other)), axis=-1)
  return jnp.mean(each, where=~m.terminal)


def endless(of: Problem) -> tuple[tabular.MDP, jax.Array, jax.Array]:
  """(process, expert, log_prior) in which whoever ends stays for ever."""
  m, log_prior = inverse.absorbing(of.process)
  first = jnp.where(jnp.arange(log_prior.shape[1]) == 0, 0.0, -jnp.inf)
  return m, jnp.where(of.process.terminal[:, None], first, of.log_expert), log_prior


def fixed_point(config: dict[str, Any], *, temperature: float = 0.3, updates: int = 8_000) -> Oracle:
  """Adversarial imitation on random processes: total variation to its exact fixed point, absorbing states and all."""

  def run(algorithm: str, scale: Scale) -> list[Row]:
    rows = []
    for index in range(scale.problems(COUNT, 1)):
      of = random_problem(index)
      m, log_expert, log_prior = endless(of)
      form = config.get("form", "log_odds")
      exact = inverse.adversarial_fixed_point(m, log_expert, form=form, temperature=temperature, log_prior=log_prior)
      full = {"initial_temperature": temperature, **config}
      params, design = trained(algorithm, of, full, scale.seeds, updates=scale.updates(updates, updates // 2))
      errors = [distance(of.process, policy_of(design, mine, of.process), exact.log_policy) for mine in params]
      tolerance = scale.tolerance(0.03, 0.06)
      rows.append(Row(algorithm, f"{of.name}, {form}", "policy total variation", 0.0, 0.0, floats(errors), tolerance))
    return rows

  return run


def ends(forms: tuple[str, ...], *, temperature: float = 0.05, updates: int = 32_000) -> Oracle:
  """How often the policy stays where the expert does with probability .7, with and without absorbing states."""

  def run(algorithm: str, scale: Scale) -> list[Row]:
    of, rows = stay_or_exit(), []
    for form in forms:
      for absorbing in (True, False):
        m, log_expert, log_prior = endless(of) if absorbing else (of.process, of.log_expert, 0.0)
        exact = inverse.adversarial_fixed_point(m, log_expert, form=form, temperature=temperature, log_prior=log_prior)
        # A policy as quick as the discriminator circles the fixed point, where a state is paid for without end.
        rates = {"learning_rate": 1e-3, "reward_learning_rate": 3e-2}
        config = {"form": form, "absorbing": absorbing, "initial_temperature": temperature, **rates}
        params, design = trained(algorithm, of, config, scale.seeds, updates=scale.updates(updates, updates // 2))
        stays = [jnp.exp(policy_of(design, mine, of.process)[0, 0]) for mine in params]
        true = jnp.exp(exact.log_policy[0, 0])
        label = f"{of.name}, {form}, {'absorbing' if absorbing else 'as it is'}"
        errors = floats([abs(stay - true) for stay in stays])
        got, true = float(np.mean(floats(stays))), float(true)
        rows.append(Row(algorithm, label, "probability of staying", got, true, errors, scale.tolerance(0.01, 0.03)))
    return rows

  return run


def expert_policy(
  config: dict[str, Any],
  *,
  updates: int = 8_000,
  features: bool = True,
  exact: Callable[..., Any] | None = None,
  branching: int | None = None,
  label: str = "",
) -> Oracle:
  """What comes to the expert, on random processes: total variation to it, and the error of feature expectations.

  Args:
    config: of the algorithm.
    updates: of the full form.
    features: whether expectations of states and actions are compared: the largest difference of normalised
      occupancies, relative to the largest.
    exact: `problem -> log π [S, A]`, in the expert's place where the algorithm ends elsewhere.
    branching: of the processes; 1: deterministic.
    label: behind the problems' names.
  """  # fmt: skip

  def run(algorithm: str, scale: Scale) -> list[Row]:
    rows = []
    for index in range(scale.problems(COUNT, 1)):
      of = random_problem(index, branching=branching)
      target = of.log_expert if exact is None else exact(of)
      params, design = trained(algorithm, of, config, scale.seeds, updates=scale.updates(updates, updates // 2))
      found = [policy_of(design, mine, of.process) for mine in params]
      errors = floats([distance(of.process, policy, target) for policy in found])
      limit = scale.tolerance(0.03, 0.06)
      name = f"{of.name}{label}"
      rows.append(Row(algorithm, name, "policy total variation", 0.0, 0.0, errors, limit))
      if features:
        true, *mine = (visits(of.process, policy) for policy in (target, *found))
        errors = floats([jnp.max(jnp.abs(x - true)) / jnp.max(true) for x in mine])
        limit = scale.tolerance(0.02, 0.06)
        rows.append(
          Row(algorithm, name, "feature expectations", float(mine[0].max()), float(true.max()), errors, limit)
        )
    return rows

  return run


def visits(m: tabular.MDP, log_policy: jax.Array) -> jax.Array:
  """Normalised discounted occupancy of states that are not terminal: expectations of the features of each (s, a)."""
  occupied = jnp.where(m.terminal[:, None], 0.0, inverse.occupancy(m, log_policy))
  return occupied / occupied.sum()


def iq_fixed_point(of: Problem, *, regularisation: float, temperature: float) -> jax.Array:
  """Where inverse soft Q-learning ends, exactly."""
  occupied = inverse.occupancy(of.process, of.log_expert)
  found = inverse.iq_learn(of.process, occupied, regularisation=regularisation, temperature=temperature)
  return found.log_policy


def recovered(config: dict[str, Any], *, updates: int = 16_000) -> Oracle:
  """A reward of the state alone under deterministic dynamics: 1 - its correlation with the expert's."""

  def run(algorithm: str, scale: Scale) -> list[Row]:
    rows = []
    for index in range(scale.problems(COUNT, 1)):
      of = of_states(index, branching=1)
      errors, policies = recovery(algorithm, of, config, scale, updates)
      rows.append(Row(algorithm, of.name, "1 - correlation of rewards", 0.0, 0.0, errors, scale.tolerance(0.01, 0.05)))
      limit = scale.tolerance(0.03, 0.06)
      rows.append(Row(algorithm, of.name, "policy total variation", 0.0, 0.0, policies, limit))
    return rows

  return run


def recovery(
  algorithm: str, of: Problem, config: dict[str, Any], scale: Scale, updates: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """(1 - correlation of the learned reward with the true one over states, total variation to the expert), by seed."""
  params, design = trained(algorithm, of, config, scale.seeds, updates=scale.updates(updates, updates))
  states, zeros = jnp.eye(len(of.process.terminal)), jnp.zeros(len(of.process.terminal))
  at = varl.Batch(states, zeros.astype(jnp.int32), zeros, zeros + 1.0, states, zeros, {})
  errors, policies = [], []
  for mine in params:
    reward = design.reward.transfer(design, mine, at, jax.random.key(0))
    errors.append(1.0 - np.corrcoef(reward, of.process.reward[:, 0])[0, 1])
    policies.append(distance(of.process, policy_of(design, mine, of.process), of.log_expert))
  return floats(errors), floats(policies)


def of_states(index: int, *, branching: int | None) -> Problem:
  """A random process without end whose reward is the state's, and the expert that is soft-optimal for it."""
  key, reward_key = jax.random.split(jax.random.key(950 + index))
  m = tabular.random_mdp(key, STATES, ACTIONS, discount=DISCOUNT, branching=branching)
  reward = jax.random.normal(reward_key, (STATES, 1))
  m = m._replace(reward=jnp.broadcast_to(reward, m.reward.shape))
  expert = tabular.soft_value_iteration(m, temperature=1.0, log_prior=0.0).log_policy
  return problem(m, expert, f"{'deterministic' if branching == 1 else 'random'} process {index}")
