"""Runs of agents of one's own: everything that a named algorithm's run has, and what has to be given once more."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import own_agent
import pytest
from test_training import TINY, timeless

import varl
from varl import agents, policies, presets
from varl.agents import registry, sac
from varl.envs import toys
from varl.report import records
from varl.run import checkpoint

LOOP = {name: value for name, value in TINY.items() if name != "hidden"}
SPEC = varl.Spec(4, 2)


def train(algorithm, out, *, env="point_mass", num_timesteps=400, **more):
  return varl.train(algorithm, env, num_timesteps=num_timesteps, out=out, **{**LOOP, **more})


def local(spec, *, axis=None):
  """A factory that cannot be imported: a file knows it by its name alone."""
  return own_agent.make(spec, own_agent.Config(rate=0.1), axis=axis)


local.__qualname__ = "test.<locals>.local"


def same(a, b):
  for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of an object."""
  return train(local, tmp_path_factory.mktemp("own") / "out")


def test_a_run_of_ones_own_agent_has_everything(run):
  found = {path.name for path in run.out.iterdir()}
  assert {"config.json", "metrics.jsonl", "metrics.csv", "tensorboard", "checkpoints", "policy", "curve.png"} <= found
  rows = records.read(run.out)
  assert [row["env_steps"] for row in rows] == [0, 200, 400]
  assert {"training/actor_loss", "training/spread", "eval/episode_reward", "training/sps"} <= rows[-1].keys()
  assert rows[-1]["training/updates"] == 50
  config = json.loads((run.out / "config.json").read_text())
  assert (config["algorithm"], config["objects"], config["config"]) == ("local", ["algorithm"], {})
  assert config["spec"] == SPEC._asdict()
  assert config["settings"]["num_envs"] == 4


def test_what_no_file_holds_is_given_once_more(run):
  for call in (
    lambda **given: varl.resume(run.out, **given),
    lambda **given: varl.load_policy(run.out, **given),
    lambda **given: varl.evaluate(run.out, episodes=2, **given),
    lambda **given: varl.render(run.out, run.out / "page.html", **given),
  ):
    with pytest.raises(
      ValueError, match="'local', was passed as an object, which no file holds: pass it as algorithm="
    ):
      call()
  policy, obs, key = varl.load_policy(run.out, algorithm=local), np.ones((2, 4), np.float32), jax.random.key(0)
  np.testing.assert_array_equal(policy(obs, key), run.policy(obs, key))
  assert not np.array_equal(varl.load_policy(run.out, algorithm=local, stochastic=True)(obs, key), policy(obs, key))
  metrics = varl.evaluate(run.out, algorithm=local, episodes=2)
  assert metrics["eval/avg_episode_length"] == 50


def test_a_resumed_run_of_an_object_is_bit_identical(run, tmp_path):
  half = train(local, tmp_path / "half", num_timesteps=200)
  whole = varl.resume(half.out, num_timesteps=400, algorithm=local)
  same(whole.params, run.params)
  assert timeless(records.read(half.out)) == timeless(run.metrics)


def test_another_algorithm_than_the_runs_says_what_differs(run):
  with pytest.raises(
    checkpoint.CheckpointError, match=r"holds another state .*critic.* is in the checkpoint only|float"
  ):
    varl.resume(run.out, num_timesteps=800, algorithm=(sac.design(SPEC, sac.Config()), policies.tanh_gaussian(2)))
  with pytest.raises(ValueError, match=r"of another agent: .*target_critic"):
    varl.load_policy(run.out, algorithm=(sac.design(SPEC, sac.Config()), policies.tanh_gaussian(2)))
  with pytest.raises(ValueError, match=r"policy for Spec\(observation_size=4.*built for Spec\(observation_size=2"):
    varl.load_policy(run.out, algorithm=own_agent.without_axis(varl.Spec(2, 1)))


@pytest.mark.parametrize(
  "given",
  [
    own_agent,
    own_agent.make,
    lambda spec: own_agent.make(spec, own_agent.Config(rate=0.1)),
    own_agent.make(SPEC, own_agent.Config(rate=0.1)),
  ],
  ids=["module", "factory", "lambda", "agent"],
)
def test_every_form_is_the_same_run(run, given, tmp_path):
  settings = {"rate": 0.1} if given in (own_agent, own_agent.make) else {}
  other = train(given, tmp_path / "out", env=toys.PointMass(), **settings)
  same(other.params, run.params)
  config = json.loads((other.out / "config.json").read_text())
  if settings:
    assert (config["algorithm"], config["source"], config["objects"]) == ("own_agent:make", "own_agent:make", ["env"])
    assert config["config"] == {"rate": 0.1, "noise": 0.3, "scales": [1.0]}
    assert varl.evaluate(other.out, env=toys.PointMass(), episodes=2)
  with pytest.raises(ValueError, match=r"'PointMass', was passed as an object, which no file holds: pass it as env="):
    varl.evaluate(other.out, algorithm=given)
  with pytest.raises(ValueError, match=r"the run's environment is .*'observation_size': 4.*but this one is .*: 2"):
    varl.evaluate(other.out, algorithm=given, env=toys.MultiGoal())


def test_a_design_and_its_head_are_the_named_algorithm(tmp_path):
  named = train("sac", tmp_path / "named", hidden=(8,), preset=False, num_timesteps=200)
  pair = (sac.design(SPEC, sac.Config(hidden=(8,))), policies.tanh_gaussian(2))
  own = train(pair, tmp_path / "own", num_timesteps=200)
  same(own.params, named.params)
  assert timeless(own.metrics) == timeless(named.metrics)


def test_a_design_learns_on_two_devices_and_what_has_no_axis_does_not(tmp_path):
  run = train(own_agent.make, tmp_path / "out", num_devices=2, num_timesteps=200)
  for shard in run.params["actor"].addressable_shards:  # the devices have averaged their gradients
    np.testing.assert_array_equal(shard.data, run.params["actor"])
  assert len(run.params["actor"].devices()) == 2
  for given in (own_agent.without_axis, own_agent.without_axis(SPEC)):
    with pytest.raises(ValueError, match="cannot learn on several devices: it takes no `axis`"):
      train(given, tmp_path / "other", num_devices=2)
    assert not (tmp_path / "other").exists()


def test_a_registered_name_trains_and_is_resumed_where_it_is_registered(run, tmp_path, monkeypatch):
  monkeypatch.setattr(registry, "_REGISTERED", {})
  monkeypatch.setattr(presets, "_ADDED", {})
  agents.register("climber", local, preset={"default": LOOP})
  out = tmp_path / "out"
  short = varl.train("climber", "point_mass", num_timesteps=200, out=out)
  assert json.loads((out / "config.json").read_text())["objects"] == []
  monkeypatch.setattr(registry, "_REGISTERED", {})
  for call in (varl.resume, varl.load_policy, varl.evaluate):
    with pytest.raises(ValueError, match=r"unknown algorithm 'climber': register it in this process .*or pass it as"):
      call(out)
  agents.register("climber", local)
  same(varl.load_policy(out).params, short.params)
  same(varl.resume(out, num_timesteps=400).params, run.params)


def test_settings_that_nobody_has_and_on_policy_agents_without_epochs():
  agent = own_agent.make(SPEC, own_agent.Config())
  with pytest.raises(ValueError, match="neither Agent nor the loop has a setting 'learning_rate'"):
    train(agent, None, learning_rate=0.1)
  with pytest.raises(ValueError, match=r"nor the loop has a setting 'rates' \(did you mean 'rate'"):
    train(own_agent, None, rates=0.1)
  with pytest.raises(
    ValueError, match=r"learns from its own rollouts: epochs.* must be > 0, got epochs=0; for example epochs=4"
  ):
    train(agent._replace(on_policy=True), None)
  with pytest.raises(ValueError, match=r"learns from replay: epochs must be 0, got epochs=2"):
    train(agent, None, epochs=2, batch_size=4, warm_up=0, replay_capacity=4)


def varl_command(*arguments, cwd):
  environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(varl.__file__).parents[1])}
  command = [sys.executable, "-c", "import sys; from varl.cli import main; sys.exit(main())", *arguments]
  return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def test_the_command_line_takes_a_factory_of_the_working_directory(run, tmp_path):
  (tmp_path / "own_agent.py").write_text(pathlib.Path(own_agent.__file__).read_text())
  flags = [part for name, value in LOOP.items() for part in (f"--{name.replace('_', '-')}", str(value))]
  given = ["train", "own_agent:make", "--env", "point_mass", "--num-timesteps", "200", *flags, "--rate", "0.1"]
  done = varl_command(*given, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert "own_agent:make on point_mass, seed 0, 200 steps" in done.stdout
  out = "runs/own_agent.make-point_mass-seed0"
  done = varl_command("resume", out, "--num-timesteps", "400", cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert timeless(records.read(tmp_path / out)) == timeless(run.metrics)
  done = varl_command("resume", str(run.out), cwd=tmp_path)
  assert done.returncode == 2
  assert "was passed as an object" in done.stderr
  assert "Traceback" not in done.stderr
