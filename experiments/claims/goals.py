"""A goal that the prior does not see: policies with information-asymmetric priors beside soft actor-critic.

    python -m experiments.claims.goals           # 5 seeds, 3 on the reacher; about forty minutes on one core
    python -m experiments.claims.goals --smoke   # one seed, few steps; prints, and writes nothing

The goal is drawn anew each episode (`point_mass_goals`, `gridworld_goals`, `reacher_goals`). `iadp` and `hdp` pay for
each nat by which the policy leaves a prior that does not see the goal, or a part of it; soft actor-critic pays as much
for each nat by which it leaves the uniform policy. All else is equal. The area is the mean return over ten evaluations
along the run. Writes `experiments/results/goals.json`.
"""

import json
from typing import Any

import numpy as np

from experiments.claims import script, transfer
from experiments.claims.iterative_inference import interval
from varl import envs, presets

RUNS: dict[str, tuple[dict[str, Any], float, tuple[str, ...]]] = {
  "point_mass_goals": (presets.preset("iadp", "point_mass_tasks"), 0.1, ("iadp", "iadp, y hidden", "hdp", "sac")),
  "gridworld_goals": (
    {**presets.preset("iadp", "gridworld_tasks"), "num_timesteps": 100_000}, 0.005, ("iadp", "sac_discrete"),
  ),
  "reacher_goals": ({**presets.preset("sac", "reacher"), "warm_up": 1_000}, 0.02, ("iadp", "hdp", "sac")),
}  # fmt: skip
"""By environment: the settings, the price of a nat, and the algorithms."""


def main() -> None:
  asked = script.ask(__doc__, range(5))
  found: dict[str, Any] = {}
  for env_name, (preset, price, names) in RUNS.items():
    seeds = asked.seeds[:3] if env_name == "reacher_goals" else asked.seeds
    found[env_name] = {"price": price, "steps": preset["num_timesteps"], "algorithms": {}}
    for name in names:
      fields = {**preset, "withheld": 1} if name.endswith("hidden") else preset
      share = 0.1 if asked.smoke else 1.0
      curves = transfer.returns(name.split(",")[0], envs.make(env_name), fields, price, share, seeds)
      area = interval(curves.mean(axis=1).tolist())
      found[env_name]["algorithms"][name] = {
        "curves": np.round(curves, 3).tolist(), "area": area, "last": np.round(curves[:, -1], 3).tolist(),
      }  # fmt: skip
      print(json.dumps({"env": env_name, "algorithm": name, "area": area}), flush=True)
  if not asked.recorded:
    return
  script.write("goals", {"envs": found})


if __name__ == "__main__":
  main()
