"""Writing a small file so that a reader, or a restart, sees the old content or the new one and never a part."""

import os
import pathlib


def sync_directory(directory: str | os.PathLike[str]) -> None:
  """Flushes the entries of a directory to disk, so that a rename or a new file in it survives a power cut."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
  """Replaces the content of `path` in one step.

  The bytes go to a neighbouring file first, reach the disk, and then take the name.

  Args:
    path: the file; its directory exists.
    content: the whole new content.

  Raises:
    OSError: nothing could be written; `path` is then what it was.
  """
  path = pathlib.Path(path)
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
