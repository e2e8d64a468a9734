"""Finite processes, and the counterexamples of MaxEnt among them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.oracles.rows import Oracle, Rollouts, Row, Scale, floats, loop
from experiments.oracles.runs import spread
from varl import agents
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.exact import counterexamples, tabular

STATES, ACTIONS, COUNT = 6, 3, 20

EPISODE_LENGTH = 8
"""A time limit below every effective horizon 1/(1 - γ): whoever takes it for an end learns other values."""


def processes() -> tabular.MDP:
  """The twenty processes, stacked: `tabular.random_mdp` from the keys 700 to 719, of discounts uniform in [.9, .97].

  In turn none, one and two of their states are terminal.
  """
  found = []
  for index in range(COUNT):
    key, discount_key = jax.random.split(jax.random.key(700 + index))
    discount = jax.random.uniform(discount_key, minval=0.9, maxval=0.97)
    found.append(tabular.random_mdp(key, STATES, ACTIONS, discount=discount, terminal=index % 3))
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def tabular_policy(
  config: dict[str, Any],
  *,
  temperature: float = 0.3,
  hard: bool = False,
  tolerance: float = 0.02,
  rollouts: Rollouts | None = None,
  updates: int = 16_000,
  short_updates: int = 6_000,
  label: str = "",
  in_short: bool = True,
  count: int = COUNT,
  of_value: bool = True,
) -> Oracle:
  """The twenty random `processes`: total variation to the exact policy, the mean over states that are not terminal.

  Episodes stop at `EPISODE_LENGTH` and bootstrap there; in terminal states they end. The value's error is that of
  Q(s, a), root mean square over these states and actions, relative to the exact Q's spread.

  The exact policy without entropy is one of many where two actions are worth the same, and no sample tells apart those
  that nearly are: the total variation is then to the nearest policy of actions that are worse than the best by at most
  `tolerance` of Q's spread, which is the probability of all others; and the value lost is the mean over states of
  V* - V^π, relative to that spread.

  Args:
    config: of the algorithm, with the temperature fixed to `temperature`.
    temperature: c.
    hard: whether the exact policy is the one that pays most, where algorithms end that pay for no lasting divergence;
      `temperature` is then of no account.
    tolerance: on the total variation, averaged over states; and which actions are as good as the best, where `hard`.
    rollouts: how an on-policy algorithm learns; it has no action value to be held to.
    updates: of the full form.
    short_updates: of the short form, at most.
    label: after the problem's name, where an algorithm has several entries.
    in_short: False where the short form leaves it out.
    count: how many of the processes, the first ones.
    of_value: False for an algorithm whose value holds what it is paid beside the environment's reward.
  """
  problems = count

  def run(algorithm: str, scale: Scale) -> list[Row]:
    if scale.short and not in_short:
      return []
    module = agents.load(algorithm)
    count, run_updates = scale.problems(problems, 2), scale.updates(updates, min(updates, short_updates))
    settings = loop(run_updates, warm_up=1_024, rollouts=rollouts, episode_length=EPISODE_LENGTH)
    chosen = jax.tree.map(lambda leaf: leaf[:count], processes())

    def solve(m: tabular.MDP) -> Any:
      if hard:
        return tabular.hard_value_iteration(m)
      return tabular.soft_value_iteration(m, temperature=temperature, log_prior=0.0)

    def train(m: tabular.MDP, true: Any, key: jax.Array) -> Any:
      agent_spec = spec(Tabular(m))
      agent_config = module.Config(gamma=m.discount, decay_updates=run_updates, **config)
      agent = module.make(agent_spec, agent_config)
      design = module.design(agent_spec, agent_config)
      train_key, sample_key = jax.random.split(key)
      params = varl.make_trainer(Tabular(m), agent, settings).run(train_key)[0].agent.params
      states, alive = jnp.eye(agent_spec.observation_size), ~m.terminal
      policy = frequencies(agent, params, states, sample_key)
      spread_of_q = jnp.std(true.q, where=alive[:, None])
      found = {}
      if hard:
        best = true.q >= true.value[:, None] - tolerance * spread_of_q
        distance = jnp.sum(jnp.where(best, 0.0, policy), axis=-1)
        value = tabular.policy_evaluation(m, jnp.log(policy)).value
        lost = jnp.mean(true.value - value, where=alive) / spread_of_q
        found["value lost"] = jnp.mean(value, where=alive), jnp.mean(true.value, where=alive), lost
      else:
        distance = 0.5 * jnp.sum(jnp.abs(policy - jnp.exp(true.log_policy)), axis=-1)
      found["policy total variation"] = jnp.zeros(()), jnp.zeros(()), jnp.mean(distance, where=alive)
      if rollouts is None and of_value:
        actions = jnp.broadcast_to(jnp.arange(agent_spec.action_size)[:, None], m.reward.T.shape)
        q = design.value.q(params, states, actions).T
        of_live = {"where": alive[:, None]}
        error = jnp.sqrt(jnp.mean(jnp.square(q - true.q), **of_live)) / spread_of_q
        found["value error"] = jnp.mean(q, **of_live), jnp.mean(true.q, **of_live), error
      return found

    true = jax.vmap(solve)(chosen)
    seeds = jnp.stack([jax.random.key(seed) for seed in scale.seeds])
    each = [np.repeat(np.arange(count), len(scale.seeds)), np.tile(np.arange(len(scale.seeds)), count)]
    pairs = jax.tree.map(lambda leaf: leaf[each[0]], (chosen, true))
    runs = spread(train, *pairs, seeds[each[1]], together=True)
    results = jax.tree.map(lambda x: x.reshape(count, -1), runs)
    limits = {
      "policy total variation": scale.tolerance(tolerance, 3 * tolerance),
      "value lost": scale.tolerance(0.1, 0.3),
      "value error": scale.tolerance(0.1, 0.3),
    }
    rows = []
    for i in range(count):
      for quantity, limit in limits.items():
        if quantity in results:
          got, exact, errors = (np.asarray(x)[i] for x in results[quantity])
          row = float(np.mean(got)), float(np.mean(exact)), floats(errors), limit
          rows.append(Row(algorithm, f"random process {i}{label}", quantity, *row))
    return rows

  return run


def frequencies(agent: varl.Agent, params: Any, states: jax.Array, key: jax.Array, rounds: int = 100) -> jax.Array:
  """How often `agent.act` takes each action: `[S, A]` from 50,000 draws a state, within .0023 a deviation."""
  each = 500
  obs = jnp.repeat(states, each, axis=0)

  def draw(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    action = agent.act(params, agent.carry(len(obs)), obs, key)[0]
    taken = jax.nn.one_hot(action, agent.spec.action_size).reshape(len(states), each, -1)
    return total + taken.sum(axis=1), None

  start = jnp.zeros((len(states), agent.spec.action_size))
  total, _ = jax.lax.scan(draw, start, jax.random.split(key, rounds))
  return total / (rounds * each)


def first_choices(config: dict[str, Any], *, discount: float = 0.9) -> Oracle:
  """The counterexamples of `varl.exact.counterexamples` to act in, where MaxEnt fails: is the first action the best?

  Every label is an action here: an environment cannot say that one only repeats another. The rooms have k₁ = A actions
  in the first one, and choosing the second one, where there is no choice, ends the episode with r₂. In the lottery the
  labels that repeat an action are what misleads MaxEnt: taking the ticket adds one more action of two labels.
  Kept are the problems of a grid in which the mode of exact MaxEnt at c is not the action that pays most. The algorithm
  takes c as the constant of its residual and is judged by its mode; the error is the share of problems that it gets
  wrong, and none is allowed.

  Args:
    config: of the algorithm.
    discount: γ.
  """

  def run(algorithm: str, scale: Scale) -> list[Row]:
    module = agents.load(algorithm)
    updates = scale.updates(4_000, 1_000)
    steps = 4 * updates + 512
    settings = varl.Settings(
      num_timesteps=steps,
      num_envs=32,
      episode_length=2,
      updates_per_env_step=0.25,
      batch_size=64,
      replay_capacity=steps,
      warm_up=512,
      eval_every=steps,
      eval_episodes=1,
    )

    def choice(m: tabular.MDP, c: jax.Array, key: jax.Array) -> jax.Array:
      env = Tabular(m)
      agent = module.make(spec(env), module.Config(gamma=discount, residual_scale=c, decay_updates=updates, **config))
      params = varl.make_trainer(env, agent, settings).run(key)[0].agent.params
      return agent.mode(params, (), jnp.eye(m.reward.shape[0])[:1], key)[0][0]

    seeds = jnp.stack([jax.random.key(seed) for seed in scale.seeds])
    rows = []
    for name, (problems, c) in misleading(discount, scale.problems(4, 2)).items():
      best = np.asarray(jnp.argmax(jax.vmap(tabular.hard_value_iteration)(problems).q[:, 0], axis=-1))
      got = np.asarray(jax.jit(jax.vmap(jax.vmap(choice, (0, 0, None)), (None, None, 0)))(problems, c, seeds))
      wrong = (got != best).mean(axis=1)
      rows.append(Row(algorithm, f"{name}, {len(c)} problems", "wrong first actions", 0.0, 0.0, floats(wrong), 0.0))
    return rows

  return run


def misleading(discount: float, size: int) -> dict[str, tuple[tabular.MDP, jax.Array]]:
  """By name: problems of which exact MaxEnt gets the first action wrong, stacked, and the temperature c of each.

  Args:
    discount: γ.
    size: values of each parameter of the grids.
  """

  def room(r1: jax.Array, gap: jax.Array) -> tabular.MDP:
    m = counterexamples.maxent_room(4, r1, r1 + gap).mdp
    second = counterexamples.SECOND_ROOM
    transition = m.transition.at[0, second].set(m.transition[2, 0])
    return m._replace(transition=transition, reward=m.reward.at[0, second].set(discount * (r1 + gap)))

  def ticket(jackpot: jax.Array, share: jax.Array) -> tabular.MDP:
    return counterexamples.lottery(1.0, jackpot, share / jackpot).mdp

  def maxent(m: tabular.MDP, c: jax.Array) -> Any:
    return tabular.soft_value_iteration(m, temperature=c, log_prior=0.0)

  temperatures = np.geomspace(0.3, 3.0, size)
  found = {}
  for name, build, axes in (
    ("rooms", room, (np.linspace(0.0, 1.0, size), np.linspace(0.1, 0.4, size))),
    ("lottery", ticket, (np.linspace(2.0, 5.0, size), np.linspace(0.5, 0.9, size))),
  ):
    first, second, c = (x.ravel() for x in np.meshgrid(*axes, temperatures, indexing="ij"))
    problems = jax.vmap(build)(jnp.float32(first), jnp.float32(second))
    problems = problems._replace(discount=jnp.full(len(c), discount, jnp.float32))
    best = jnp.argmax(jax.vmap(tabular.hard_value_iteration)(problems).q[:, 0], axis=-1)
    soft = jax.vmap(maxent)(problems, jnp.float32(c))
    misled = np.flatnonzero(np.asarray(jnp.argmax(soft.log_policy[:, 0], axis=-1) != best))
    found[name] = (jax.tree.map(lambda x, rows=misled: x[rows], problems), jnp.float32(c)[misled])
  return found
