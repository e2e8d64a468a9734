"""Steps a second and returns of SAC and PPO on Pendulum-v1 beside rejax (JAX, gymnax) and sbx (JAX, Gymnasium).

    python -m experiments.peers.pendulum                            # makes virtual environments for the peers
    python -m experiments.peers.pendulum --rejax PYTHON --sbx PYTHON    # interpreters that have them already

Equal settings: environments, updates a step, minibatches, networks, learning rate, discount, steps. Each run is a
process of its own on one core; they take turns by seed. Steps a second are of training alone, compiled before it (sbx:
after twice the warm-up), and returns are means of sampled episodes at the end. varl has two entries for SAC: on gymnax'
Pendulum, in JAX, as rejax; and, where Gymnasium is installed, on Gymnasium's, on the host, as sbx. Writes
`experiments/results/pendulum_peers.json`.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from varl.run import doctor

RESULT = pathlib.Path(__file__).parents[1] / "results" / "pendulum_peers.json"
PEERS = {"rejax": ("rejax==0.1.3", "gymnax==0.0.9"), "sbx": ("sbx-rl==0.28.0",)}
SETTINGS: dict[str, dict[str, Any]] = {
  "sac": {
    "num_timesteps": 10_000, "num_envs": 8, "batch_size": 256, "replay_capacity": 10_000, "warm_up": 1_000,
    "hidden": [256, 256], "learning_rate": 1e-3, "gamma": 0.99, "tau": 0.005,
  },
  "ppo": {
    "num_timesteps": 204_800, "num_envs": 64, "unroll_length": 64, "epochs": 8, "batch_size": 512,
    "hidden": [64, 64], "learning_rate": 1e-3, "gamma": 0.99, "clip": 0.2,
  },
}  # fmt: skip
EPISODES, SEEDS = 256, (0, 1, 2)
ENTRIES = (
  ("sac", "varl"), ("sac", "rejax"), ("sac", "varl, Gymnasium"), ("sac", "sbx"), ("ppo", "varl"), ("ppo", "rejax"),
)  # fmt: skip


def of_varl(spec: dict[str, Any]) -> dict[str, Any]:
  """A run of varl's in this process."""
  import jax

  import varl

  algorithm, settings = spec["algorithm"], dict(SETTINGS[spec["algorithm"]])
  own: dict[str, Any] = {"updates_per_env_step": 1.0}
  if algorithm == "ppo":
    own = {"temperature": 0.0, "activation": "silu"}
  rows: list[dict[str, Any]] = []
  run = varl.train(
    algorithm, spec["env"], seed=spec["seed"], preset=False, eval_every=settings["num_timesteps"],
    eval_episodes=spec["episodes"], callback=rows.append, compile_cache=False, **settings, **own,
  )  # fmt: skip
  env = varl.envs.make(spec["env"])
  evaluate = varl.evaluator(env, run.policy.agent, episodes=spec["episodes"], episode_length=200, stochastic=True)
  found = jax.jit(evaluate)(run.policy.params, jax.random.key(1))
  return {
    "steps_per_second": rows[-1]["training/sps"],
    "return": float(found["eval/episode_reward"]),
    "compiled": rows[0]["training/compile_time"],
    "jax": jax.__version__,
  }


def in_process(python: str, arguments: list[str]) -> dict[str, Any]:
  """The last line of a process on one core, as JSON."""
  kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX")}
  if python != sys.executable:
    kept = {name: value for name, value in kept.items() if not name.startswith("PYTHON")}
  core = sorted(os.sched_getaffinity(0))[0]
  done = subprocess.run(
    [python, *arguments], capture_output=True, text=True, check=False, env=kept,
    preexec_fn=lambda: os.sched_setaffinity(0, [core]),
  )  # fmt: skip
  if done.returncode:
    raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr[-2_000:]}")
  found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  for name in PEERS:
    parser.add_argument(f"--{name}", metavar="PYTHON", help=f"an interpreter that has {name}")
  parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
  parser.add_argument("--one", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(of_varl(json.loads(pathlib.Path(args.one).read_text()))))
    return
  runs: dict[str, list[dict[str, Any]]] = {}
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    pythons = {}
    for name, wanted in PEERS.items():
      pythons[name] = getattr(args, name)
      if pythons[name] is None:
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        pythons[name] = str(folder / name / "bin" / "python")
        subprocess.run([pythons[name], "-m", "pip", "install", "-q", *wanted], check=True)
    for seed in args.seeds:
      for algorithm, who in ENTRIES:
        env = "gymnasium:Pendulum-v1" if "Gymnasium" in who else "gymnax:Pendulum-v1"
        if "Gymnasium" in who and importlib.util.find_spec("gymnasium") is None:
          continue
        spec = {**SETTINGS[algorithm], "algorithm": algorithm, "seed": seed, "episodes": EPISODES, "env": env}
        file = folder / "spec.json"
        file.write_text(json.dumps(spec))
        if who in PEERS:
          found = in_process(pythons[who], [str(pathlib.Path(__file__).with_name(f"pendulum_{who}.py")), str(file)])
        else:
          found = in_process(sys.executable, ["-m", "experiments.peers.pendulum", "--one", str(file)])
        runs.setdefault(f"{algorithm}, {who}", []).append(found)
        print(json.dumps({"run": f"{algorithm}, {who}", "seed": seed, **found}), flush=True)

  def ratios(mine: str, theirs: str) -> dict[str, Any]:
    found = sorted(a["steps_per_second"] / b["steps_per_second"] for a, b in zip(runs[mine], runs[theirs], strict=True))
    return {"median": statistics.median(found), "min_max": [found[0], found[-1]]}

  pairs = (("sac, varl", "sac, rejax"), ("sac, varl, Gymnasium", "sac, sbx"), ("ppo, varl", "ppo, rejax"))
  body = {
    "command": "python -m experiments.peers.pendulum",
    "peers": PEERS,
    "episodes": EPISODES,
    "settings": SETTINGS,
    "ratios": {f"{mine} over {theirs}": ratios(mine, theirs) for mine, theirs in pairs if mine in runs},
    "runs": runs,
    **doctor.device_summary(),
  }
  RESULT.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()
