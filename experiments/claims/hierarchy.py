"""A frozen policy to act through: what its latent space, and its skills, are worth on a task with a sparse reward.

    python -m experiments.claims.hierarchy           # 3 seeds, about twenty minutes on one core
    python -m experiments.claims.hierarchy --smoke   # one seed, few steps; prints, and writes nothing

A point mass starts in one corner of a square of side 4 and pays 1 for each of 100 steps within .2 of a goal in the
opposite one, and nothing elsewhere. Lower policies know nothing of it: `sac` with a flow, paid for its speed alone at a
high temperature, and `diayn` with eight skills. Above them `sac` acts in the
flow's latent space and `sac_discrete` chooses a skill for ten steps; `sac` learns the task alone beside them. All have
as many steps of the point mass. Returns are the last evaluation's, and the mean of all. Writes
`experiments/results/hierarchy.json`.
"""

import json
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import varl
from experiments.claims import script
from varl import envs
from varl.envs import toys

LENGTH, STEPS, EACH = 100, 60_000, 10
SETTINGS: dict[str, Any] = {
  "num_envs": 16, "updates_per_env_step": 0.5, "batch_size": 128, "hidden": (64, 64), "learning_rate": 1e-3,
  "replay_capacity": 60_000, "preset": False,
}  # fmt: skip
LOOSE: dict[str, Any] = {"adapt_temperature": False, "initial_temperature": 0.3}


class Paid(toys.PointMass):
  """A point mass that starts in a corner and is paid for what `pay` says of its observation."""

  def __init__(self, pay: Callable[[Any], Any]):
    super().__init__()
    self.pay = pay

  def reset(self, rng: Any) -> Any:
    return self._state(jax.random.uniform(rng, (2,), minval=-1.9, maxval=-1.3), jnp.zeros(2))

  def _state(self, position: Any, velocity: Any) -> Any:
    state = super()._state(position, velocity)
    return state.replace(reward=self.pay(state.obs))


def near_the_goal(obs: Any) -> Any:
  """1 within .2 of a far goal."""
  return (jnp.sum((obs[:2] - 1.5) ** 2) < 0.04) * 1.0


def speed(obs: Any) -> Any:
  return jnp.sqrt(jnp.sum(obs[2:] ** 2) + 1e-6)


def main() -> None:
  asked = script.ask(__doc__, range(3))
  steps = 4_000 if asked.smoke else STEPS
  found: dict[str, list[list[float]]] = {}
  task = Paid(near_the_goal)

  def add(name: str, run: Any) -> None:
    found.setdefault(name, []).append([round(row["eval/episode_reward"], 2) for row in run.metrics])
    print(json.dumps({"run": name, "last": [each[-1] for each in found[name]]}), flush=True)

  whole = {**SETTINGS, "num_timesteps": steps, "eval_every": steps // 10, "episode_length": LENGTH, "warm_up": 1_000}
  for seed in asked.seeds:
    add("sac alone", varl.train("sac", task, seed=seed, **whole))
    flow = varl.train("sac", Paid(speed), policy="flow", seed=seed, **LOOSE, **whole).policy
    add(
      "sac in a flow's latent space", varl.train("sac", envs.Latent(task, flow), policy="gaussian", seed=seed, **whole)
    )
    skills = varl.train(
      "diayn", envs.with_skill(task, 8), seed=seed, skill_hidden=(64, 64), skill_learning_rate=1e-3, **whole
    ).policy
    above = {
      **whole, "num_timesteps": steps // EACH, "eval_every": steps // EACH // 10, "episode_length": LENGTH // EACH,
      "warm_up": 1_000 // EACH, "updates_per_env_step": EACH * SETTINGS["updates_per_env_step"],
      "gamma": 0.99**EACH,
    }  # fmt: skip
    chosen = envs.ChosenSkills(task, skills, EACH)
    add("sac_discrete on diayn's skills", varl.train("sac_discrete", chosen, seed=seed, **above))
  if not asked.recorded:
    return
  body = {
    "seeds": asked.seeds, "steps": steps, "returns": found,
    "mean": {name: [statistics.mean(each) for each in runs] for name, runs in found.items()},
  }  # fmt: skip
  script.write("hierarchy", body)


if __name__ == "__main__":
  main()
