"""Linear dynamics and quadratic costs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.oracles.rows import MANY, Oracle, Rollouts, Row, Scale, floats, loop
from experiments.oracles.runs import spread
from varl import agents, components, models
from varl.envs import spec
from varl.envs.toys import LinearQuadratic
from varl.envs.vector import vectorize
from varl.exact import linear_quadratic
from varl.loop import rollout

SHAPES = (*3 * [(2, 1)], *4 * [(3, 2)], *3 * [(3, 3)])
"""(states, actions) of the ten problems."""

EPISODE_LENGTH = 33
"""The effective horizon 1/(1 - γ) of the largest discount, .97.

Episodes bootstrap at the time limit, so that a short one changes no value, but it makes values easy to learn: nearly
all states are then those that episodes start in. This one leaves nine in ten to the policy's own dynamics and noise.
"""


def problems() -> list[linear_quadratic.LinearQuadratic]:
  """The ten problems: `linear_quadratic.random` of `SHAPES`, from the keys 300 to 309, with coupled costs.

  Discounts are uniform in [.9, .97], deviations of the noise in [.05, .2].
  """
  found = []
  for index, (states, actions) in enumerate(SHAPES):
    key, discount_key, noise_key = jax.random.split(jax.random.key(300 + index), 3)
    discount = float(jax.random.uniform(discount_key, minval=0.9, maxval=0.97))
    noise = float(jax.random.uniform(noise_key, minval=0.05, maxval=0.2))
    found.append(linear_quadratic.random(key, states, actions, discount=discount, noise=noise))
  return found


def environment(problem: linear_quadratic.LinearQuadratic) -> LinearQuadratic:
  """The problem to act in; its noise is isotropic."""
  return LinearQuadratic(problem.A, problem.B, problem.Q, problem.R, noise=jnp.sqrt(problem.noise[0, 0]))


def linear_gaussian(
  config: dict[str, Any],
  *,
  temperature: float = 0.3,
  exact: Callable[..., Any] = linear_quadratic.soft,
  gain: float = 0.05,
  covariance: float | None = 0.1,
  value: float | None = 0.15,
  falls: float | None = None,
  forgets: bool = True,
  updates: int = 12_000,
  short_updates: int = 3_000,
  batch_size: int = 128,
  rollouts: Rollouts | None = None,
  label: str = "",
  in_short: bool = True,
  of: Sequence[int] | None = None,
  known: bool = False,
  fresh: bool = False,
) -> Oracle:
  """The ten `problems`: gain, gain of the mode, covariance and value.

  Gain and covariance are fitted to actions that the agent takes at states of the run's last quarter: a = -K s +
  residual; the mode's gain to `agent.mode` at the same states. Errors are ‖K - K*‖/‖K*‖ and ‖Σ - Σ*‖/‖Σ*‖ (Frobenius).
  The value's error is that of Q(s, a) at those states and actions, root mean square relative to the exact Q's
  deviation.

  Args:
    config: of the algorithm.
    temperature: α, passed on to `exact` as its temperature.
    exact: `(problem, *, temperature) -> Solution`.
    gain: tolerance on the gain, and on the mode's.
    covariance: tolerance on the covariance; None where the algorithm has none to be held to.
    value: tolerance on the value; not .1 as for finite processes, since the smaller of two fitted critics lies below
      the truth. None where the algorithm's value is that of a policy on its way to the exact one.
    falls: tolerance on the temperature and on the policy's variance at the end, each as a share of its peak over the
      run (means over a twentieth of it); None where the algorithm leaves them.
    forgets: whether replay keeps the run's last quarter alone, since first policies may have met states far from the
      origin; or all of it, for a policy whose own actions end up too alike to tell how Q depends on them.
    updates: of the full form.
    short_updates: of the short form.
    batch_size: of an algorithm that learns from replay.
    rollouts: how an on-policy algorithm learns; states are then those of the trained policy's own episodes.
    label: after the problem's name, where an algorithm has several entries.
    in_short: False where the short form leaves it out, since it takes minutes even so, or is held by other tests.
    of: the numbers of the problems; None: all ten.
    fresh: whether every episode has a first state of its own, and more of them are met (`MANY`), where the exact policy
      depends on which states are.
    known: whether an algorithm with a model is given the problem itself in place of the one that it learns.
  """

  def run(algorithm: str, scale: Scale) -> list[Row]:
    if scale.short and not in_short:
      return []
    module = agents.load(algorithm)
    run_updates, num_states = scale.updates(updates, short_updates), 8_192 if scale.short else 32_768
    steps_each = MANY if fresh else 4
    steps = steps_each * run_updates + 1_600
    settings = loop(
      run_updates,
      warm_up=1_600,
      rollouts=rollouts,
      steps_each=steps_each,
      episode_length=EPISODE_LENGTH,
      replay_capacity=steps // 4 if forgets else steps,
      **({} if rollouts else {"batch_size": batch_size}),
      **({"reset": "fresh"} if fresh else {}),
      **({} if falls is None else {"eval_every": steps // 20}),
    )
    tolerances = {
      "gain": scale.tolerance(gain, 3 * gain),
      "mode gain": scale.tolerance(gain, 3 * gain),
      "covariance": None if covariance is None else scale.tolerance(covariance, 3 * covariance),
      # While the temperature still falls, as in the short form, the value is that of a policy on its way.
      "value": None if value is None or (scale.short and falls is not None) else scale.tolerance(value, 2.5 * value),
      "falls": None if falls is None else scale.tolerance(falls, 3 * falls),
    }

    def train(problem: linear_quadratic.LinearQuadratic, key: jax.Array) -> dict[str, jax.Array]:
      env = environment(problem)
      agent_config = module.Config(gamma=problem.discount, decay_updates=run_updates, **config)
      agent, design = module.make(spec(env), agent_config), module.design(spec(env), agent_config)
      if known:
        design = module.design(spec(env), agent_config, model=models.known(env.outcome, draws=4))
        head = components.policy_head(spec(env), agent_config)
        agent = varl.agent(design, spec(env), head, normalize_observations=False)
      train_key, state_key, act_key = jax.random.split(key, 3)
      state, metrics = varl.make_trainer(env, agent, settings).run(train_key)
      params = state.agent.params
      met = own_states(env, agent, params, key) if rollouts else state.loop.replay.data.obs[-(steps // 4) :]
      obs = met[jax.random.randint(state_key, (num_states,), 0, len(met))]
      action = choose(agent.act, agent, params, obs, act_key)
      found = {"obs": obs, "action": action, "alpha": metrics["training/alpha"]}
      found["mode"] = choose(agent.mode, agent, params, obs[:4_096], act_key)
      if value is not None:
        q = design.value.q(params, obs, action[None])[0]
        found["q"] = q / jnp.asarray(getattr(agent_config, "reward_scale", 1.0))
      if falls is not None:
        # A Gaussian's entropy is d/2 log(2πe) + d/2 log of its variance (the geometric mean over dimensions).
        entropy = metrics["training/entropy"]
        found["variance"] = jnp.exp(2.0 * entropy / agent.spec.action_size) / (2.0 * jnp.pi * jnp.e)
      return found

    rows = []
    numbered = [(i, problem) for i, problem in enumerate(problems()) if of is None or i in of]
    numbered = numbered[: scale.problems(len(SHAPES), 1)]
    for shape in dict.fromkeys(SHAPES):
      group = [(index, problem) for index, problem in numbered if problem.B.shape == shape]
      if not group:
        continue
      pairs = [(problem, jax.random.key(seed)) for _, problem in group for seed in scale.seeds]
      runs = spread(train, *(jax.tree.map(lambda *x: jnp.stack(x), *column) for column in zip(*pairs, strict=True)))
      for place, (index, problem) in enumerate(group):
        own = slice(place * len(scale.seeds), (place + 1) * len(scale.seeds))
        solution = exact(problem, temperature=temperature)
        for quantity, got, true, errors, limit in compared(
          problem, solution, {name: x[own].astype(np.float64) for name, x in runs.items()}, tolerances
        ):
          name = f"linear-quadratic {index}{label}"
          rows.append(Row(algorithm, name, quantity, got, true, floats(errors), float(limit)))
    return rows

  return run


def first_seen(problem: linear_quadratic.LinearQuadratic, *, temperature: float) -> linear_quadratic.Asymmetric:
  """The policy beside the best prior that sees the first entry of the state alone."""
  seen = np.arange(len(problem.A)) < 1
  return linear_quadratic.asymmetric(problem, temperature=temperature, seen=seen, episode_length=EPISODE_LENGTH)


def compared(
  problem: linear_quadratic.LinearQuadratic,
  solution: linear_quadratic.Solution,
  runs: dict[str, np.ndarray],
  tolerances: dict[str, float | None],
) -> list[tuple[str, float, float, Sequence[float], float]]:
  """(quantity, got, exact, errors, tolerance) of what the seeds of one problem came to."""
  obs, action = runs["obs"], runs["action"]
  fits = [np.linalg.lstsq(s, a, rcond=None)[0] for s, a in zip(obs, action, strict=True)]
  residuals = [a - s @ fit for s, a, fit in zip(obs, action, fits, strict=True)]
  modes = [np.linalg.lstsq(s[: len(a)], a, rcond=None)[0] for s, a in zip(obs, runs["mode"], strict=True)]
  quantities: list[tuple[str, Any, Any]] = [
    ("gain", [-fit.T for fit in fits], solution.gain),
    ("mode gain", [-fit.T for fit in modes], solution.gain),
    ("covariance", [residual.T @ residual / len(residual) for residual in residuals], solution.covariance),
  ]
  rows: list[tuple[str, float, float, Sequence[float], float]] = []
  for name, got, true in quantities:
    limit = tolerances[name]
    if limit is not None:
      size = np.linalg.norm(np.asarray(true, np.float64))
      errors = np.linalg.norm(np.stack(got) - np.asarray(true, np.float64), axis=(1, 2)) / size
      mean = np.mean(np.linalg.norm(got, axis=(1, 2)))
      rows.append((f"{name} error", float(mean), float(size), errors, limit))
  if (limit := tolerances["value"]) is not None:
    true_q = np.asarray(linear_quadratic.q(problem, solution, obs, action), np.float64)
    errors = np.sqrt(np.mean((runs["q"] - true_q) ** 2, axis=1)) / np.std(true_q, axis=1)
    rows.append(("value error", float(runs["q"].mean()), float(true_q.mean()), errors, limit))
  if (limit := tolerances["falls"]) is not None:
    for name, curve in (("temperature", runs["alpha"]), ("variance", runs["variance"])):
      left = curve[:, -1] / np.nanmax(curve, axis=1)  # NaN before the first update
      rows.append((f"{name} left of its peak", float(np.mean(curve[:, -1])), 0.0, left, limit))
  return rows


def own_states(env: Any, agent: varl.Agent, params: Any, key: jax.Array) -> jax.Array:
  """States `[N, o]` of 256 episodes, as the agent acts."""
  batch = vectorize(env, 256, episode_length=EPISODE_LENGTH)
  start_key, key = jax.random.split(key)
  start = rollout.init(batch, agent, start_key)
  _, transitions, _, _ = rollout.unroll(batch, agent, params, start, key, EPISODE_LENGTH)
  return transitions.obs.reshape(-1, transitions.obs.shape[-1])


def choose(
  how: Callable[..., Any], agent: varl.Agent, params: Any, obs: jax.Array, key: jax.Array, chunk: int = 1_024
) -> jax.Array:
  """What `agent.act` or `agent.mode` executes at the states `[N, n]`, in chunks, since some agents weigh many proposals
  a state.
  """
  chunks = obs.reshape(-1, chunk, obs.shape[-1])
  keys = jax.random.split(key, len(chunks))
  action = jax.lax.map(lambda x: agent.execute(how(params, agent.carry(chunk), *x)[0]), (chunks, keys))
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
