"""Linear dynamics and quadratic costs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.oracles.rows import Oracle, Rollouts, Row, Scale, floats, loop
from varl import agents
from varl.envs import spec
from varl.envs.toys import LinearQuadratic
from varl.envs.vector import vectorize
from varl.exact import linear_quadratic
from varl.loop import rollout


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
