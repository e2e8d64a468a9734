"""Runs in several forms, all else equal: the returns of all evaluations, by seed, as a record."""

import json
from collections.abc import Iterable
from typing import Any

import varl
from experiments.claims import script

FEW = {"num_timesteps": 8_192}


def main(module: str, doc: str | None, cases: Iterable[tuple[str, dict[str, Any], str, tuple[Any, Any], Any]]) -> None:
  """Trains each case with three seeds, and writes `experiments/results/<module>.json`; else as `script.ask` says.

  Args:
    module: its name in `experiments.claims`.
    doc: what it says of itself.
    cases: (name, what is said of it, form, (algorithm, environment), arguments of `varl.train`).
  """
  asked = script.ask(doc, range(3))
  fewer = FEW if asked.smoke else {}
  found: dict[str, Any] = {}
  for name, about, form, (algorithm, env), fields in cases:
    runs = [varl.train(algorithm, env, seed=seed, **{**fields, **fewer}).metrics for seed in asked.seeds]
    returns = [[round(row["eval/episode_reward"], 3) for row in rows] for rows in runs]
    found.setdefault(name, {**about, "env_steps": [row["env_steps"] for row in runs[0]]})[form] = returns
    print(json.dumps({"run": name, "form": form, "last": [each[-1] for each in returns]}), flush=True)
  if asked.recorded:
    script.write(module, {"seeds": asked.seeds, "runs": found})
