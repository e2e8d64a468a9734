"""What this machine and this installation are, and whether varl can run on them.

The supported versions are those that the package itself declares; nothing here repeats them.
"""

import functools
import glob
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from typing import Any, NamedTuple, TextIO

from varl.run.devices import cores

_VERSIONS = ("jax", "jaxlib", "flax", "optax", "chex", "distrax", "brax", "mujoco-mjx", "orbax-checkpoint", "numpy")
"""What decides the numbers of a run: recorded with each."""

_NVIDIA_FILES = ("/dev/nvidia[0-9]*", "/dev/dxg")
_TPU_FILES = ("/dev/accel*",)

MIN_FREE_BYTES = 2**30
"""Less free disk or memory than this is reported as a fault."""


class Check(NamedTuple):
  """A line of the report: what, what was found, and whether that is good."""

  name: str
  found: str
  ok: bool


# Versions


@functools.cache
def bounds() -> dict[str, str]:
  """The versions that varl supports, as specifiers like ">=0.10,<0.13", by distribution; "python" among them.

  Read from the installed package's metadata, or from the checkout's `pyproject.toml` where it is not installed.
  """
  from packaging.requirements import Requirement

  try:
    metadata = importlib.metadata.metadata("varl")
    python, lines = metadata["Requires-Python"], metadata.get_all("Requires-Dist") or []
  except importlib.metadata.PackageNotFoundError:
    path = pathlib.Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    python, lines = project["requires-python"], project["dependencies"]
  requirements = [Requirement(line) for line in lines]
  return {"python": python} | {r.name: str(r.specifier) for r in requirements if r.marker is None}


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _check_version(name: str, found: str | None, allowed: str) -> Check:
  from packaging.specifiers import SpecifierSet

  if found is None:
    return Check(name, f"not installed; needs {allowed}", False)
  ok = SpecifierSet(allowed).contains(found, prereleases=True)
  return Check(name, found if ok else f"{found}; needs {allowed}", ok)


# Devices


def _nvidia_smi() -> bool:
  """Whether NVIDIA's driver lists a GPU."""
  program = shutil.which("nvidia-smi")
  if program is None:
    return False
  try:
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False)
  except (OSError, subprocess.TimeoutExpired):
    return False
  return listed.returncode == 0 and "GPU" in listed.stdout


def _present_accelerator() -> str | None:
  """The kind of accelerator that the operating system shows, whether or not JAX can use it."""
  if any(glob.glob(pattern) for pattern in _NVIDIA_FILES) or _nvidia_smi():
    return "NVIDIA GPU"
  if any(glob.glob(pattern) for pattern in _TPU_FILES):
    return "TPU"
  return None


def accelerator_warning() -> str | None:
  """What to tell a user whose machine has an accelerator that JAX does not use; None where there is nothing to tell."""
  import jax

  if jax.default_backend() != "cpu":
    return None
  present = _present_accelerator()
  if present is None:
    return None
  chosen = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
  if chosen:
    remedy = f"the environment sets JAX_PLATFORMS={chosen}; unset it to use the accelerator"
  elif present == "TPU":
    remedy = "install JAX for it: pip install 'jax[tpu]'"
  else:
    remedy = "install JAX for it: pip install 'varl[cuda12]' or 'varl[cuda13]', whichever the driver supports"
  return f"this machine has an accelerator ({present}), but JAX runs on the CPU and training will be slow; {remedy}"


def _host_memory() -> tuple[int | None, int | None]:
  """Host memory in bytes, (total, available); a container's limit counts as the total."""
  try:
    text = pathlib.Path("/proc/meminfo").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
  except (OSError, KeyError, ValueError):
    return None, None
  try:
    limit = int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text())
    used = int(pathlib.Path("/sys/fs/cgroup/memory.current").read_text())
    total, available = min(total, limit), min(available, max(limit - used, 0))
  except (OSError, ValueError):  # no limit ("max"), or no such file
    pass
  return total, available


def device_memory() -> int | None:
  """Bytes of memory that one device of JAX has; None where that is not known.

  An accelerator: what JAX may allocate on it. The CPU: host memory, divided over the devices that it is made to be.
  """
  import jax

  device = jax.local_devices()[0]
  stats = device.memory_stats() if device.platform != "cpu" else None
  if stats and "bytes_limit" in stats:
    return int(stats["bytes_limit"])
  if device.platform != "cpu":
    return None
  total, _ = _host_memory()
  return None if total is None else total // jax.local_device_count()


def device_summary() -> dict[str, Any]:
  """What a run was made with, for `config.json`: versions and devices, as JSON values."""
  import jax

  from varl import __version__

  versions = {"varl": __version__, "python": platform.python_version()}
  versions |= {name: version for name in _VERSIONS if (version := _version(name)) is not None}
  return {
    "versions": versions,
    "device": {
      "platform": jax.default_backend(),
      "kind": jax.devices()[0].device_kind,
      "count": jax.device_count(),
      "processes": jax.process_count(),
      "cpu_cores": cores(),
      "system": f"{platform.system()} {platform.machine()}",
    },
  }


def one_line() -> str:
  """Versions and devices in a line, to begin a run with."""
  summary = device_summary()
  versions, device = summary["versions"], summary["device"]
  named = ", ".join(f"{name} {versions[name]}" for name in ("jax", "brax") if name in versions)
  kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
  return (
    f"varl {versions['varl']}, Python {versions['python']}, {named}, on {device['count']} × {device['platform']}{kind}"
  )


# The report


def _check_jax() -> list[Check]:
  """Whether JAX finds its devices and can compile for them."""
  try:
    import jax
    import jax.numpy as jnp

    devices = jax.devices()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    checks = [Check("devices", f"{len(devices)} × {jax.default_backend()} ({kinds})", True)]
    warning = accelerator_warning()
    checks.append(Check("accelerator", warning or "none that JAX leaves unused", warning is None))
    started = time.perf_counter()
    ones = jnp.ones((64, 64))
    value = float(jax.jit(lambda x: (x @ x).sum())(ones))
    seconds = time.perf_counter() - started
    checks.append(Check("compile", f"a 64 × 64 matmul: {seconds:.2f} s, sum {value:g}", value == 64**3))
    memory = device_memory()
    checks.append(Check("device memory", "unknown" if memory is None else _gib(memory), True))
  except Exception as error:  # a broken installation fails in any way; the report must still be printed
    return [Check("JAX", f"does not run: {type(error).__name__}: {error!s:.300}", False)]
  return checks


def _gib(size: int) -> str:
  return f"{size / 2**30:.1f} GiB"


def _check_space(name: str, free: int | None, total: int | None) -> Check:
  if free is None or total is None:
    return Check(name, "unknown", True)
  return Check(name, f"{_gib(free)} free of {_gib(total)}", free >= MIN_FREE_BYTES)


def report() -> list[Check]:
  """Checks the installation and the machine.

  Returns:
    `(name, found, ok)` rows: Python and every dependency against the supported versions, JAX's devices, an accelerator
    that is left unused, compiling a small matmul, device memory, free disk in the working directory, free host memory.
  """
  allowed = dict(bounds())
  checks = [_check_version("python", platform.python_version(), allowed.pop("python"))]
  checks += [_check_version(name, _version(name), specifier) for name, specifier in allowed.items()]
  checks.append(_check_version("jaxlib", _version("jaxlib"), allowed["jax"]))  # released in step with JAX
  checks += _check_jax()
  disk = shutil.disk_usage(os.getcwd())
  checks.append(_check_space("disk", disk.free, disk.total))
  total, available = _host_memory()
  checks.append(_check_space("memory", available, total))
  return checks


def text(checks: list[Check]) -> str:
  """The report as plain text, a line a check."""
  width = max(len(check.name) for check in checks)
  lines = [f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<{width}}  {check.found}" for check in checks]
  bad = sum(not check.ok for check in checks)
  return "\n".join([*lines, "all is well" if not bad else f"{bad} of {len(checks)} checks failed"])


def print_report(file: TextIO | None = None) -> bool:
  """Prints the report (to stdout by default); returns whether every check is good."""
  checks = report()
  print(text(checks), file=sys.stdout if file is None else file)
  return all(check.ok for check in checks)
