"""Replay on the device: a ring of transitions as four pure functions.

A batch may bring rows that must not be stored (steps that turned non-finite), so `add` takes a mask and packs the
valid rows together; the ring's oldest rows go first. Everything works under jit, scan, vmap and shard_map, and in
place where the state is donated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.types import Array, ArrayTree, Key


class ReplayState(NamedTuple):
  """The ring.

  Attributes:
    data: every leaf `[capacity, ...]`.
    position: int32, the row that is written next.
    size: int32, rows that hold something.
  """

  data: Any
  position: Array
  size: Array


class Replay(NamedTuple):
  """A ring buffer.

  Attributes:
    init: `() -> state`, empty.
    add: `(state, batch, valid) -> state` with leaves `[B, ...]` and booleans `[B]`; B at most the capacity.
    sample: `(state, key, n) -> batch` of n rows, uniformly and with replacement; of an empty ring the zeros it began
      with.
    size: `state -> rows stored`.
    nbytes: bytes of memory that the state takes.
  """

  init: Callable[[], ReplayState]
  add: Callable[[ReplayState, ArrayTree, Array], ReplayState]
  sample: Callable[[ReplayState, Key, int], Any]
  size: Callable[[ReplayState], Array]
  nbytes: int


def ring(capacity: int, example: ArrayTree) -> Replay:
  """Makes a ring for rows like `example`.

  Args:
    capacity: rows kept.
    example: one row: a tree of arrays or of anything with shape and dtype.

  Raises:
    ValueError: capacity below 1; at `add`, more rows than the capacity.
  """
  capacity = checks.whole("capacity", capacity)
  if capacity >= 2**30:
    raise ValueError(f"a replay buffer indexes rows with 32 bits and holds fewer than 2^30, got capacity={capacity}")
  rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((capacity, *jnp.shape(x)), jnp.result_type(x)), example)
  nbytes = sum(int(np.prod(r.shape)) * r.dtype.itemsize for r in jax.tree.leaves(rows))

  def init() -> ReplayState:
    data = jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), rows)
    return ReplayState(data, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

  def add(state: ReplayState, batch: ArrayTree, valid: Array) -> ReplayState:
    count = valid.shape[0]
    if count > capacity:
      raise ValueError(f"{count} rows at once do not fit a replay buffer of capacity={capacity}")
    valid = valid.astype(jnp.int32)
    offset = jnp.cumsum(valid, dtype=jnp.int32) - valid
    # Rows left out are sent past the end, where "drop" discards them.
    index = jnp.where(valid > 0, (state.position + offset) % capacity, capacity)
    data = jax.tree.map(lambda d, x: d.at[index].set(x.astype(d.dtype), mode="drop"), state.data, batch)
    total = jnp.sum(valid, dtype=jnp.int32)
    return ReplayState(data, (state.position + total) % capacity, jnp.minimum(state.size + total, capacity))

  def sample(state: ReplayState, key: Key, n: int) -> Any:
    # After the first lap every row is filled; before it the filled ones are the first `size`.
    index = jax.random.randint(key, (n,), 0, jnp.maximum(state.size, 1))
    return jax.tree.map(lambda d: d[index], state.data)

  return Replay(init, add, sample, lambda state: state.size, nbytes)
