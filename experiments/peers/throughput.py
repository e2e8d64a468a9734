"""Training rate and peak memory of varl's SAC beside Brax's own at equal settings, and beside the floor of its matrix
products.

    python -m experiments.peers.throughput --env halfcheetah --out experiments/results/throughput-halfcheetah.json
    python -m experiments.peers.throughput --env halfcheetah --cores 1 \
      --out experiments/results/throughput-one-core.json

Both trainers live in one process and take turns, an epoch each, so that a change of the machine's speed meets both;
the ratio is the median of the pairs'. Peak memory comes from a process of its own for each.

Between the two one update is measured (`agent.update` under a scan, without environment and replay) against three
things. `sequence` is the operations of its matrix products at the rate that this machine reaches on each of them, one
after the other. `floor` is the same products all side by side, as if none waited for another's result, which no update
can reach: two critics are independent, their layers are not. `by_hand` is the same update written out in jax and optax
(`experiments/peers/sac_by_hand.py`), without metrics and observation moments. `--cores` says how many cores of the CPU
are used, for all that is measured.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import varl
from experiments.peers import brax_trainers, sac_by_hand, throughput_floor
from varl.agents import sac
from varl.loop import learner
from varl.run import doctor
from varl.run.devices import cores

ENVS, BATCH, UPDATES, WARM_UP, LEARNING_RATE = 64, 256, 16, 8_192, 3e-4
TURNS = 9
"""How often in a round an update and what it is held against take turns, so that a slower moment meets all of them."""


def ours(env_name: str, iterations: int, replay_size: int) -> tuple[varl.Agent, brax_trainers.Peer]:
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
  agent = sac.make(varl.envs.spec(env), sac.Config(learning_rate=LEARNING_RATE))
  trainer = varl.make_trainer(env, agent, settings)
  return agent, brax_trainers.varl_steps(trainer, iterations=iterations)


def update_timers(agent: varl.Agent, updates: int = 50) -> tuple[Callable[[], float], Callable[[], float]]:
  """Two clocks `() -> seconds` of one update in a scan over batches that are already there: varl's, and by hand."""
  spec, keys = agent.spec, jax.random.split(jax.random.key(0), 6)
  obs, next_obs = (jax.random.normal(key, (updates, BATCH, spec.observation_size)) for key in keys[:2])
  action = jax.random.normal(keys[2], (updates, BATCH, spec.action_size))
  reward = jax.random.normal(keys[3], (updates, BATCH))
  ones = jnp.ones((updates, BATCH))
  batches = varl.Transition(obs, action, reward, ones, next_obs, jnp.zeros_like(ones), {})
  state, optimizer = jax.jit(agent.init)(keys[4]), optax.adam(LEARNING_RATE)
  opt = {name: optimizer.init(state.params[name]) for name in sac_by_hand.LEARNED}

  def timer(update: Callable[[Any, varl.Transition, jax.Array], Any], state: Any) -> Callable[[], float]:
    @jax.jit
    def run(state: Any) -> Any:
      xs = (batches, jax.random.split(keys[5], updates))
      return jax.lax.scan(lambda s, x: update(s, *x), state, xs, unroll=learner.UNROLL)

    jax.block_until_ready(run(state))

    def seconds() -> float:
      started = time.perf_counter()
      jax.block_until_ready(run(state))
      return (time.perf_counter() - started) / updates

    return seconds

  def by_hand(state: Any, batch: varl.Transition, key: jax.Array) -> Any:
    return sac_by_hand.update(*state, batch, key, optimizer=optimizer), None

  return timer(agent.update, state), timer(by_hand, (state.params, opt))


def over(turns: list[dict[str, float]]) -> dict[str, Any]:
  """An update's time relative to each other thing in its turn: the median over turns, and their quartiles."""
  result: dict[str, Any] = {}
  for name in turns[0].keys() - {"update"}:
    ratios = [turn["update"] / turn[name] for turn in turns]
    low, middle, high = statistics.quantiles(ratios, n=4)
    result |= {f"update_over_{name}": middle, f"update_over_{name}_quartiles": [low, high]}
  return dict(sorted(result.items()))


def memory(env_name: str, which: str, replay_size: int) -> float:
  """Peak resident memory in MiB of a process that compiles and trains only `which`."""
  command = [sys.executable, "-m", "experiments.peers.throughput", "--env", env_name, "--only", which]
  command += ["--replay-size", str(replay_size), "--iterations", "20", "--rounds", "2"]
  # What a cache holds is not compiled, and compiling is most of the peak.
  environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
  done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
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
    print(json.dumps({"peak_mib": brax_trainers.peak_memory()}))
    return
  peer = brax_trainers.brax_sac_steps(
    args.env, iterations=args.iterations, replay_size=args.replay_size, warm_up=WARM_UP
  )
  if args.only == "brax":
    for _ in range(args.rounds):
      peer.epoch()
    peer.close()
    print(json.dumps({"peak_mib": brax_trainers.peak_memory()}))
    return

  agent, own = ours(args.env, args.iterations, args.replay_size)
  spec = agent.spec
  update, by_hand = update_timers(agent)
  products = throughput_floor.clocks(
    throughput_floor.update_dots(spec.observation_size, spec.action_size, batch_size=BATCH)
  )
  timers = {"update": update, "by_hand": by_hand, "sequence": products.sequence, "floor": products.floor}
  pairs, turns = [], []
  for index in range(args.rounds):
    # Who goes first alternates, so that neither always finds the caches as the other left them.
    if index % 2:
      theirs, mine = peer.epoch(), own.epoch()
    else:
      mine, theirs = own.epoch(), peer.epoch()
    pairs.append((mine, theirs))
    turns += [{name: timer() for name, timer in timers.items()} for _ in range(TURNS)]
  peer.close()
  mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
  ratios = sorted(b / a for a, b in pairs)
  result = {
    "command": " ".join(["python -m experiments.peers.throughput", *sys.argv[1:]]),
    "env": args.env,
    "settings": f"{ENVS} environments, batch {BATCH}, 2x256, {UPDATES} updates per {ENVS} environment steps, "
    f"replay {args.replay_size}",
    "varl_env_steps_per_second": own.env_steps / mine,
    "brax_env_steps_per_second": peer.env_steps / theirs,
    "varl_updates_per_second": own.updates / mine,
    "brax_updates_per_second": peer.updates / theirs,
    "ratio_varl_over_brax": statistics.median(ratios),
    "ratio_min_max": [ratios[0], ratios[-1]],
    **{f"{name}_ms": 1e3 * statistics.median(turn[name] for turn in turns) for name in timers},
    **over(turns),
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
