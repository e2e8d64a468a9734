"""Several hosts: two processes with a device each train as one process with two devices does."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import two_processes

import varl
from varl import cli
from varl.report import records
from varl.run import checkpoint


def _free(port):
  with socket.socket() as probe:
    return probe.connect_ex(("localhost", port)) != 0


def test_two_processes_are_two_devices(tmp_path):
  job = next(job for job in range(os.getpid(), os.getpid() + 100) if _free(65535 - 2**12 + 1 + job % 2**12))
  script = str(pathlib.Path(two_processes.__file__))
  flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
  environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
  # What SLURM tells its tasks; JAX derives the port from the job.
  environment |= {
    "SLURM_JOB_ID": str(job),
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_LOCALID": "0",
  }
  running = [
    subprocess.Popen(
      [sys.executable, script, str(tmp_path)],
      env=environment | {"SLURM_PROCID": str(index)},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(2)
  ]
  try:
    params, metrics = two_processes.train()
    whole = varl.train("sac", "point_mass", out=tmp_path / "whole", preset=False, hidden=(8,), **two_processes.SIZES)
    for process in running:
      output, _ = process.communicate(timeout=240)
      assert process.returncode == 0, output
  finally:
    for process in running:
      process.kill()
  first, second = (dict(np.load(tmp_path / f"{index}.npz")) for index in range(2))
  wanted = {f"trained {k}": v for k, v in two_processes.by_path(params).items()}
  wanted |= {f"metric {k}": v for k, v in metrics.items()}
  wanted |= {f"resumed {k}": v for k, v in two_processes.by_path(whole.params).items()}
  assert first.keys() == second.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    np.testing.assert_allclose(first[name], value, rtol=1e-4, atol=1e-6, err_msg=name)

  # One of them wrote, and what it wrote is the whole run: one process with two devices goes on from it.
  assert [row["env_steps"] for row in records.read(tmp_path / "run")] == [0, 80, 160]
  assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [80, 160]
  for out in ("run", "whole"):
    varl.resume(tmp_path / out, num_timesteps=240)
  one, other = (varl.load_policy(tmp_path / out).params for out in ("run", "whole"))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)


@pytest.mark.parametrize("where", ["", "automatic", "localhost,2,0", "localhost:1,2", "localhost:1,2,2"])
def test_where_is_said_as_it_must_be(where, capsys):
  command = ["train", "sac", "--env", "point_mass", "--distributed", where]
  assert cli.main(command) == 2
  assert "processes join by 'auto' or HOST:PORT,N,I with I below N; got" in capsys.readouterr().err
