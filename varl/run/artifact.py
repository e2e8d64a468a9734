"""A policy for other places: as a program that needs JAX alone, as ONNX, or as its arrays."""

import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from varl import checks, files
from varl.run.export import Policy, load_policy

FORMATS = {"jax": ".jax", "onnx": ".onnx", "npz": ".npz"}
PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-5


def export(
  policy: Policy | str | os.PathLike[str],
  path: str | os.PathLike[str],
  *,
  format: str | None = None,
  stochastic: bool = False,
  batch: int | None = None,
  platforms: Sequence[str] = PLATFORMS,
  algorithm: Any = None,
) -> pathlib.Path:
  """Writes a policy as one file, moments and squashing inside: it takes observations as the environment gives them, and
  gives actions in its own units.

    jax:   f(obs [B, o]) -> action [B, d],   `jax.export.deserialize(bytearray(content)).call(obs)`
    onnx:  the same, input "obs", output "action"
    npz:   its arrays by name, and "description", what they are, as JSON

  B is free. The observation is what the policy sees: nothing privileged. A policy that explores takes a key more,
  f(obs, key), the uint32 `[2]` of `jax.random.key_data`. One with a memory takes two arguments more and gives what
  follows, f(obs, first [B], carry[, key]) -> (action, carry): `carry` is a tuple of arrays, zeros at the beginning, and
  where `first` is above 0 the memory of an episode's start takes their place. `"npz"` knows neither.

  Args:
    policy: a policy, or the directory of a run.
    path: the file; by its ending, .jax, .onnx or .npz, where no format is named.
    format: "jax", "onnx" (which needs `varl[onnx]`) or "npz".
    stochastic: whether it explores, where `policy` is a directory.
    batch: B, for those that draw for each row, as planners do, and so have to know it; None: free.
    platforms: that the "jax" form is lowered for.
    algorithm: as in `load_policy`.

  Returns:
    The path.

  Raises:
    ValueError: as `load_policy`; another format; a policy that has to know B, without it; ONNX without its converter,
      or of a policy that explores, remembers, or does what the converter does not know.
    RuntimeError: the ONNX graph, where onnxruntime is there to run it, differs from the policy by more than 1e-5.
    OSError: the file cannot be written.
  """
  path = files.as_path(path)
  format = check(path, format)
  if not isinstance(policy, Policy):
    policy = load_policy(policy, algorithm=algorithm, stochastic=stochastic)
  if format == "npz":
    content = _arrays(policy)
  elif format == "onnx":
    content = _onnx(policy)
  else:
    content = _program(policy, batch, tuple(platforms))
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(path, content)
  return path


def check(path: str | os.PathLike[str], format: str | None) -> str:
  """The format of a file.

  Raises:
    ValueError: an unknown one, or a name that says none; ONNX without its converter.
  """
  path = files.as_path(path)
  if format is None:
    format = next((name for name, ending in FORMATS.items() if path.suffix == ending), None)
    if format is None:
      raise ValueError(
        f"a policy is exported as {', '.join(f'FILE{end}' for end in FORMATS.values())}, got {str(path)!r}"
      )
  if format not in FORMATS:
    raise ValueError(f"format is one of {', '.join(FORMATS)}; got {format!r}")
  if path.is_dir():
    raise ValueError(f"{path} is a directory")
  if format == "onnx":
    _converter()
  return format


def function(policy: Policy, batch: int | None = None) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """The policy as a function of arrays, and the shapes of its arguments (B free where none is given); see `export`."""
  agent = policy.agent
  start, tree = jax.tree.flatten(agent.carry(1))

  def act(obs: Any, *rest: Any) -> Any:
    given = list(rest)
    carry: Any = jax.tree.unflatten(tree, []) if not start else None
    if start:
      first, held = given.pop(0), given.pop(0)
      fresh = [jnp.broadcast_to(leaf, (obs.shape[0], *leaf.shape[1:])) for leaf in start]
      leaves = [
        jnp.where(first.reshape(-1, *[1] * (old.ndim - 1)) > 0, new, old) for new, old in zip(fresh, held, strict=True)
      ]
      carry = jax.tree.unflatten(tree, leaves)
    key = jax.random.wrap_key_data(given.pop(0)) if policy.stochastic else None
    action, carry = policy.step(carry, obs, key)
    return (action, tuple(jax.tree.leaves(carry))) if start else action

  dtype = jnp.result_type(float)
  rows: Any = jax.export.symbolic_shape("b")[0] if batch is None else checks.whole("batch", batch)
  shapes: list[Any] = [jax.ShapeDtypeStruct((rows, agent.spec.observation_size - agent.spec.privileged), dtype)]
  if start:
    shapes.append(jax.ShapeDtypeStruct((rows,), dtype))
    shapes.append(tuple(jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype) for leaf in start))
  if policy.stochastic:
    shapes.append(jax.ShapeDtypeStruct((2,), np.uint32))
  return act, tuple(shapes)


def _program(policy: Policy, batch: int | None, platforms: tuple[str, ...]) -> bytes:
  act, shapes = function(policy, batch)
  try:
    exported = jax.export.export(jax.jit(act), platforms=platforms)(*shapes)
  except TypeError as error:
    if batch is not None or "_DimExpr" not in str(error):
      raise
    raise ValueError("this policy draws for each row and has to know how many there are: batch=1, or another") from None
  return bytes(exported.serialize())


def _arrays(policy: Policy) -> bytes:
  state = flax.serialization.to_state_dict(jax.device_get(policy.params))
  named = {
    "/".join(str(getattr(part, "key", part)) for part in at): leaf
    for at, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
  }
  bounds = None if policy.bounds is None else [np.asarray(side).tolist() for side in policy.bounds]
  described = {"spec": policy.agent.spec._asdict(), "action_bounds": bounds}
  content = io.BytesIO()
  np.savez_compressed(content, description=np.asarray(json.dumps(described)), **named)
  return content.getvalue()


def _converter() -> Any:
  try:
    import jax2onnx
  except ImportError as error:
    raise ValueError(f'ONNX needs its converter (pip install "varl[onnx]"): {error}') from None
  return jax2onnx


def _onnx(policy: Policy) -> bytes:
  converter = _converter()
  act, shapes = function(policy)
  if len(shapes) > 1:
    raise ValueError("as ONNX a policy gives its mode, from the observation alone: not one that explores or remembers")
  size = policy.agent.spec.observation_size - policy.agent.spec.privileged
  try:
    model = converter.to_onnx(act, [("B", size)], model_name="policy", input_names=["obs"], output_names=["action"])
  except (NotImplementedError, TypeError, ValueError) as error:
    first = " ".join(str(error).split("\n", 1)[0].split())
    raise ValueError(f"the converter to ONNX does not know what this policy does: {first}") from None
  content = bytes(model.SerializeToString())
  try:
    import onnxruntime
  except ImportError:
    return content
  session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
  obs = np.random.default_rng(0).normal(size=(64, size)).astype(np.float32)
  (found,) = session.run(None, {session.get_inputs()[0].name: obs})
  apart = float(np.max(np.abs(found.astype(float) - np.asarray(act(obs), float))))
  if not apart <= TOLERANCE * max(1.0, float(np.max(np.abs(found)))):
    raise RuntimeError(f"the ONNX graph differs from the policy by {apart:.2g}")
  return content
