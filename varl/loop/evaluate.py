"""Evaluation, and episodes to learn from, on environments and keys of their own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.demonstrations import EDGE, Demonstrations, of_arrays
from varl.envs.base import Environment
from varl.envs.tasks import Tasks
from varl.envs.vector import observe, vectorize
from varl.types import Agent, Array, Key, Metrics, Params

AN_AGENT = "an Agent, as an algorithm's make(spec) or varl.agent gives it,"
"""What is needed, for a message."""


def evaluator(
  env: Environment,
  agent: Agent,
  *,
  episodes: int,
  episode_length: int | None = None,
  action_repeat: int = 1,
  stochastic: bool = False,
) -> Callable[[Params, Key], Metrics]:
  """Makes `evaluate(params, key)`: the first episode of each of `episodes` fresh environments, in parallel.

  Only first episodes count, so that short episodes are not seen more often than long ones.

  Args:
    env: one environment.
    agent: judged by `agent.mode`, or by `agent.act` where `stochastic`.
    episodes: how many.
    episode_length: the time limit in environment steps; None: the environment's own, or 1000 where it has none.
    action_repeat: environment steps an action is held for.
    stochastic: whether to evaluate the exploring policy.

  Returns:
    A function, to be jitted, that gives `eval/episode_reward` (mean return), `eval/episode_reward_std` (over
    episodes), `eval/avg_episode_length` (environment steps) and `eval/nan_episodes` (cut short by a non-finite step).
    Of several tasks (`envs.Tasks`) each gets an equal share of the episodes, at least one: these are means over the
    tasks, and `eval/task_<k>_reward` is each one's own.

  Raises:
    ValueError: no environment, no agent, or a count below 1.
  """
  checks.instance(agent, Agent, AN_AGENT)
  episodes, action_repeat = checks.whole("episodes", episodes), checks.whole("action_repeat", action_repeat)
  if isinstance(env, Tasks):
    tasks = env.tasks
    each = -(-episodes // tasks)
    own: Any = {"episodes": each, "episode_length": episode_length, "action_repeat": action_repeat}
    of_tasks = [evaluator(env.only(task), agent, stochastic=stochastic, **own) for task in range(tasks)]

    def all_tasks(params: Params, key: Key) -> Metrics:
      checks.key(key)
      found = [one(params, now) for one, now in zip(of_tasks, jax.random.split(key, tasks), strict=True)]
      rows = {name: jnp.stack([metrics[name] for metrics in found]) for name in found[0]}
      returns, spread = rows["eval/episode_reward"], rows["eval/episode_reward_std"]
      mean = {name: jnp.mean(values) for name, values in rows.items()}
      return {
        **mean,
        "eval/episode_reward_std": jnp.sqrt(jnp.mean(jnp.square(spread)) + jnp.var(returns)),
        "eval/nan_episodes": jnp.sum(rows["eval/nan_episodes"]),
        **{f"eval/task_{task}_reward": returns[task] for task in range(tasks)},
      }

    return all_tasks
  batch = vectorize(env, episodes, episode_length=episode_length, action_repeat=action_repeat, reset="cached")
  choose = agent.act if stochastic else agent.mode

  def evaluate(params: Params, key: Key) -> Metrics:
    checks.key(key)
    reset_key, key = jax.random.split(key)
    start = (
      batch.reset(reset_key),
      agent.carry(episodes),
      jnp.ones(episodes, bool),
      jnp.zeros(episodes),
      jnp.zeros(episodes, jnp.int32),
      jnp.zeros(episodes, bool),
      jnp.zeros((), jnp.int32),
    )

    def running(loop: Any) -> Array:
      return jnp.any(loop[2])

    def step(loop: Any) -> Any:
      state, carry, alive, returns, lengths, broken, count = loop
      action, carry, _ = choose(params, carry, observe(state), jax.random.fold_in(key, count))
      state, seen = batch.step(state, agent.execute(action))
      returns = returns + jnp.where(alive, seen.reward, 0.0)
      lengths = lengths + jnp.where(alive, action_repeat, 0)
      broken = broken | (alive & ~seen.valid)
      return state, carry, alive & ~(seen.terminated | seen.truncated), returns, lengths, broken, count + 1

    _, _, _, returns, lengths, broken, _ = jax.lax.while_loop(running, step, start)
    return {
      "eval/episode_reward": jnp.mean(returns),
      "eval/episode_reward_std": jnp.std(returns),
      "eval/avg_episode_length": jnp.mean(lengths.astype(float)),
      "eval/nan_episodes": jnp.sum(broken.astype(float)),
    }

  return evaluate


def collect(
  env: Environment,
  agent: Agent,
  params: Params,
  key: Key,
  *,
  episodes: int,
  episode_length: int | None = None,
  action_repeat: int = 1,
  stochastic: bool = False,
) -> Demonstrations:
  """The first episode of each of `episodes` fresh environments, every step of it.

  Args:
    env, agent, episodes, episode_length, action_repeat, stochastic: as in `evaluator`.
    params: the agent's.
    key: consumed.

  Raises:
    ValueError: an episode turned non-finite.
  """
  checks.key(key)
  episodes, action_repeat = checks.whole("episodes", episodes), checks.whole("action_repeat", action_repeat)
  batch = vectorize(env, episodes, episode_length=episode_length, action_repeat=action_repeat, reset="cached")
  choose = agent.act if stochastic else agent.mode
  bounded = agent.spec.bounded and not agent.spec.discrete

  def step(loop: Any, key: Key) -> tuple[Any, Any]:
    state, carry, alive = loop
    obs = observe(state)
    raw, carry, _ = choose(params, carry, obs, key)
    action = agent.execute(raw)
    state, seen = batch.step(state, action)
    row = (seen.obs, raw, action, seen.reward, seen.next_obs, seen.terminated, seen.truncated, seen.valid, alive)
    return (state, carry, alive & ~(seen.terminated | seen.truncated)), row

  def run(key: Key) -> Any:
    reset_key, key = jax.random.split(key)
    start = batch.reset(reset_key), agent.carry(episodes), jnp.ones(episodes, bool)
    return jax.lax.scan(step, start, jax.random.split(key, -(-batch.episode_length // action_repeat)))[1]

  found = jax.device_get(jax.jit(run)(key))
  taken = np.swapaxes(found[-1], 0, 1).ravel()
  rows = [np.swapaxes(x, 0, 1).reshape(len(taken), *x.shape[2:])[taken] for x in found[:-1]]
  obs, raw, action, reward, next_obs, terminated, truncated, valid = rows
  if not valid.all():
    raise ValueError(f"{int((~valid).sum())} steps of these episodes turned non-finite")
  if bounded:
    action = np.clip(action, -1.0, 1.0)
    raw = np.where(np.isclose(np.tanh(raw), action), raw, np.arctanh(np.clip(action, EDGE - 1.0, 1.0 - EDGE)))
  episode = np.repeat(np.arange(episodes), taken.reshape(episodes, -1).sum(axis=1))
  return of_arrays(
    agent.spec, obs, action, next_obs, terminated=terminated, truncated=truncated, reward=reward, raw_action=raw,
    episode=episode,
  )  # fmt: skip
