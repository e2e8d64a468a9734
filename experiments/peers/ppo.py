"""varl's PPO beside Brax's own at equal settings: what they learn from the same number of steps, and how fast they run.

    python -m experiments.peers.ppo learning --env inverted_pendulum
    python -m experiments.peers.ppo learning --env reacher
    python -m experiments.peers.ppo learning --env reacher --minibatches rows
    python -m experiments.peers.ppo learning --env reacher --minibatches rows --initial-std 1
    python -m experiments.peers.ppo throughput --env halfcheetah
    python -m experiments.peers.ppo throughput --env halfcheetah --devices 2

`learning` trains both with each seed and compares the area under the curve of returns (of the policy's mode, evaluated
after equal numbers of environment steps) above the return of untrained policies. Learning rate, discount, reward scale,
entropy cost, epochs and action repeat are those of Brax's training notebook for the task, networks and the policy's
first deviation Brax's defaults; environments, rollouts and minibatches are fewer, for a CPU. Both take minibatches of
whole trajectories and compute their advantages anew for each. With `--minibatches rows` varl takes them as by its own
default: rows from anywhere in the rollout, whose advantages were computed once. With `--initial-std` its policy starts
with another deviation: varl's own default is 1, Brax's is .69 and cannot be set.
`throughput` lets both take turns in one process, a rollout and its updates each: a turn is short, so that what else the
machine does falls on both. One process after another does so, with either trainer built first in turn: what a process
draws, such as where its arrays lie, shifts the ratio of all its pairs by a percent or two. The ratio is the median over
processes of the median over pairs. With `--devices 2` both divide environments and minibatches over two of the CPU's
devices, that is over two cores; XLA's pool of threads is then made large enough that none waits for another for ever.
Each writes a record to `experiments/results/ppo_peer/`.
"""

import argparse
import functools
import json
import math
import multiprocessing
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import varl
from experiments.peers import brax_trainers
from varl.agents import ppo
from varl.loop.trainer import AXIS
from varl.run import doctor
from varl.run.devices import provide

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "ppo_peer"

EPISODES = 32
MINIBATCHES = 8

NETWORKS: dict[str, Any] = {"hidden": (32,) * 4, "value_hidden": (256,) * 5, "activation": "silu"}
"""Brax's."""

BRAX_STD = math.log(2) + 1e-3
"""The deviation, before squashing, with which Brax's policy starts: softplus(0) + .001."""

TASKS: dict[str, dict[str, Any]] = {
  "inverted_pendulum": {
    "num_timesteps": 245_760, "num_envs": 64, "unroll_length": 32, "epochs": 4, "action_repeat": 1, "gamma": 0.97,
    "reward_scale": 10.0, "temperature": 1e-2, "iterations": 10,
  },
  "reacher": {
    "num_timesteps": 819_200, "num_envs": 64, "unroll_length": 50, "epochs": 8, "action_repeat": 4, "gamma": 0.95,
    "reward_scale": 5.0, "temperature": 1e-3, "iterations": 4,
  },
}  # fmt: skip
"""By environment. `iterations`: rollouts between evaluations. Learning rate 3e-4, clip .3 and λ .95 for all."""

MINIBATCHES_AS: dict[str, dict[str, Any]] = {
  "trajectories": {"minibatches": "trajectories", "prepare_every": "minibatch"},
  "rows": {"minibatches": "rows", "prepare_every": "rollout"},
}
"""Brax's, and varl's own."""

Curve = list[tuple[int, float]]


def varl_curve(env: str, task: dict[str, Any], seed: int, **options: Any) -> Curve:
  steps = task["num_envs"] * task["unroll_length"] * task["action_repeat"]
  settings = {k: task[k] for k in ("num_timesteps", "num_envs", "unroll_length", "epochs", "action_repeat")}
  run = varl.train(
    "ppo",
    env,
    preset=False,
    seed=seed,
    batch_size=task["num_envs"] // MINIBATCHES * task["unroll_length"],
    eval_every=task["iterations"] * steps,
    eval_episodes=EPISODES,
    learning_rate=3e-4,
    clip=0.3,
    **options,
    **settings,
    **{k: task[k] for k in ("gamma", "reward_scale", "temperature")},
    **NETWORKS,
  )
  return [(row["env_steps"], row["eval/episode_reward"]) for row in run.metrics]


def brax_curve(env: str, task: dict[str, Any], seed: int) -> Curve:
  curve: Curve = []
  steps = task["num_envs"] * task["unroll_length"] * task["action_repeat"]

  def progress(env_steps: int, metrics: dict[str, Any]) -> None:
    curve.append((int(env_steps), float(metrics["eval/episode_reward"])))

  brax_trainers.brax_ppo()(
    varl.envs.make(env),
    num_timesteps=task["num_timesteps"],
    num_evals=task["num_timesteps"] // (steps * task["iterations"]) + 1,
    num_eval_envs=EPISODES,
    deterministic_eval=True,
    progress_fn=progress,
    max_devices_per_host=1,
    episode_length=1000,
    action_repeat=task["action_repeat"],
    num_envs=task["num_envs"],
    unroll_length=task["unroll_length"],
    num_minibatches=MINIBATCHES,
    batch_size=task["num_envs"] // MINIBATCHES,
    num_updates_per_batch=task["epochs"],
    normalize_observations=True,
    learning_rate=3e-4,
    clipping_epsilon=0.3,
    gae_lambda=0.95,
    discounting=task["gamma"],
    reward_scaling=task["reward_scale"],
    entropy_cost=task["temperature"],
    seed=seed,
  )
  return curve


def area(curve: Curve, floor: float) -> float:
  """Mean return over the run's steps, by trapezoids, above `floor`."""
  steps, returns = np.asarray(curve, float).T
  return float(np.trapezoid(returns - floor, steps) / (steps[-1] - steps[0]))


def compare(curves: dict[str, list[Curve]]) -> dict[str, Any]:
  """Areas by trainer, the ratio of their means, and its 95 % interval over resampled seeds."""
  floor = float(np.mean([curve[0][1] for runs in curves.values() for curve in runs]))
  areas = {name: np.array([area(curve, floor) for curve in runs]) for name, runs in curves.items()}
  rng = np.random.default_rng(0)
  picks = rng.integers(0, len(areas["varl"]), (2, 10_000, len(areas["varl"])))
  ratios = areas["varl"][picks[0]].mean(1) / areas["brax"][picks[1]].mean(1)
  return {
    "untrained_return": floor,
    "areas": {name: list(values) for name, values in areas.items()},
    "final_returns": {name: [curve[-1][1] for curve in runs] for name, runs in curves.items()},
    "ratio_varl_over_brax": float(areas["varl"].mean() / areas["brax"].mean()),
    "interval": [float(x) for x in np.quantile(ratios, [0.025, 0.975])],
  }


def learning(env: str, seeds: list[int], **options: Any) -> dict[str, Any]:
  """Both trainers' curves, compared; `options` are varl's own."""
  task = TASKS[env]
  trainers: dict[str, Callable[..., Curve]] = {
    "varl": functools.partial(varl_curve, **options),
    "brax": brax_curve,
  }
  curves: dict[str, list[Curve]] = {name: [] for name in trainers}
  for seed in seeds:
    for name, train in trainers.items():
      started = time.perf_counter()
      curves[name].append(train(env, task, seed))
      seconds = time.perf_counter() - started
      print(f"{name} seed {seed}: ends at {curves[name][-1][-1][1]:.1f}, {seconds:.0f} s", flush=True)
  lengths = {len(curve) for runs in curves.values() for curve in runs}
  if len(lengths) != 1:
    raise AssertionError(f"the trainers evaluated at different numbers of steps: {lengths}")
  return {"task": task, **options, "seeds": seeds, **compare(curves), "curves": curves, **doctor.device_summary()}


def ours(
  env_name: str, *, num_envs: int, unroll_length: int, epochs: int, iterations: int, devices: int
) -> brax_trainers.Peer:
  """varl's PPO, trained an epoch at a time."""
  settings = varl.Settings(
    num_timesteps=10**9,
    num_envs=num_envs,
    unroll_length=unroll_length,
    epochs=epochs,
    batch_size=num_envs // MINIBATCHES * unroll_length,
    eval_every=iterations * num_envs * unroll_length,
    eval_episodes=devices,
    num_devices=devices,
    **MINIBATCHES_AS["trajectories"],
  )
  env = varl.envs.make(env_name)
  config = ppo.Config(learning_rate=3e-4, clip=0.3, temperature=1e-3, **NETWORKS)
  agent = ppo.make(varl.envs.spec(env), config, axis=AXIS if devices > 1 else None)
  return brax_trainers.varl_steps(varl.make_trainer(env, agent, settings), iterations=iterations)


SIZES = {"num_envs": 64, "unroll_length": 32, "epochs": 4, "iterations": 1}
"""Of `throughput`."""


def turns(env: str, rounds: int, devices: int, peer_first: bool) -> dict[str, Any]:
  """Pairs of turns in this process: environment steps a turn, seconds of each turn by trainer, versions and devices."""
  build: dict[str, Callable[[], brax_trainers.Peer]] = {
    "brax": lambda: brax_trainers.brax_ppo_steps(env, minibatches=MINIBATCHES, devices=devices, **SIZES),
    "varl": lambda: ours(env, devices=devices, **SIZES),
  }
  trainers = {name: build[name]() for name in sorted(build, reverse=not peer_first)}
  work = {(trainer.env_steps, trainer.updates) for trainer in trainers.values()}
  if len(work) != 1:
    raise AssertionError(f"environment steps and updates of a turn differ: {work}")
  seconds: dict[str, list[float]] = {name: [] for name in build}
  for index in range(rounds):
    # Who goes first alternates, so that neither always finds the caches as the other left them.
    for name in sorted(build, reverse=bool(index % 2)):
      seconds[name].append(trainers[name].epoch())
  trainers["brax"].close()
  return {"env_steps": trainers["varl"].env_steps, "seconds": seconds, "made_with": doctor.device_summary()}


def throughput(env: str, rounds: int, processes: int, devices: int) -> dict[str, Any]:
  spawn = multiprocessing.get_context("spawn")
  found = []
  for index in range(processes):
    with spawn.Pool(1, provide, (devices,)) as pool:
      found.append(pool.apply(turns, (env, rounds, devices, index % 2 == 0)))
    ratios = [statistics.median(_ratios(each)) for each in found]
    print(f"process {index}: ratio {ratios[-1]:.3f}", flush=True)
  return {
    "env": env,
    **SIZES,
    "minibatches": MINIBATCHES,
    "devices": devices,
    **{
      f"{name}_env_steps_per_second": statistics.median(
        each["env_steps"] / seconds for each in found for seconds in each["seconds"][name]
      )
      for name in ("varl", "brax")
    },
    "ratio_varl_over_brax": statistics.median(ratios),
    "ratio_by_process": ratios,
    "ratios": [sorted(_ratios(each)) for each in found],
    **found[-1]["made_with"],
  }


def _ratios(found: dict[str, Any]) -> list[float]:
  return [b / a for a, b in zip(found["seconds"]["varl"], found["seconds"]["brax"], strict=True)]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("what", choices=["learning", "throughput"])
  parser.add_argument("--env", default="inverted_pendulum")
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
  parser.add_argument("--initial-std", type=float, help="of varl's policy, in `learning`; by default Brax's")
  parser.add_argument("--minibatches", choices=MINIBATCHES_AS, default="trajectories", help="of varl's, in `learning`")
  parser.add_argument("--rounds", type=int, default=31, help="of turns in a process")
  parser.add_argument("--processes", type=int, default=6, help="that measure, one after another")
  parser.add_argument("--devices", type=int, default=1, help="of the CPU, in `throughput`")
  args = parser.parse_args()
  for name in ("rounds", "processes", "devices"):
    if getattr(args, name) < 1:
      parser.error(f"--{name} is >= 1, got {getattr(args, name)}")
  if args.initial_std is not None and not args.initial_std > 0:
    parser.error(f"--initial-std is > 0, got {args.initial_std}")
  if args.what == "learning" and args.env not in TASKS:
    parser.error(f"--env is one of {', '.join(TASKS)} here, got {args.env}")
  if args.what == "learning":
    options = MINIBATCHES_AS[args.minibatches]
    found = learning(args.env, args.seeds, initial_std=args.initial_std or BRAX_STD, **options)
  else:
    found = throughput(args.env, args.rounds, args.processes, args.devices)
  RESULTS.mkdir(parents=True, exist_ok=True)
  command = " ".join(["python -m experiments.peers.ppo", *sys.argv[1:]])
  body = {"command": command, **found}
  suffix = "" if args.minibatches == "trajectories" else f"-{args.minibatches}"
  suffix += f"-std{args.initial_std:g}" if args.initial_std else ""
  suffix += f"-devices{args.devices}" if args.devices > 1 else ""
  (RESULTS / f"{args.what}-{args.env}{suffix}.json").write_text(json.dumps(body, indent=1) + "\n")
  print(json.dumps({k: v for k, v in found.items() if k not in ("curves", "ratios", "versions", "device")}, indent=1))


if __name__ == "__main__":
  main()
