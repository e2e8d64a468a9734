"""Several hosts: two processes with a device each train as one process with two devices does."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import two_processes


def test_two_processes_are_two_devices(tmp_path):
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  script = str(pathlib.Path(two_processes.__file__))
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  running = [
    subprocess.Popen(
      [sys.executable, script, str(port), str(index), str(tmp_path / f"{index}.npz")],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(2)
  ]
  try:
    params, metrics = two_processes.train()
    for process in running:
      output, _ = process.communicate(timeout=240)
      assert process.returncode == 0, output
  finally:
    for process in running:
      process.kill()
  first, second = (dict(np.load(tmp_path / f"{index}.npz")) for index in range(2))
  wanted = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  wanted |= {f"metric {name}": value for name, value in metrics.items()}
  assert first.keys() == second.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    np.testing.assert_allclose(first[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
