"""Imitation against the number of demonstrations: expert-normalised return, by algorithm, environment and seed.

    python -m experiments.curves.imitation --envs cartpole pendulum --episodes 1 11 --seeds 0 1 2
    python -m experiments.curves.imitation --envs pendulum --episodes 11 --control random

The expert is one of `experiments.experts`; of its episodes each so many-th row is kept (`SUBSAMPLE`). A run's
return is the mean of its last three evaluations, normalised so that uniformly random actions have 0 and the expert 1.
With `--control random` the demonstrations are of uniformly random actions: whatever return is learned then is the
reward's own bias. With `--control shuffled` the expert's actions are shuffled among its rows: what it did is taken out
of them, and where it went is left. Results go to `experiments/results/imitation/<env>.json`, one entry a run; those
that are there already are kept, but for `--again`. Each is held against the expert of its own command.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

import varl
from experiments.experts import EXPERTS, trained
from varl.demonstrations import Demonstrations
from varl.loop.evaluate import collect
from varl.run import doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "imitation"
ALGORITHMS = ("gail", "airl", "maxent_irl", "iq_learn", "bc")
SUBSAMPLE = {"cartpole": 20, "pendulum": 10, "inverted_pendulum": 20, "reacher": 20}
MOST = 25
LAST = 3


def expert(env: str) -> tuple[dict[str, Demonstrations], float, float]:
  """Demonstrations of the expert and of random actions, and the mean return of both."""
  with tempfile.TemporaryDirectory() as scratch:
    out = pathlib.Path(scratch) / "expert"
    run, found = trained(env, out, MOST)
    length = json.loads((out / "config.json").read_text())["settings"]["episode_length"]
  agent = run.policy.agent
  lost = agent._replace(act=agent.warm_up)
  made = varl.envs.make(env)
  random = collect(
    made, lost, run.params, jax.random.key(0), episodes=MOST, episode_length=length, stochastic=True
  )  # fmt: skip
  return {"expert": found, "random": random}, float(found.returns.mean()), float(random.returns.mean())


def shuffled(given: Demonstrations, seed: int) -> Demonstrations:
  """The demonstrations with their actions in another order."""
  order = np.random.default_rng(seed).permutation(len(given.obs))
  return given._replace(action=given.action[order], raw_action=given.raw_action[order])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--envs", nargs="+", choices=sorted(EXPERTS), default=["cartpole", "pendulum"])
  parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
  parser.add_argument("--episodes", type=int, nargs="+", default=[1, 4, 11, 25])
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  parser.add_argument("--control", choices=("shuffled", "random"), help="demonstrations that show nothing")
  parser.add_argument("--again", action="store_true", help="those that are recorded as well")
  args = parser.parse_args()
  RESULTS.mkdir(parents=True, exist_ok=True)
  for env in args.envs:
    demonstrations, best, random = expert(env)
    for algorithm in args.algorithms:
      for episodes in args.episodes:
        for seed in args.seeds:
          label = f"{algorithm}, {episodes} episodes, seed {seed}{f', {args.control}' if args.control else ''}"
          if label in read(env)["runs"] and not args.again:
            continue
          given = demonstrations["random" if args.control == "random" else "expert"]
          given = shuffled(given, seed) if args.control == "shuffled" else given
          kept = 1 if args.control == "random" else SUBSAMPLE[env]
          start = time.monotonic()
          run = varl.train(
            algorithm, env, demonstrations=given, episodes=episodes, subsample=kept, seed=seed
          )  # fmt: skip
          returns = [(row["env_steps"], row["eval/episode_reward"]) for row in run.metrics]
          last = statistics.mean(value for _, value in returns[-LAST:])
          entry = {
            "algorithm": algorithm, "episodes": episodes, "seed": seed, "control": args.control,
            "expert": best, "random": random, "returns": returns, "last": last,
            "normalised": (last - random) / (best - random),
            "seconds": time.monotonic() - start,
          }  # fmt: skip
          print(label, f"{entry['normalised']:.3f}", flush=True)
          write(env, label, entry)


def read(env: str) -> dict[str, Any]:
  path = RESULTS / f"{env}.json"
  found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
  return found


def write(env: str, label: str, entry: dict[str, Any]) -> None:
  """Adds one run to the record, which other processes may add to as well."""
  command = " ".join(["python -m experiments.curves.imitation", *sys.argv[1:]])
  runs = {**read(env)["runs"], label: {"command": command, **entry}}
  body = {"subsample": SUBSAMPLE[env], **doctor.device_summary(), "runs": dict(sorted(runs.items()))}
  path = RESULTS / f"{env}.json"
  path.with_suffix(".new").write_text(json.dumps(body, indent=1) + "\n")
  path.with_suffix(".new").replace(path)


if __name__ == "__main__":
  main()
