"""One process of a training run that spans two, as a task of SLURM: `python two_processes.py DIRECTORY`."""

import os
import pathlib
import signal
import sys

import jax
import numpy as np
import pytest

SLURM = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "slurm.sh"
"""The job of the guide, whose command this is."""

SIZES = dict(
  num_timesteps=160, num_envs=8, episode_length=5, updates_per_env_step=0.5, batch_size=8, replay_capacity=160,
  warm_up=16, eval_every=80, eval_episodes=2, num_devices=2,
)  # fmt: skip


def train():
  """A few iterations of soft actor-critic on the point mass over two devices: (parameters, metrics)."""
  from varl.agents import sac
  from varl.envs import spec, toys
  from varl.loop.settings import Settings
  from varl.loop.trainer import AXIS, make_trainer

  env = toys.PointMass()
  agent = sac.make(spec(env), sac.Config(hidden=(8,)), axis=AXIS)
  settings = Settings(**SIZES)
  trainer = make_trainer(env, agent, settings)
  state, metrics = trainer.epoch(trainer.init(jax.random.key(0)), settings.iterations)
  evaluation = trainer.evaluate(state, jax.random.key(1))
  return jax.tree.map(np.asarray, state.agent.params), {k: float(v) for k, v in {**metrics, **evaluation}.items()}


def run(directory):
  """The same as a run with a directory, which a signal to one process stops half way, and resumed: its parameters."""
  import varl
  from varl import cli

  def stop(row):
    if row["env_steps"] == 80 and jax.process_index() == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  def start(**changes):
    return varl.train("sac", "point_mass", out=directory / "run", preset=False, hidden=(8,), **SIZES, **changes)

  stopped = start(callback=stop)
  assert not stopped.finished
  assert [row["env_steps"] for row in stopped.metrics] == [0, 80]
  line = next(line for line in SLURM.read_text().splitlines() if line.startswith("srun varl "))
  line = line.replace("humanoid", "point_mass").replace("/shared/runs/point_mass", str(directory / "run"))
  line = line.replace(" --num-envs 4096 --batch-size 2048", "")
  assert f" {directory}/run --distributed auto --resume-if-possible" in line
  flags = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items() if name != "num_devices"]
  assert cli.main([*line.split()[2:], *flags, "--no-preset", "--hidden=8"]) == 0  # which goes on
  found = varl.load_policy(directory / "run")
  assert np.isfinite(found(np.zeros(found.agent.spec.observation_size))).all()
  # Process 0 says what is wrong, and the other does not wait for it for ever.
  error = ValueError if jax.process_index() == 0 else varl.run.processes.OtherProcessFailed
  with pytest.raises(error):
    start()
  return jax.tree.map(np.asarray, found.params)


def main():
  from varl.run import processes

  directory = pathlib.Path(sys.argv[1])
  assert processes.join("auto") == 2
  index = jax.process_index()
  assert (jax.device_count(), jax.local_device_count()) == (2, 1)
  params, metrics = train()
  found = {f"trained {k}": v for k, v in by_path(params).items()}
  found |= {f"metric {k}": v for k, v in metrics.items()}
  found |= {f"resumed {k}": v for k, v in by_path(run(directory)).items()}
  np.savez(directory / f"{index}.npz", **found)


def by_path(tree):
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


if __name__ == "__main__":
  main()
