"""Where one observation does not say enough: policies that remember, and the same ones that do not.

    python -m experiments.claims.memory           # 3 seeds, about twenty minutes on one core
    python -m experiments.claims.memory --smoke   # one seed, few steps; prints, and writes nothing

`inverted_pendulum_positions` (Brax's inverted pendulum without its velocities) by the presets of `sac` and `ppo`, and
bsuite's memory chain of gymnax (a bit is shown at the start of an episode, and asked for at its end) by `ppo`: each
with its memory and with `memory=0`, all else the same. Writes `experiments/results/memory.json`: the returns of all
evaluations, by seed.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import varl
from varl.run import doctor

RESULT = pathlib.Path(__file__).parents[1] / "results" / "memory.json"
CHAIN = {
  "num_timesteps": 400_000, "num_envs": 64, "unroll_length": 32, "memory_length": 32, "batch_size": 512, "epochs": 4,
  "hidden": (64, 64), "learning_rate": 1e-3, "temperature": 0.01, "episode_length": 100, "eval_every": 40_960,
  "eval_episodes": 256, "memory": 32,
}  # fmt: skip
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
  "sac on positions": ("sac", "inverted_pendulum_positions", {}),
  "ppo on positions": ("ppo", "inverted_pendulum_positions", {}),
  "ppo on the memory chain": ("ppo", "gymnax:MemoryChain-bsuite", CHAIN),
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--smoke", action="store_true")
  args = parser.parse_args()
  seeds = [0] if args.smoke else [0, 1, 2]
  found: dict[str, Any] = {}
  for name, (algorithm, env, fields) in RUNS.items():
    for form, own in {"memory": {}, "no memory": {"memory": 0}}.items():
      fewer = {"num_timesteps": 8_192} if args.smoke else {}
      runs = [varl.train(algorithm, env, seed=seed, **{**fields, **own, **fewer}).metrics for seed in seeds]
      returns = [[round(row["eval/episode_reward"], 3) for row in rows] for rows in runs]
      found.setdefault(name, {"env": env, "env_steps": [row["env_steps"] for row in runs[0]]})[form] = returns
      print(json.dumps({"run": name, "form": form, "last": [each[-1] for each in returns]}), flush=True)
  if args.smoke:
    return
  body = {
    "command": " ".join(["python -m experiments.claims.memory", *sys.argv[1:]]),
    "seeds": seeds, "runs": found, **doctor.device_summary(),
  }  # fmt: skip
  RESULT.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()
