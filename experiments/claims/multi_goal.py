"""Four equally good goals: how many of them soft Q-learning and SAC reach, and by which ways.

    python -m experiments.claims.multi_goal           # 10 seeds each, with the preset of sql on multi_goal
    python -m experiments.claims.multi_goal --smoke   # one seed, a hundredth of the updates; writes nothing

Soft Q-learning by two samplers and SAC by three policies have the same objective (reward scale, a held temperature),
networks, learning rate, replay and number of updates. After training, each agent acts as it explores, from 200
starts; a goal counts as reached where at least 2 % of the trajectories end at it. Writes
`experiments/results/multi_goal/`: `summary.json` (shares of the goals, and goals reached, by seed) and
`trajectories.png` (each algorithm's trajectories with its first seed).
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

import varl
from experiments.claims import script
from varl import agents
from varl.envs import spec, vectorize
from varl.envs.toys import MultiGoal
from varl.loop import rollout
from varl.run import configure

LABELS = {
  "sql": "Stein sampler",
  "sql_langevin": "Langevin chains",
  "sac": "SAC (tanh-Gaussian)",
  "sac_gaussian": "SAC (Gaussian, clipped)",
  "sac_flow": "SAC (flow)",
}
STARTS, STEPS, LEAST = 200, 30, 0.02


def runs(smoke: bool) -> dict[str, configure.RunConfig]:
  """The configuration of each: the preset of sql, and the same for SAC as far as it has the same."""
  short = {"num_timesteps": 3_000, "particles": 16, "hidden": (32, 32), "start_updates": 500} if smoke else {}
  sql = configure.resolve("sql", "multi_goal", **short)
  langevin = configure.resolve("sql", "multi_goal", sampler="langevin", **short)
  shared = ("learning_rate", "gamma", "reward_scale", "hidden", "activation", "normalize_observations")
  same: dict[str, Any] = {
    "preset": False, "adapt_temperature": False, "initial_temperature": sql.config.temperature,
    **{name: getattr(sql.config, name) for name in shared}, **dataclasses.asdict(sql.settings),
  }  # fmt: skip
  policies = {"sac": "tanh_gaussian", "sac_gaussian": "gaussian", "sac_flow": "flow"}
  sac = {name: configure.resolve("sac", "multi_goal", policy=policy, **same) for name, policy in policies.items()}
  return {"sql": sql, "sql_langevin": langevin, **sac}


def trajectories(name: str, run: configure.RunConfig, seeds: list[int]) -> np.ndarray:
  """Places by seed, start and step, `[seeds, STARTS, STEPS + 1, 2]`; NaN after a trajectory's end."""
  env = MultiGoal()
  agent = agents.load(run.algorithm).make(spec(env), run.config)
  trainer = varl.make_trainer(env, agent, run.settings)
  fresh = vectorize(env, STARTS, episode_length=STEPS, reset="fresh")

  @jax.jit
  def walk(key: jax.Array) -> Any:
    train_key, start_key, act_key = jax.random.split(key, 3)
    params = trainer.run(train_key)[0].agent.params
    first = rollout.init(fresh, agent, start_key)
    _, steps, _, _ = rollout.unroll(fresh, agent, params, first, act_key, STEPS)
    return steps.obs, steps.next_obs, steps.discount

  found = []
  for seed in seeds:
    started = time.perf_counter()
    obs, next_obs, discount = (np.asarray(x) for x in walk(jax.random.key(seed)))
    places = np.concatenate([obs[:1], next_obs])
    over = np.cumsum(discount == 0.0, axis=0) - (discount == 0.0) > 0  # steps of a later episode
    places[1:][over] = np.nan
    found.append(places.swapaxes(0, 1))
    print(json.dumps({"algorithm": name, "seed": seed, "seconds": time.perf_counter() - started}), flush=True)
  return np.stack(found)


def judge(places: np.ndarray) -> dict[str, Any]:
  """By seed: the share of trajectories that end at each goal, and how many goals are reached."""
  last = np.nanmax(np.where(np.isfinite(places[..., 0]), np.arange(places.shape[2]), 0), axis=2).astype(int)
  ends = np.take_along_axis(places, last[..., None, None], axis=2)[:, :, 0]
  distance = np.linalg.norm(ends[:, :, None] - MultiGoal.goals, axis=-1)
  shares = (distance < 1.0).mean(axis=1)
  reached = (shares >= LEAST).sum(axis=1)
  return {
    "shares": shares.round(4).tolist(),
    "goals_reached": reached.tolist(),
    "mean_goals_reached": float(reached.mean()),
    "share_at_a_goal": float(shares.sum(axis=1).mean()),
  }


def draw(places: dict[str, np.ndarray], records: dict[str, Any], path: pathlib.Path) -> None:
  """A panel an algorithm: the first seed's trajectories over the cost of distance."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.0 * len(places), 5.9), layout="constrained")
  FigureCanvasAgg(figure)
  line = np.linspace(-7, 7, 141)
  grid = np.stack(np.meshgrid(line, line), axis=-1)
  cost = np.min(np.sum((grid[..., None, :] - MultiGoal.goals) ** 2, axis=-1), axis=-1)
  for panel, (name, of_seeds) in zip(figure.subplots(1, len(places), sharey=True), places.items(), strict=True):
    panel.contour(line, line, cost, levels=12, colors="0.85", linewidths=0.8)
    for way in of_seeds[0]:
      panel.plot(*way.T, color="#2166ac", alpha=0.25, linewidth=0.9)
    panel.scatter(*MultiGoal.goals.T, color="#b2182b", zorder=3, s=40)
    mean, seeds = records[name]["mean_goals_reached"], len(of_seeds)
    panel.set_title(f"{LABELS[name]}\n{mean:.1f} of 4 goals reached, mean of {seeds} seed{'s' * (seeds > 1)}")
    panel.set_aspect("equal")
    panel.set_xlim(-7, 7)
    panel.set_ylim(-7, 7)
  figure.savefig(path, format="png", dpi=150)


def main() -> None:
  asked = script.ask(__doc__, range(10))
  configured = runs(asked.smoke)
  places = {name: trajectories(name, run, asked.seeds) for name, run in configured.items()}
  records = {name: judge(found) for name, found in places.items()}
  for name, record in records.items():
    print(f"{LABELS[name]:34} {record['mean_goals_reached']:.1f} of 4 goals, {record['goals_reached']} by seed")
  if not asked.recorded:
    return
  body = {
    "seeds": asked.seeds,
    "counts_as_reached": LEAST,
    "algorithms": {
      name: {
        **records[name],
        "config": dataclasses.asdict(run.config),
        "settings": dataclasses.asdict(run.settings),
      }
      for name, run in configured.items()
    },
  }
  script.write("multi_goal", body, "multi_goal/summary.json")
  draw(places, records, script.RESULTS / "multi_goal" / "trajectories.png")


if __name__ == "__main__":
  main()
