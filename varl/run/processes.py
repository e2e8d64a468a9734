"""Runs that span several processes, as `jax.distributed.initialize` makes them: process 0 writes, and all agree.

What is collective here is for all processes of the run to call, each at the same point of the same program.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
  from varl.types import Array, ArrayTree

T = TypeVar("T")


class OtherProcessFailed(RuntimeError):
  """Process 0 could not do what was its to do; the error itself is raised there."""


def join(where: str) -> int:
  """Joins the processes of one run, before JAX is first used; where that is done already, it stays.

  Args:
    where: "auto", as SLURM, Open MPI, Kubernetes or a TPU pod says; or HOST:PORT,N,I: where process 0 listens, how many
      there are, and which one this is.

  Returns:
    How many devices they have together.

  Raises:
    ValueError: neither of these; or nothing says what "auto" is.
  """
  import jax

  if not jax.distributed.is_initialized():
    given: tuple[Any, ...] = ()
    if where != "auto":
      found = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", where)
      if found is None or not int(found[3]) < int(found[2]):
        raise ValueError(f"processes join by 'auto' or HOST:PORT,N,I with I below N; got {where!r}")
      given = found[1], int(found[2]), int(found[3])
    try:
      jax.distributed.initialize(*given)
    except (ValueError, RuntimeError) as error:
      raise ValueError(f"cannot join the processes of a run ({where}): {' '.join(str(error).split())}") from error
  return int(jax.device_count())


class Team(NamedTuple):
  """The processes of one run.

  Attributes:
    leads: whether this one writes the files and reports.
    several: whether there are others.
  """

  leads: bool
  several: bool

  def anywhere(self, flag: bool) -> bool:
    """Whether `flag` holds in any of them; collective."""
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag)))) if self.several else flag

  def lead(self, action: Callable[[], T]) -> T | None:
    """Does `action` in the one that leads, while the others wait; collective.

    Returns:
      What `action` does; None in the others.

    Raises:
      OtherProcessFailed: in the others, where it raised.
    """
    result: T | None = None
    error: Exception | None = None
    if self.leads:
      try:
        result = action()
      except Exception as raised:
        error = raised
    failed = self.anywhere(error is not None)
    if error is not None:
      raise error
    if failed:
      raise OtherProcessFailed("process 0 failed; its own error says at what")
    return result


def team(spanning: bool) -> Team:
  """The processes of a run that spans all, or of one that each has for itself."""
  import jax

  several = spanning and jax.process_count() > 1
  return Team(not several or jax.process_index() == 0, several)


def spread(leaf: Any) -> bool:
  """Whether a leaf of a state is an array of which this process holds a part only."""
  import jax

  return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def to_host(array: Array) -> Any:
  """The whole array as NumPy's, in every process; collective where its parts are spread over them."""
  import numpy as np
  from jax.experimental import multihost_utils

  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def own(tree: ArrayTree) -> ArrayTree:
  """Replicated arrays as this process's own, for computations that the others take no part in."""
  import jax

  return jax.tree.map(lambda x: jax.numpy.asarray(to_host(x)) if spread(x) else x, tree)


def place(value: Any, sharding: Any) -> Array:
  """A host array, the same in every process, as `sharding` has it; None: on the default device."""
  import jax

  if sharding is None or sharding.is_fully_addressable:
    return jax.device_put(value, sharding)
  return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
