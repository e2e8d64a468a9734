"""Whole runs on a toy problem: files, resume bit for bit, kills, NaNs, full disks."""

import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl.envs import toys
from varl.report import records
from varl.run import checkpoint

TINY = {
  "hidden": (16, 16),
  "num_envs": 4,
  "episode_length": 50,
  "warm_up": 100,
  "batch_size": 16,
  "replay_capacity": 1000,
  "eval_every": 200,
  "eval_episodes": 4,
}
TIMES = ("walltime", "sps", "per_second", "compile_time")


def timeless(rows):
  """Rows without what a clock measured, NaN made comparable."""
  return [{k: "nan" if math.isnan(v) else v for k, v in row.items() if not k.endswith(TIMES)} for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of 800 steps."""
  return varl.train("sac", "point_mass", num_timesteps=800, out=tmp_path_factory.mktemp("run") / "out", **TINY)


def test_run_writes_everything(run):
  found = {path.name for path in run.out.iterdir()}
  assert {"config.json", "metrics.jsonl", "metrics.csv", "tensorboard", "checkpoints", "policy", "curve.png"} <= found
  assert [path.name for path in sorted((run.out / "checkpoints").iterdir())] == ["000000000600", "000000000800"]
  config = json.loads((run.out / "config.json").read_text())
  assert config["settings"]["num_timesteps"] == 800
  assert config["config"]["hidden"] == [16, 16]
  assert (run.out / "metrics.csv").read_text().startswith("env_steps,")
  rows = records.read(run.out)
  assert [row["env_steps"] for row in rows] == [0, 200, 400, 600, 800]
  names = ["eval/episode_reward", "eval/episode_reward_std", "eval/avg_episode_length", "training/sps"]
  names += ["training/walltime", "training/critic_loss", "training/actor_loss", "training/alpha", "training/entropy"]
  names += ["training/updates_per_second", "training/nan_resets", "training/compile_time"]
  assert set(names) <= rows[-1].keys()


def test_updates_are_the_ratio_asked_for(run):
  assert sum(row.get("training/updates", 0) for row in run.metrics) == (800 - 100) * 0.25


def test_resumed_run_is_bit_identical(run, tmp_path):
  half = varl.train("sac", "point_mass", num_timesteps=400, out=tmp_path / "half", **TINY)
  whole = varl.resume(half.out, num_timesteps=800)
  for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(whole.params), strict=True):
    np.testing.assert_array_equal(a, b)
  assert timeless(whole.metrics) == timeless(run.metrics)
  assert timeless(records.read(half.out)) == timeless(run.metrics)
  assert json.loads((half.out / "config.json").read_text())["settings"]["num_timesteps"] == 800


def test_run_under_one_scan_gives_the_same_evaluations(run):
  env = varl.envs.make("point_mass")
  config = varl.agents.load("sac").Config(hidden=(16, 16))
  settings = varl.Settings(num_timesteps=800, **{k: v for k, v in TINY.items() if k != "hidden"})
  trainer = varl.make_trainer(env, varl.agents.load("sac").make(varl.envs.spec(env), config), settings)
  _, metrics = jax.jit(trainer.run)(jax.random.key(0))
  got = [row["eval/episode_reward"] for row in run.metrics[1:]]
  np.testing.assert_allclose(metrics["eval/episode_reward"], got, rtol=2e-3)


def test_policy_survives_the_round_trip(run):
  policy = varl.load_policy(run.out)
  obs, key = jnp.linspace(-1, 1, 8).reshape(2, 4), jax.random.key(0)
  np.testing.assert_array_equal(policy(obs, key), run.policy(obs, key))
  np.testing.assert_allclose(policy(obs[0], key), policy(obs, key)[0], rtol=1e-5)
  assert not np.array_equal(varl.load_policy(run.out, stochastic=True)(obs, key), policy(obs, key))
  with pytest.raises(ValueError, match=r"takes observations \[4\]"):
    policy(jnp.zeros(3), key)


def test_evaluate_a_run(run):
  metrics = varl.evaluate(run.out, episodes=4, seed=1)
  assert metrics["eval/avg_episode_length"] == 50
  assert metrics == varl.evaluate(run.out, episodes=4, seed=1)
  assert metrics != varl.evaluate(run.out, episodes=4, seed=1, stochastic=True)


def test_existing_out_is_kept(run, tmp_path):
  with pytest.raises(ValueError, match="exists already"):
    varl.train("sac", "point_mass", num_timesteps=200, out=run.out, **TINY)
  with pytest.raises(ValueError, match="policy is one of"):
    varl.train("sac", "point_mass", num_timesteps=200, out=run.out, overwrite=True, policy="beta", **TINY)
  assert checkpoint.steps(run.out / "checkpoints")
  (tmp_path / "precious").mkdir()
  (tmp_path / "precious" / "file").write_text("mine")
  with pytest.raises(ValueError, match="is no run"):
    varl.train("sac", "point_mass", num_timesteps=200, out=tmp_path / "precious", overwrite=True, **TINY)
  assert (tmp_path / "precious" / "file").read_text() == "mine"


def test_damaged_newest_checkpoint_is_named_and_the_one_before_used(run, tmp_path):
  out = tmp_path / "copy"
  shutil.copytree(run.out, out)
  victim = max((out / "checkpoints" / "000000000800").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
  victim.write_bytes(victim.read_bytes()[:-1])
  with pytest.warns(checkpoint.CheckpointWarning, match="000000000800"):
    again = varl.resume(out)
  assert timeless(again.metrics) == timeless(run.metrics)


def test_checkpoint_of_another_shape_is_refused(run, tmp_path):
  out = tmp_path / "copy"
  shutil.copytree(run.out, out)
  config = json.loads((out / "config.json").read_text())
  config["config"]["hidden"] = [8, 8]
  (out / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match="another state"):
    varl.resume(out)
  config["schema"] = 99
  (out / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match="schema 99"):
    varl.resume(out)


def test_callback_sees_each_row_and_may_end_the_run(tmp_path):
  class Enough(Exception):
    pass

  seen = []

  def callback(row):
    seen.append(row["env_steps"])
    if row["env_steps"] == 400:
      raise Enough

  with pytest.raises(Enough):
    varl.train("sac", "point_mass", num_timesteps=800, out=tmp_path / "out", callback=callback, **TINY)
  assert seen == [0, 200, 400]
  assert [row["env_steps"] for row in records.read(tmp_path / "out")] == [0, 200, 400]


def test_divergence_stops_the_run_and_keeps_what_was(tmp_path):
  with pytest.raises(varl.Diverged, match="non-finite"):
    varl.train("sac", "point_mass", num_timesteps=800, out=tmp_path / "out", reward_scale=1e38, **TINY)
  rows = records.read(tmp_path / "out")
  assert rows[-1]["env_steps"] > 0
  assert all(step < rows[-1]["env_steps"] for step in checkpoint.steps(tmp_path / "out" / "checkpoints"))


def test_full_disk_keeps_metrics_and_checkpoints(tmp_path, monkeypatch):
  real, calls = checkpoint.save, []

  def full(*args, **kwargs):
    calls.append(args)
    if len(calls) == 2:
      raise OSError(28, "No space left on device")
    return real(*args, **kwargs)

  monkeypatch.setattr(checkpoint, "save", full)
  with pytest.raises(OSError, match="No space left"):
    varl.train("sac", "point_mass", num_timesteps=800, out=tmp_path / "out", **TINY)
  assert checkpoint.steps(tmp_path / "out" / "checkpoints") == [200]
  monkeypatch.undo()
  assert varl.resume(tmp_path / "out").metrics[-1]["env_steps"] == 800


def test_killed_run_resumes(run, tmp_path):
  """SIGKILL at some moment after the first checkpoint; the resumed run ends as the uninterrupted one did."""
  out = tmp_path / "killed"
  code = f"import varl; varl.train('sac', 'point_mass', num_timesteps=800, out={str(out)!r}, **{TINY!r})"
  process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], cwd=pathlib.Path(__file__).parents[2])
  deadline = time.monotonic() + 120
  while not checkpoint.steps(out / "checkpoints") and process.poll() is None and time.monotonic() < deadline:
    time.sleep(0.01)
  assert checkpoint.steps(out / "checkpoints"), "no checkpoint in time"
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert timeless(varl.resume(out).metrics) == timeless(run.metrics)


def test_interrupted_run_is_saved(tmp_path):
  def callback(row):
    if row["env_steps"] == 400:
      os.kill(os.getpid(), signal.SIGINT)

  run = varl.train("sac", "point_mass", num_timesteps=800, out=tmp_path / "out", callback=callback, **TINY)
  assert not run.finished
  assert checkpoint.steps(run.out / "checkpoints")[-1] == 400
  assert varl.resume(run.out).finished


def test_environment_as_an_object():
  run = varl.train("sac", toys.PointMass(), num_timesteps=200, preset=False, **TINY)
  assert run.out is None
  assert [row["env_steps"] for row in run.metrics] == [0, 200]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"algorithm": "sack"}, "did you mean 'sac'"),
    ({"env": "point_mas"}, "point_mass"),
    ({"num_timesteps": 0}, "num_timesteps"),
    ({"learning_rate": -1.0}, "learning_rate is a finite number > 0, got -1.0"),
    ({"learning_rate": math.nan}, "learning_rate"),
    ({"gamma": 1.0}, r"gamma lies in \[0, 1\), got 1.0"),
    ({"lerning_rate": 1e-3}, "did you mean 'learning_rate'"),
    ({"replay_capacity": 8, "batch_size": 16}, "cannot hold one batch"),
    ({"num_envs": 3, "num_devices": 2}, "not divisible"),
    (
      {"num_devices": 4096, "num_envs": 4096, "batch_size": 4096, "replay_capacity": 8192, "eval_episodes": 4096},
      "JAX sees",
    ),
    ({"updates_per_env_step": 0.3}, "not a whole number of updates"),
    ({"seed": -1}, "seed"),
    ({"policy": "beta"}, "policy is one of"),
    ({"replay_capacity": 10**9}, "lower replay_capacity"),
  ],
)
def test_bad_input_is_a_value_error(given, message):
  arguments = {"algorithm": "sac", "env": "point_mass", **TINY, **given}
  with pytest.raises(ValueError, match=message):
    varl.train(arguments.pop("algorithm"), arguments.pop("env"), **arguments)


def test_unbounded_and_discrete_actions_are_refused(tmp_path):
  out = tmp_path / "out"
  with pytest.raises(ValueError, match="unbounded"):
    varl.train("sac", "linear_quadratic", preset=False, out=out, **TINY)
  with pytest.raises(ValueError, match="discrete"):
    varl.train("sac", "chain", preset=False, out=out, **TINY)
  assert not out.exists()
  with pytest.raises(ValueError, match="discrete"):
    varl.agents.load("sac").make(varl.Spec(4, 2, discrete=True))
