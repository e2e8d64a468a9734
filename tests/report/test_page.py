"""The page of a run: what it has is drawn, what it has not is left out, and it needs nothing from elsewhere."""

import html.parser
import re

import numpy as np
import pytest

import varl
from varl import cli
from varl.agents import ppo
from varl.report import page

ROWS = [
  {
    "env_steps": 100 * i, "eval/episode_reward": float(i), "eval/episode_reward_std": 0.5, "training/alpha": 0.1 * i,
    "training/critic_loss": 1.0, "training/actor_loss": -2.0, "training/nan_resets": 0.0, "training/walltime": 60.0,
  }
  for i in range(1, 4)
]  # fmt: skip


class Reader(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.open, self.headings, self._in = [], [], ""

  def handle_starttag(self, tag, attributes):
    for name, value in attributes:
      assert not (name in ("src", "href") and value and not value.startswith("#")), value  # nothing from elsewhere
    self._in = tag

  def handle_data(self, data):
    if self._in in ("h1", "h2"):
      self.headings.append(data)
    self._in = ""


def headings(text):
  reader = Reader()
  reader.feed(text)
  return reader.headings


def test_what_a_run_has_is_drawn():
  text = page.page(ROWS, title="sac on <mass>", facts={"seed": "3"}, tables={"Settings": {"tau": 0.5}})
  assert headings(text) == ["sac on <mass>", "Return", "Temperature", "Bellman residual", "Other losses"]
  assert "<td>tau</td><td>0.5</td>" in text
  assert text.count("<svg") == 4
  with_returns = page.page(ROWS, title="x", returns=(np.arange(5_000.0), np.arange(5_000.0)))
  assert headings(with_returns)[2] == "Value against realised return"
  assert len(with_returns) < 400_000
  counted = [{**row, "training/nan_resets": 2.0} for row in ROWS]
  assert "Non-finite steps" in headings(page.page(counted, title="x"))
  assert not re.search(r"<script|url\(http", text)


def test_no_rows_are_refused():
  with pytest.raises(ValueError, match="at least one row"):
    page.page([], title="x")


FEW = {
  "num_timesteps": 300, "num_envs": 4, "warm_up": 100, "batch_size": 8, "hidden": (8,), "eval_every": 100,
  "eval_episodes": 2, "preset": False,
}  # fmt: skip


REPLAY = {"replay_capacity": 300}


@pytest.mark.parametrize(
  ("algorithm", "more"), [("sac", REPLAY), ("ppo", {"epochs": 1, "unroll_length": 5, "warm_up": 0, "batch_size": 20})]
)
def test_a_run_is_reported(algorithm, more, tmp_path, capsys):
  out, file = tmp_path / "run", tmp_path / "new" / "page.html"
  varl.train(algorithm, "point_mass", out=out, episode_length=20, **{**FEW, **more})
  assert cli.main(["report", str(out), "--out", str(file)]) == 0
  assert "bytes" in capsys.readouterr().out
  found = headings(file.read_text())
  assert found[0] == f"{algorithm} on point_mass, seed 0"
  assert "Value against realised return" in found
  assert cli.main(["report", str(out), "--out", str(file), "--episodes", "0"]) == 0  # a page of varl's is replaced
  assert "Value against realised return" not in headings(file.read_text())


def test_values_are_held_against_what_came(tmp_path):
  """Realised returns by hand: of a limit's end, the value stands for what would have come."""
  from varl.run import configure, inspect

  out = tmp_path / "run"
  run = varl.train(
    "sac", "point_mass", out=out, episode_length=20, gamma=0.5, reward_scale=2.0, replay_capacity=300, **FEW
  )
  realised, expected = inspect._returns(out, configure.read(out), None, None, 3, 0)
  assert realised.shape == expected.shape == (60,)
  np.testing.assert_array_equal(realised[19::20], expected[19::20])
  demos = varl.rollout(out, episodes=3, stochastic=True)
  np.testing.assert_allclose(realised[0], 2.0 * demos.reward[0] + 0.5 * realised[1], rtol=1e-5)
  assert run.finished


def test_values_of_states_are_held_against_what_came(tmp_path):
  from varl.run import configure, inspect

  out = tmp_path / "run"
  few = {"num_timesteps": 64, "num_envs": 4, "unroll_length": 4, "batch_size": 8, "hidden": (8,), "eval_every": 64}
  varl.train("ppo", "point_mass", out=out, episode_length=20, epochs=1, gamma=0.5, eval_episodes=2, **few)
  realised, expected = inspect._returns(out, configure.read(out), None, None, 3, 0)
  demos = varl.rollout(out, episodes=3, stochastic=True)
  np.testing.assert_allclose(realised[0], demos.reward[0] + 0.5 * realised[1], rtol=1e-5)
  policy = varl.load_policy(out)
  design = ppo.design(policy.agent.spec, configure.read(out).config)
  value = design.value.v(policy.params, varl.scaled(policy.params, demos.obs))
  np.testing.assert_allclose(expected, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ("tokens", "message"),
  [
    (["RUN", "--out", "page.pdf"], "a report is a page FILE.html, got 'page.pdf'"),
    (["RUN"], "--out"),
    (["nowhere", "--out", "page.html"], "nowhere is no run"),
    (["RUN", "--out", "mine.html"], "is no page of varl's"),
    (["RUN", "--out", "page.html", "--episodes", "-1"], "--episodes"),
  ],
)
def test_what_cannot_be_reported_is_refused(tokens, message, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.html").write_text("mine")
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text("{}")
  assert cli.main(["report", *("run" if token == "RUN" else token for token in tokens)]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert len(error.strip().splitlines()) == 1
  assert (tmp_path / "mine.html").read_text() == "mine"
