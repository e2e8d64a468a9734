"""Training rate and peak memory of varl's SAC beside Brax's own at equal settings, and beside the floor of its matrix
products.

    python -m experiments.throughput --env halfcheetah --out experiments/results/throughput-halfcheetah.json
    python -m experiments.throughput --env halfcheetah --cores 1 --out experiments/results/throughput-one-core.json

Both trainers live in one process and take turns, an epoch each, so that a change of the machine's speed meets both;
the ratio is the median of the pairs'. Peak memory comes from a process of its own for each. The floor is measured
between the two: the matrix products of one update at the rate that this machine reaches on them, side by side (`floor`)
and one after the other (`sequence`), against one update of varl's (`agent.update` under a scan, without environment and
replay). XLA spreads a product over all cores, and most of what lies between products over one, so that an update is the
further from that floor the more cores there are. `--cores` says how many, for all that is measured.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

import varl
from experiments import peers, throughput_floor
from varl import doctor, learner
from varl.agents import sac
from varl.devices import cores

ENVS, BATCH, UPDATES, WARM_UP = 64, 256, 16, 8_192


def ours(env_name: str, iterations: int, replay_size: int) -> tuple[varl.Agent, peers.Peer]:
  """varl's SAC, trained an epoch at a time."""
  settings = varl.Settings(
    num_timesteps=10**9,
    num_envs=ENVS,
    batch_size=BATCH,
    updates_per_env_step=UPDATES / ENVS,
    replay_capacity=replay_size,
    warm_up=WARM_UP,
    eval_every=iterations * ENVS,
  )
  env = varl.envs.make(env_name)
  agent = sac.make(varl.envs.spec(env), sac.Config(learning_rate=3e-4))
  trainer = varl.make_trainer(env, agent, settings)
  return agent, peers.varl_steps(trainer, iterations=iterations, warm_up=settings.warm_up_iterations)


def update_seconds(agent: varl.Agent, updates: int = 200) -> float:
  """Seconds of one `agent.update` in a scan over batches that are already there."""
  spec, key = agent.spec, jax.random.key(0)
  obs = jax.random.normal(key, (BATCH, spec.observation_size))
  action = jax.random.normal(key, (BATCH, spec.action_size))
  batch = varl.Transition(obs, action, jnp.ones(BATCH), jnp.ones(BATCH), obs, jnp.zeros(BATCH), {})

  @jax.jit
  def run(state: varl.AgentState, key: jax.Array) -> Any:
    keys = jax.random.split(key, updates)
    return jax.lax.scan(lambda s, k: agent.update(s, batch, k), state, keys, unroll=learner.UNROLL)[0]

  state = jax.block_until_ready(run(agent.init(key), key))
  started = time.perf_counter()
  jax.block_until_ready(run(state, key))
  return (time.perf_counter() - started) / updates


def memory(env_name: str, which: str, replay_size: int) -> float:
  """Peak resident memory in MiB of a process that trains only `which`."""
  command = [sys.executable, "-m", "experiments.throughput", "--env", env_name, "--only", which]
  command += ["--replay-size", str(replay_size), "--iterations", "20", "--rounds", "2"]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])["peak_mib"]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--env", default="halfcheetah")
  parser.add_argument("--iterations", type=int, default=50, help="iterations of 64 environments an epoch")
  parser.add_argument("--rounds", type=int, default=9, help="pairs of epochs")
  parser.add_argument("--replay-size", type=int, default=1_000_000)
  parser.add_argument("--only", choices=["varl", "brax"], help="one trainer alone, for its peak memory")
  parser.add_argument("--cores", type=int, help="of the CPU, to be used; by default all")
  parser.add_argument("--out", type=pathlib.Path)
  args = parser.parse_args()
  if args.cores is not None:
    if not 1 <= args.cores <= cores():
      parser.error(f"--cores is from 1 to {cores()} here, got {args.cores}")
    # JAX has not started yet; it makes a thread for each core that it is allowed then.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])

  if args.only == "varl":
    _, alone = ours(args.env, args.iterations, args.replay_size)
    for _ in range(args.rounds):
      alone.epoch()
    print(json.dumps({"peak_mib": peers.peak_memory()}))
    return
  peer = peers.brax_sac_steps(args.env, iterations=args.iterations, replay_size=args.replay_size, warm_up=WARM_UP)
  if args.only == "brax":
    for _ in range(args.rounds):
      peer.epoch()
    peer.close()
    print(json.dumps({"peak_mib": peers.peak_memory()}))
    return

  agent, own = ours(args.env, args.iterations, args.replay_size)
  spec = agent.spec
  pairs, floors = [], []
  for index in range(args.rounds):
    # Who goes first alternates, so that neither always finds the caches as the other left them.
    if index % 2:
      theirs, mine = peer.epoch(), own.epoch()
    else:
      mine, theirs = own.epoch(), peer.epoch()
    pairs.append((mine, theirs))
    rate = throughput_floor.matmul_rate(spec.observation_size, spec.action_size, batch_size=BATCH, repeats=5)
    floors.append((update_seconds(agent), rate.floor_seconds, rate.sequence_seconds))
  peer.close()
  mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
  ratios = sorted(b / a for a, b in pairs)
  result = {
    "command": " ".join(["python -m experiments.throughput", *sys.argv[1:]]),
    "env": args.env,
    "settings": f"{ENVS} environments, batch {BATCH}, 2x256, {UPDATES} updates per {ENVS} environment steps, "
    f"replay {args.replay_size}",
    "varl_env_steps_per_second": own.env_steps / mine,
    "brax_env_steps_per_second": peer.env_steps / theirs,
    "varl_updates_per_second": own.updates / mine,
    "brax_updates_per_second": peer.updates / theirs,
    "ratio_varl_over_brax": statistics.median(ratios),
    "ratio_min_max": [ratios[0], ratios[-1]],
    "update_ms": 1e3 * statistics.median(u for u, _, _ in floors),
    "floor_ms": 1e3 * statistics.median(f for _, f, _ in floors),
    "sequence_ms": 1e3 * statistics.median(s for _, _, s in floors),
    "update_over_floor": statistics.median(u / f for u, f, _ in floors),
    "update_over_floor_min_max": [min(u / f for u, f, _ in floors), max(u / f for u, f, _ in floors)],
    "update_over_sequence": statistics.median(u / s for u, _, s in floors),
    "update_over_sequence_min_max": [min(u / s for u, _, s in floors), max(u / s for u, _, s in floors)],
    "peak_mib_varl": memory(args.env, "varl", args.replay_size),
    "peak_mib_brax": memory(args.env, "brax", args.replay_size),
    **doctor.device_summary(),
  }
  text = json.dumps(result, indent=2)
  print(text)
  if args.out is not None:
    args.out.write_text(text + "\n")


if __name__ == "__main__":
  main()
