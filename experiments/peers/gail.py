"""Seconds to .9 of the expert's return on CartPole: varl's GAIL, and that of the package `imitation` (PyTorch).

    python -m experiments.peers.gail                   # makes a virtual environment for the peer
    python -m experiments.peers.gail --python PYTHON   # an interpreter that has imitation 1.0.1 already

Both see the same eleven episodes of a PPO expert's, every 20th row, and train PPO with the same rollouts, minibatches,
epochs, networks, learning rates and as many updates of the discriminator, whose input is normalised; one core each.
varl has two entries: with PPO inside, as the peer, and by its own preset, with SAC inside. What differs besides is each
one's own: varl has absorbing states and a gradient penalty. Seconds are of training alone, without evaluations of 16
episodes, which come after every 2,048 steps; for varl with and without what is compiled before the first step. A run
ends where an evaluation reaches .9 of the expert, or at the limit of steps. Writes
`experiments/results/gail_peer.json`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import varl
from experiments import experts
from varl import demonstrations as demos
from varl.run import doctor

RESULT = pathlib.Path(__file__).parents[1] / "results" / "gail_peer.json"
PEER = "imitation==1.0.1"
SHARED: dict[str, Any] = {
  "num_envs": 8, "unroll_length": 128, "batch_size": 256, "epochs": 4, "hidden": (64, 64), "learning_rate": 1e-3,
  "entropy_bonus": 0.01, "gamma": 0.99, "reward_learning_rate": 1e-3, "eval_every": 2_048, "eval_episodes": 16,
}  # fmt: skip
LIMIT, EPISODES, SUBSAMPLE, SEEDS = 204_800, 11, 20, (0, 1, 2)
OWN: dict[str, dict[str, Any]] = {
  "varl, ppo": {**SHARED, "learner": "ppo", "reward_hidden": (64, 64), "activation": "tanh"},
  "varl, sac (preset)": {"eval_every": 2_000, "eval_episodes": 16},
}


def of_varl(form: str, shown: Any, target: float, seed: int) -> dict[str, Any]:
  """The evaluations of a run of varl's until one reaches the target, and the seconds before the first step."""
  found: list[dict[str, Any]] = []
  compiled, start = 0.0, time.monotonic()

  def each(row: dict[str, Any]) -> None:
    nonlocal compiled
    if not row["env_steps"]:
      compiled = row["training/compile_time"]
      return
    before = found[-1] if found else {"seconds": 0.0, "env_steps": 0}
    spent = before["seconds"] + (row["env_steps"] - before["env_steps"]) / row["training/sps"]
    found.append({"env_steps": row["env_steps"], "seconds": spent, "return": row["eval/episode_reward"]})
    if found[-1]["return"] >= target:
      raise varl.StopTraining

  varl.train(
    "gail", "cartpole", demonstrations=shown, seed=seed, callback=each, preset="preset" in form, compile_cache=False,
    episode_length=500, **{"num_timesteps": LIMIT, **OWN[form]},
  )  # fmt: skip
  return {"evaluations": found, "compiled": compiled, "whole": time.monotonic() - start}


def of_peer(python: str, path: pathlib.Path, target: float, seed: int) -> dict[str, Any]:
  """As `of_varl`, of the peer, in a process of its own."""
  spec = {**SHARED, "demonstrations": str(path), "target": target, "seed": seed, "limit": LIMIT}
  file = path.with_name("spec.json")
  file.write_text(json.dumps({**spec, "log": str(path.with_name("log"))}))
  script = pathlib.Path(__file__).with_name("imitation_gail.py")
  start = time.monotonic()
  environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX"))}
  ran = subprocess.run([python, str(script), str(file)], capture_output=True, text=True, check=False, env=environment)
  lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"seconds"')]
  if ran.returncode:
    raise RuntimeError(f"the peer failed: {ran.stderr[-2_000:]}")
  return {"evaluations": lines, "whole": time.monotonic() - start}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--python", help="an interpreter that has the peer")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    python = args.python
    if python is None:
      subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
      python = str(folder / "venv" / "bin" / "python")
      subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
    _, whole = experts.trained("cartpole", folder / "expert", EPISODES)
    shown, path = whole.subsample(SUBSAMPLE), folder / "shown.npz"
    demos.save(path, shown)
    best = float(whole.returns.mean())
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
      for name in (*OWN, "imitation"):
        one = of_peer(python, path, 0.9 * best, seed) if name == "imitation" else of_varl(name, shown, 0.9 * best, seed)
        last = one["evaluations"][-1]
        one["reached"] = last["return"] >= 0.9 * best
        runs.setdefault(name, []).append(one)
        print(json.dumps({"run": name, "seed": seed, "whole": one["whole"], **last}), flush=True)
  body = {
    "command": "python -m experiments.peers.gail", "expert": best, "peer": PEER, "limit": LIMIT, "settings": SHARED,
    "seconds": {name: [run["evaluations"][-1]["seconds"] for run in each] for name, each in runs.items()},
    "median": {
      name: statistics.median(run["evaluations"][-1]["seconds"] for run in each) for name, each in runs.items()
    },
    "runs": runs, **doctor.device_summary(),
  }  # fmt: skip
  RESULT.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()
