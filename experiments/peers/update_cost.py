"""What one update of each algorithm costs, relative to SAC's: time, and multiplications of its matrix products.

    python -m experiments.peers.update_cost                     # every algorithm (five minutes on two CPU cores)
    python -m experiments.peers.update_cost --algorithms iterative_sac sql --rounds 21 --out FILE.json

All have the same sizes (halfcheetah's 17 observations and 6 actions; 6 of them to choose from where they are discrete),
batch and networks, and otherwise the defaults of their `Config`, but for the variants of `VARIANTS`; continuous
algorithms are held against `sac`, discrete ones against `sac_discrete`. Algorithms take turns, a block of scanned
updates each, every update with a batch of its own; a ratio is the median over rounds of the ratios within a round.
Writes `experiments/results/update_cost.json`.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from varl import agents
from varl.run import doctor
from varl.step import SIDE
from varl.types import Agent, SideBatch, Spec, Transition

RESULTS = pathlib.Path(__file__).parents[1] / "results" / "update_cost.json"

CONTINUOUS = Spec(observation_size=17, action_size=6, discrete=False, bounded=True)
DISCRETE = Spec(observation_size=17, action_size=6, discrete=True, bounded=True)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
  "sac": ("sac", {}),
  "sac_v1": ("sac_v1", {}),
  "virel": ("virel", {}),
  "beta_virel": ("beta_virel", {}),
  "beta_virel, residual on 256 rows": ("beta_virel", {"residual_batch": 256}),
  "iterative_sac, K=1 M=1": ("iterative_sac", {"inference_iterations": 1, "samples": 1}),
  "iterative_sac, K=2 M=4": ("iterative_sac", {"inference_iterations": 2, "samples": 4}),
  "iterative_sac, K=5 M=10": ("iterative_sac", {"inference_iterations": 5, "samples": 10}),
  "sql, Stein": ("sql", {}),
  "sql, importance": ("sql", {"sampler": "importance"}),
  "mpo": ("mpo", {}),
  "sac_discrete": ("sac_discrete", {}),
  "sql_discrete": ("sql_discrete", {}),
  "sql_discrete, Munchausen": ("sql_discrete", {"munchausen": 0.9}),
}
"""By name: the algorithm and the fields of its Config that are not its defaults."""


class Timed(NamedTuple):
  """An algorithm ready to be timed.

  Attributes:
    run: `() -> seconds` an update, of one block of them.
    multiplications: of one update.
  """

  run: Callable[[], float]
  multiplications: int


def batch_for(agent: Agent, rows: int, key: jax.Array) -> Transition:
  """Transitions of normal observations and rewards, with a side batch where the agent asks for one."""

  def transitions(rows: int, key: jax.Array) -> Transition:
    obs_key, next_key, action_key, reward_key = jax.random.split(key, 4)
    sizes = (rows, agent.spec.observation_size)
    if agent.spec.discrete:
      action = jax.random.randint(action_key, (rows,), 0, agent.spec.action_size)
    else:
      action = jax.random.normal(action_key, (rows, agent.spec.action_size))
    obs, next_obs = jax.random.normal(obs_key, sizes), jax.random.normal(next_key, sizes)
    return Transition(
      obs, action, jax.random.normal(reward_key, (rows,)), jnp.ones(rows), next_obs, jnp.zeros(rows), {}
    )

  key, side_key = jax.random.split(key)
  batch = transitions(rows, key)
  if agent.side_batch:
    side = SideBatch(transitions(agent.side_batch, side_key), jnp.int32(agent.side_batch))
    batch = batch._replace(extras={SIDE: side})
  return batch


def prepare(algorithm: str, fields: dict[str, Any], *, batch_size: int, hidden: tuple[int, ...], updates: int) -> Timed:
  """Compiles a block of `updates` of an algorithm."""
  module = agents.load(algorithm)
  agent = module.make(spec_of(algorithm), module.Config(hidden=hidden, **fields))
  state = jax.jit(agent.init)(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), updates)
  batches = jax.jit(jax.vmap(lambda key: batch_for(agent, batch_size, key)))(keys)

  @jax.jit
  def block(state: Any, batches: Transition, key: jax.Array) -> Any:
    inputs = batches, jax.random.split(key, updates)
    return jax.lax.scan(lambda s, x: (agent.update(s, *x)[0], None), state, inputs)[0]

  jax.block_until_ready(block(state, batches, jax.random.key(2)))

  def run() -> float:
    started = time.perf_counter()
    jax.block_until_ready(block(state, batches, jax.random.key(3)))
    return (time.perf_counter() - started) / updates

  one = jax.tree.map(lambda x: x[0], batches)
  return Timed(run, multiplications(agent.update, state, one, jax.random.key(4)))


def spec_of(algorithm: str) -> Spec:
  return DISCRETE if algorithm.endswith("_discrete") else CONTINUOUS


def multiplications(function: Callable[..., Any], *args: Any) -> int:
  """Scalar multiplications of all matrix products that a function's results need, loops as often as they run.

  Raises:
    ValueError: a product within a `while`, which runs nobody knows how often.
  """
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return products(needed)


def products(jaxpr: Any) -> int:
  """`multiplications` of a traced function."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      left = equation.invars[0].aval.shape
      total += int(np.prod(equation.outvars[0].aval.shape)) * int(np.prod([left[axis] for axis in contracted]))
      continue
    inner = [products(sub) for sub in subjaxprs(equation)]
    if equation.primitive.name == "while" and any(inner):
      raise ValueError("a matrix product within a while loop cannot be counted")
    repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
    total += repeats * (max(inner, default=0) if equation.primitive.name == "cond" else sum(inner))
  return total


def subjaxprs(equation: Any) -> list[Any]:
  found = []
  for value in equation.params.values():
    for one in value if isinstance(value, tuple | list) else (value,):
      one = getattr(one, "jaxpr", one)
      if hasattr(one, "eqns"):
        found.append(one)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--algorithms", nargs="+", choices=sorted({name for name, _ in VARIANTS.values()}))
  parser.add_argument("--batch-size", type=int, default=256)
  parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256])
  parser.add_argument("--rounds", type=int, default=11)
  parser.add_argument("--updates", type=int, default=16, help="of a block, all in one compiled call")
  parser.add_argument("--out", type=pathlib.Path, help=f"a JSON file; by default {RESULTS.name} of all algorithms")
  args = parser.parse_args()
  wanted = set(args.algorithms or agents.AGENTS) | {"sac", "sac_discrete"}
  sizes = {"batch_size": args.batch_size, "hidden": tuple(args.hidden), "updates": args.updates}
  timed = {name: prepare(*of, **sizes) for name, of in VARIANTS.items() if of[0] in wanted}
  seconds: dict[str, list[float]] = {name: [] for name in timed}
  for _ in range(args.rounds):
    for name, one in timed.items():
      seconds[name].append(one.run())
  rows = {}
  for name, one in timed.items():
    peer = "sac_discrete" if VARIANTS[name][0].endswith("_discrete") else "sac"
    ratios = [a / b for a, b in zip(seconds[name], seconds[peer], strict=True)]
    rows[name] = {
      "config": VARIANTS[name][1],
      "relative_to": peer,
      "milliseconds": 1e3 * statistics.median(seconds[name]),
      "time_ratio": statistics.median(ratios),
      "time_ratio_range": [min(ratios), max(ratios)],
      "multiplications": one.multiplications,
      "multiplication_ratio": one.multiplications / timed[peer].multiplications,
    }
    row = rows[name]
    print(
      f"{name:34} {row['milliseconds']:8.2f} ms   {row['time_ratio']:6.2f} x the time of {peer}, "
      f"{row['multiplication_ratio']:6.2f} x its multiplications",
      flush=True,
    )
  out = args.out or (RESULTS if args.algorithms is None else None)
  if out is not None:
    body = {
      "command": " ".join(["python -m experiments.peers.update_cost", *sys.argv[1:]]),
      **sizes,
      "rounds": args.rounds,
      "rows": rows,
      **doctor.device_summary(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
  main()
