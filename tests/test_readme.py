"""The README's Python listings run as they stand, and it stays short."""

import pathlib
import re

import numpy as np

from varl import agents

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
LISTINGS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_it_is_read_in_three_minutes():
  assert len(README.splitlines()) <= 180
  assert len(LISTINGS) == 2


def test_the_algorithms_are_those_that_there_are():
  assert re.findall(r"It has (\d+) control-as-inference algorithms", README) == [str(len(agents.AGENTS))]
  pages = set(re.findall(r"\]\(docs/algorithms/(\w+)\.md\)", README))
  assert pages - {"index"} == set(agents.AGENTS)


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
