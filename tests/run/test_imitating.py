"""A run of an expert, its demonstrations, what learns from them, and what is left: files that can be moved."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from conftest import small

import varl
from varl import cli, demonstrations
from varl.agents import mbpo
from varl.envs import spec as spec_of
from varl.envs import toys
from varl.run import attachments, configure
from varl.run.export import Policy, save_policy

TINY = {
  "num_timesteps": 64, "num_envs": 4, "episode_length": 8, "batch_size": 8, "replay_capacity": 64, "eval_every": 32,
  "eval_episodes": 2, "updates_per_env_step": 0.25, "warm_up": 32, "hidden": (8,),
}  # fmt: skip


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
  """The directory of a run, and a file of demonstrations beside it."""
  folder = tmp_path_factory.mktemp("imitating")
  varl.train("sac", "point_mass", out=folder / "expert", **TINY)
  spec = spec_of(toys.PointMass())
  config = small(mbpo, spec)
  agent = mbpo.make(spec, config)
  policy = Policy(agent, agent.init(jax.random.key(0)).params, None)
  save_policy(folder / "corrected", policy, algorithm="mbpo", config=config)
  argv = ["rollout", str(folder / "expert"), "--episodes", "3", "--out", str(folder / "demos.npz")]
  assert cli.main(argv) == 0
  return folder


def test_a_rollout_is_what_the_policy_does(expert):
  found = demonstrations.load(expert / "demos.npz")
  assert (found.episodes, len(found.obs)) == (3, 24)
  policy = varl.load_policy(expert / "expert")
  np.testing.assert_allclose(policy(found.obs), found.action, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(np.tanh(found.raw_action), found.action, rtol=1e-4, atol=1e-6)
  inside = found.episode[1:] == found.episode[:-1]
  np.testing.assert_array_equal(found.obs[1:][inside], found.next_obs[:-1][inside])
  np.testing.assert_array_equal(found.truncated, np.arange(24) % 8 == 7)
  assert found.source["algorithm"] == "sac"
  again = varl.rollout(expert / "expert", episodes=3)
  np.testing.assert_array_equal(again.obs, found.obs)
  sampled = varl.rollout(expert / "expert", episodes=3, stochastic=True)
  assert not np.allclose(sampled.action, found.action)


def test_a_run_keeps_its_demonstrations_and_leaves_a_reward(expert, tmp_path):
  path = shutil.copy(expert / "demos.npz", tmp_path / "mine.npz")
  out = tmp_path / "gail"
  fields = {"reward_hidden": (8,), **TINY}
  first = varl.train("gail", "point_mass", demonstrations=path, episodes=2, out=out, **fields)
  (tmp_path / "mine.npz").unlink()
  moved = out.rename(tmp_path / "moved")
  assert configure.read(moved).config.demonstrations == str(moved / "demonstrations.npz")
  longer = varl.resume(moved, num_timesteps=96)
  assert longer.metrics[-1]["env_steps"] == 96
  given = demonstrations.load(moved / "demonstrations.npz")
  whole = varl.train("gail", "point_mass", demonstrations=given, episodes=2, **{**fields, "num_timesteps": 96})
  for one, two in zip(longer.metrics, whole.metrics, strict=True):  # an object and a file are one and the same
    assert one["eval/episode_reward"] == two["eval/episode_reward"]
  assert first.finished
  config = dataclasses.replace(configure.read(moved).config, demonstrations=str(expert / "demos.npz"))
  assert attachments.differing(moved, config, None) == []
  assert attachments.differing(moved, config, str(moved)) == ["reward"]
  assert attachments.differing(moved, dataclasses.replace(config, demonstrations=None), None) == ["demonstrations"]
  other = shutil.copy(moved / "config.json", tmp_path / "other.npz")
  assert attachments.differing(moved, dataclasses.replace(config, demonstrations=str(other)), None) == [
    "demonstrations"
  ]
  (moved / "demonstrations.npz").unlink()
  obs = given.obs[:2]
  np.testing.assert_array_equal(varl.load_policy(moved)(obs), longer.policy(obs))  # which learns no more

  # What it has learned pays another agent, from a copy of its own.
  again = tmp_path / "again"
  varl.train("sac", "point_mass", reward=moved, out=again, **TINY)
  assert attachments.differing(again, configure.read(again).config, str(moved)) == []
  assert attachments.differing(again, configure.read(again).config, None) == ["reward"]
  shutil.rmtree(moved)
  assert varl.resume(again, num_timesteps=96).finished
  assert varl.load_policy(again)(obs).shape == (2, 2)


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["train", "gail", "--env", "point_mass"], "gail learns from demonstrations"),
    (["train", "bc", "--env", "point_mass", "--demonstrations", "gone.npz"], "no file of demonstrations gone.npz"),
    (["train", "gail", "--env", "chain", "--demonstrations", "{}/demos.npz"], "demonstrations of another environment"),
    (["train", "gail", "--env", "point_mass", "--demonstrations", "{}/demos.npz", "--episodes", "9"], "of 3 episodes"),
    (["train", "sac", "--env", "point_mass", "--reward", "{}/expert"], "learned no reward"),
    (["train", "sac", "--env", "point_mass", "--reward", "{}/corrected"], "corrected: no other agent can be paid"),
    (["train", "sac", "--env", "point_mass", "--reward", "{}"], "holds no policy"),
    (["rollout", "{}/expert", "--out", "demos.csv"], "a file FILE.npz"),
    (["rollout", "{}/expert", "--out", "{}/demos.npz"], "exists already"),
    (["rollout", "{}", "--out", "new.npz"], "is no run"),
    (["rollout", "{}/expert", "--out", "new.npz", "--episodes", "0"], "--episodes"),
    (["demos"], "did you mean 'rollout'"),
  ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(expert, argv, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert cli.main([word.format(expert) for word in argv]) == 2
  said = capsys.readouterr().err
  assert message in said
  assert said.count("\n") == 1
  assert not list(tmp_path.iterdir())
