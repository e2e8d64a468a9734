"""The command line as a user meets it: subprocesses, exit codes, first lines."""

import os
import pathlib
import subprocess
import sys

import pytest

from varl.run import devices

ROOT = pathlib.Path(__file__).parent.parent
TINY = "--num-timesteps 400 --num-envs 4 --episode-length 50 --warm-up 100 --batch-size 16 --replay-capacity 1000"
TINY += " --eval-every 200 --eval-episodes 4 --hidden 16 16"


def varl(*arguments, cwd=ROOT, timeout=None, **environment):
  """Runs the command, in this environment but for what is given (None: not set); returns the finished process."""
  command = [sys.executable, "-m", "varl", *arguments]
  environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
  environment = {name: value for name, value in environment.items() if value is not None}
  return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False, timeout=timeout)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run by the command line, and what it printed."""
  out = tmp_path_factory.mktemp("cli") / "out"
  done = varl("train", "sac", "--env", "point_mass", "--out", str(out), *TINY.split())
  assert done.returncode == 0, done.stderr
  return out, done.stdout


def test_train_says_what_it_does(run):
  out, text = run
  assert "jax" in text.splitlines()[0]
  assert "sac on point_mass, seed 0, 400 steps" in text
  assert "replay: " in text
  assert "compiled in " in text
  assert "400 steps  return" in text
  assert str(out / "curve.png") in text.replace("\n", "")


@pytest.mark.parametrize("env", ["point_mass", pytest.param("halfcheetah", marks=pytest.mark.slow)])
def test_a_cpu_is_divided_over_its_cores(env, tmp_path):
  """With halfcheetah's physics XLA's pool of threads, at its default size, hangs within the first update."""
  flags = "--no-preset --num-envs 64 --unroll-length 32 --epochs 4 --batch-size 256 --value-hidden 256 256 256 256 256"
  flags += " --num-timesteps 4096 --eval-every 2048 --episode-length 50 --eval-episodes 4 --num-devices 2"
  plain = {"XLA_FLAGS": None, "NPROC": None, "JAX_PLATFORMS": "cpu"}
  done = varl("train", "ppo", "--env", env, "--out", str(tmp_path / "out"), *flags.split(), timeout=300, **plain)
  if devices.cores() == 1:
    assert done.returncode == 2
    assert "num_devices=2, but JAX sees 1 (cpu)" in done.stderr
    return
  assert done.returncode == 0, done.stderr
  assert "on 2 × cpu" in done.stdout.splitlines()[0]
  assert "4,096 steps  return" in done.stdout


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["train", "sac", "--env", "reacher", "--help"]])
def test_a_reader_that_leaves_is_no_error(arguments):
  """As in `varl list | head`."""
  reader, writer = os.pipe()
  os.close(reader)
  command = [sys.executable, "-m", "varl", *arguments]
  done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
  os.close(writer)
  assert done.stderr == ""


def test_eval_and_resume(run):
  out, _ = run
  done = varl("eval", str(out), "--episodes", "4")
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("eval/")
  done = varl("resume", str(out), "--num-timesteps", "600")
  assert done.returncode == 0, done.stderr
  assert "resuming at 400" in done.stdout
  assert "600 steps  return" in done.stdout


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["train", "sca", "--env", "point_mass"], "'sac'"),
    (["train", "sac", "--env", "halfcheeta"], "halfcheetah"),
    (["train", "sac", "--env", "ant", "--backend", "mujoco"], "generalized"),
    (["train", "sac"], "--env"),
    (["train"], "sac"),
    (["tran"], "tran"),
    (["resume", "/nonexistent"], "is no run"),
    (["eval", "/nonexistent"], "is no run"),
    (["render", "/nonexistent", "--out", "x.html"], "is no run"),
    (["presets", "sca"], "'sac'"),
    (["list", "--all"], "--all"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message):
  done = varl(*arguments)
  assert done.returncode == 2
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--num-timesteps", "-5"], "num_timesteps is a whole number > 0, got -5"),
    (["--learning-rate", "fast"], "--learning-rate is a number, got 'fast'"),
    (["--learning-rate", "nan"], "learning_rate is a finite number > 0, got nan"),
    (["--lerning-rate", "0.1"], "--learning-rate"),
    (["--replay-capacity", "10"], "cannot hold one batch"),
    (["--out", "/proc/varl"], "/proc/varl"),
  ],
)
def test_bad_flags(arguments, message):
  done = varl("train", "sac", "--env", "point_mass", *arguments)
  assert done.returncode == 2, done.stderr
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert len(done.stderr.strip().splitlines()) <= 2


def test_a_flag_that_would_go_unheeded():
  done = varl("train", "ppo", "--env", "inverted_pendulum", "--warm-up", "100", "--epochs", "2")
  assert done.returncode == 2, done.stderr
  assert "warm_up cannot be set for an algorithm that learns from rollouts" in done.stderr


def test_light_commands_and_mistyped_names_import_no_jax():
  """Not a timed test: what makes an answer slow is the import of JAX or Brax, and that can be seen."""
  mistyped = (["train", "sca", "--env", "ant"], ["train", "sac", "--env", "halfcheeta"], ["tran"])
  for arguments in (["--help"], ["list"], ["presets"], ["train", "--help"], *mistyped):
    code = f"import sys; from varl import cli\ntry:\n  cli.main({arguments!r})\nexcept SystemExit: pass\n"
    code += "heavy = {'jax', 'brax', 'distrax', 'flax', 'orbax', 'matplotlib'} & set(sys.modules)\n"
    code += "sys.exit(str(heavy) if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_setting_with_its_preset():
  done = varl("train", "sac", "--env", "inverted_pendulum", "--help")
  assert done.returncode == 0, done.stderr
  for flag in ("--learning-rate", "--num-timesteps", "--updates-per-env-step", "--nan-guard", "--entropy-target"):
    assert flag in done.stdout
