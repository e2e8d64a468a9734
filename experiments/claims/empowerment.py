"""Empowerment learned, beside the exact one: a map of a grid.

    python -m experiments.claims.empowerment           # a minute or two on one core
    python -m experiments.claims.empowerment --smoke   # few updates; prints, and writes nothing

Two rooms and a corridor, where a move slips to a side with probability .1. `rewards.empowerment` of two moves, its
networks perceptrons on one-hot states, sees random states and follows sequences in the process itself; the exact
capacities are `exact.information.empowerment`'s, by the algorithm of Blahut and Arimoto. The mean error over states
after the last update is recorded by seed. Writes `experiments/results/empowerment/`: `summary.json` and `map.png`.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.claims import script
from varl import models, networks, rewards
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.exact import information, tabular
from varl.report import maps, plots
from varl.types import Batch, Design

RESULTS = script.RESULTS / "empowerment"
LAYOUT = ["...###...", "...###...", "S........", "...###...", "...###..."]
STEPS, ROWS = 2, 512


def learned(process: Any, seed: int, updates: int) -> np.ndarray:
  """ψ of each state, `[S]`."""
  env = Tabular(process)
  sizes = spec(env)
  states, size = sizes.observation_size, rewards.empowerment_outputs(sizes, STEPS)
  reward = rewards.empowerment(
    sizes, networks.mlp(states, size, hidden=(64,)), networks.mlp(2 * states, size, hidden=(128,)),
    networks.mlp(states, 1, hidden=(64,)), optax.adam(optax.cosine_decay_schedule(3e-3, updates, 0.01)), steps=STEPS,
  )  # fmt: skip
  design = Design(None, None, None, None, model=models.known(env.outcome))
  step = reward.step(design)

  def rows(obs: jax.Array) -> Batch:
    zeros = jnp.zeros(len(obs))
    return Batch(obs, zeros.astype(int), zeros, zeros + 1.0, obs, zeros, {})

  def update(carry: Any, key: jax.Array) -> tuple[Any, None]:
    state_key, step_key = jax.random.split(key)
    obs = jax.nn.one_hot(jax.random.randint(state_key, (ROWS,), 0, states), states)
    params, state, _ = step.step(*carry, rows(obs), step_key)
    return (params, state), None

  @jax.jit
  def run(key: jax.Array) -> jax.Array:
    init_key, key = jax.random.split(key)
    params = reward.init(init_key)
    (params, _), _ = jax.lax.scan(update, (params, step.init(params)), jax.random.split(key, updates))
    return reward.value(design, params, rows(jnp.eye(states)), key)

  return np.asarray(run(jax.random.key(seed)))


def main() -> None:
  asked = script.ask(__doc__, range(3))
  updates = 500 if asked.smoke else 20_000
  process = tabular.gridworld(LAYOUT, slip=0.1)
  exact = np.asarray(information.empowerment(process, steps=STEPS).nats)
  found = [learned(process, seed, updates) for seed in asked.seeds]
  errors = [float(np.mean(np.abs(nats - exact) / exact)) for nats in found]
  worst = [float(np.max(np.abs(nats - exact) / exact)) for nats in found]
  print(json.dumps({"exact": [float(exact.min()), float(exact.max())], "error": errors, "worst": worst}), flush=True)
  if not asked.recorded:
    return
  RESULTS.mkdir(parents=True, exist_ok=True)
  axes = plots.canvas(size=(9.6, 3.0)).figure
  axes.clear()
  limits = float(min(exact.min(), found[0].min())), float(max(exact.max(), found[0].max()))
  for place, (title, nats) in enumerate({"exact": exact, "learned, seed 0": found[0]}.items(), start=1):
    maps.grid(nats, LAYOUT, title=title, label="nats", limits=limits, ax=axes.add_subplot(1, 2, place))
  plots.write(axes, RESULTS / "map.png")
  body = {
    "seeds": asked.seeds, "steps": STEPS,
    "exact_range": [float(exact.min()), float(exact.max())], "mean_relative_error": errors,
    "largest_relative_error": worst,
  }  # fmt: skip
  script.write("empowerment", body, "empowerment/summary.json")


if __name__ == "__main__":
  main()
