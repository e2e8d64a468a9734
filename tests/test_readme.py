"""The README's Python listings run as they stand."""

import pathlib
import re

import numpy as np

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
LISTINGS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_train_with_a_callback(capsys):
  scope = {}
  exec(LISTINGS[0], scope)
  assert scope["action"].shape == (2,)
  assert len(capsys.readouterr().out.splitlines()) == len(scope["run"].metrics)


def test_an_axis_swapped_and_a_term_added():
  scope = {}
  exec(LISTINGS[1], scope)
  row = scope["run"].metrics[-1]
  assert row["env_steps"] == 4_000
  assert np.isfinite([row["training/cloning_loss"], row["training/actor_loss"]]).all()


def test_vmapped_grid():
  scope = {}
  exec(LISTINGS[2], scope)
  assert scope["returns"].shape == (3, 2)
  assert np.isfinite(scope["returns"]).all()


def test_custom_agent():
  scope = {}
  exec(LISTINGS[3] + LISTINGS[4], scope)
  assert np.asarray(scope["metrics"]["training/updates"]).sum() == (8_000 - 504) * 0.25
  assert np.isfinite(np.asarray(scope["metrics"]["training/critic_loss"])).all()
  assert {"actor", "critic", "target_critic", "temperature"} == scope["state"].agent.params.keys()
