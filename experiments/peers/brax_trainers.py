"""Brax's own trainers on current JAX, as peers to be measured against.

Nothing here is part of the library: `varl` imports nothing from Brax's training code. Brax 0.14.2 calls
`jax.device_put_replicated`, which JAX 0.10 removed; that is the only call its SAC and PPO trainers miss there. It is
put back here, in the experiment's process only, and the trainers themselves run unchanged.

    python -m experiments.peers.brax_trainers --env halfcheetah

prints one JSON line with the training rate and the peak memory of Brax's SAC.
"""

import argparse
import json
import pathlib
import queue
import re
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

EPOCHS = 10_000
"""How many epochs a stepped trainer is told to run; far more than anybody asks of it."""

PMAP_AXIS = "i"
"""The axis name of every pmap in Brax's SAC and PPO."""


def _device_put_replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Copies every leaf to each device, stacked along a new leading axis that is split over the devices.

  The sharding matters, down to the name of its axis: it is part of an array's type under jit. Plain stacked arrays, or
  an axis of another name than Brax's pmapped functions return, make Brax compile its evaluation up to two times more
  than it did with the removed function, at 5 to 7 s each, and it would be charged for our mistake.

  Args:
    tree: arrays or Python numbers, each of any shape `[...]`.
    devices: where the copies go.

  Returns:
    The same tree with leaves `[len(devices), ...]`.
  """
  sharding = NamedSharding(Mesh(np.asarray(devices), (PMAP_AXIS,)), PartitionSpec(PMAP_AXIS))
  return jax.tree.map(lambda leaf: jax.device_put(jnp.stack([leaf] * len(devices)), sharding), tree)


def _restore_removed() -> None:
  """Gives `jax` back the function that Brax's trainers look up on it; does nothing where JAX still has it."""
  if not hasattr(jax, "device_put_replicated"):
    # Brax reads the attribute from the jax module at call time, so that is the one place where it can be mended
    # without touching Brax's files.
    jax.device_put_replicated = _device_put_replicated


def brax_sac() -> Callable[..., Any]:
  """Returns `brax.training.agents.sac.train.train`, able to run on JAX with and without its removed calls."""
  _restore_removed()
  from brax.training.agents.sac import train

  return train.train


def brax_ppo() -> Callable[..., Any]:
  """Returns `brax.training.agents.ppo.train.train`, able to run on JAX with and without its removed calls."""
  _restore_removed()
  from brax.training.agents.ppo import train

  return train.train


class Peer(NamedTuple):
  """A trainer, Brax's or varl's, that runs one epoch at a time, so that two of them can be measured in alternation.

  Attributes:
    epoch: trains for one epoch and returns the seconds that it took.
    close: ends the trainer and lets go of its arrays.
    env_steps: environment steps in an epoch.
    updates: gradient updates in an epoch.
    first_seconds: what the first epoch took, compilation included; it is already over.
  """

  epoch: Callable[[], float]
  close: Callable[[], None]
  env_steps: int
  updates: int
  first_seconds: float


class _Closed(Exception):
  """Raised inside the trainer's progress call to end it."""


def _idle_env(observation_size: int, action_size: int) -> Any:
  """Returns an environment of the given sizes in which nothing happens, to be evaluated on at no cost."""
  from brax.envs import base

  class Idle(base.Env):
    """Observations of zeros, no reward, no end."""

    observation_size = property(lambda self: observation_size)
    action_size = property(lambda self: action_size)
    backend = property(lambda self: "none")

    def reset(self, rng: jax.Array) -> base.State:
      del rng
      return base.State(None, jnp.zeros(observation_size), jnp.zeros(()), jnp.zeros(()), {}, {})

    def step(self, state: base.State, action: jax.Array) -> base.State:
      # The observation depends on the action so that the compiler keeps the policy in the loop.
      return state.replace(obs=state.obs + 0.0 * jnp.sum(action))

  return Idle()


def brax_sac_steps(
  env_name: str,
  *,
  backend: str | None = None,
  num_envs: int = 64,
  batch_size: int = 256,
  updates_per_step: int = 16,
  hidden: Sequence[int] = (256, 256),
  iterations: int = 100,
  replay_size: int = 1_000_000,
  warm_up: int = 8_192,
  seed: int = 0,
) -> Peer:
  """Starts Brax's SAC and returns a handle that trains it one epoch at a time.

  What runs is Brax's `train` itself, from its first line to its last: it lives in a thread that waits inside the
  progress call, which Brax makes between epochs, until the next epoch is asked for. Rebuilding the training step from
  Brax's parts would measure our copy of it instead. The seconds are Brax's own (`training/sps`): they cover one call
  of its compiled epoch until the result is ready, and leave out what lies between epochs; an epoch of ours is to be
  timed in the same way. Brax counts compilation into the first epoch's figure; that epoch is run here and kept out of
  the rest.

  Brax evaluates after every epoch and cannot be told not to. It is given an environment without physics for that
  (`eval_env`), of the same sizes, so that the evaluation between two timed epochs takes milliseconds and
  compiles fast; it lies outside the timed part in any case.

  Args:
    env_name: a Brax environment.
    backend: its physics backend; None takes the environment's default.
    num_envs: environments stepped together, one step an iteration.
    batch_size: transitions in one update.
    updates_per_step: updates in an iteration, that is for `num_envs` environment steps.
    hidden: widths of the hidden layers of the actor and of both critics.
    iterations: iterations in an epoch.
    replay_size: capacity of the replay buffer. Once it is full Brax moves the whole buffer at every insertion, so
      the figures hold for a buffer that is still filling.
    warm_up: environment steps stored before the first update.
    seed: seed of the run.

  Returns:
    The peer, after its first epoch.

  Raises:
    RuntimeError: from `epoch`, when the peer has been closed. What Brax itself raises comes out of `epoch` as it is.
  """
  from brax.training.agents.sac import networks as sac_networks

  def network_factory(*args: Any, **kwargs: Any) -> Any:
    return sac_networks.make_sac_networks(*args, hidden_layer_sizes=tuple(hidden), **kwargs)

  return _stepped(
    brax_sac(),
    env_name,
    backend,
    env_steps=iterations * num_envs,
    updates=iterations * updates_per_step,
    num_timesteps=-(-warm_up // num_envs) * num_envs + EPOCHS * iterations * num_envs,
    num_envs=num_envs,
    max_devices_per_host=1,
    learning_rate=3e-4,
    discounting=0.99,
    batch_size=batch_size,
    grad_updates_per_step=updates_per_step,
    min_replay_size=warm_up,
    max_replay_size=replay_size,
    network_factory=network_factory,
    seed=seed,
  )


def brax_ppo_steps(
  env_name: str,
  *,
  backend: str | None = None,
  num_envs: int = 64,
  unroll_length: int = 32,
  minibatches: int = 8,
  epochs: int = 4,
  iterations: int = 10,
  devices: int = 1,
  seed: int = 0,
) -> Peer:
  """As `brax_sac_steps`, Brax's PPO with its own networks (policy 4 x 32, value 5 x 256).

  Args:
    env_name, backend, seed: as there.
    num_envs: environments stepped together.
    unroll_length: steps of each in an iteration.
    minibatches: into which a rollout is split; they divide `num_envs`.
    epochs: passes over each rollout.
    iterations: rollouts in an epoch of the returned peer.
    devices: over which all of that is divided.
  """
  steps = iterations * num_envs * unroll_length
  return _stepped(
    brax_ppo(),
    env_name,
    backend,
    env_steps=steps,
    updates=iterations * epochs * minibatches,
    num_timesteps=EPOCHS * steps,
    num_envs=num_envs,
    learning_rate=3e-4,
    discounting=0.99,
    entropy_cost=1e-3,
    unroll_length=unroll_length,
    num_minibatches=minibatches,
    batch_size=num_envs // minibatches,
    num_updates_per_batch=epochs,
    max_devices_per_host=devices,
    seed=seed,
  )


def _stepped(
  train: Callable[..., Any], env_name: str, backend: str | None, *, env_steps: int, updates: int, **settings: Any
) -> Peer:
  """One of Brax's trainers in a thread of its own, which waits between epochs."""
  from varl import envs

  env = envs.make(env_name, backend)
  go_on: queue.Queue[bool] = queue.Queue()
  answers: queue.Queue[Any] = queue.Queue()
  closed = threading.Event()

  def progress(env_steps: int, metrics: dict[str, Any]) -> None:
    del env_steps
    answers.put(metrics.get("training/sps"))  # absent from the evaluation before training
    if not go_on.get():
      raise _Closed

  def work() -> None:
    try:
      train(
        env,
        num_evals=EPOCHS + 1,
        episode_length=1000,
        num_eval_envs=1,
        eval_env=_idle_env(env.observation_size, env.action_size),
        normalize_observations=True,
        progress_fn=progress,
        **settings,
      )
    except _Closed:
      pass
    except Exception as error:  # raised again where the epoch is waited for
      answers.put(error)

  thread = threading.Thread(target=work, name="brax", daemon=True)
  thread.start()

  def answer() -> Any:
    result = answers.get()
    if isinstance(result, Exception):
      closed.set()
      raise result
    return result

  def epoch() -> float:
    if closed.is_set():
      raise RuntimeError("this trainer was closed; start another")
    go_on.put(True)
    return env_steps / answer()

  def close() -> None:
    if not closed.is_set():
      closed.set()
      go_on.put(False)
    thread.join()

  answer()
  first_seconds = epoch()
  return Peer(epoch, close, env_steps, updates, first_seconds)


def varl_steps(trainer: Any, *, iterations: int) -> Peer:
  """varl's trainer as a peer; its warm-up and its first epoch are over, too.

  Args:
    trainer: a `varl.Trainer`.
    iterations: in an epoch.
  """
  held = {"state": trainer.init(jax.random.key(0))}
  steps, updates = (
    iterations * trainer.settings.steps_per_iteration,
    iterations * trainer.settings.updates_per_iteration,
  )
  if trainer.warm_up_iterations:
    held["state"], _ = trainer.epoch(held["state"], jnp.int32(trainer.warm_up_iterations))

  def epoch() -> float:
    started = time.perf_counter()
    held["state"], metrics = trainer.epoch(held["state"], jnp.int32(iterations))
    happened = int(metrics["training/updates"])
    jax.block_until_ready(held["state"])
    seconds = time.perf_counter() - started
    if happened != updates:
      raise AssertionError(f"{happened} updates, not {updates}")
    return seconds

  return Peer(epoch, held.clear, steps, updates, epoch())


def peak_memory() -> float:
  """Returns the largest resident size of this process so far, in MiB; compilation counts. Linux only.

  `getrusage` would also count what the parent process had before this program was loaded into its copy.
  """
  status = pathlib.Path("/proc/self/status").read_text()
  return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def main() -> None:
  """Measures Brax's SAC alone in this process and prints one JSON line."""
  parser = argparse.ArgumentParser(description="training rate and peak memory of Brax's SAC")
  parser.add_argument("--env", default="halfcheetah")
  parser.add_argument("--backend", default=None)
  parser.add_argument("--num-envs", type=int, default=64)
  parser.add_argument("--batch-size", type=int, default=256)
  parser.add_argument("--updates-per-step", type=int, default=16)
  parser.add_argument("--iterations", type=int, default=50)
  parser.add_argument("--replay-size", type=int, default=1_000_000)
  parser.add_argument("--repeats", type=int, default=7)
  args = parser.parse_args()
  peer = brax_sac_steps(
    args.env,
    backend=args.backend,
    num_envs=args.num_envs,
    batch_size=args.batch_size,
    updates_per_step=args.updates_per_step,
    iterations=args.iterations,
    replay_size=args.replay_size,
  )
  seconds = [peer.epoch() for _ in range(args.repeats)]
  median = statistics.median(seconds)
  peer.close()
  print(
    json.dumps(
      {
        **vars(args),
        "env_steps_per_second": peer.env_steps / median,
        "updates_per_second": peer.updates / median,
        "epoch_seconds": seconds,
        "first_epoch_seconds": peer.first_seconds,
        "peak_memory_mib": peak_memory(),
      }
    )
  )


if __name__ == "__main__":
  main()
