"""Wall-clock seconds from process start until a trainer's policy first evaluates at a target return.

    python -m experiments.peers.time_to_return --peer brax-sac --env inverted_pendulum --target 950 --seed 0

prints one JSON line, after progress on stderr. Start it in a fresh process for each measurement: imports and
compilation count, as they do for somebody who waits for a policy.

Brax runs with settings published in its training notebook. The notebook has SAC settings for `hopper` and `walker2d`
only; `--settings` picks one of the two (`walker2d` does a quarter of the work an update and is the default). For PPO it
has settings for the pendulum. Four things are changed, each to Brax's advantage or to put both on the same
footing: it evaluates every 2,048 environment steps instead of 20 times a run (PPO: after every training step, which is
already so), on 16 episodes instead of 128, with the mode of the policy instead of samples, and it is stopped at
the target. What the evaluations took, their compilation included, is reported beside the total.

An early policy can meet the target once and lose it again two thousand steps later; `--hold 2` asks for two evaluations
in a row, and then gives the time of the second.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from experiments.peers import brax_trainers

EPISODES = 16
EVERY = 2_048
SAC_LIMIT = 800 * EVERY

SAC_SETTINGS: dict[str, dict[str, Any]] = {
  "hopper": {"reward_scaling": 30, "batch_size": 512, "grad_updates_per_step": 64},
  "walker2d": {"reward_scaling": 5, "batch_size": 128, "grad_updates_per_step": 32},
}
"""In which the notebook's two SAC entries differ (their number of environment steps aside)."""

SAC_COMMON: dict[str, Any] = {
  "episode_length": 1000,
  "normalize_observations": True,
  "action_repeat": 1,
  "discounting": 0.997,
  "learning_rate": 6e-4,
  "num_envs": 128,
  "max_devices_per_host": 1,
  "max_replay_size": 1_048_576,
  "min_replay_size": 8_192,
}

PPO_PENDULUM: dict[str, Any] = {
  "num_timesteps": 2_000_000,
  "num_evals": 20,
  "reward_scaling": 10,
  "episode_length": 1000,
  "normalize_observations": True,
  "action_repeat": 1,
  "unroll_length": 5,
  "num_minibatches": 32,
  "num_updates_per_batch": 4,
  "discounting": 0.97,
  "learning_rate": 3e-4,
  "entropy_cost": 1e-2,
  "num_envs": 2048,
  "batch_size": 1024,
}

Report = Callable[[int, float], None]


class _Enough(Exception):
  """Raised out of a trainer's progress call: the target is reached or the time is up."""


def process_age() -> float:
  """Returns the seconds since the kernel started this process, to 10 ms; reads /proc, so Linux only."""
  with open("/proc/self/stat") as file:
    # The command's name, in parentheses, may hold spaces; the start time is field 22, the 20th after it.
    start_ticks = int(file.read().rpartition(")")[2].split()[19])
  return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")


def run_brax_sac(env_name: str, settings: str, seed: int, report: Report, notes: dict[str, Any]) -> None:
  """Trains Brax's SAC, calling `report(env_steps, mean_return)` after each evaluation."""
  from varl import envs

  def progress(env_steps: int, metrics: dict[str, Any]) -> None:
    notes["eval_seconds"] = float(metrics["eval/walltime"])
    report(int(env_steps), float(metrics["eval/episode_reward"]))

  brax_trainers.brax_sac()(
    envs.make(env_name),
    num_timesteps=SAC_COMMON["min_replay_size"] + SAC_LIMIT,
    num_evals=SAC_LIMIT // EVERY + 1,
    num_eval_envs=EPISODES,
    deterministic_eval=True,
    progress_fn=progress,
    seed=seed,
    **SAC_COMMON,
    **SAC_SETTINGS[settings],
  )


def run_brax_ppo(env_name: str, settings: str, seed: int, report: Report, notes: dict[str, Any]) -> None:
  """Trains Brax's PPO with the pendulum's settings, calling `report` after each evaluation."""
  from varl import envs

  del settings

  def progress(env_steps: int, metrics: dict[str, Any]) -> None:
    notes["eval_seconds"] = float(metrics["eval/walltime"])
    report(int(env_steps), float(metrics["eval/episode_reward"]))

  brax_trainers.brax_ppo()(
    envs.make(env_name),
    num_eval_envs=EPISODES,
    deterministic_eval=True,
    progress_fn=progress,
    seed=seed,
    **PPO_PENDULUM,
  )


def run_varl(env_name: str, settings: str, seed: int, report: Report, notes: dict[str, Any]) -> None:
  """Trains varl's SAC with its preset, calling `report` after each evaluation; they are as frequent as Brax's."""
  import varl

  del settings, notes
  varl.train(
    "sac",
    env_name,
    out=None,
    seed=seed,
    eval_every=EVERY,
    eval_episodes=EPISODES,
    callback=lambda row: report(int(row["env_steps"]), float(row["eval/episode_reward"])),
  )


RUNNERS = {"brax-sac": run_brax_sac, "brax-ppo": run_brax_ppo, "varl": run_varl}


def main() -> None:
  """Runs one trainer until the target or the time limit, and prints one JSON line."""
  parser = argparse.ArgumentParser(description="seconds from process start to a target return")
  parser.add_argument("--peer", choices=sorted(RUNNERS), required=True)
  parser.add_argument("--env", default="inverted_pendulum")
  parser.add_argument("--target", type=float, default=950.0)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--hold", type=int, default=1, help="evaluations in a row that must meet the target")
  parser.add_argument("--settings", choices=sorted(SAC_SETTINGS), default="walker2d", help="brax-sac only")
  parser.add_argument("--limit", type=float, default=480.0, help="seconds after which to give up")
  args = parser.parse_args()

  evaluations: list[dict[str, float]] = []
  notes: dict[str, Any] = {}

  def reached() -> bool:
    latest = [row["return"] for row in evaluations[-args.hold :]]
    return len(latest) == args.hold and min(latest) >= args.target

  def report(env_steps: int, mean_return: float) -> None:
    seconds = process_age()
    evaluations.append({"env_steps": env_steps, "return": round(mean_return, 1), "seconds": round(seconds, 2)})
    print(f"{args.peer}: {seconds:.1f} s, {env_steps} env steps, return {mean_return:.1f}", file=sys.stderr, flush=True)
    if reached() or seconds >= args.limit:
      raise _Enough

  with contextlib.suppress(_Enough):
    RUNNERS[args.peer](args.env, args.settings, args.seed, report, notes)
  last = evaluations[-1]
  print(
    json.dumps(
      {
        "peer": args.peer,
        "settings": args.settings if args.peer == "brax-sac" else None,
        "env": args.env,
        "target": args.target,
        "seed": args.seed,
        "hold": args.hold,
        "reached": reached(),
        "seconds": last["seconds"],
        "env_steps": last["env_steps"],
        **notes,
        "peak_memory_mib": round(brax_trainers.peak_memory(), 1),
        "evaluations": evaluations,
      }
    )
  )


if __name__ == "__main__":
  main()
