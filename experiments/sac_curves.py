"""Learning curves of SAC with its presets on Brax tasks: one run a seed by the command line, and their curve.

    python -m experiments.sac_curves --env inverted_pendulum --seeds 0 1 2 3 4

writes `experiments/results/sac/<env>/`: each seed's metrics and configuration as the run wrote them, `curve.png`
(mean and range over seeds) and `summary.json` (final and best return, the first evaluation at or above the target, and
the evaluations below it after that).
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from varl import doctor, loggers, plots

RESULTS = pathlib.Path(__file__).parent / "results" / "sac"
TARGETS = {"inverted_pendulum": 950.0}


def summarise(rows: list[dict[str, Any]], target: float | None) -> dict[str, Any]:
  returns = [(row["env_steps"], row["eval/episode_reward"]) for row in rows]
  summary: dict[str, Any] = {
    "env_steps": returns[-1][0],
    "final_return": returns[-1][1],
    "best_return": max(value for _, value in returns),
    "walltime_s": rows[-1]["training/walltime"],
    "compile_time_s": rows[0]["training/compile_time"],
    "median_env_steps_per_s": statistics.median(row["training/sps"] for row in rows[1:]),
    "nan_resets": sum(row.get("training/nan_resets", 0) for row in rows),
  }
  if target is not None:
    reached = [step for step, value in returns if value >= target]
    summary["steps_to_target"] = reached[0] if reached else None
    summary["evaluations_below_target_afterwards"] = sum(
      1 for step, value in returns if reached and step > reached[0] and value < target
    )
  return summary


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--env", required=True)
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="passed on to varl train")
  args = parser.parse_args()
  results = RESULTS / args.env
  results.mkdir(parents=True, exist_ok=True)
  target = TARGETS.get(args.env)
  seeds = {}
  with tempfile.TemporaryDirectory() as scratch:
    outs = []
    for seed in args.seeds:
      out = pathlib.Path(scratch) / f"seed{seed}"
      command = ["train", "sac", "--env", args.env, "--seed", str(seed), "--out", str(out), *args.flags]
      subprocess.run([sys.executable, "-m", "varl.cli", *command], check=True)
      for name in ("metrics.csv", "config.json"):
        shutil.copy(out / name, results / f"seed{seed}-{name}")
      outs.append(out)
      seeds[str(seed)] = summarise(loggers.read(out), target)
      print(json.dumps({"seed": seed, **seeds[str(seed)]}), flush=True)
    plots.curves({"SAC": outs}, results / "curve.png", title=args.env)
  body = {
    "command": " ".join(["python -m experiments.sac_curves", *sys.argv[1:]]),
    "target": target,
    "seeds": seeds,
    **doctor.device_summary(),
  }
  (results / "summary.json").write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
  main()
