"""Do options stay alive? What they say of what is done, with a reverse model and without.

    python -m experiments.claims.options           # 5 seeds, about half an hour on one core
    python -m experiments.claims.options --smoke   # one seed, few steps; prints, and writes nothing

Four rooms (a grid with slips, an episode starts anywhere and ends at a goal in one room) and Brax's reacher, four
options each, an option going on with probability .9. Five forms of `options`: without a reverse model; the bound as it
is; with options' information weighed a hundred times as much as the entropy of actions; the first and the last also
with options that are drawn alike in place of a learned choice. By ten checks of training: the entropy of how often each
option acts, I(o; a|s) of options drawn by their usage, both as shares of log 4, and the return. Writes
`experiments/results/options.json`.
"""

import json
from typing import Any

import jax
import numpy as np

import varl
from experiments.claims import script
from experiments.claims.iterative_inference import interval
from varl import agents, envs
from varl.envs import tabular

OPTIONS, CHECKS = 4, 10
ROOMS = (
  "SSSSS#SSSSS", "SSSSS#SSSSS", "SSSSSSSSSSS", "SSSSS#SSSSS", "SSSSS#SSSSS", "#S####SSSSS",
  "SSSSS###S##", "SSSSS#SSSSS", "SSSSS#SSSSS", "SSSSSSSSSGS", "SSSSS#SSSSS",
)  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
  "no reverse model": {"reverse": "none"},
  "no reverse model, drawn alike": {"reverse": "none", "choice": "uniform"},
  "bound": {},
  "information times 100": {"information_weight": 100.0},
  "information times 100, drawn alike": {"information_weight": 100.0, "choice": "uniform"},
}
TASKS: dict[str, dict[str, Any]] = {
  "four_rooms": {
    "env": lambda: tabular.gridworld(ROOMS), "steps": 327_680, "episode_length": 100, "temperature": 0.001,
    "learning_rate": 1e-3,
  },
  "reacher": {
    "env": lambda: envs.make("reacher"), "steps": 204_800, "episode_length": 200, "temperature": 0.003, "gamma": 0.95,
    "action_repeat": 4, "learning_rate": 3e-4,
  },
}  # fmt: skip
NETWORK = {"hidden": (64, 64), "activation": "tanh", "continuation": 0.9, "options": OPTIONS}


def run(task: str, form: str, seeds: list[int], share: float) -> dict[str, Any]:
  """By seed and check: usage and information as shares of log n, and the return."""
  this = TASKS[task]
  env, module = this["env"](), agents.load("options")
  own = {name: this[name] for name in ("temperature", "gamma", "learning_rate") if name in this}
  agent = module.make(envs.spec(env), module.Config(**NETWORK, **own, **FORMS[form]))
  steps = int(this["steps"] * share)
  settings = varl.Settings(
    num_timesteps=steps, num_envs=32, unroll_length=64 // this.get("action_repeat", 1), batch_size=256, epochs=8,
    episode_length=this["episode_length"], action_repeat=this.get("action_repeat", 1), eval_every=steps // CHECKS,
    eval_episodes=16,
  )  # fmt: skip
  keys = jax.vmap(jax.random.key)(np.asarray(seeds))
  metrics = jax.jit(jax.vmap(lambda key: varl.make_trainer(env, agent, settings).run(key)[1]))(keys)

  def of(name: str, scale: float = 1.0) -> list[list[float]]:
    return [[round(float(x) / scale, 4) for x in row[1:]] for row in np.asarray(metrics[name])]

  found = {
    "usage": of("training/option_usage", np.log(OPTIONS)),
    "information": of("training/option_information", np.log(OPTIONS)),
    "returns": of("eval/episode_reward"),
  }
  last = {name: interval([row[-1] for row in rows]) for name, rows in found.items()}
  print(json.dumps({"task": task, "form": form, **last}), flush=True)
  return {**found, "last": last}


def main() -> None:
  asked = script.ask(__doc__, range(5))
  tasks = ("four_rooms",) if asked.smoke else tuple(TASKS)
  found = {task: {form: run(task, form, asked.seeds, 0.1 if asked.smoke else 1.0) for form in FORMS} for task in tasks}
  if not asked.recorded:
    return
  body = {
    "seeds": asked.seeds,
    "options": OPTIONS,
    "steps": {task: TASKS[task]["steps"] for task in tasks},
    "tasks": found,
  }
  script.write("options", body)


if __name__ == "__main__":
  main()
