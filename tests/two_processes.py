"""One process of a training run that spans two: `python two_processes.py PORT INDEX OUT`."""

import sys

import jax
import numpy as np


def train(settings_changes=None):
  """A few iterations of soft actor-critic on the point mass over two devices: (parameters, metrics)."""
  from varl.agents import sac
  from varl.envs import spec, toys
  from varl.settings import Settings
  from varl.trainer import AXIS, make_trainer

  env = toys.PointMass()
  agent = sac.make(spec(env), sac.Config(hidden=(8,)), axis=AXIS)
  settings = Settings(
    num_timesteps=160, num_envs=8, episode_length=5, updates_per_env_step=0.5, batch_size=8, replay_capacity=160,
    warm_up=16, eval_every=80, eval_episodes=2, num_devices=2,
  )  # fmt: skip
  trainer = make_trainer(env, agent, settings)
  state, metrics = trainer.epoch(trainer.init(jax.random.key(0)), settings.iterations)
  evaluation = trainer.evaluate(state, jax.random.key(1))
  return jax.tree.map(np.asarray, state.agent.params), {k: float(v) for k, v in {**metrics, **evaluation}.items()}


def main():
  port, index, out = sys.argv[1:]
  jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
  assert (jax.device_count(), jax.local_device_count()) == (2, 1)
  params, metrics = train()
  leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  np.savez(out, **leaves, **{f"metric {name}": value for name, value in metrics.items()})


if __name__ == "__main__":
  main()
