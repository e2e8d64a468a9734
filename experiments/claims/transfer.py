"""What tasks learn from one another: several together, beside each alone, at as many steps a task.

    python -m experiments.claims.transfer           # 5 seeds, about twenty minutes on one core
    python -m experiments.claims.transfer --smoke   # one seed, few steps; prints, and writes nothing

Four corners to push a point mass to, and four grids with slips, by the preset of `distral`: `distral`, `iadp` and `hdp`
(continuous actions) and soft actor-critic (with their temperature, held) see all four tasks; "alone" is that soft
actor-critic on each task by itself, with a quarter of the steps and of the replay. The area is the mean return over
tasks and over ten evaluations along the run. Writes `experiments/results/transfer.json`.
"""

import json
from typing import Any

import jax
import numpy as np

import varl
from experiments.claims import script
from experiments.claims.iterative_inference import interval
from varl import agents, envs, presets

PRICES = {"point_mass_tasks": 0.1, "gridworld_tasks": 0.005}
"""The price of a nat. On the grids, whose reward is 1 at the end, a dearer one would make it worth to stay away."""
CHECKS = 10
ENVS = {
  "point_mass_tasks": ("distral", "iadp", "hdp", "sac", "alone"),
  "gridworld_tasks": ("distral", "iadp", "sac_discrete", "alone"),
}


def own(name: str, price: float) -> dict[str, Any]:
  """The fields that set an algorithm's price of a nat."""
  if name == "distral":
    return {"divergence_cost": 0.5 * price, "entropy_cost": 0.5 * price}
  if name in ("iadp", "hdp"):
    return {"temperature": price}
  return {"adapt_temperature": False, "initial_temperature": price}


def returns(name: str, env: Any, preset: dict[str, Any], price: float, share: float, seeds: list[int]) -> np.ndarray:
  """By seed and evaluation: the mean return over the tasks, of a run with that share of the preset's steps."""
  module = agents.load(name)
  fields = set(module.Config.__dataclass_fields__)
  config = module.Config(**{key: value for key, value in preset.items() if key in fields}, **own(name, price))
  agent = module.make(envs.spec(env), config)
  loop = {key: value for key, value in preset.items() if key in varl.Settings.__dataclass_fields__}
  steps = int(loop["num_timesteps"] * share)
  loop |= {
    "num_timesteps": steps,
    "eval_every": steps // CHECKS,
    "replay_capacity": int(loop["replay_capacity"] * share),
  }
  loop |= {"warm_up": int(loop["warm_up"] * share), "eval_episodes": 64}
  run = jax.jit(varl.make_trainer(env, agent, varl.Settings(**loop)).run)
  found = [np.asarray(run(jax.random.key(seed))[1]["eval/episode_reward"])[:CHECKS] for seed in seeds]
  return np.stack(found)


def main() -> None:
  asked = script.ask(__doc__, range(5))
  share = 0.2 if asked.smoke else 1.0
  found: dict[str, Any] = {}
  for env_name, names in ENVS.items():
    env, preset = envs.make(env_name), presets.load("distral")[env_name]
    together, price = names[-2], PRICES[env_name]
    for name in names:
      if name == "alone":
        each = [
          returns(together, env.only(task), preset, price, 0.25 * share, asked.seeds) for task in range(env.tasks)
        ]
        curves = np.mean(each, axis=0)
      else:
        curves = returns(name, env, preset, price, share, asked.seeds)
      area = curves.mean(axis=1)
      found.setdefault(env_name, {})[name] = {
        "curves": np.round(curves, 3).tolist(), "area": interval(area.tolist()),
        "last": np.round(curves[:, -1], 3).tolist(),
      }  # fmt: skip
      print(json.dumps({"env": env_name, "algorithm": name, "area": interval(area.tolist())}), flush=True)
  if not asked.recorded:
    return
  body = {
    "seeds": asked.seeds, "prices": PRICES,
    "steps": {name: presets.load("distral")[name]["num_timesteps"] for name in ENVS}, "envs": found,
  }  # fmt: skip
  script.write("transfer", body)


if __name__ == "__main__":
  main()
