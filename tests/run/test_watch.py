"""What a run does beside training: the best policy, early ends with a status each, logs, traces, files of settings."""

import json
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import varl
from varl import cli
from varl.report import records
from varl.run import watch as watching

FEW = {
  "num_timesteps": 400, "num_envs": 4, "warm_up": 100, "batch_size": 8, "hidden": (8,), "eval_every": 100,
  "episode_length": 20, "eval_episodes": 2, "preset": False, "replay_capacity": 400,
}  # fmt: skip
TOKENS = [
  "--num-timesteps", "400", "--num-envs", "4", "--warm-up", "100", "--batch-size", "8", "--hidden", "8",
  "--eval-every", "100", "--episode-length", "20", "--eval-episodes", "2", "--replay-capacity", "400", "--no-preset",
]  # fmt: skip


def test_the_best_policy_is_kept(tmp_path):
  seen = {}
  out = tmp_path / "run"

  def look(row):
    best = out / "best"
    seen[row["env_steps"]] = (
      row["eval/episode_reward"],
      (best / "params.msgpack").stat().st_mtime_ns if best.exists() else 0,
    )

  varl.train("sac", "point_mass", out=out, save_best=True, callback=look, **FEW)
  returns = [value for value, _ in seen.values()]
  written = [time for _, time in seen.values()]
  assert written[0] > 0
  for index in range(1, len(returns)):
    better = returns[index] > max(returns[:index])
    assert (written[index] > written[index - 1]) == better
  assert varl.load_policy(out / "best")(np.ones(4)).shape == (2,)
  again = varl.resume(out, num_timesteps=500, save_best=True)
  assert len(again.metrics) == 6


def test_a_return_ends_a_run(tmp_path):
  run = varl.train("sac", "point_mass", stop_at=-1e9, out=tmp_path / "run", **FEW)
  assert (run.finished, run.stopped) == (False, "return")
  assert [row["env_steps"] for row in run.metrics] == [0]
  assert varl.load_policy(tmp_path / "run")(np.ones(4)).shape == (2,)
  assert varl.resume(tmp_path / "run").finished


def test_time_ends_a_run(tmp_path):
  run = varl.train("sac", "point_mass", stop_after=1e-6, out=tmp_path / "run", **FEW)
  assert (run.finished, run.stopped) == (False, "time")
  whole = varl.resume(tmp_path / "run")
  assert whole.stopped == ""
  np.testing.assert_array_equal(
    [row["eval/episode_reward"] for row in whole.metrics],
    [row["eval/episode_reward"] for row in varl.train("sac", "point_mass", **FEW).metrics],
  )


def test_the_command_line_has_a_status_for_each_end(tmp_path, capsys):
  out = ["--out", str(tmp_path / "run")]
  assert cli.main(["train", "sac", "--env", "point_mass", *TOKENS, *out, "--stop-after", "0.000001s"]) == 124
  assert cli.main(["resume", str(tmp_path / "run"), "--stop-at=-1e9"]) == 0
  assert "stopped before the last step" in capsys.readouterr().out
  assert cli.main(["resume", str(tmp_path / "run")]) == 0


def test_a_sigterm_has_a_status_of_its_own(tmp_path):
  program = f"""
import os, signal, sys
from varl import cli
from varl.run import epochs
told = epochs.safeguards.assert_updates
def once(*args):
  told(*args)
  os.kill(os.getpid(), signal.SIGTERM)
  epochs.safeguards.assert_updates = told
epochs.safeguards.assert_updates = once
sys.exit(cli.main({["train", "sac", "--env", "point_mass", *TOKENS, "--out", str(tmp_path / "run")]!r}))
"""
  ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
  assert ran.returncode == 128 + signal.SIGTERM, ran.stderr
  assert varl.resume(tmp_path / "run").finished


def test_a_job_goes_on_where_it_can(tmp_path, capsys):
  tokens = ["train", "sac", "--env", "point_mass", *TOKENS, "--out", str(tmp_path / "run"), "--resume-if-possible"]
  assert cli.main([*tokens, "--stop-after", "0.000001s"]) == 124
  assert cli.main(tokens) == 0
  assert "resuming at" in capsys.readouterr().out
  assert [row["env_steps"] for row in records.read(tmp_path / "run")] == [0, 100, 200, 300, 400]
  assert cli.main([*tokens, "--tau", "0.5"]) == 2
  assert "is another one: tau=0.005 there, 0.5 here" in capsys.readouterr().err
  assert cli.main([*tokens, "--seed", "1"]) == 2
  assert "is another one: seed" in capsys.readouterr().err


def test_a_trace_is_written(tmp_path):
  said = []

  class Listener:
    def __getattr__(self, name):
      return lambda *args: said.append(args[0]) if name == "message" else None

  varl.train("sac", "point_mass", profile=tmp_path / "trace", report=Listener(), **{**FEW, "num_timesteps": 200})
  assert any("perfetto_trace.json.gz" in text for text in said)
  assert list((tmp_path / "trace").rglob("perfetto_trace.json.gz"))


def test_rows_go_to_weights_and_biases(tmp_path, monkeypatch):
  begun, logged = {}, []

  class Found:
    def log(self, row, step):
      logged.append((step, row["eval/episode_reward"]))

    def finish(self):
      logged.append("finished")

  def init(**given):
    begun.update(given)
    return Found()

  monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
  run = varl.train("sac", "point_mass", out=tmp_path / "mass", log="wandb", **FEW)
  assert (begun["name"], begun["project"], begun["config"]["hidden"]) == ("mass", "varl", (8,))
  assert logged == [(row["env_steps"], row["eval/episode_reward"]) for row in run.metrics] + ["finished"]
  assert not (tmp_path / "mass" / "tensorboard").exists()


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_itself_offline(tmp_path, monkeypatch):
  pytest.importorskip("wandb")
  program = f"""
import varl
varl.train("sac", "point_mass", out="mass", log="wandb", **{FEW!r})
"""
  environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
  ran = subprocess.run(
    [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
  )
  assert ran.returncode == 0, ran.stderr
  assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_settings_from_a_file(tmp_path, capsys):
  toml = tmp_path / "run.toml"
  toml.write_text("""
algorithm = "sac"
env = "point_mass"
seed = 3
[config]
hidden = [8]
tau = 0.25
[settings]
num_timesteps = 200
num_envs = 4
warm_up = 100
batch_size = 8
eval_every = 100
episode_length = 20
eval_episodes = 2
replay_capacity = 200
""")
  first, second = tmp_path / "first", tmp_path / "second"
  assert cli.main(["train", "--config", str(toml), "--out", str(first), "--tau", "0.5"]) == 0
  body = json.loads((first / "config.json").read_text())
  assert (body["seed"], body["config"]["tau"], body["config"]["hidden"]) == (3, 0.5, [8])
  assert cli.main(["train", "--config", str(first / "config.json"), "--out", str(second), "--seed", "4"]) == 0
  again = json.loads((second / "config.json").read_text())
  assert again["seed"] == 4
  assert (again["config"], again["settings"]) == (body["config"], body["settings"])


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("algorithm = ", "is no TOML"),
    ('algorithm = "sac"\nenv = "point_mass"\ntau = 1\n[config]\ntau = 2', "names tau twice"),
    ('algorithm = "sac"\nenv = "point_mass"\ntaw = 1', "has a setting 'taw'"),
    ('algorithm = "sax"\nenv = "point_mass"', "sax"),
    ('algorithm = "sac"', "needs --env"),
    ('env = "point_mass"', "needs an algorithm"),
  ],
)
def test_a_file_that_is_wrong_is_refused(text, message, tmp_path, capsys):
  file = tmp_path / "run.toml"
  file.write_text(text)
  assert cli.main(["train", "--config", str(file), "--out", str(tmp_path / "run")]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert len(error.strip().splitlines()) == 1
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"log": "mlflow"}, "log is one of tensorboard, wandb, csv"),
    ({"save_best": True}, "save_best needs out"),
    ({"log": "wandb"}, 'log="wandb" needs out'),
    ({"stop_at": float("nan")}, "stop_at is a finite number"),
    ({"stop_at": "high"}, "stop_at is a finite number"),
    ({"stop_after": "soon"}, "seconds above 0, or a number with s, m, h or d"),
    ({"stop_after": -1}, "seconds above 0"),
    ({"profile": __file__}, "is a file"),
    ({"report": False}, "report hears of a run's stages.*started.*; got False"),
  ],
)
def test_what_cannot_be_done_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    varl.train("sac", "point_mass", **given, **FEW)


def test_times():
  assert [watching.duration(text) for text in (2, "90", "90s", "1.5m", "8h", "2d")] == [2, 90, 90, 90, 28_800, 172_800]
