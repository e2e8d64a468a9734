"""The directory of a run: judged before anything is touched, prepared beside its place, held while it is written.

A new run is prepared in `.NAME.<8 hexadecimal digits>.new` beside its directory NAME and takes its place when its first
row of metrics is written; an older run stays whole until then. A process that is killed leaves the older run or the new
one, and the next `train` removes what it had prepared. Who writes a run holds a lock on its file `.lock`, which the
operating system takes back when the process ends in whatever way; who writes a member of a population shares that of
the population.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from varl import files
from varl.report import records

LOCK = ".lock"


class Place(NamedTuple):
  """Where a run is prepared, and the directory whose place it then takes.

  Attributes:
    prepared: the directory beside `out`.
    out: the run's directory.
    overwrite: whether `out` may hold a run by then.
  """

  prepared: pathlib.Path
  out: pathlib.Path
  overwrite: bool

  def take(self) -> None:
    """Gives the prepared directory its name; a run that has it is deleted after that.

    Raises:
      ValueError: something has come to be there since it was judged.
      OSError: it could not be done; what was there is whole.
    """
    judge(self.out, self.overwrite)
    files.put_in_place(self.prepared, self.out)


def locate(out: str | os.PathLike[str]) -> pathlib.Path:
  """The path of a run's directory, absolute and with links followed; what a killed process left half done is ended.

  Raises:
    ValueError: it is no path.
  """
  path = files.as_path(out)
  try:
    path = path.resolve()
  except (ValueError, OSError, RuntimeError) as error:
    raise ValueError(f"{str(path)!r} is no path of a run's directory: {error}") from None
  with contextlib.suppress(OSError):  # of a directory that may only be read
    files.settle(path)
  return path


def judge(out: pathlib.Path, overwrite: bool) -> None:
  """Whether a new run may have this directory: it does not exist, is empty, or is a run that may be overwritten.

  Raises:
    ValueError: it may not.
  """
  if not os.path.lexists(out):
    return
  if out == pathlib.Path.cwd() or os.path.ismount(out):
    kind = "the working directory" if out == pathlib.Path.cwd() else "a mount point"
    raise ValueError(f"{out} is {kind}, whose place a new run cannot take; choose a directory in it: {out / 'run'}")
  if out.is_dir() and not any(out.iterdir()):
    return
  if not any((out / name).is_file() for name in (records.CONFIG, records.POPULATION)):
    raise ValueError(f"{out} exists and is no run; it is not overwritten")
  if not overwrite:
    raise ValueError(f"{out} exists already; choose another directory, resume it, or pass overwrite")


@contextlib.contextmanager
def prepare(out: pathlib.Path, overwrite: bool) -> Iterator[Place]:
  """Makes a directory for a new run beside `out`; if it has not taken its place at the end, it is gone.

  Args:
    out: by `locate`.
    overwrite: whether an older run may be replaced.

  Raises:
    ValueError: `out` is taken, in use, or cannot be made.
  """
  judge(out, overwrite)
  with contextlib.ExitStack() as stack:
    if out.is_dir() and any(out.iterdir()):
      stack.enter_context(hold(out))
    prepared = out.with_name(f".{out.name}.{secrets.token_hex(4)}.new")
    absent = [path for path in out.parents if not path.exists()]
    try:
      out.parent.mkdir(parents=True, exist_ok=True)
      prepared.mkdir()
      if out.exists():
        shutil.copymode(out, prepared)
    except OSError as error:
      _remove_empty(absent)
      raise ValueError(f"cannot create {out}: {error.strerror}") from None
    try:
      with hold(prepared):
        _remove_left(out)
        yield Place(prepared, out, overwrite)
    finally:
      shutil.rmtree(prepared, ignore_errors=True)
      _remove_empty(absent)


@contextlib.contextmanager
def hold(out: pathlib.Path) -> Iterator[None]:
  """Keeps a run's directory for this process alone, whatever name it has in the meantime.

  Of a member, its population is kept, too: others may write other members, and none the whole.

  Raises:
    ValueError: another process has it, or it cannot be written.
  """
  above = out.parent.parent
  with contextlib.ExitStack() as stack:
    if out.parent.name == records.MEMBERS and (above / records.POPULATION).is_file():
      stack.enter_context(_locked(above, fcntl.LOCK_SH))
    stack.enter_context(_locked(out, fcntl.LOCK_EX))
    yield


@contextlib.contextmanager
def _locked(out: pathlib.Path, kind: int) -> Iterator[None]:
  try:
    file = open(out / LOCK, "ab")  # noqa: SIM115 - closed below, which gives it back
  except OSError as error:
    raise ValueError(f"cannot write to {out}: {error.strerror}") from None
  with file:
    if _lock(file.fileno(), kind) is False:
      raise ValueError(f"{out} is being written by another process; wait for its end, or stop it")
    yield


def _lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool | None:
  """Whether the lock on an open file is this process's; None where the file system has none."""
  try:
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
  except OSError as error:
    return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
  return True


def _remove_left(out: pathlib.Path) -> None:
  """Removes what killed processes had prepared for `out`, known by a lock that nobody holds."""
  name = re.compile(re.escape(f".{out.name}.") + r"[0-9a-f]{8}\.new")
  for path in out.parent.iterdir():
    if name.fullmatch(path.name):
      with contextlib.suppress(OSError), open(path / LOCK, "rb+") as file:
        if _lock(file.fileno()):
          shutil.rmtree(path, ignore_errors=True)


def _remove_empty(paths: list[pathlib.Path]) -> None:
  """Removes directories that were made, the innermost first, as far as they are empty."""
  for path in paths:
    with contextlib.suppress(OSError):
      path.rmdir()
