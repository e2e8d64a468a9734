"""The report on an installation and a machine, held against installations and machines made up for it."""

import email.message
import importlib.metadata
import io
import json
import os
import pathlib
import subprocess
import sys
import tomllib

import jax
import pytest

from varl.run import devices, doctor

ROOT = pathlib.Path(doctor.__file__).parents[2]


@pytest.fixture
def machine(monkeypatch, tmp_path):
  """A machine without accelerators; the folder stands for /dev."""
  monkeypatch.setattr(doctor, "_NVIDIA_FILES", (str(tmp_path / "nvidia[0-9]*"),))
  monkeypatch.setattr(doctor, "_TPU_FILES", (str(tmp_path / "accel*"),))
  monkeypatch.setenv("PATH", str(tmp_path))
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.delenv("JAX_PLATFORM_NAME", raising=False)
  monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
  return tmp_path


def test_the_bounds_are_those_of_the_project(monkeypatch):
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

  def absent(_):
    raise importlib.metadata.PackageNotFoundError

  monkeypatch.setattr(importlib.metadata, "metadata", absent)
  found = doctor.bounds.__wrapped__()
  assert found["python"] == project["requires-python"]
  assert len(found) == 1 + len(project["dependencies"])
  jax_line = next(line for line in project["dependencies"] if line.startswith("jax>"))
  assert set(found["jax"].split(",")) == set(jax_line.removeprefix("jax").split(","))


def test_the_bounds_of_an_installed_package_leave_its_extras_out(monkeypatch):
  metadata = email.message.Message()
  metadata["Requires-Python"] = ">=3.11"
  for line in ("jax<0.13,>=0.10", "brax>=0.14", 'pytest>=8; extra == "dev"', 'jax[cuda12]>=0.10; extra == "cuda12"'):
    metadata["Requires-Dist"] = line
  monkeypatch.setattr(importlib.metadata, "metadata", lambda _: metadata)
  assert doctor.bounds.__wrapped__() == {"python": ">=3.11", "jax": "<0.13,>=0.10", "brax": ">=0.14"}


@pytest.mark.parametrize(
  ("found", "expected"),
  [
    ("0.10.2", ("0.10.2", True)),
    ("0.12.0.1", ("0.12.0.1", True)),
    ("0.11.0.dev20260101", ("0.11.0.dev20260101", True)),
    ("0.9.2", ("0.9.2; needs >=0.10,<0.13", False)),
    ("0.13.0", ("0.13.0; needs >=0.10,<0.13", False)),
    (None, ("not installed; needs >=0.10,<0.13", False)),
  ],
)
def test_a_version_against_its_bounds(found, expected):
  assert doctor._check_version("jax", found, ">=0.10,<0.13") == ("jax", *expected)


def test_this_installation_is_sound_and_the_report_says_so(machine):
  checks = doctor.report()
  names = [check.name for check in checks]
  expected = {"python", "jax", "jaxlib", "flax", "optax", "chex", "brax", "distrax", "orbax-checkpoint"}
  expected |= {"devices", "accelerator", "compile", "device memory", "disk", "memory"}
  assert expected <= set(names)
  assert len(names) == len(set(names))
  wrong = [check for check in checks if not check.ok and check.name not in ("disk", "memory")]
  assert not wrong
  printed = io.StringIO()
  good = doctor.print_report(printed)
  assert good == all(check.ok for check in checks)
  lines = printed.getvalue().splitlines()
  assert len(lines) == len(checks) + 1
  assert lines[0].split()[:2] == ["ok", "python"]


def test_a_fault_is_shown_and_makes_the_report_bad(monkeypatch):
  monkeypatch.setattr(doctor, "report", lambda: [doctor.Check("a", "fine", True), doctor.Check("bcd", "broken", False)])
  printed = io.StringIO()
  assert doctor.print_report(printed) is False
  assert printed.getvalue() == "ok    a    fine\nFAIL  bcd  broken\n1 of 2 checks failed\n"


def test_a_jax_that_does_not_run_is_a_line_and_no_traceback(monkeypatch):
  def fail():
    raise RuntimeError("Unable to initialize backend")

  monkeypatch.setattr(jax, "devices", fail)
  assert doctor._check_jax() == [("JAX", "does not run: RuntimeError: Unable to initialize backend", False)]


def test_little_space_is_a_fault():
  assert not doctor._check_space("disk", 2**29, 2**40).ok
  assert doctor._check_space("disk", 2**31, 2**40) == ("disk", "2.0 GiB free of 1024.0 GiB", True)
  assert doctor._check_space("memory", None, None).ok


def _driver(folder, text, status=0):
  program = folder / "nvidia-smi"
  program.write_text(f"#!/bin/sh\necho '{text}'\nexit {status}\n")
  program.chmod(0o755)


def test_no_accelerator_no_warning(machine):
  assert doctor.accelerator_warning() is None
  _driver(machine, "NVIDIA-SMI has failed because it could not communicate with the driver", 9)
  assert doctor.accelerator_warning() is None
  _driver(machine, "No devices were found")
  assert doctor.accelerator_warning() is None


@pytest.mark.parametrize(("device", "kind"), [("nvidia0", "NVIDIA GPU"), ("accel0", "TPU"), (None, "NVIDIA GPU")])
def test_an_accelerator_beside_jax_on_the_cpu_is_a_warning(machine, monkeypatch, device, kind):
  if device is None:
    _driver(machine, "GPU 0: NVIDIA H100 (UUID: GPU-1)")
  else:
    (machine / device).touch()
  warning = doctor.accelerator_warning()
  assert f"has an accelerator ({kind}), but JAX runs on the CPU" in warning
  assert ("jax[tpu]" if kind == "TPU" else "varl[cuda12]") in warning
  assert doctor.Check("accelerator", warning, False) in doctor._check_jax()
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert "JAX_PLATFORMS=cpu" in doctor.accelerator_warning()


def test_an_accelerator_in_use_is_no_warning(machine, monkeypatch):
  (machine / "nvidia0").touch()
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert doctor.accelerator_warning() is None


def test_the_summary_is_json_and_names_versions_and_device():
  summary = json.loads(json.dumps(doctor.device_summary()))
  assert summary["versions"]["jax"] == jax.__version__
  assert summary["versions"]["python"].startswith("3.")
  assert summary["device"]["platform"] == jax.default_backend()
  assert summary["device"]["count"] == jax.device_count()
  line = doctor.one_line()
  assert "\n" not in line
  assert f"jax {jax.__version__}" in line


class _Device:
  def __init__(self, platform, stats):
    self.platform, self._stats = platform, stats

  def memory_stats(self):
    return self._stats


@pytest.mark.parametrize(
  ("device", "expected"), [(_Device("gpu", {"bytes_limit": 2**33}), 2**33), (_Device("gpu", None), None)]
)
def test_the_memory_of_an_accelerator_is_what_jax_may_allocate(monkeypatch, device, expected):
  monkeypatch.setattr(jax, "local_devices", lambda: [device])
  assert doctor.device_memory() == expected


def test_the_memory_of_the_host_is_shared_by_the_devices_it_is_split_into(monkeypatch):
  monkeypatch.setattr(jax, "local_devices", lambda: [_Device("cpu", None)])
  monkeypatch.setattr(jax, "local_device_count", lambda: 8)
  monkeypatch.setattr(doctor, "_host_memory", lambda: (2**34, 2**33))
  assert doctor.device_memory() == 2**31
  monkeypatch.setattr(doctor, "_host_memory", lambda: (None, None))
  assert doctor.device_memory() is None


def test_the_host_memory_is_plausible():
  total, available = doctor._host_memory()
  assert 2**28 < available <= total


def test_importing_it_imports_nothing_heavy():
  program = "import sys; from varl.run import doctor; print({'jax', 'numpy', 'rich'} & set(sys.modules))"
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
  assert done.stdout.strip() == "set()"


def test_only_a_division_over_cores_touches_the_pool_of_threads(monkeypatch):
  monkeypatch.setattr(devices, "cores", lambda: 4)
  monkeypatch.delenv("NPROC", raising=False)
  for count in (1, 5, 4096):
    devices.provide(count)
    assert "NPROC" not in os.environ
  monkeypatch.setenv("NPROC", "3")
  devices.provide(2)
  assert os.environ["NPROC"] == "3"
  monkeypatch.delenv("NPROC")
  devices.provide(2)
  assert os.environ["NPROC"] == "8"
  assert jax.device_count() == 8  # as `XLA_FLAGS` says here
