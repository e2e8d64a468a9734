"""Where the reward is rare: the share of places that are ever visited, by information gain and by noise alone.

    python -m experiments.claims.exploration           # 5 seeds, about an hour on one core
    python -m experiments.claims.exploration --smoke   # one seed, few steps; prints, and writes nothing

A corridor of 40 cells that pays .1 for going back to its start and 1 at its far end (`toys.Chain`), and gymnax'
MountainCarContinuous-v0, whose reward is 100 on the hill and minus the effort until then. SAC, PPO and `vime` (which is
that SAC, paid for information gain as well) have the same networks, learning rate, environments and number of steps.
Places are the corridor's cells, and a grid of 20 × 20 over position and velocity; those that any environment has ever
been in are counted, warm-up included. Writes `experiments/results/exploration.json`.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.claims import script
from experiments.claims.iterative_inference import interval
from varl import agents, envs
from varl.envs import toys

CELLS, BINS, CHECKS = 40, 20, 10
LOW, HIGH = jnp.array([-1.2, -0.07]), jnp.array([0.6, 0.07])
NETWORK = {"hidden": (64, 64), "learning_rate": 1e-3}
TASKS: dict[str, dict[str, Any]] = {
  "corridor": {
    "env": lambda: toys.Chain(CELLS), "steps": 8_000, "episode_length": 100, "places": CELLS,
    "algorithms": ("sac_discrete", "ppo", "vime"), "gain_weight": 0.1,
  },
  "continuous_mountain_car": {
    "env": lambda: envs.make("continuous_mountain_car"), "steps": 30_000, "episode_length": 999,
    "places": BINS * BINS, "algorithms": ("sac", "ppo", "vime"), "gain_weight": 1.0,
  },
}  # fmt: skip


def place(task: str, obs: jax.Array) -> jax.Array:
  """The number of the place that each observation `[..., o]` is in."""
  if task == "corridor":
    return jnp.argmax(obs, axis=-1)
  cell = jnp.clip(((obs - LOW) / (HIGH - LOW) * BINS).astype(int), 0, BINS - 1)
  return cell[..., 0] * BINS + cell[..., 1]


def counted(agent: varl.Agent, task: str, places: int) -> varl.Agent:
  """The same agent, which keeps in its parameters where its rollouts have been."""

  def init(key: jax.Array) -> Any:
    state = agent.init(key)
    return state._replace(params={**state.params, "visited": jnp.zeros(places)})

  def observe(state: Any, transitions: Any, valid: jax.Array) -> Any:
    where = jnp.where(valid, place(task, transitions.obs), places).reshape(-1)
    visited = state.params["visited"].at[where].max(1.0, mode="drop")
    state = agent.observe(state, transitions, valid)
    return state._replace(params={**state.params, "visited": visited})

  return agent._replace(init=init, observe=observe)


def settings(name: str, steps: int, episode_length: int) -> varl.Settings:
  shared = {"num_timesteps": steps, "num_envs": 8, "episode_length": episode_length, "eval_every": steps // CHECKS}
  if name == "ppo":
    return varl.Settings(**shared, unroll_length=100, batch_size=200, epochs=8, eval_episodes=8)
  return varl.Settings(
    **shared, batch_size=128, updates_per_env_step=0.5, warm_up=400, replay_capacity=steps, eval_episodes=8
  )


def run(task: str, name: str, seeds: list[int], share: float) -> dict[str, Any]:
  """By seed: the share of places visited after each tenth of the steps, and the last return."""
  this = TASKS[task]
  env, module = this["env"](), agents.load(name)
  own = {"gain_weight": this["gain_weight"]} if name == "vime" else {}
  agent = counted(module.make(envs.spec(env), module.Config(**NETWORK, **own)), task, this["places"])
  found = settings(name, int(this["steps"] * share), this["episode_length"])
  trainer = varl.make_trainer(env, agent, found)
  shares, returns = [], []
  for seed in seeds:
    state = trainer.init(jax.random.key(seed))
    seen = []
    for iterations in np.diff(np.linspace(0, found.iterations, CHECKS + 1).astype(int)):
      state, _ = trainer.epoch(state, jnp.int32(iterations))
      seen.append(float(np.mean(np.asarray(state.agent.params["visited"]))))
    returns.append(float(trainer.evaluate(state, jax.random.key(seed))["eval/episode_reward"]))
    shares.append(seen)
    print(
      json.dumps({"task": task, "algorithm": name, "seed": seed, "visited": seen[-1], "return": returns[-1]}),
      flush=True,
    )
  return {"visited": shares, "returns": returns, **interval([seen[-1] for seen in shares])}


def main() -> None:
  asked = script.ask(__doc__, range(5))
  tasks = ("corridor",) if asked.smoke else tuple(TASKS)
  found = {
    task: {name: run(task, name, asked.seeds, 0.2 if asked.smoke else 1.0) for name in TASKS[task]["algorithms"]}
    for task in tasks
  }
  if not asked.recorded:
    return
  body = {
    "seeds": asked.seeds,
    "steps": {task: TASKS[task]["steps"] for task in tasks},
    "places": {task: TASKS[task]["places"] for task in tasks},
    "tasks": found,
  }
  script.write("exploration", body)


if __name__ == "__main__":
  main()
