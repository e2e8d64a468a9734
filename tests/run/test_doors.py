"""Nothing that exists is touched before everything is judged; a run that ends early leaves what it has."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl import files
from varl.agents import sac
from varl.loop.settings import Settings
from varl.report import records
from varl.run import cache, configure, directory

TINY = {
  "hidden": (8,),
  "num_envs": 4,
  "episode_length": 50,
  "warm_up": 40,
  "batch_size": 8,
  "replay_capacity": 400,
  "eval_every": 80,
  "eval_episodes": 2,
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  """The directory of a run of 240 steps, which the tests read."""
  return varl.train("sac", "point_mass", num_timesteps=240, out=tmp_path_factory.mktemp("doors") / "out", **TINY).out


def contents(path):
  """Everything under a directory: names, and the bytes of files."""
  return {
    str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    for file in sorted(path.rglob("*"))
    if file.name != directory.LOCK
  }


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"learning_rate": -1.0}, "learning_rate is a finite number > 0"),
    ({"learning_rat": 1e-3}, "did you mean 'learning_rate'"),
    ({"hidden": 64}, r"hidden is a tuple of the layers' widths, such as \(256, 256\), got 64"),
    ({"seed": -1}, "seed is a whole number"),
    ({"num_envs": 3}, "is not a whole number of updates"),
    ({"replay_capacity": 4}, "cannot hold one batch"),
    (
      {"num_timesteps": 40, "warm_up": 5000},
      "num_timesteps=40 ends before the first update, .*nothing would be learned",
    ),
    ({"num_timesteps": 40, "updates_per_env_step": 0.0}, "makes no update: nothing would be learned"),
    ({"learning_rate": object()}, "learning_rate is a finite number > 0, got <object"),
  ],
)
def test_what_is_wrong_costs_no_run_that_is_there(out, given, message):
  before = contents(out)
  with pytest.raises(ValueError, match=message):
    varl.train("sac", "point_mass", out=out, overwrite=True, **{"num_timesteps": 240, **TINY, **given})
  assert contents(out) == before
  assert not [path for path in out.parent.iterdir() if path != out]


def test_a_run_whose_programs_do_not_compile_costs_no_run_that_is_there(out, monkeypatch):
  before = contents(out)
  monkeypatch.setattr("varl.run.compiling.programs", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no")))
  with pytest.raises(RuntimeError, match="no"):
    varl.train("sac", "point_mass", num_timesteps=240, out=out, overwrite=True, **TINY)
  assert contents(out) == before
  assert records.read(out)
  assert not [path for path in out.parent.iterdir() if path != out]


def test_numbers_of_numpy_and_jax_are_pythons(tmp_path):
  """In the settings, the Config and the seed; what is written is read back as the same."""
  given = {
    **TINY,
    "num_timesteps": np.int64(80),
    "num_envs": jnp.int32(4),
    "learning_rate": np.float32(1e-3),
    "gamma": jnp.float32(0.5),
    "hidden": [np.int64(8)],
    "reward_scale": np.array(2.0),
    "warm_up": 4e1,
    "critics": np.float64(3.0),
    "decay_updates": 1e3,
  }
  run = configure.resolve("sac", "point_mass", seed=np.uint32(3), **given)
  values = [run.seed, *dataclasses.astuple(run.settings), *dataclasses.astuple(run.config)]
  assert {type(value) for value in values} <= {int, float, str, bool, tuple, type(None)}
  assert [(type(value), value) for value in (run.config.critics, run.config.decay_updates)] == [(int, 3), (int, 1000)]
  assert run.settings == Settings(**{k: v for k, v in given.items() if hasattr(Settings, k)})
  configure.write(tmp_path, run, {})
  assert configure.read(tmp_path) == run


def test_a_traced_field_stays_traced():
  rate = jax.jit(lambda rate: configure.plain(rate) * 2)(1e-3)
  np.testing.assert_allclose(rate, 2e-3)


def test_resuming_to_less_than_was_done_is_refused_and_changes_nothing(out):
  before = contents(out)
  with pytest.raises(ValueError, match="num_timesteps=120 is less than the 240 environment steps that the run"):
    varl.resume(out, num_timesteps=120)
  assert contents(out) == before


def test_resuming_a_finished_run_compiles_nothing(out, monkeypatch):
  monkeypatch.setattr("varl.run.compiling.programs", lambda *_, **__: pytest.fail("compiles"))
  run = varl.resume(out)
  assert run.finished
  assert run.metrics == records.read(out)


def test_an_empty_directory_is_a_place_for_a_run_and_a_full_one_is_none(tmp_path):
  (tmp_path / "empty").mkdir()
  run = varl.train("sac", "point_mass", num_timesteps=80, out=tmp_path / "empty", **TINY)
  assert records.read(run.out)
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "thesis.txt").write_text("all of it")
  for overwrite in (False, True):
    with pytest.raises(ValueError, match="exists and is no run; it is not overwritten"):
      varl.train("sac", "point_mass", num_timesteps=80, out=tmp_path / "full", overwrite=overwrite, **TINY)
  assert contents(tmp_path / "full").keys() == {"thesis.txt"}


@pytest.mark.parametrize("error", [varl.StopTraining, RuntimeError])
def test_a_callback_that_ends_the_run_leaves_policy_curve_and_checkpoint(tmp_path, error):
  def callback(row):
    if row["env_steps"] == 80:
      raise error("enough")

  def train():
    return varl.train("sac", "point_mass", num_timesteps=240, out=tmp_path / "run", callback=callback, **TINY)

  if error is varl.StopTraining:
    run = train()
    assert not run.finished
    assert run.metrics[-1]["env_steps"] == 80
  else:
    with pytest.raises(error, match="enough"):
      train()
  assert {"policy", "curve.png", "checkpoints", "config.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
  assert varl.load_policy(tmp_path / "run" / "policy")(np.zeros(4)).shape == (2,)
  assert varl.resume(tmp_path / "run").finished


def test_two_processes_do_not_write_one_run(out):
  with directory.hold(out), pytest.raises(ValueError, match="is being written by another process"):
    varl.train("sac", "point_mass", num_timesteps=240, out=out, overwrite=True, **TINY)


def test_a_signal_while_compiling_leaves_nothing_that_stands_in_the_way(tmp_path):
  """The directory does not exist afterwards, and the next run takes it."""
  out = tmp_path / "run"
  command = [sys.executable, "-u", "-m", "varl", "train", "sac", "--env", "reacher", "--out", str(out)]
  with subprocess.Popen(
    [*command, "--num-timesteps", "6000", "--no-compile-cache"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    text=True, env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
  ) as process:  # fmt: skip
    for line in process.stdout:
      if line.startswith("compiling"):
        break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    left = process.stdout.read()
  assert process.returncode == 130, left
  assert "Traceback" not in left
  assert not out.exists()
  assert not list(tmp_path.iterdir())


def test_a_run_is_shown_without_its_arrays(out):
  run = varl.resume(out)
  assert len(repr(run)) < 600
  assert "env_steps=240" in repr(run)
  assert "finished=True" in repr(run)
  assert "observations [4]" in repr(run.policy)


def test_a_deterministic_policy_needs_no_key_and_a_stochastic_one_does(out):
  policy = varl.load_policy(out / "policy")
  np.testing.assert_array_equal(policy(np.zeros(4)), policy(np.zeros(4), jax.random.key(5)))
  with pytest.raises(ValueError, match=r"a stochastic policy needs a key: policy\(obs, jax.random.key\(seed\)\)"):
    dataclasses.replace(policy, stochastic=True)(np.zeros(4))


def test_widths_of_layers_are_a_tuple():
  spec = varl.Spec(4, 2)
  for hidden in (64, "64", (64.0,), (True,)):
    with pytest.raises(ValueError, match="hidden is a tuple of the layers' widths"):
      sac.make(spec, sac.Config(hidden=hidden))


def test_the_compile_cache_is_on_for_a_call_and_off_after_it(tmp_path, monkeypatch):
  """Another directory that is configured stays the one that is used; one that cannot be written is no error."""
  monkeypatch.setattr(cache, "directory", lambda: tmp_path / "cache" / "xla")
  with cache.persistent() as used:
    assert used is None  # the tests have a cache of their own
  own = jax.config.jax_compilation_cache_dir
  try:
    cache._point_to(None)
    with cache.persistent() as used:
      assert used == tmp_path / "cache" / "xla" == cache.pathlib.Path(jax.config.jax_compilation_cache_dir)
      minimum = jax.config.jax_persistent_cache_min_compile_time_secs
      jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
      jax.jit(lambda x: x * 3.5 + 1)(jnp.ones(3)).block_until_ready()
      jax.config.update("jax_persistent_cache_min_compile_time_secs", minimum)
    assert jax.config.jax_compilation_cache_dir is None
    assert list((tmp_path / "cache" / "xla").iterdir())
    with cache.persistent(use=False) as used:
      assert used is None
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "directory", lambda: tmp_path / "file" / "xla")
    with cache.persistent() as used:
      assert used is None
  finally:
    cache._point_to(own)


def test_compiling_is_told_of_from_the_start(tmp_path, monkeypatch):
  """Several times a second, with the seconds so far, so that a console can say so on a terminal and elsewhere."""
  from varl.run import progress

  class Hears(progress.Reporter):
    def __init__(self):
      self.seconds, self.order = [], []

    def started(self, run, out):
      self.order.append("started")

    def compiling(self, seconds):
      self.order.append("compiling")
      self.seconds.append(seconds)

    def compiled(self, seconds):
      self.order.append("compiled")

  heard = Hears()
  varl.train("sac", "point_mass", num_timesteps=80, report=heard, **TINY)
  assert heard.order[:2] == ["started", "compiling"]
  assert heard.order[-1] == "compiled"
  assert heard.seconds[0] < 0.1
  assert heard.seconds == sorted(heard.seconds)


def test_two_that_put_a_directory_in_place_wait_for_one_another(tmp_path):
  final, failed = tmp_path / "out", list[Exception]()

  def put(name):
    try:
      for count in range(60):
        new = tmp_path / f"{name}{count}"
        new.mkdir()
        (new / "whose").write_text(name)
        files.put_in_place(new, final)
    except Exception as error:  # shown below
      failed.append(error)

  def look():
    try:
      for _ in range(2000):
        files.settle(final)
    except Exception as error:  # shown below
      failed.append(error)

  threads = [
    threading.Thread(target=put, args=("a",)),
    threading.Thread(target=put, args=("b",)),
    threading.Thread(target=look),
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not failed
  assert [path.name for path in tmp_path.iterdir()] == ["out"]
  assert (final / "whose").read_text() in ("a", "b")


DAMAGES = {
  "cut": lambda content: content[: len(content) // 2],
  "empty": lambda _: b"",
  "noise": lambda _: bytes(range(128, 256)),
  "list": lambda _: b"[]",
  "number": lambda _: b"3",
  "nothing": lambda _: b"null",
}
READERS = {
  configure.FILE: configure.read,
  "policy/policy.json": varl.load_policy,
  "policy/params.msgpack": varl.load_policy,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", READERS)
def test_what_is_damaged_is_said_in_one_line(out, tmp_path, file, damage):
  own = shutil.copytree(out, tmp_path / "own")
  (own / file).write_bytes(DAMAGES[damage]((own / file).read_bytes()))
  with pytest.raises(ValueError, match=re.escape(str(own / file).removesuffix("/policy.json"))) as refused:
    READERS[file](own)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize("file", ["policy/policy.json", configure.FILE])
def test_a_field_of_another_kind_is_said_in_one_line(out, tmp_path, file):
  """Each field of what is on disk, one after another, in another's place."""
  own = shutil.copytree(out, tmp_path / "own")
  body = json.loads((own / file).read_text())
  refused = 0
  for name, value in body.items():
    for wrong in (None, 3, "x", [], [None], {}):
      changed = {**body, name: wrong}
      if isinstance(value, dict) and name in ("config", "settings", "spec") and not isinstance(wrong, dict):
        changed[name] = {**value, next(iter(value)): wrong}  # of what is in it, the first
      (own / file).write_text(json.dumps(changed))
      try:
        READERS[file](own)
      except ValueError as error:
        refused += "\n" not in str(error)
  assert refused > len(body)


def test_what_is_no_directory_holds_no_policy(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="file holds no policy"):
    varl.load_policy(tmp_path / "file")
