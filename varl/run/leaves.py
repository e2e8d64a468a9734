"""The leaves of a state, as a checkpoint stores them: host arrays by name, and what JSON says of each.

A leaf is a JAX array, a typed key, a NumPy array or scalar, or a Python number; it is known by its path in the state.
"""

from collections.abc import Iterable
from typing import Any

from varl.run import processes


def flatten(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
  """The leaves by path, and the structure that they are of."""
  import jax

  leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
  return [(jax.tree_util.keystr(path) or "the state", leaf) for path, leaf in leaves], structure


def describe_all(leaves: Iterable[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
  """What each leaf is, by path: an entry of the manifest.

  Raises:
    ValueError: one is no array, key or number, named by its path.
  """
  result = {}
  for path, leaf in leaves:
    try:
      result[path] = _describe(leaf)
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from None
  return result


def _describe(leaf: Any) -> dict[str, Any]:
  """What a leaf is, as JSON: its kind and, for arrays and keys, shape and dtype."""
  import jax
  import numpy as np

  if type(leaf) in (bool, int, float):  # exactly these: np.float64 is a float to isinstance
    return {"kind": type(leaf).__name__}
  if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return {"kind": "key", "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
  if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic):
    dtype = np.dtype(leaf.dtype)
    if dtype.kind not in "OSUMm":
      return {"kind": "array", "shape": list(leaf.shape), "dtype": dtype.name}
  raise ValueError(f"a leaf must be an array, a typed key or a Python number, got {type(leaf).__name__}: {leaf!r:.80}")


def to_host(leaves: list[tuple[str, Any]], entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """The arrays to store, by the names under which their entries will know them; the entries are completed."""
  import jax
  import numpy as np

  arrays = {}
  for number, (path, leaf) in enumerate(leaves):
    entry = entries[path]
    if "shape" not in entry:
      entry["value"] = leaf.hex() if entry["kind"] == "float" else str(leaf)
      continue
    if entry["kind"] == "key":
      entry["impl"] = str(jax.random.key_impl(leaf))
      leaf = jax.random.key_data(leaf)
    value = processes.to_host(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf)
    entry["data"] = {"shape": list(value.shape), "dtype": value.dtype.name}
    if value.size:  # Orbax refuses arrays without elements; their shape says all there is
      entry["name"] = f"{number:06d}"
      arrays[entry["name"]] = value
  return arrays


def rebuild(
  entries: dict[str, dict[str, Any]], arrays: dict[str, Any], leaves: list[tuple[str, Any]], structure: Any
) -> Any:
  """The state of what was stored.

  Args:
    entries: what `to_host` completed, by path.
    arrays: what it gave, by name.
    leaves, structure: of an example, by `flatten`; its arrays' shardings say where these go.
  """
  import jax
  import numpy as np

  values = []
  for path, example in leaves:
    entry = entries[path]
    data = entry.get("data")
    value = None
    if data is not None:
      value = arrays[entry["name"]] if "name" in entry else np.zeros(data["shape"], np.dtype(data["dtype"]))
    values.append(_from_host(entry, value, example))
  return jax.tree.unflatten(structure, values)


def _from_host(entry: dict[str, Any], value: Any, example: Any) -> Any:
  """The stored `value` as the kind of leaf that `example` is, placed where `example` is."""
  import jax
  import numpy as np

  if entry["kind"] == "bool":
    return entry["value"] == "True"
  if entry["kind"] == "int":
    return int(entry["value"])
  if entry["kind"] == "float":
    return float.fromhex(entry["value"])
  sharding = getattr(example, "sharding", None)
  if entry["kind"] == "key":
    return jax.random.wrap_key_data(processes.place(value, sharding), impl=entry["impl"])
  if isinstance(example, np.generic):
    return value[()]
  if isinstance(example, np.ndarray):
    return value
  return processes.place(value, sharding)


def differences(saved: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> list[str]:
  """What keeps a saved state from being the wanted one, a line each; empty where it is."""
  result = [f"{path} is in the checkpoint only" for path in saved if path not in wanted]
  result += [f"{path} is not in the checkpoint" for path in wanted if path not in saved]
  for path in wanted:
    if path in saved and _text(saved[path]) != _text(wanted[path]):
      result.append(f"{path} is {_text(saved[path])} in the checkpoint and should be {_text(wanted[path])}")
  return result


def precision(saved: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> str:
  """What JAX's mode explains of their differences, in brackets: floats of 32 bits in one and of 64 in the other."""
  pairs = {(saved[path].get("dtype"), wanted[path].get("dtype")) for path in saved.keys() & wanted.keys()}
  if ("float32", "float64") in pairs:
    return " (jax_enable_x64 is on here, and was off where it was saved)"
  if ("float64", "float32") in pairs:
    return " (jax_enable_x64 is off here, and was on where it was saved)"
  return ""


def _text(entry: dict[str, Any]) -> str:
  return f"{entry['dtype']}{entry['shape']}" if "shape" in entry else f"a Python {entry['kind']}"
