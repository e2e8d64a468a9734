"""Skills without a reward: where each of them goes, and how well a state tells which one it was.

    python -m experiments.claims.skills           # 5 seeds, a few minutes on one core
    python -m experiments.claims.skills --smoke   # one seed, few steps; prints, and writes nothing

`diayn` on the point mass with eight skills, by its preset. Accuracy and information are of 64 fresh episodes a skill,
as the policy explores: log q(z|s') - log p(z) by the learned q, a bound on I(z; s'), in nats, and the share of states
whose likeliest skill is the episode's. Writes `experiments/results/skills/`: `summary.json` and `trajectories.png`, the
first seed's places by skill.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from varl import agents
from varl.envs import make, spec, vectorize
from varl.loop import rollout
from varl.run import configure, doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "skills"
ENV, EACH = "point_mass_skills", 64


def run(seeds: list[int], share: float) -> dict[str, Any]:
  """By seed the accuracy and the information, and of the first one the places `[T, episodes, 2]` with their skills."""
  configured = configure.resolve("diayn", ENV)
  settings, env = configured.settings, make(ENV)
  if share < 1.0:
    settings = configure.resolve("diayn", ENV, num_timesteps=int(settings.num_timesteps * share)).settings
  module, skills = agents.load("diayn"), spec(env).context
  agent, design = module.make(spec(env), configured.config), module.design(spec(env), configured.config)
  trainer = varl.make_trainer(env, agent, settings)
  steps = settings.episode_length
  fresh = vectorize(env, EACH * skills, episode_length=steps)

  @jax.jit
  def one(key: jax.Array) -> Any:
    train_key, start_key, act_key = jax.random.split(key, 3)
    params = trainer.run(train_key)[0].agent.params
    _, rows, _, _ = rollout.unroll(fresh, agent, params, rollout.init(fresh, agent, start_key), act_key, steps)
    places = rows.obs[..., :2]
    rows = rows._replace(obs=varl.scaled(params, rows.obs), next_obs=varl.scaled(params, rows.next_obs))
    which = jnp.argmax(rows.obs[..., -skills:], axis=-1)
    # What it would pay for each skill: the one that pays most is the one that q tells.
    given = [
      design.reward.value(design, params, rows._replace(obs=rows.obs.at[..., -skills:].set(skill)), key)
      for skill in jnp.eye(skills)
    ]
    paid = jnp.stack(given)
    own = jnp.take_along_axis(paid, which[None], axis=0)[0]
    return jnp.mean(jnp.argmax(paid, axis=0) == which), jnp.mean(own), which[0], places

  accuracy, information = [], []
  for seed in seeds:
    told, nats, which, places = one(jax.random.key(seed))
    accuracy.append(float(told))
    information.append(float(nats))
    print(json.dumps({"seed": seed, "accuracy": accuracy[-1], "information": information[-1]}), flush=True)
    if seed == seeds[0]:
      shown = np.asarray(places), np.asarray(which)
  return {"accuracy": accuracy, "information": information, "skills": skills, "shown": shown}


def draw(places: np.ndarray, which: np.ndarray, skills: int, path: pathlib.Path) -> None:
  """Every skill's ways, in a colour of its own."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.0, 5.0), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for skill in range(skills):
    for index, episode in enumerate(np.flatnonzero(which == skill)[:12]):
      label = f"skill {skill}" if index == 0 else None
      axes.plot(*places[:, episode].T, color=f"C{skill}", alpha=0.6, linewidth=0.9, label=label)
  axes.legend(frameon=False, fontsize="small", ncols=2)
  axes.set(xlabel="x", ylabel="y", aspect="equal", title="places of a point mass, by skill")
  figure.savefig(path, format="png", dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--smoke", action="store_true")
  args = parser.parse_args()
  seeds = [0] if args.smoke else [0, 1, 2, 3, 4]
  found = run(seeds, 0.1 if args.smoke else 1.0)
  shown = found.pop("shown")
  if args.smoke:
    return
  RESULTS.mkdir(parents=True, exist_ok=True)
  draw(*shown, found["skills"], RESULTS / "trajectories.png")
  body = {
    "command": " ".join(["python -m experiments.claims.skills", *sys.argv[1:]]), "env": ENV, "seeds": seeds, **found,
    **doctor.device_summary(),
  }  # fmt: skip
  (RESULTS / "summary.json").write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()
