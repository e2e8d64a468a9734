"""A CPU as several devices, so that environments and updates take all of its cores."""

import contextlib
import os

FORCED = "xla_force_host_platform_device_count"
"""XLA's flag for their number."""


def cores() -> int:
  """How many of the CPU's cores this process may use: those of its affinity, where the system keeps one."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def provide(count: int) -> None:
  """Makes JAX divide the CPU into `count` devices, where it has as many cores and JAX has not started yet.

  XLA runs the small operations of physics on one core at a time, so that two devices on two cores take not much more
  than half the time for them. All devices share one pool of threads, by default one a core, and devices that wait
  for each other in there can leave none for what they wait for: they hang. So the pool is made larger, where the
  environment variable that says its size (NPROC) is not set.

  Where somebody has said how many devices there are (by `XLA_FLAGS`), or processes are joined by `jax.distributed`, of
  which each has its own, only the pool is seen to. Accelerators are not concerned.

  Args:
    count: devices of the run. For 1, or more than there are cores, nothing is done.
  """
  if not 1 < count <= cores():
    return
  import jax

  os.environ.setdefault("NPROC", str(max(4 * count, cores())))
  if FORCED in os.environ.get("XLA_FLAGS", "") or jax.distributed.is_initialized():
    return
  with contextlib.suppress(RuntimeError):  # JAX has started; that it has too few devices is said where they are counted
    jax.config.update("jax_num_cpu_devices", count)
