"""Environment steps a second against the number of environments: stepped alone and trained by PPO, beside Brax's.

    python -m experiments.peers.environments --env inverted_pendulum

For each number of environments two pairs take turns in one process: varl's batch of environments (`envs.vectorize`)
beside Brax's own wrappers (`training.wrap`), both under the same random actions in one scan; and varl's PPO beside
Brax's, with the networks, rollouts and minibatches of `experiments/peers/ppo.py`. The knee is the smallest number with
at least 80 % of the most steps a second. Writes `experiments/results/environments-<env>.json`.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.peers import brax_trainers, ppo
from varl import envs
from varl.run import doctor

RESULTS = pathlib.Path(__file__).parents[1] / "results"
COUNTS = (64, 256, 1024, 4096, 8192)
EPISODE = 1000
STEPS = 262_144
"""Environment steps that are timed at once, whatever the number of environments, in rollouts of at least 32."""


def of_varl(name: str, count: int, length: int) -> Callable[[], float]:
  """Seconds of `length` steps of varl's batch."""
  env = envs.make(name)
  batch = envs.vectorize(env, count, episode_length=EPISODE)
  size = batch.spec.action_size

  def one(state: Any, key: jax.Array) -> tuple[Any, Any]:
    state, timestep = batch.step(state, jax.random.uniform(key, (count, size), minval=-1.0))
    return state, timestep.reward.mean()

  return clock(batch.reset(jax.random.key(0)), one, length)


def of_brax(name: str, count: int, length: int) -> Callable[[], float]:
  """Seconds of `length` steps of Brax's wrapped environments."""
  from brax.envs.wrappers import training

  env = training.wrap(envs.make(name), episode_length=EPISODE, action_repeat=1)
  size = env.action_size

  def one(state: Any, key: jax.Array) -> tuple[Any, Any]:
    state = env.step(state, jax.random.uniform(key, (count, size), minval=-1.0))
    return state, state.reward.mean()

  return clock(jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), count)), one, length)


def clock(state: Any, one: Callable[[Any, jax.Array], tuple[Any, Any]], length: int) -> Callable[[], float]:
  """Seconds of `length` steps, which go on where the last ones ended."""
  run = jax.jit(lambda state, key: jax.lax.scan(one, state, jax.random.split(key, length)))
  held = {"state": jax.tree.map(jnp.asarray, state)}

  def seconds() -> float:
    started = time.perf_counter()
    held["state"], rewards = run(held["state"], jax.random.key(1))
    jax.block_until_ready(rewards)
    return time.perf_counter() - started

  seconds()  # compiles
  seconds()  # with the types that come out
  return seconds


def trainers(name: str, count: int, iterations: int) -> dict[str, brax_trainers.Peer]:
  """The two trainers, an epoch of `iterations` rollouts each."""
  return {
    "varl": ppo.ours(name, num_envs=count, unroll_length=32, epochs=4, iterations=iterations, devices=1),
    "brax": brax_trainers.brax_ppo_steps(name, num_envs=count, iterations=iterations),
  }


def paired(clocks: dict[str, Callable[[], float]], steps: int, rounds: int) -> dict[str, Any]:
  """Steps a second of each, and the ratio of pairs in turn."""
  found: dict[str, list[float]] = {name: [] for name in clocks}
  for index in range(rounds):
    for name in sorted(clocks, reverse=bool(index % 2)):
      found[name].append(steps / clocks[name]())
  ratios = sorted(a / b for a, b in zip(found["varl"], found["brax"], strict=True))
  return {
    **{name: statistics.median(rates) for name, rates in found.items()},
    "ratio": statistics.median(ratios),
    "ratio_min_max": [ratios[0], ratios[-1]],
  }


def knee(rows: list[dict[str, Any]], kind: str, whose: str) -> int:
  most = max(row[kind][whose] for row in rows)
  return min(int(row["num_envs"]) for row in rows if row[kind][whose] >= 0.8 * most)


def write(env: str, rows: list[dict[str, Any]]) -> None:
  """The record so far: of large numbers of environments the trainers take many minutes."""
  body = {
    "command": " ".join(["python -m experiments.peers.environments", *sys.argv[1:]]),
    "env": env,
    "rows": rows,
    "knee": {kind: {whose: knee(rows, kind, whose) for whose in ("varl", "brax")} for kind in ("stepping", "training")},
    **doctor.device_summary(),
  }
  (RESULTS / f"environments-{env}.json").write_text(json.dumps(body, indent=1) + "\n")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--env", default="inverted_pendulum")
  parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  rows: list[dict[str, Any]] = []
  for count in args.counts:
    length = max(32, STEPS // count)
    stepping = {"varl": of_varl(args.env, count, length), "brax": of_brax(args.env, count, length)}
    row: dict[str, Any] = {"num_envs": count, "stepping": paired(stepping, length * count, args.rounds)}
    iterations = max(1, STEPS // 4 // (32 * count))
    peers = trainers(args.env, count, iterations)
    row["training"] = paired({name: peer.epoch for name, peer in peers.items()}, peers["varl"].env_steps, args.rounds)
    for peer in peers.values():
      peer.close()
    rows.append(row)
    print(json.dumps(row), flush=True)
    jax.clear_caches()
    write(args.env, rows)


if __name__ == "__main__":
  main()
