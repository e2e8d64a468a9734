"""Runs in several forms, all else equal: the returns of all evaluations, by seed, as a record."""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

import varl
from varl.run import doctor

SEEDS, FEW = [0, 1, 2], {"num_timesteps": 8_192}
RESULTS = pathlib.Path(__file__).parents[1] / "results"


def main(script: str, doc: str | None, cases: Iterable[tuple[str, dict[str, Any], str, tuple[Any, Any], Any]]) -> None:
  """Trains each case, and writes `experiments/results/<script>.json`; with `--smoke` one seed, few steps, no record.

  Args:
    script: the name of the module in `experiments.claims`.
    doc: what it says of itself.
    cases: (name, what is said of it, form, (algorithm, environment), arguments of `varl.train`).
  """
  parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--smoke", action="store_true")
  smoke = parser.parse_args().smoke
  seeds, fewer = ([0], FEW) if smoke else (SEEDS, {})
  found: dict[str, Any] = {}
  for name, about, form, (algorithm, env), fields in cases:
    runs = [varl.train(algorithm, env, seed=seed, **{**fields, **fewer}).metrics for seed in seeds]
    returns = [[round(row["eval/episode_reward"], 3) for row in rows] for rows in runs]
    found.setdefault(name, {**about, "env_steps": [row["env_steps"] for row in runs[0]]})[form] = returns
    print(json.dumps({"run": name, "form": form, "last": [each[-1] for each in returns]}), flush=True)
  if smoke:
    return
  body = {
    "command": " ".join([f"python -m experiments.claims.{script}", *sys.argv[1:]]),
    "seeds": seeds, "runs": found, **doctor.device_summary(),
  }  # fmt: skip
  (RESULTS / f"{script}.json").write_text(json.dumps(body, indent=1) + "\n")
