"""Writing files and directories so that a reader, or a restart, sees what was or what is new, and never a part."""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any


def as_path(given: Any) -> pathlib.Path:
  """What a caller has given as a path, or as something that has one, as a finished run has.

  Raises:
    ValueError: it is none.
  """
  try:
    return pathlib.Path(given)
  except TypeError:
    raise ValueError(
      f"a path is text or an os.PathLike; got {repr(given)[:80]}, of type {type(given).__name__}"
    ) from None


def sync_directory(directory: str | os.PathLike[str]) -> None:
  """Flushes the entries of a directory to disk, so that a rename or a new file in it survives a power cut."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def check_new(path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
  """The path of a file that is to be written.

  Raises:
    ValueError: something has the name already, and is not to be replaced.
  """
  path = as_path(path)
  if path.exists() and not overwrite:
    raise ValueError(f"{path} exists already; choose another name, or overwrite it (--overwrite)")
  return path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
  """Replaces the content of `path` in one step.

  The bytes go to a neighbouring file first, reach the disk, and then take the name.

  Args:
    path: the file; its directory exists.
    content: the whole new content.

  Raises:
    OSError: nothing could be written; `path` is then what it was.
  """
  path = as_path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  sync_directory(path.parent)


def put_in_place(new: pathlib.Path, final: pathlib.Path) -> None:
  """Gives the directory `new` the name `final`; what has that name is set aside first, and deleted at the end.

  A process that dies in between leaves one of the two whole: as `final`, or aside, from where `settle` puts it back.
  Another process that does either at the same time waits.

  Args:
    new: a directory beside `final`.
    final: a directory, or nothing.

  Raises:
    OSError: it could not be done; `final` is then what it was.
  """
  with _alone(final.parent):
    _settle(final)
    aside, _ = _beside(final)
    if not final.exists():
      new.rename(final)
    else:
      final.rename(aside)
      try:
        new.rename(final)
      except BaseException:
        aside.rename(final)
        raise
    sync_directory(final.parent)
    _settle(final)


def settle(final: pathlib.Path) -> None:
  """Ends what a process that died in `put_in_place` left: what was set aside gets its name back, or is deleted."""
  if any(path.exists() for path in _beside(final)):  # which may also be what another process is at
    with _alone(final.parent):
      _settle(final)


def _settle(final: pathlib.Path) -> None:
  aside, rubbish = _beside(final)
  shutil.rmtree(rubbish, ignore_errors=True)
  if aside.is_dir() and not final.exists():
    aside.rename(final)
  elif aside.is_dir():
    aside.rename(rubbish)  # first, so that half of it is never taken for the whole
    shutil.rmtree(rubbish, ignore_errors=True)


def _beside(final: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Where a directory is set aside, and under which name it is deleted."""
  return final.with_name(f".{final.name}.old"), final.with_name(f".{final.name}.gone")


@contextlib.contextmanager
def _alone(directory: pathlib.Path) -> Iterator[None]:
  """Waits while another process is at this in the same directory; where the file system has no locks, goes on."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)
