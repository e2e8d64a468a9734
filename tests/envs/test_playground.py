"""Environments of MuJoCo Playground, where it is installed, and what is said where it is not."""

import importlib.util

import pytest

from varl.envs import make, spec


def test_it_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r"needs MuJoCo Playground: pip install 'varl\[playground\]'"):
    make("playground:CartpoleBalance")


@pytest.mark.filterwarnings("ignore")
def test_a_task_of_its_suite():
  pytest.importorskip("mujoco_playground")
  env = make("playground:CartpoleBalance", episode_length=300)
  assert (spec(env).observation_size, spec(env).action_size, env.time_limit) == (5, 1, 300)
  with pytest.raises(ValueError, match=r"no environment 'CartpoleBalanc'.*CartpoleBalance"):
    make("playground:CartpoleBalanc")
  with pytest.raises(ValueError, match="run by jax or warp; got backend 'mjx'"):
    make("playground:CartpoleBalance", "mjx")
  with pytest.raises(ValueError, match="no configuration episode_lenth"):
    make("playground:CartpoleBalance", episode_lenth=3)
