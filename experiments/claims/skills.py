"""Skills without a reward: where each of them goes, and how well a state tells which one it was.

    python -m experiments.claims.skills                     # 5 seeds, a few minutes on one core
    python -m experiments.claims.skills --env halfcheetah   # 3 seeds, a quarter of an hour on one core
    python -m experiments.claims.skills --smoke             # one seed, few steps; prints, and writes nothing

`diayn` with eight skills on the point mass, by its preset, or on Brax's halfcheetah. Accuracy and information are of
fresh episodes (64 a skill of the point mass, 16 of the cheetah), as the policy explores: log q(z|s') - log p(z) by the
learned q, a bound on I(z; s'), in nats, and the share of states whose likeliest skill is the episode's. Writes
`experiments/results/skills/`: `summary.json` and `trajectories.png`, the first seed's places by skill; of the cheetah
`halfcheetah.json` and `halfcheetah.png`.
"""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varl
from experiments.claims import script
from varl import agents, presets
from varl.envs import make, spec, vectorize, with_skill
from varl.loop import rollout
from varl.run import configure

RESULTS = script.RESULTS / "skills"
CHEETAH = {
  "num_timesteps": 100_000, "num_envs": 32, "batch_size": 256, "updates_per_env_step": 0.25, "warm_up": 2_000,
  "hidden": (128, 128), "skill_hidden": (128, 128), "episode_length": 500, "eval_every": 50_000, "eval_episodes": 8,
  "replay_capacity": 100_000,
}  # fmt: skip
FORWARD = 8
"""The entry of the cheetah's observation that is its speed along the ground."""


def run(name: str, seeds: list[int], share: float) -> dict[str, Any]:
  """By seed the accuracy and the information, and of the first one what is drawn, with the skills."""
  cheetah = name == "halfcheetah"
  env = with_skill(make(name), 8) if cheetah else make(f"{name}_skills")
  fields, each = (CHEETAH, 16) if cheetah else (presets.preset("diayn", f"{name}_skills"), 64)
  fields = {**fields, "num_timesteps": int(fields["num_timesteps"] * share)}
  configured = configure.resolve("diayn", env, preset=False, **fields)
  settings = configured.settings
  module, skills = agents.load("diayn"), spec(env).context
  agent, design = module.make(spec(env), configured.config), module.design(spec(env), configured.config)
  trainer = varl.make_trainer(env, agent, settings)
  steps = settings.episode_length
  fresh = vectorize(env, each * skills, episode_length=steps)

  @jax.jit
  def one(key: jax.Array) -> Any:
    train_key, start_key, act_key = jax.random.split(key, 3)
    params = trainer.run(train_key)[0].agent.params
    _, rows, _, _ = rollout.unroll(fresh, agent, params, rollout.init(fresh, agent, start_key), act_key, steps)
    places = jnp.cumsum(make(name).dt * rows.obs[..., FORWARD], axis=0) if cheetah else rows.obs[..., :2]
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


def draw(name: str, places: np.ndarray, which: np.ndarray, skills: int, path: pathlib.Path) -> None:
  """Every skill's ways, `[T, episodes, 2]` on the plane or `[T, episodes]` along the ground, in a colour of its own."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.0, 5.0), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for skill in range(skills):
    for index, episode in enumerate(np.flatnonzero(which == skill)[:12]):
      label = f"skill {skill}" if index == 0 else None
      way = places[:, episode]
      axes.plot(*(way.T if way.ndim == 2 else (way,)), color=f"C{skill}", alpha=0.6, linewidth=0.9, label=label)
  axes.legend(frameon=False, fontsize="small", ncols=2)
  if places.ndim == 3:
    axes.set(xlabel="x", ylabel="y", aspect="equal", title="places of a point mass, by skill")
  else:
    axes.set(xlabel="steps", ylabel="metres along the ground", title=f"{name}, by skill")
  figure.savefig(path, format="png", dpi=110)


def main() -> None:
  parser = script.parser(__doc__)
  parser.add_argument("--env", choices=("point_mass", "halfcheetah"), default="point_mass")
  args = parser.parse_args()
  asked = script.asked(args, range(3 if args.env == "halfcheetah" else 5))
  found = run(args.env, asked.seeds, 0.1 if asked.smoke else 1.0)
  shown = found.pop("shown")
  if not asked.recorded:
    return
  RESULTS.mkdir(parents=True, exist_ok=True)
  summary, picture = ("summary", "trajectories") if args.env == "point_mass" else (args.env, args.env)
  draw(args.env, *shown, found["skills"], RESULTS / f"{picture}.png")
  script.write("skills", {"env": args.env, "seeds": asked.seeds, **found}, f"skills/{summary}.json")


if __name__ == "__main__":
  main()
