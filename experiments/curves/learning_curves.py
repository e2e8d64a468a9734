"""Learning curves of algorithms with their presets: one run a seed by the command line, and pictures of them all.

    python -m experiments.curves.learning_curves sac --env inverted_pendulum --seeds 0 1 2 3 4
    python -m experiments.curves.learning_curves sac virel beta_virel --env halfcheetah --seeds 0 1 2
    python -m experiments.curves.learning_curves sac --env halfcheetah --flags --num-timesteps 80000

writes `experiments/results/curves/<env>/<algorithm>/`: each seed's metrics and configuration as the run wrote them, and
`summary.json` (final and best return, the first evaluation at or above the target, and the evaluations below it after
that); and in `experiments/results/curves/<env>/` (a name
with - for :) a picture of each of the `PICTURES`, of all algorithms recorded there
that have its metric (mean over seeds, band from the lowest to the highest).
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

from varl.report import plots, records
from varl.run import doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "curves"
TARGETS = {"inverted_pendulum": 950.0, "cartpole": 475.0, "pendulum": -200.0, "gymnasium:Pendulum-v1": -200.0}
PICTURES = {
  "return": "eval/episode_reward",
  "kl_used_mean": "training/mean_multiplier_budget_used",
  "kl_used_covariance": "training/covariance_multiplier_budget_used",
}


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


def record(algorithm: str, env: str, seeds: list[int], flags: list[str], results: pathlib.Path) -> None:
  """Trains an algorithm once a seed, and leaves its runs and their summary in `results`."""
  target = TARGETS.get(env)
  summaries = {}
  with tempfile.TemporaryDirectory() as scratch:
    for seed in seeds:
      out = pathlib.Path(scratch) / f"seed{seed}"
      command = ["train", algorithm, "--env", env, "--seed", str(seed), "--out", str(out), *flags]
      subprocess.run([sys.executable, "-m", "varl", *command], check=True)
      kept = results / f"seed{seed}"
      kept.mkdir(parents=True, exist_ok=True)
      for name in ("metrics.csv", "config.json"):
        shutil.copy(out / name, kept / name)
      summaries[str(seed)] = summarise(records.read(out), target)
      print(json.dumps({"algorithm": algorithm, "seed": seed, **summaries[str(seed)]}), flush=True)
  body = {
    "command": " ".join(["python -m experiments.curves.learning_curves", *sys.argv[1:]]),
    "target": target,
    "seeds": summaries,
    **doctor.device_summary(),
  }
  (results / "summary.json").write_text(json.dumps(body, indent=2) + "\n")


def draw(folder: pathlib.Path, title: str) -> None:
  """The pictures of all runs recorded under a folder; a metric is drawn for the algorithms that have it."""
  runs: dict[str, list[pathlib.Path]] = {}
  for summary in sorted(folder.glob("*/summary.json")):
    seeds = json.loads(summary.read_text())["seeds"]
    runs[summary.parent.name] = [summary.parent / f"seed{seed}" for seed in seeds]
  for name, metric in PICTURES.items():
    known = {label: outs for label, outs in runs.items() if all(has(out, metric) for out in outs)}
    if known:
      plots.curves(known, folder / f"{name}.png", metric=metric, title=title)


def has(out: pathlib.Path, metric: str) -> bool:
  return any(metric in row for row in records.read(out))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("algorithms", nargs="+")
  parser.add_argument("--env", required=True)
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
  parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="a folder; by default the results' own")
  parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="passed on to varl train")
  args = parser.parse_args()
  folder = args.out / args.env.replace(":", "-")
  for algorithm in args.algorithms:
    record(algorithm, args.env, args.seeds, args.flags, folder / algorithm)
    draw(folder, args.env)


if __name__ == "__main__":
  main()
