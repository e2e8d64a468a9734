"""Soft value iteration at scale beside a plain NumPy loop that does the same iterations to the same tolerance.

    python -m experiments.claims.tabular_scale --out experiments/results/tabular_scale.json

Two problems in float32: one process of 10,000 states x 8 actions with 8 successors each (sparse), and 1,000 dense
processes of 50 states x 4 actions, which varl solves in one vmapped call and NumPy one after the other, or, as a fairer
loop, all in one batched array. Compilation is timed apart; a time is the median of several; both answers are held
against each other, and the script fails where they differ.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import numpy as np

from varl.exact import tabular
from varl.run import doctor

DISCOUNT, TEMPERATURE, TOLERANCE = 0.95, 0.5, 1e-5


def numpy_soft_value_iteration(m: tabular.MDP) -> tuple[np.ndarray, int]:
  """V of one process (dense or sparse) or of a batch of dense ones, and the iterations that took."""
  actions = m.reward.shape[-1]
  c, log_prior = np.float32(TEMPERATURE), -np.log(np.float32(actions))
  axes = tuple(range(m.reward.ndim - 2, m.reward.ndim))
  scale = np.maximum(np.abs(m.reward).max(axis=axes), c * np.log(np.float32(actions)))
  discount = np.float32(DISCOUNT)
  value, count = np.zeros(m.reward.shape[:-1], np.float32), 0
  while True:
    if m.successor is not None:
      ahead = (m.transition * value[m.successor]).sum(-1)
    else:
      flat = m.transition.reshape(*m.transition.shape[:-3], -1, m.transition.shape[-1])
      ahead = (flat @ value[..., None]).reshape(m.reward.shape)
    q = m.reward + discount * ahead
    top = q.max(-1)
    new = top + c * (np.log(np.exp((q - top[..., None]) / c).sum(-1)) + log_prior)
    moving = np.abs(new - value).max(-1) > TOLERANCE * np.maximum(np.abs(new).max(-1), scale)
    value, count = new, count + 1
    if not np.any(moving):
      return value, count


def timed(run: Callable[[], Any], rounds: int) -> tuple[float, Any]:
  """Median seconds of `run`, and what it returned."""
  seconds = []
  for _ in range(rounds):
    started = time.perf_counter()
    result = jax.block_until_ready(run())
    seconds.append(time.perf_counter() - started)
  return statistics.median(seconds), result


def compare(m: tabular.MDP, solve: Callable[[tabular.MDP], jax.Array], plain: Callable[..., Any], rounds: int) -> dict:
  """Both ways of solving `m`, timed in turn."""
  started = time.perf_counter()
  compiled = jax.jit(solve).lower(m).compile()
  compile_seconds = time.perf_counter() - started
  jax.block_until_ready(compiled(m))
  on_host = jax.tree.map(np.asarray, m)
  ours, value = timed(lambda: compiled(m), rounds)
  theirs, (expected, iterations) = timed(lambda: plain(on_host), max(1, rounds // 3))
  # Both stop within γ/(1-γ) times the tolerance of the fixed point, relative to the size of its values.
  allowed = 2 * TOLERANCE * DISCOUNT / (1 - DISCOUNT) * float(np.abs(expected).max())
  difference = float(np.abs(np.asarray(value) - expected).max())
  if not difference <= allowed:
    raise AssertionError(f"the answers differ by {difference}, more than {allowed}")
  return {
    "compile_seconds": compile_seconds,
    "varl_seconds": ours,
    "numpy_seconds": theirs,
    "ratio_numpy_over_varl": theirs / ours,
    "numpy_iterations": iterations,
    "largest_difference": difference,
    "difference_allowed": allowed,
  }


def value_of(m: tabular.MDP) -> jax.Array:
  return tabular.soft_value_iteration(m, temperature=TEMPERATURE, tolerance=TOLERANCE).value


def one_by_one(m: tabular.MDP) -> tuple[np.ndarray, int]:
  rows = [jax.tree.map(itemgetter(i), m) for i in range(len(m.reward))]
  found = [numpy_soft_value_iteration(row) for row in rows]
  return np.stack([value for value, _ in found]), max(count for _, count in found)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument("--out", type=pathlib.Path)
  args = parser.parse_args()

  build = jax.jit(lambda key: tabular.random_mdp(key, 10_000, 8, branching=8, discount=DISCOUNT))
  large = build(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 1_000)
  many = jax.jit(jax.vmap(lambda key: tabular.random_mdp(key, 50, 4, discount=DISCOUNT)))(keys)
  result = {
    "command": " ".join(["python -m experiments.claims.tabular_scale", *sys.argv[1:]]),
    "settings": f"float32, discount {DISCOUNT}, temperature {TEMPERATURE}, tolerance {TOLERANCE}, uniform prior",
    "one process, 10,000 states x 8 actions x 8 successors": compare(
      large, value_of, numpy_soft_value_iteration, args.rounds
    ),
    "1,000 processes of 50 states x 4 actions, NumPy one by one": compare(
      many, jax.vmap(value_of), one_by_one, args.rounds
    ),
    "1,000 processes of 50 states x 4 actions, NumPy in one batch": compare(
      many, jax.vmap(value_of), numpy_soft_value_iteration, args.rounds
    ),
    **doctor.device_summary(),
  }
  text = json.dumps(result, indent=2)
  print(text)
  if args.out is not None:
    args.out.write_text(text + "\n")


if __name__ == "__main__":
  main()
