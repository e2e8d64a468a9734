"""Many independent runs of one program: as data of one compiled function, spread over the CPU's cores."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


def spread(run: Callable[..., Any], *runs: Any, together: bool = False) -> Any:
  """`run(*leaves)` for each row of `runs`, compiled once; each of JAX's devices takes an equal share of them.

  A device makes its runs one after another, where an update is a few large products (on a CPU, as fast as all of them
  under `vmap`, and a `cond` stays a `cond`), or `together` under `vmap`, where it is many small ones (tables).

  Args:
    run: jittable, of one row.
    runs: trees of arrays with the runs on their leading axis.
    together: whether a device's runs share a `vmap`.

  Returns:
    The results in NumPy, with the runs on the leading axis.
  """
  count = len(jax.tree.leaves(runs)[0])
  devices = jax.devices()[:count]
  # Shares are equal: some runs are made twice where the devices do not divide them.
  rows = np.arange(-(-count // len(devices)) * len(devices)) % count

  def share(*mine: Any) -> Any:
    return jax.vmap(run)(*mine) if together else jax.lax.map(lambda row: run(*row), mine)

  mesh = Mesh(np.asarray(devices), ("runs",))
  split = jax.shard_map(share, mesh=mesh, in_specs=P("runs"), out_specs=P("runs"), check_vma=False)
  found = jax.jit(split)(*jax.tree.map(lambda x: jnp.asarray(x)[rows], runs))
  return jax.tree.map(lambda x: np.asarray(x)[:count], found)
