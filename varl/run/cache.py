"""JAX's persistent compile cache, on for the length of a call: the second start of a run compiles next to nothing."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

SUBDIRECTORY = "xla"


def directory() -> pathlib.Path:
  """Where compiled programs are kept by default: `xla` in varl's folder of the user's cache directory."""
  return pathlib.Path(platformdirs.user_cache_dir("varl", appauthor=False)) / SUBDIRECTORY


@contextlib.contextmanager
def persistent(use: bool = True) -> Iterator[pathlib.Path | None]:
  """JAX's persistent compile cache in `directory()` while this lasts; JAX's configuration is then what it was.

  A cache that is configured already (`jax_compilation_cache_dir`, `JAX_COMPILATION_CACHE_DIR`) is left as it is, and
  a directory that cannot be written is no error: programs are then compiled as without a cache.

  Args:
    use: whether to.

  Yields:
    The directory that is used by this call's doing; None where there is none.
  """
  known: Any = jax.config
  if not use or known.jax_compilation_cache_dir is not None or not known.jax_enable_compilation_cache:
    yield None
    return
  path = directory()
  if not _writable(path):
    yield None
    return
  _point_to(str(path))
  try:
    yield path
  finally:
    _point_to(None)


def _point_to(path: str | None) -> None:
  jax.config.update("jax_compilation_cache_dir", path)
  compilation_cache.reset_cache()  # JAX looks at the directory once, at its first program


def _writable(path: pathlib.Path) -> bool:
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      return os.access(path, os.R_OK | os.X_OK)
  except OSError:
    return False
