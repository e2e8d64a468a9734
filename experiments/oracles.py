"""Every algorithm against an exact answer: one table of what was learned beside what is true.

    python -m experiments.oracles                 # all algorithms, 5 seeds, all problems (hours on two CPU cores)
    python -m experiments.oracles --short         # one seed, fewer problems and updates, wider limits (a minute each)
    python -m experiments.oracles --algorithms sac_discrete --seeds 0 1

A policy is measured as it acts: actions are drawn from the trained agent's `act` at given states, and compared with
the policy that `varl.exact` gives. Values are compared at the states and actions of the problem. Every row is one
quantity of one problem; its error is the mean over seeds with a 95 % interval, and it holds where that mean is within
tolerance.
Writes `experiments/results/oracles/<algorithm>.json`, and `table.md` of all algorithms that are recorded there.

A new algorithm enters by one entry in `ORACLES`.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import varl
from varl import agents, doctor, rollout
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.envs.toys import LinearQuadratic
from varl.envs.vector import vectorize
from varl.exact import counterexamples, linear_quadratic, tabular

RESULTS = pathlib.Path(__file__).parent / "results" / "oracles"


class Row(NamedTuple):
  """One quantity of one problem.

  Attributes:
    algorithm, problem, quantity: what it is.
    got, exact: the size of the learned and of the true quantity (norms of matrices, means of values).
    errors: one a seed.
    tolerance: on their mean.
  """

  algorithm: str
  problem: str
  quantity: str
  got: float
  exact: float
  errors: tuple[float, ...]
  tolerance: float

  @property
  def error(self) -> float:
    return float(np.mean(self.errors))

  @property
  def interval(self) -> float:
    """Half the width of the 95 % interval of the mean (Student's t); NaN for a single seed."""
    n = len(self.errors)
    if n < 2:
      return float("nan")
    return float(stats.t.ppf(0.975, n - 1) * np.std(self.errors, ddof=1) / np.sqrt(n))

  @property
  def holds(self) -> bool:
    return self.error <= self.tolerance


class Scale(NamedTuple):
  """How much is run: updates and problems are multiplied down and tolerances up in the short form."""

  seeds: tuple[int, ...]
  short: bool

  def problems(self, full: int, short: int) -> int:
    return short if self.short else full

  def updates(self, full: int, short: int) -> int:
    return short if self.short else full

  def tolerance(self, full: float, short: float) -> float:
    return short if self.short else full


Oracle = Callable[[str, Scale], list[Row]]


class Rollouts(NamedTuple):
  """How an on-policy algorithm learns here, beside the number of its updates.

  Attributes:
    unroll_length, epochs, batch_size: as in `varl.Settings`, for 64 environments.
  """

  unroll_length: int = 16
  epochs: int = 4
  batch_size: int = 256


def loop(updates: int, *, warm_up: int, rollouts: Rollouts | None, **settings: Any) -> varl.Settings:
  """64 environments for a number of updates: of replay after a warm-up, or of rollouts."""
  if rollouts is None:
    steps = 4 * updates + warm_up
    settings = {
      "updates_per_env_step": 0.25, "batch_size": 256, "warm_up": warm_up, "replay_capacity": steps, **settings,
    }  # fmt: skip
  else:
    rows = 64 * rollouts.unroll_length
    steps = updates * rollouts.batch_size // rollouts.epochs // rows * rows
    settings = {**settings, **rollouts._asdict()}
  return varl.Settings(**{"num_timesteps": steps, "num_envs": 64, "eval_every": steps, "eval_episodes": 1, **settings})


# Finite processes


def tabular_policy(
  config: dict[str, Any],
  *,
  temperature: float = 0.3,
  hard: bool = False,
  tolerance: float = 0.02,
  rollouts: Rollouts | None = None,
  updates: int = 16_000,
) -> Oracle:
  """Random processes of 6 states and 3 actions: total variation to the exact policy, the mean over states.

  Rewards are N(0, 1) and γ = .9; all processes and seeds train under one `vmap`. The value's error is that of
  Q(s, a), root mean square over states and actions, relative to the exact Q's spread.

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
  """

  def run(algorithm: str, scale: Scale) -> list[Row]:
    module = agents.load(algorithm)
    count, run_updates = scale.problems(20, 2), scale.updates(updates, min(updates, 6_000))
    agent_config = module.Config(gamma=0.9, decay_updates=run_updates, **config)
    settings = loop(run_updates, warm_up=1_024, rollouts=rollouts, episode_length=50)
    keys = jax.random.split(jax.random.key(7), count)
    processes = jax.vmap(lambda key: tabular.random_mdp(key, 6, 3, discount=0.9))(keys)

    def solve(m: tabular.MDP) -> Any:
      if hard:
        return tabular.hard_value_iteration(m)
      return tabular.soft_value_iteration(m, temperature=temperature, log_prior=0.0)

    def train(m: tabular.MDP, true: Any, key: jax.Array) -> Any:
      agent_spec = spec(Tabular(m))
      agent = module.make(agent_spec, agent_config)
      design = module.design(agent_spec, agent_config)
      train_key, sample_key = jax.random.split(key)
      params = varl.make_trainer(Tabular(m), agent, settings).run(train_key)[0].agent.params
      states = jnp.eye(agent_spec.observation_size)
      policy = frequencies(agent, params, states, sample_key)
      spread = jnp.std(true.q)
      found = {}
      if hard:
        best = true.q >= true.value[:, None] - tolerance * spread
        distance = jnp.sum(jnp.where(best, 0.0, policy), axis=-1)
        value = tabular.policy_evaluation(m, jnp.log(policy)).value
        found["value lost"] = jnp.mean(value), jnp.mean(true.value), jnp.mean(true.value - value) / spread
      else:
        distance = 0.5 * jnp.sum(jnp.abs(policy - jnp.exp(true.log_policy)), axis=-1)
      found["policy total variation"] = 0.0, 0.0, jnp.mean(distance)
      if rollouts is None:
        actions = jnp.broadcast_to(jnp.arange(agent_spec.action_size)[:, None], m.reward.T.shape)
        q = design.value.q(params, states, actions).T
        error = jnp.sqrt(jnp.mean(jnp.square(q - true.q))) / spread
        found["value error"] = jnp.mean(q), jnp.mean(true.q), error
      return found

    seeds = jnp.stack([jax.random.key(seed) for seed in scale.seeds])
    true = jax.vmap(solve)(processes)
    results = jax.jit(jax.vmap(jax.vmap(train, (None, None, 0)), (0, 0, None)))(processes, true, seeds)
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
          rows.append(Row(algorithm, f"random process {i}", quantity, *row))
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


# Linear dynamics, quadratic costs


def linear_gaussian(
  config: dict[str, Any],
  *,
  temperature: float = 0.3,
  exact: Callable[..., linear_quadratic.Solution] = linear_quadratic.soft,
  gain: float = 0.05,
  covariance: float | None = 0.1,
  value: float | None = 0.15,
  falls: float | None = None,
  forgets: bool = True,
  updates: int = 16_000,
  rollouts: Rollouts | None = None,
  label: str = "",
  in_short: bool = True,
) -> Oracle:
  """Random stabilisable linear-quadratic problems of 2 states and 1 action: gain, covariance and value.

  Gain and covariance are fitted to actions that the agent takes at states of the run's last quarter: a = -K s +
  residual. Errors are ‖K - K*‖/‖K*‖ and ‖Σ - Σ*‖/‖Σ*‖ (Frobenius). The value's error is that of Q(s, a) at those
  states and actions, root mean square relative to the exact Q's deviation.

  Args:
    config: of the algorithm.
    temperature: α, passed on to `exact` as its temperature.
    exact: `(problem, *, temperature) -> Solution`.
    gain: tolerance on the gain.
    covariance: tolerance on the covariance; None where the algorithm has none to be held to.
    value: tolerance on the value; not .1 as for finite processes, since the smaller of two fitted critics lies below
      the truth. None where the algorithm's value is that of a policy on its way to the exact one.
    falls: tolerance on the temperature and on the policy's variance at the end, each as a share of its peak over the
      run (means over a twentieth of it); None where the algorithm leaves them.
    forgets: whether replay keeps the run's last quarter alone, since first policies may have met states far from the
      origin; or all of it, for a policy whose own actions end up too alike to tell how Q depends on them.
    updates: of the full form.
    rollouts: how an on-policy algorithm learns; states are then those of the trained policy's own episodes.
    label: after the problem's name, where an algorithm has several entries.
    in_short: False where the short form leaves it out, since it takes minutes even so, or is held by other tests.
  """

  def run(algorithm: str, scale: Scale) -> list[Row]:
    if scale.short and not in_short:
      return []
    module = agents.load(algorithm)
    run_updates, num_states = scale.updates(updates, 3_000), 8_192 if scale.short else 65_536
    agent_config = module.Config(gamma=0.9, decay_updates=run_updates, **config)
    steps = 4 * run_updates + 1_600
    settings = loop(
      run_updates,
      warm_up=1_600,
      rollouts=rollouts,
      episode_length=10,
      replay_capacity=steps // 4 if forgets else steps,
      **({"batch_size": 128} if scale.short and rollouts is None else {}),
      **({} if falls is None else {"eval_every": steps // 20}),
    )
    rows = []
    for index in range(scale.problems(5, 1)):
      problem = linear_quadratic.random(jax.random.key(100 + index), 2, 1, discount=0.9)
      env = LinearQuadratic(problem.A, problem.B, problem.Q, problem.R, noise=0.05)
      agent, design = module.make(spec(env), agent_config), module.design(spec(env), agent_config)
      trainer = varl.make_trainer(env, agent, settings)
      solution = exact(problem, temperature=temperature)

      def train(
        key: jax.Array, trainer: Any = trainer, agent: Any = agent, design: Any = design, env: Any = env
      ) -> Any:
        train_key, state_key, act_key = jax.random.split(key, 3)
        state, metrics = trainer.run(train_key)
        params = state.agent.params
        met = own_states(env, agent, params, key) if rollouts else state.loop.replay.data.obs[-(steps // 4) :]
        obs = met[jax.random.randint(state_key, (num_states,), 0, len(met))]
        action = choose(agent, params, obs, act_key)
        curves = metrics["training/alpha"], metrics.get("training/entropy", jnp.nan)
        q = jnp.nan if value is None else design.value.q(params, obs, action[None])[0]
        return obs, action, q, *curves

      seeds = jnp.stack([jax.random.key(seed) for seed in scale.seeds])
      obs, action, q, alpha, entropy = (np.asarray(x, np.float64) for x in jax.jit(jax.vmap(train))(seeds))
      q = q / getattr(agent_config, "reward_scale", 1.0)
      fits = [np.linalg.lstsq(s, a, rcond=None)[0] for s, a in zip(obs, action, strict=True)]
      gains = np.stack([-fit.T for fit in fits])
      residuals = [a - s @ fit for s, a, fit in zip(obs, action, fits, strict=True)]
      covariances = np.stack([residual.T @ residual / len(residual) for residual in residuals])
      name = f"linear-quadratic {index}{label}"
      quantities = [("gain", gains, solution.gain, gain, 3 * gain)]
      if covariance is not None:
        quantities.append(("covariance", covariances, solution.covariance, covariance, 3 * covariance))
      for quantity, got, true, full, short in quantities:
        true = np.asarray(true, np.float64)
        errors = np.linalg.norm(got - true, axis=(1, 2)) / np.linalg.norm(true)
        mean = float(np.mean(np.linalg.norm(got, axis=(1, 2))))
        limit = scale.tolerance(full, short)
        rows.append(Row(algorithm, name, f"{quantity} error", mean, float(np.linalg.norm(true)), floats(errors), limit))
      if value is not None:
        true_q = np.asarray(linear_quadratic.q(problem, solution, obs, action), np.float64)
        q_errors = np.sqrt(np.mean((q - true_q) ** 2, axis=1)) / np.std(true_q, axis=1)
        limit = scale.tolerance(value, 2 * value)
        rows.append(Row(algorithm, name, "value error", float(q.mean()), float(true_q.mean()), floats(q_errors), limit))
      if falls is not None:
        # A Gaussian's entropy is d/2 log(2πe) + d/2 log of its variance (the geometric mean over dimensions).
        variance = np.exp(2.0 * entropy / spec(env).action_size) / (2.0 * np.pi * np.e)
        for quantity, curve in (("temperature left of its peak", alpha), ("variance left of its peak", variance)):
          left = curve[:, -1] / np.nanmax(curve, axis=1)  # NaN before the first update
          last = float(np.mean(curve[:, -1]))
          rows.append(Row(algorithm, name, quantity, last, 0.0, floats(left), scale.tolerance(falls, 3 * falls)))
    return rows

  return run


def own_states(env: Any, agent: varl.Agent, params: Any, key: jax.Array) -> jax.Array:
  """States `[N, o]` of 256 episodes of 10 steps, as the agent acts."""
  batch = vectorize(env, 256, episode_length=10)
  start_key, key = jax.random.split(key)
  _, transitions, _, _ = rollout.unroll(batch, agent, params, rollout.init(batch, agent, start_key), key, 10)
  return transitions.obs.reshape(-1, transitions.obs.shape[-1])


def choose(agent: varl.Agent, params: Any, obs: jax.Array, key: jax.Array, chunk: int = 1_024) -> jax.Array:
  """`agent.act` at the states `obs` `[N, n]`, in chunks, since some agents weigh many proposals a state."""
  chunks = obs.reshape(-1, chunk, obs.shape[-1])
  keys = jax.random.split(key, len(chunks))
  action = jax.lax.map(lambda x: agent.act(params, agent.carry(chunk), *x)[0], (chunks, keys))
  return action.reshape(len(obs), -1)


def boltzmann(problem: linear_quadratic.LinearQuadratic, *, temperature: float) -> linear_quadratic.Solution:
  """What VIREL at a constant ε ends at: π ∝ exp(Q^π/ε), where Q^π counts the return alone.

  The policy's variance adds to V^π a constant and nothing else, so that gain and covariance are those of
  `linear_quadratic.soft`; the constant is that of the return.
  """
  solution = linear_quadratic.soft(problem, temperature=temperature)
  evaluation = linear_quadratic.evaluate(problem, solution.gain, solution.covariance)
  return solution._replace(constant=evaluation.constant)


def hard(problem: linear_quadratic.LinearQuadratic, *, temperature: float) -> linear_quadratic.Solution:
  """The regulator that pays most, without entropy."""
  return linear_quadratic.hard(problem)


# Counterexamples


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


def floats(values: Any) -> tuple[float, ...]:
  return tuple(float(value) for value in values)


# The algorithms

FIXED = {"adapt_temperature": False, "initial_temperature": 0.3, "normalize_observations": False}

GAUSSIAN = {
  "learning_rate": 3e-3,
  "tau": 0.02,
  "hidden": (64, 64),
  "policy": "gaussian",
  "normalize_observations": False,
}
TABLE = {"learning_rate": 1e-2, "tau": 0.05, "hidden": (), "normalize_observations": False}

SOFT_Q = {
  "learning_rate": 1e-3,
  "tau": 0.02,
  "target_every": 1,
  "temperature": 0.3,
  "hidden": (64, 64),
  "proposal_std": 1.75,
  "normalize_observations": False,
}

# A first policy may drive an unstable problem far out; without a bound on its gradients the critic does not recover.
IMPROVED = {
  **GAUSSIAN,
  "max_grad_norm": 1.0,
  "target_every": 1,
  "critics": 2,
  "epsilon_mean": 0.05,
  "epsilon_covariance": 1e-3,
  "initial_mean_multiplier": 1.0,
  "initial_covariance_multiplier": 10.0,
  "dual_learning_rate": 2e-2,
}
ON_POLICY = {"learning_rate": 1e-3, "hidden": (64, 64), "policy": "gaussian", "normalize_observations": False}
ON_POLICY_TABLE = {"learning_rate": 1e-2, "hidden": (), "normalize_observations": False}
HARD: dict[str, Any] = {"exact": hard, "covariance": None, "value": None}

ORACLES: dict[str, tuple[Oracle, ...]] = {
  "sac": (linear_gaussian({**FIXED, "learning_rate": 1e-3, "tau": 0.01, "hidden": (64, 64), "policy": "gaussian"}),),
  "sac_discrete": (tabular_policy({**FIXED, "learning_rate": 1e-2, "tau": 0.05, "hidden": ()}),),
  "sac_v1": (
    linear_gaussian({**GAUSSIAN, "temperature": 0.3, "reward_scale": 1.0}),
    tabular_policy({**TABLE, "temperature": 0.3, "reward_scale": 1.0}),
  ),
  "virel": (linear_gaussian({**GAUSSIAN, "reward_scale": 1.0 / 0.3, "moment_penalty": 0.0}, exact=boltzmann),),
  "beta_virel": (
    linear_gaussian(
      {
        **GAUSSIAN,
        "moment_penalty": 0.0,
        "residual_scale": 1.0,
        "residual_batch": 512,
        "separate_value": False,
      },
      exact=hard,
      covariance=None,
      falls=0.1,
      forgets=False,
    ),
    first_choices({**TABLE, "residual_batch": 256}),
  ),
  "iterative_sac": (
    linear_gaussian(
      {
        **FIXED,
        "learning_rate": 1e-3,
        "tau": 0.02,
        "hidden": (64, 64),
        "policy": "gaussian",
        "inference_iterations": 2,
        "samples": 4,
        "gradient_norm": "rms",
        "pessimism": "min",
      },
      updates=8_000,
    ),
  ),
  "sql": (
    linear_gaussian(
      {
        **SOFT_Q,
        "sampler": "importance",
        "learning_rate": 3e-3,
        "proposal_std": 1.0,
        "value_samples": 32,
        "act_samples": 512,
      },
      label=", importance",
    ),
    linear_gaussian(
      {**SOFT_Q, "sampler": "stein", "sampler_learning_rate": 1e-3, "value_samples": 16, "start_updates": 1_000},
      gain=0.15,
      covariance=0.15,
      updates=8_000,
      label=", Stein",
      in_short=False,
    ),
  ),
  "sql_discrete": (tabular_policy({**TABLE, "target_every": 1, "temperature": 0.3}),),
  "mpo": (
    linear_gaussian(IMPROVED, **HARD, updates=6_000),
    linear_gaussian(
      {**IMPROVED, "inference": "parametric"}, **HARD, updates=6_000, label=", parametric", in_short=False
    ),
  ),
  "rerpi": (
    linear_gaussian({**IMPROVED, "per_dimension": False}, **HARD, updates=6_000, in_short=False),
    linear_gaussian({**IMPROVED, "per_dimension": False, "weights": "rank"}, **HARD, updates=6_000, label=", ranks"),
  ),
  "vmpo": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "epsilon_mean": 0.05, "epsilon_covariance": 3e-4},
      **HARD,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy(
      {**ON_POLICY_TABLE, "learning_rate": 3e-3, "epsilon_policy": 0.01}, hard=True, rollouts=Rollouts(), updates=48_000
    ),
  ),
  "reinforce": (
    tabular_policy(
      {**ON_POLICY_TABLE, "learning_rate": 3e-2, "temperature": 0.01},
      hard=True,
      rollouts=Rollouts(16, 1, 1_024),
      updates=4_000,
    ),
  ),
  "maxent_pg": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "temperature": 0.3, "standardise": False},
      value=None,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.3, "standardise": False}, rollouts=Rollouts()),
  ),
  "erpg": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "temperature": 0.3, "standardise": False, "lam": 0.9},
      **HARD,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.3, "standardise": False}, hard=True, rollouts=Rollouts()),
  ),
  "kl_pg": (tabular_policy({**ON_POLICY_TABLE, "epsilon": 0.001}, hard=True, rollouts=Rollouts()),),
  "trpo": (tabular_policy(ON_POLICY_TABLE, hard=True, rollouts=Rollouts(16, 1, 1_024), updates=2_000),),
  "ppo": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "temperature": 0.3, "standardise": False},
      **HARD,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.01}, hard=True, rollouts=Rollouts()),
  ),
}
"""What each registered algorithm is held against."""


def table(rows: Sequence[Row]) -> str:
  """The rows in Markdown."""
  lines = [
    "| algorithm | problem | quantity | got | exact | error, mean ± 95 % | worst seed | tolerance | |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for row in rows:
    interval = "" if np.isnan(row.interval) else f" ± {row.interval:.4f}"
    cells = [row.algorithm, row.problem, row.quantity]
    cells += [f"{row.got:.4g}", f"{row.exact:.4g}"] if row.got or row.exact else ["", ""]
    cells += [f"{row.error:.4f}{interval}", f"{max(row.errors):.4f}", f"{row.tolerance:.3g}"]
    lines.append(f"| {' | '.join([*cells, 'holds' if row.holds else 'FAILS'])} |")
  return "\n".join(lines) + "\n"


def measure(algorithms: Sequence[str], scale: Scale) -> list[Row]:
  """All rows of these algorithms.

  Raises:
    ValueError: an algorithm without an oracle.
  """
  for name in algorithms:
    if name not in ORACLES:
      raise ValueError(f"{name!r} has no oracle; those with one are {', '.join(ORACLES)}")
  return [row for name in algorithms for oracle in ORACLES[name] for row in oracle(name, scale)]


def record(algorithm: str, rows: Sequence[Row], seeds: Sequence[int], seconds: float, out: pathlib.Path) -> None:
  """Writes an algorithm's rows, and `table.md` of all algorithms recorded in that folder, in the order of `ORACLES`."""
  out.mkdir(parents=True, exist_ok=True)
  body = {
    "command": " ".join(["python -m experiments.oracles", *sys.argv[1:]]),
    "seconds": seconds,
    "seeds": seeds,
    "rows": [{**row._asdict(), "error": row.error, "interval": row.interval, "holds": row.holds} for row in rows],
    **doctor.device_summary(),
  }
  (out / f"{algorithm}.json").write_text(json.dumps(body, indent=1) + "\n")
  recorded = []
  for path in (out / f"{name}.json" for name in ORACLES):
    if path.exists():
      recorded += [Row(**{field: row[field] for field in Row._fields}) for row in json.loads(path.read_text())["rows"]]
  (out / "table.md").write_text(table(recorded))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--algorithms", nargs="+", choices=list(ORACLES), default=list(ORACLES))
  parser.add_argument("--seeds", type=int, nargs="+")
  parser.add_argument("--short", action="store_true")
  parser.add_argument("--out", type=pathlib.Path, help="a folder; by default the results' own, of the full form alone")
  args = parser.parse_args()
  seeds = tuple(args.seeds) if args.seeds else (0,) if args.short else (0, 1, 2, 3, 4)
  out = args.out or (None if args.short or args.seeds else RESULTS)
  rows: list[Row] = []
  for algorithm in args.algorithms:
    started = time.perf_counter()
    found = measure([algorithm], Scale(seeds, args.short))
    seconds = time.perf_counter() - started
    print(table(found))
    print(f"{algorithm}: {sum(row.holds for row in found)} of {len(found)} hold; {seconds:.0f} s", flush=True)
    rows += found
    if out is not None:
      record(algorithm, found, seeds, seconds, out)
  sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
  main()
