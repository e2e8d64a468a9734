"""Exported policies: run where varl is not, equal to the live one, and refused in one line where they cannot be."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import varl
from varl import cli
from varl.run import artifact

FEW = {
  "num_timesteps": 200, "num_envs": 4, "warm_up": 100, "batch_size": 8, "hidden": (8,), "eval_every": 200,
  "episode_length": 20, "eval_episodes": 2, "preset": False, "replay_capacity": 200, "compile_cache": False,
}  # fmt: skip
ALONE = """
import sys
import jax, numpy as np
call = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
obs = np.load(sys.argv[2])
np.save(sys.argv[3], call(obs))
assert not any(name.split(".")[0] in ("varl", "flax", "distrax", "brax", "optax") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  out = tmp_path_factory.mktemp("exported") / "run"
  varl.train("sac", "point_mass", out=out, **FEW)
  return out


def test_a_program_runs_where_varl_is_not(run, tmp_path, capsys):
  file, given, found = tmp_path / "policy.jax", tmp_path / "obs.npy", tmp_path / "action.npy"
  assert cli.main(["export", str(run), "--out", str(file)]) == 0
  assert "bytes" in capsys.readouterr().out
  obs = np.random.default_rng(0).normal(size=(1_000, 4)).astype(np.float32)
  np.save(given, obs)
  subprocess.run([sys.executable, "-I", "-c", ALONE, *map(str, (file, given, found))], check=True, cwd=tmp_path)
  np.testing.assert_allclose(np.load(found), varl.load_policy(run)(obs), atol=1e-6)


def test_it_is_lowered_for_every_platform(run, tmp_path):
  path = varl.export(run, tmp_path / "new" / "policy.jax")
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  assert exported.platforms == ("cpu", "cuda", "tpu")
  assert str(exported.in_avals[0].shape) == "(b, 4)"


def test_one_that_explores_takes_a_key(run, tmp_path):
  path = varl.export(run, tmp_path / "policy.jax", stochastic=True)
  call = jax.export.deserialize(bytearray(path.read_bytes())).call
  obs = np.ones((5, 4), np.float32)
  one, two = (call(obs, jax.random.key_data(jax.random.key(seed))) for seed in (0, 1))
  np.testing.assert_allclose(one, varl.load_policy(run, stochastic=True)(obs, jax.random.key(0)), atol=1e-6)
  assert np.abs(one - two).max() > 0.01


def test_its_arrays_have_names(run, tmp_path):
  found = np.load(varl.export(run, tmp_path / "policy.npz"))
  assert json.loads(str(found["description"]))["spec"]["observation_size"] == 4
  params = varl.load_policy(run).params
  np.testing.assert_array_equal(found["actor/params/Dense_0/kernel"], params["actor"]["params"]["Dense_0"]["kernel"])
  np.testing.assert_array_equal(found["normalizer/mean"], params["normalizer"].mean)


def test_as_onnx_it_is_the_same(run, tmp_path):
  pytest.importorskip("jax2onnx")
  import onnxruntime

  session = onnxruntime.InferenceSession(varl.export(run, tmp_path / "policy.onnx").read_bytes())
  obs = np.random.default_rng(0).normal(size=(1_000, 4)).astype(np.float32)
  (found,) = session.run(["action"], {"obs": obs})
  np.testing.assert_allclose(found, varl.load_policy(run)(obs), atol=1e-5)


def test_without_the_converter_it_says_what_to_install(run, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  with pytest.raises(ValueError, match=r"pip install \"varl\[onnx\]\""):
    varl.export(run, tmp_path / "policy.onnx")


def test_a_graph_that_differs_is_not_written(run, tmp_path, monkeypatch):
  class Graph:
    def SerializeToString(self):
      return b"graph"

  class Session:
    def __init__(self, content, providers):
      pass

    def get_inputs(self):
      return [type("Input", (), {"name": "obs"})]

    def run(self, names, given):
      return (np.zeros((64, 2), np.float32),)

  monkeypatch.setattr(artifact, "_converter", lambda: type("C", (), {"to_onnx": lambda *args, **named: Graph()}))
  monkeypatch.setitem(sys.modules, "onnxruntime", type("R", (), {"InferenceSession": Session}))
  with pytest.raises(RuntimeError, match="differs from the policy by"):
    varl.export(run, tmp_path / "policy.onnx")
  assert not (tmp_path / "policy.onnx").exists()


@pytest.mark.parametrize(
  ("tokens", "message"),
  [
    (["RUN", "--out", "policy.pt"], "a policy is exported as FILE.jax, FILE.onnx, FILE.npz, got 'policy.pt'"),
    (["RUN", "--out", "."], "is exported as"),
    (["RUN", "--out", ".", "--format", "jax"], "is a directory"),
    (["RUN", "--out", "policy.jax", "--format", "torch"], "--format"),
    (["nowhere", "--out", "policy.jax"], "nowhere is no run"),
    (["RUN", "--out", "HERE"], "exists already"),
    (["RUN"], "--out"),
    (["RUN", "--out", "policy.jax", "--batch", "0"], "--batch"),
  ],
)
def test_the_command_line_says_what_is_wrong(tokens, message, run, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  here = tmp_path / "here.jax"
  here.write_bytes(b"mine")
  places = {"RUN": str(run), "HERE": str(here)}
  assert cli.main(["export", *(places.get(token, token) for token in tokens)]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert len(error.strip().splitlines()) == 1
  assert here.read_bytes() == b"mine"


def test_a_policy_that_draws_for_each_row_has_to_know_them(tmp_path):
  from conftest import small

  from varl.agents import smcp
  from varl.envs import spec, toys
  from varl.run.export import Policy

  agent = smcp.make(spec(toys.PointMass()), small(smcp))
  policy = Policy(agent, agent.init(jax.random.key(0)).params, None)
  with pytest.raises(ValueError, match="has to know how many there are: batch=1"):
    varl.export(policy, tmp_path / "policy.jax")
  path = varl.export(policy, tmp_path / "policy.jax", batch=1, platforms=("cpu",))
  call = jax.export.deserialize(bytearray(path.read_bytes())).call
  carry = tuple(jax.tree.leaves(agent.carry(1)))
  action, _ = call(np.ones((1, 4), np.float32), np.ones(1, np.float32), carry)
  np.testing.assert_allclose(action, policy.step(agent.carry(1), np.ones((1, 4)))[0], atol=1e-5)
