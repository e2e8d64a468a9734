"""A CPU as several devices, so that environments and updates take all of its cores."""

import contextlib
import os

FORCED = "xla_force_host_platform_device_count"


def provide(count: int) -> None:
  """Makes JAX divide the CPU into `count` devices, where it has as many cores, and JAX has not started yet.

  XLA runs the small operations of physics on one core at a time, so that two devices on two cores take not much more
  than half the time for them. All devices share one pool of threads, by default one a core, and devices that wait
  for each other in there can leave none for what they wait for: they hang. So the pool is made larger, where the
  environment variable that says its size (NPROC) is not set.

  Does nothing for one device; and to their number nothing where somebody has said it (by `XLA_FLAGS`), or where
  processes are joined by `jax.distributed`, each of which has its own. Accelerators are not concerned.

  Args:
    count: devices of the run.
  """
  if count == 1:
    return
  import jax

  cores = os.cpu_count() or 1
  os.environ.setdefault("NPROC", str(max(4 * count, cores)))
  if count > cores or FORCED in os.environ.get("XLA_FLAGS", "") or jax.distributed.is_initialized():
    return
  with contextlib.suppress(RuntimeError):  # JAX has started; that it has too few devices is said where they are counted
    jax.config.update("jax_num_cpu_devices", count)
