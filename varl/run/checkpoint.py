r"""Checkpoints of a whole run through Orbax: written complete or not at all, checked before they are believed.

On disk, below the checkpoint directory:

  000000040000/            the step, zero-padded to 12 digits
    arrays/                an Orbax checkpoint: one array for every array leaf of the state
    manifest.json          written last: schema, step, the leaves, and size and CRC-32 of every file under arrays/

A state is any pytree. Its leaves are stored flat, by path, as plain host arrays; containers and shardings come from
the `example` given to `restore`. So NamedTuples, dicts and flax dataclasses come back as themselves, and the file
format knows none of them. Typed keys are stored as their key data, Python numbers in the manifest.

A directory without a manifest is what a killed process left behind: it is ignored, and removed by the next `save`.

A state whose arrays are spread over several processes is saved and restored by all of them together, in a directory
that all of them see; one of them writes.
"""

import json
import os
import pathlib
import re
import shutil
import warnings
import zlib
from typing import Any

from varl import checks, files
from varl.run import leaves, processes

SCHEMA = 1
"""Version of the layout above. A reader refuses a larger one."""

MANIFEST = "manifest.json"

_ARRAYS = "arrays"
# "<step>.old" is a checkpoint that another one of the same step is taking the place of.
_NAME = re.compile(r"(\d{12,})(\.old)?")
_UNFINISHED = re.compile(r"\d{12,}\.tmp")


class CheckpointError(ValueError):
  """No checkpoint can be restored; the message says what was found."""


class CheckpointWarning(UserWarning):
  """A damaged checkpoint was passed over."""


class _Damaged(Exception):
  """This checkpoint is not what was saved; the message says where."""


# Files


def _crc32(path: pathlib.Path, *, sync: bool = False) -> int:
  result = 0
  with open(path, "rb") as file:
    while block := file.read(1 << 22):
      result = zlib.crc32(block, result)
    if sync:
      os.fsync(file.fileno())
  return result


def _seal(body: dict[str, Any]) -> bytes:
  """The manifest as bytes, with a checksum of itself. This envelope stays the same in every schema."""
  text = json.dumps(body, sort_keys=True)
  return json.dumps({"manifest": body, "crc32": zlib.crc32(text.encode())}, sort_keys=True, indent=1).encode() + b"\n"


def _manifest(checkpoint: pathlib.Path) -> dict[str, Any] | None:
  """The manifest of a complete checkpoint, None for an incomplete one; _Damaged or CheckpointError as they say."""
  try:
    content = (checkpoint / MANIFEST).read_bytes()
  except FileNotFoundError:
    return None
  try:
    envelope = json.loads(content)
    body = envelope["manifest"]
    intact = zlib.crc32(json.dumps(body, sort_keys=True).encode()) == envelope["crc32"]
  except (ValueError, KeyError, TypeError):
    intact = False
  if not intact:
    raise _Damaged(f"{MANIFEST} is not as it was written")
  if body["schema"] > SCHEMA:
    raise CheckpointError(
      f"{checkpoint} has checkpoint schema {body['schema']}; this version of varl reads up to {SCHEMA}: use a newer one"
    )
  return body


def _load_arrays(checkpoint: pathlib.Path, manifest: dict[str, Any]) -> dict[str, Any]:
  """The stored host arrays by name, after every file has been compared with the manifest."""
  for name, expected in manifest["files"].items():
    path = checkpoint / name
    if not path.is_file():
      raise _Damaged(f"{name} is missing")
    if path.stat().st_size != expected["size"]:
      raise _Damaged(f"{name} has {path.stat().st_size} bytes, not {expected['size']}")
    if _crc32(path) != expected["crc32"]:
      raise _Damaged(f"{name} has another CRC-32 than when it was written")
  names = [entry["name"] for entry in manifest["leaves"].values() if "name" in entry]
  if not names:
    return {}
  import numpy as np
  import orbax.checkpoint as ocp

  restore_args = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
  try:
    with _orbax() as checkpointer:
      arrays = checkpointer.restore(
        (checkpoint / _ARRAYS).absolute(), args=ocp.args.PyTreeRestore(restore_args=restore_args)
      )
  except Exception as error:  # whatever Orbax and TensorStore raise: this checkpoint cannot be read
    raise _Damaged(f"Orbax cannot read it: {type(error).__name__}: {error!s:.200}") from error
  return {name: np.asarray(arrays[name]) for name in names}


def _orbax() -> Any:
  """Orbax for this process alone: what is stored is whole in each, and it must not wait for the others."""
  import jax
  import orbax.checkpoint as ocp

  index = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
  )
  return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


def _candidates(directory: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
  """Everything that is named like a checkpoint, newest first."""
  if not directory.is_dir():
    return []
  found = [(int(match[1]), path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
  # At equal step "000000000010" comes before "000000000010.old".
  return sorted(found, key=lambda item: (-item[0], item[1].name))


def _remove(path: pathlib.Path) -> None:
  """Deletes a checkpoint, manifest first: half deleted, it counts as incomplete and not as damaged."""
  (path / MANIFEST).unlink(missing_ok=True)
  shutil.rmtree(path, ignore_errors=True)


# Public


def steps(directory: str | os.PathLike[str]) -> list[int]:
  """The steps that have a complete checkpoint, in increasing order. Looks for manifests and reads no array."""
  found = {step for step, path in _candidates(pathlib.Path(directory)) if (path / MANIFEST).is_file()}
  return sorted(found)


def save(directory: str | os.PathLike[str], step: int, state: Any, *, keep: int = 2) -> pathlib.Path:
  """Writes a checkpoint; it exists from the moment its manifest does, and no sooner.

  The checkpoint is built beside its final place, flushed to disk, and takes its name at the end. Only then are older
  ones deleted. A process that dies at any point before leaves the earlier checkpoints as they were.

  The steps of a run grow. A checkpoint with a larger step than this one is therefore one that `restore` passed over as
  damaged before the run went on from an earlier one, and it is deleted with the old ones. One of the same step is
  replaced.

  Args:
    directory: where the checkpoints of the run are; created where it does not exist.
    step: environment steps so far, not negative.
    state: any pytree of JAX arrays, typed keys, NumPy arrays and scalars, and Python numbers.
    keep: how many of the newest checkpoints stay, this one included; at least 1. Two let a damaged one be survived.

  Returns:
    The checkpoint's own directory, `directory/<step, zero-padded to 12>`.

  Raises:
    ValueError: a bad `step` or `keep`, or a leaf that is no array, key or number, named by its path.
    OSError: it could not be written; what was there before is untouched.
    OtherProcessFailed: it could not be written by another process, of several that save one state.
  """
  step, keep = checks.whole("step", step, least=0), checks.whole("keep", keep)
  listed, _ = leaves.flatten(state)
  entries = leaves.describe_all(listed)
  arrays = leaves.to_host(listed, entries)
  directory = pathlib.Path(directory)
  team = processes.team(any(processes.spread(leaf) for _, leaf in listed))
  team.lead(lambda: _store(directory, step, entries, arrays, keep))
  return directory / f"{step:012d}"


def _store(
  directory: pathlib.Path, step: int, entries: dict[str, dict[str, Any]], arrays: dict[str, Any], keep: int
) -> None:
  """`save`, of what has been gathered."""
  directory.mkdir(parents=True, exist_ok=True)
  for path in directory.iterdir():
    if _UNFINISHED.fullmatch(path.name):  # of a process that died here
      shutil.rmtree(path, ignore_errors=True)
  final = directory / f"{step:012d}"
  temporary = directory / f"{final.name}.tmp"
  temporary.mkdir()
  try:
    _write(temporary, step, entries, arrays)
    _put_in_place(temporary, final)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise

  kept: set[int] = set()
  for other, path in _candidates(directory):
    complete = (path / MANIFEST).is_file()
    if other > step or not complete or other in kept or len(kept) >= keep:
      _remove(path)
    else:
      kept.add(other)


def _write(path: pathlib.Path, step: int, entries: dict[str, dict[str, Any]], arrays: dict[str, Any]) -> None:
  """Fills an empty directory with a checkpoint, the manifest last."""
  if arrays:
    with _orbax() as checkpointer:
      checkpointer.save((path / _ARRAYS).absolute(), arrays)

  written = {}
  for root, _, names in os.walk(path):
    for name in sorted(names):
      file = pathlib.Path(root) / name
      written[file.relative_to(path).as_posix()] = {"size": file.stat().st_size, "crc32": _crc32(file, sync=True)}
    files.sync_directory(root)
  body = {"schema": SCHEMA, "step": step, "leaves": entries, "files": written}
  files.write_atomically(path / MANIFEST, _seal(body))


def _put_in_place(temporary: pathlib.Path, final: pathlib.Path) -> None:
  if final.exists():
    aside = final.with_name(final.name + ".old")
    if aside.exists():
      _remove(aside)
    final.rename(aside)  # `_candidates` still finds it under this name, should the process die before the next line
  temporary.rename(final)
  files.sync_directory(final.parent)


def restore(directory: str | os.PathLike[str], example: Any, *, at: int | None = None) -> tuple[int, Any]:
  """Reads the newest complete checkpoint that is undamaged.

  Every file is compared with the manifest's size and CRC-32 before Orbax sees it. A damaged checkpoint is named in a
  `CheckpointWarning` and the one before it is taken.

  Args:
    directory: where the checkpoints of the run are.
    example: a state of the same structure, shapes and dtypes: arrays, or `jax.ShapeDtypeStruct`s as from
      `jax.eval_shape`. An array, or a struct with a sharding, also says where the restored array is placed.
    at: the step of the checkpoint that is wanted, and no other; None: any.

  Returns:
    `(step, state)`: `state` has the containers of `example` and, bit for bit, the values that were saved. Weak types do
    not come back: every JAX array is strongly typed.

  Raises:
    CheckpointError: there is no complete checkpoint; all are damaged; one was written under a newer schema; or the
      newest one holds another state than `example` (of another algorithm, or of other sizes), saying what differs.
    ValueError: `example` has a leaf that is no array, key or number.
  """
  listed, structure = leaves.flatten(example)
  wanted = leaves.describe_all(listed)
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise CheckpointError(f"no checkpoint: {directory} is no directory")

  candidates = [(step, path) for step, path in _candidates(directory) if at is None or step == at]
  damaged = []
  for step, path in candidates:
    try:
      manifest = _manifest(path)
      if manifest is None:
        continue
      if manifest["step"] != step:
        raise _Damaged(f"its manifest is of step {manifest['step']}")
      found = leaves.differences(manifest["leaves"], wanted)
      if found:
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        hint = leaves.precision(manifest["leaves"], wanted)
        raise CheckpointError(f"{path} holds another state than is asked for{hint}: {'; '.join(found[:5])}{more}")
      arrays = _load_arrays(path, manifest)
    except (_Damaged, OSError) as error:
      damaged.append(f"checkpoint {path} is damaged ({error})")
      warnings.warn(f"{damaged[-1]}; trying the one before it", CheckpointWarning, stacklevel=2)
      continue
    return step, leaves.rebuild(manifest["leaves"], arrays, listed, structure)

  if damaged:
    raise CheckpointError(f"no checkpoint in {directory} can be read: {'; '.join(damaged)}")
  incomplete = ", ".join(path.name for _, path in candidates) or "nothing"
  raise CheckpointError(f"no complete checkpoint in {directory}; found {incomplete} (a checkpoint has a {MANIFEST})")
