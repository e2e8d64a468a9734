"""Checkpoints: bit for bit what was saved, whatever happens to the process or to the files."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from varl.run import checkpoint

ROOT = pathlib.Path(checkpoint.__file__).parents[2]


class Inner(NamedTuple):
  count: Any
  mean: Any


class Outer(NamedTuple):
  params: Any
  inner: Inner
  key: Any
  extra: Any


def _state(seed=0):
  key = jax.random.key(seed)
  return Outer(
    params={"actor": {"w/0.a": jax.random.normal(key, (3, 4)), "b": jnp.full((4,), -0.0)}, "empty": jnp.zeros((0, 3))},
    inner=Inner(count=jnp.int32(seed), mean=(jnp.float32(0.1), [])),
    key={"typed": jax.random.split(key, 3), "legacy": jax.random.PRNGKey(seed)},
    extra={
      "steps": 2**70 + seed,
      "ratio": 0.1,
      "flag": True,
      "none": None,
      "np": np.float64(1 / 3),
      "host": np.arange(5),
    },
  )


def _bits(tree):
  """The tree with each leaf as its type, dtype, shape and bytes, so that `==` compares every bit."""

  def one(leaf):
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return "key", str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
      kind = "jax" if isinstance(leaf, jax.Array) else type(leaf).__name__
      return kind, str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()
    return type(leaf).__name__, repr(leaf)

  leaves, structure = jax.tree.flatten(tree)
  return structure, [one(leaf) for leaf in leaves]


def _arrays(directory, step):
  """The files of a checkpoint's arrays, the largest first."""
  folder = directory / f"{step:012d}" / "arrays"
  return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)


def _flip(path, offset=None):
  content = bytearray(path.read_bytes())
  content[len(content) // 2 if offset is None else offset] ^= 0x10
  path.write_bytes(content)


# What comes back


def test_every_kind_of_leaf_comes_back_bit_for_bit_in_the_examples_containers(tmp_path):
  state = _state(3)
  path = checkpoint.save(tmp_path / "new" / "checkpoints", 40_000, state)
  assert path == tmp_path / "new" / "checkpoints" / "000000040000"
  step, restored = checkpoint.restore(path.parent, _state(0))
  assert step == 40_000
  assert _bits(restored) == _bits(state)
  assert isinstance(restored, Outer)
  assert isinstance(restored.inner, Inner)


@pytest.mark.parametrize(
  "dtype", ["bool", "int8", "uint32", "int64", "float16", "bfloat16", "float64", "complex64", "float8_e4m3fn"]
)
def test_every_dtype(tmp_path, dtype):
  raw = np.random.default_rng(0).integers(0, 256, 64 * np.dtype(dtype).itemsize, dtype=np.uint8)
  value = raw.view(dtype) if dtype != "bool" else raw > 127
  state = {"x": value, "none": np.zeros((2, 0), dtype)}
  checkpoint.save(tmp_path, 1, state)
  assert _bits(checkpoint.restore(tmp_path, state)[1]) == _bits(state)


def test_negative_zero_and_the_payload_of_nan_are_bits_too(tmp_path):
  state = {
    "zero": np.full((8,), -0.0, np.float32),
    "nan": np.array([0x7FC12345, 0xFFC00001], np.uint32).view(np.float32),
  }
  checkpoint.save(tmp_path, 1, state)
  assert _bits(checkpoint.restore(tmp_path, state)[1]) == _bits(state)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.0, 5e-324, 0.1, False, -(2**200)])
def test_python_numbers(tmp_path, value):
  checkpoint.save(tmp_path, 1, value)
  restored = checkpoint.restore(tmp_path, value)[1]
  assert type(restored) is type(value)
  assert repr(restored) == repr(value)


def test_a_key_of_another_implementation(tmp_path):
  state = {"key": jax.random.key(7, impl="rbg")}
  checkpoint.save(tmp_path, 1, state)
  assert _bits(checkpoint.restore(tmp_path, state)[1]) == _bits(state)
  with pytest.raises(checkpoint.CheckpointError, match=r"key<rbg>\[\] in the checkpoint and should be key<fry>\[\]"):
    checkpoint.restore(tmp_path, {"key": jax.random.key(7)})


def test_shapes_alone_are_example_enough(tmp_path):
  def init(key):
    return {"w": jax.random.normal(key, (2, 3)), "key": jax.random.split(key)}

  checkpoint.save(tmp_path, 1, jax.jit(init)(jax.random.key(1)))
  _, restored = checkpoint.restore(tmp_path, jax.eval_shape(init, jax.random.key(0)))
  assert _bits(restored) == _bits(jax.jit(init)(jax.random.key(1)))


def test_arrays_are_placed_where_the_example_is(tmp_path):
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  checkpoint.save(tmp_path, 1, {"x": jnp.arange(4.0), "key": jax.random.split(jax.random.key(0), 4)})
  example = {
    "x": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding),
    "key": jax.device_put(jax.random.split(jax.random.key(1), 4), sharding),
  }
  _, restored = checkpoint.restore(tmp_path, example)
  assert restored["x"].sharding == sharding
  assert restored["key"].sharding == sharding


def test_a_restored_state_may_be_donated_and_the_file_stays(tmp_path):
  checkpoint.save(tmp_path, 1, {"x": jnp.arange(4.0)})
  update = jax.jit(lambda state: {"x": state["x"] + 1}, donate_argnums=0)
  for _ in range(2):
    _, state = checkpoint.restore(tmp_path, {"x": jnp.zeros(4)})
    np.testing.assert_array_equal(update(state)["x"], [1.0, 2.0, 3.0, 4.0])


def test_a_state_without_arrays(tmp_path):
  state = {"step": 3, "nothing": (), "empty": np.zeros((0,), ml_dtypes.bfloat16)}
  checkpoint.save(tmp_path, 3, state)
  assert _bits(checkpoint.restore(tmp_path, state)[1]) == _bits(state)


# Which one is taken, and which ones stay


def test_the_newest_is_taken_and_only_keep_stay(tmp_path):
  for step in (10, 20, 9_999, 10_000, 10**12 + 5):
    checkpoint.save(tmp_path, step, {"x": np.float32(step)})
  assert checkpoint.steps(tmp_path) == [10_000, 10**12 + 5]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["000000010000", "1000000000005"]
  assert checkpoint.restore(tmp_path, {"x": np.float32(0)}) == (10**12 + 5, {"x": np.float32(10**12 + 5)})
  checkpoint.save(tmp_path, 10**12 + 6, {"x": np.float32(1)}, keep=1)
  assert checkpoint.steps(tmp_path) == [10**12 + 6]


def test_the_same_step_is_replaced(tmp_path):
  for value in (1.0, 2.0):
    checkpoint.save(tmp_path, 5, {"x": np.float64(value)}, keep=1)
  assert checkpoint.restore(tmp_path, {"x": np.float64(0)}) == (5, {"x": 2.0})
  assert [path.name for path in tmp_path.iterdir()] == ["000000000005"]


def test_the_one_that_is_being_replaced_is_there_until_the_new_one_is(tmp_path, monkeypatch):
  checkpoint.save(tmp_path, 5, {"x": np.float64(1)}, keep=1)
  rename = pathlib.Path.rename

  def fail(path, target):
    if path.suffix == ".tmp":
      raise OSError("the disk went away")
    return rename(path, target)

  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, "rename", fail)
    with pytest.raises(OSError, match="went away"):
      checkpoint.save(tmp_path, 5, {"x": np.float64(2)}, keep=1)
  assert checkpoint.steps(tmp_path) == [5]
  assert checkpoint.restore(tmp_path, {"x": np.float64(0)}) == (5, {"x": 1.0})
  checkpoint.save(tmp_path, 6, {"x": np.float64(3)}, keep=2)
  assert checkpoint.steps(tmp_path) == [5, 6]
  checkpoint.save(tmp_path, 5, {"x": np.float64(4)}, keep=2)
  assert [path.name for path in tmp_path.iterdir()] == ["000000000005"]


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
  checkpoint.save(tmp_path, 1, {"x": np.ones(3)}, keep=1)

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(checkpoint.files, "write_atomically", full)
  with pytest.raises(OSError, match="No space"):
    checkpoint.save(tmp_path, 2, {"x": np.zeros(3)}, keep=1)
  assert [path.name for path in tmp_path.iterdir()] == ["000000000001"]
  assert checkpoint.restore(tmp_path, {"x": np.zeros(3)})[0] == 1


# Damage


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda d: _flip(_arrays(d, 20)[0]), "another CRC-32"),
    (lambda d: _truncate(_arrays(d, 20)[0]), r"has \d+ bytes, not \d+"),
    (lambda d: _arrays(d, 20)[0].unlink(), "is missing"),
    (lambda d: shutil.rmtree(d / "000000000020" / "arrays"), "is missing"),
    (lambda d: _flip(d / "000000000020" / "manifest.json"), "manifest.json is not as it was written"),
    (lambda d: _truncate(d / "000000000020" / "manifest.json"), "manifest.json is not as it was written"),
    (lambda d: (d / "000000000020" / "manifest.json").write_text("[]"), "manifest.json is not as it was written"),
    (lambda d: (d / "000000000020").rename(d / "000000000030"), "its manifest is of step 20"),
  ],
)
def test_a_damaged_newest_is_named_and_the_one_before_it_used(tmp_path, damage, message):
  checkpoint.save(tmp_path, 10, _state(1))
  checkpoint.save(tmp_path, 20, _state(2))
  damage(tmp_path)
  with pytest.warns(
    checkpoint.CheckpointWarning, match=rf"0000000000[23]0 is damaged \(.*{message}.*the one before it"
  ):
    step, state = checkpoint.restore(tmp_path, _state())
  assert step == 10
  assert _bits(state) == _bits(_state(1))


def test_every_flipped_byte_of_the_manifest_is_noticed(tmp_path):
  path = checkpoint.save(tmp_path, 10, {"x": np.float32(1)}) / "manifest.json"
  content = path.read_bytes()
  for offset in range(0, len(content), 7):
    _flip(path, offset)
    try:
      with pytest.warns(checkpoint.CheckpointWarning), pytest.raises(checkpoint.CheckpointError):
        checkpoint.restore(tmp_path, {"x": np.float32(0)})
    finally:
      path.write_bytes(content)
  assert checkpoint.restore(tmp_path, {"x": np.float32(0)})[0] == 10


def test_what_orbax_cannot_read_counts_as_damaged(tmp_path, monkeypatch):
  import orbax.checkpoint as ocp

  checkpoint.save(tmp_path, 10, {"x": np.ones(3)})

  def fail(*_, **__):
    raise KeyError("a chunk is not there")

  monkeypatch.setattr(ocp.Checkpointer, "restore", fail)
  with (
    pytest.warns(checkpoint.CheckpointWarning, match="Orbax cannot read it: KeyError"),
    pytest.raises(checkpoint.CheckpointError, match=r"can be read.*000000000010 is damaged"),
  ):
    checkpoint.restore(tmp_path, {"x": np.ones(3)})


def test_after_a_damaged_newest_the_run_goes_on(tmp_path):
  for step in (10, 20):
    checkpoint.save(tmp_path, step, {"x": np.float32(step)})
  _truncate(_arrays(tmp_path, 20)[0])
  # The resumed run saves at a step below the damaged one: it has to win over it from then on.
  checkpoint.save(tmp_path, 15, {"x": np.float32(15)})
  assert checkpoint.restore(tmp_path, {"x": np.float32(0)}) == (15, {"x": 15.0})
  assert checkpoint.steps(tmp_path) == [10, 15]


def test_an_incomplete_one_is_ignored_in_silence_and_removed_by_the_next_save(tmp_path):
  checkpoint.save(tmp_path, 10, {"x": np.float32(10)})
  shutil.copytree(tmp_path / "000000000010", tmp_path / "000000000011")
  (tmp_path / "000000000011" / "manifest.json").unlink()
  (tmp_path / "000000000012.tmp").mkdir()
  (tmp_path / "notes.tmp").write_text("the user's own")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert checkpoint.restore(tmp_path, {"x": np.float32(0)})[0] == 10
  checkpoint.save(tmp_path, 13, {"x": np.float32(13)})
  assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000010", "000000000013", "notes.tmp"]


def test_none_left_says_what_was_found(tmp_path):
  with pytest.raises(checkpoint.CheckpointError, match="nowhere is no directory"):
    checkpoint.restore(tmp_path / "nowhere", 0)
  with pytest.raises(checkpoint.CheckpointError, match=r"no complete checkpoint in .*; found nothing"):
    checkpoint.restore(tmp_path, 0)
  (tmp_path / "000000000011").mkdir()
  with pytest.raises(checkpoint.CheckpointError, match="found 000000000011"):
    checkpoint.restore(tmp_path, 0)
  assert issubclass(checkpoint.CheckpointError, ValueError)


# Another state, another schema, bad arguments


@pytest.mark.parametrize(
  ("example", "message"),
  [
    ({"a": jnp.zeros((2, 4)), "n": 1}, r"\['a'\] is float32\[2, 3\] in the checkpoint and should be float32\[2, 4\]"),
    ({"a": jnp.zeros((2, 3), jnp.int32), "n": 1}, r"float32\[2, 3\] in the checkpoint and should be int32\[2, 3\]"),
    ({"a": jnp.zeros((2, 3)), "n": 1.0}, r"\['n'\] is a Python int in the checkpoint and should be a Python float"),
    ({"a": jnp.zeros((2, 3))}, r"\['n'\] is in the checkpoint only"),
    ({"a": jnp.zeros((2, 3)), "n": 1, "dual": 2.0}, r"\['dual'\] is not in the checkpoint"),
    ({str(i): i for i in range(9)}, r"and 6 more"),
  ],
)
def test_another_state_is_an_error_that_says_what_differs(tmp_path, example, message):
  checkpoint.save(tmp_path, 1, {"a": jnp.zeros((2, 3)), "n": 1})
  checkpoint.save(tmp_path, 2, {"a": jnp.zeros((2, 3)), "n": 1})
  with pytest.raises(checkpoint.CheckpointError, match=rf"000000000002 holds another state.*{message}"):
    checkpoint.restore(tmp_path, example)


def test_a_newer_schema_is_refused_and_not_passed_over(tmp_path, monkeypatch):
  checkpoint.save(tmp_path, 1, {"x": 1})
  monkeypatch.setattr(checkpoint, "SCHEMA", checkpoint.SCHEMA + 1)
  checkpoint.save(tmp_path, 2, {"x": 1})
  monkeypatch.undo()
  with pytest.raises(checkpoint.CheckpointError, match=r"schema 2; this version of varl reads up to 1"):
    checkpoint.restore(tmp_path, {"x": 1})


@pytest.mark.parametrize(("step", "keep"), [(-1, 2), (1.5, 2), (True, 2), (1, 0)])
def test_bad_arguments(tmp_path, step, keep):
  with pytest.raises(ValueError, match=r"step is a whole number >= 0|keep is a whole number >= 1"):
    checkpoint.save(tmp_path, step, {"x": 1}, keep=keep)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("leaf", ["text", object(), np.array(["text"]), np.array([None])])
def test_a_leaf_that_is_no_number_is_named(tmp_path, leaf):
  with pytest.raises(ValueError, match=r"\.inner\.count: a leaf must be an array, a typed key or a Python number"):
    checkpoint.save(tmp_path, 1, _state()._replace(inner=Inner(count=leaf, mean=0)))


def test_the_manifest_names_every_file_beside_it(tmp_path):
  path = checkpoint.save(tmp_path, 7, _state())
  manifest = json.loads((path / "manifest.json").read_text())["manifest"]
  on_disk = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
  assert set(manifest["files"]) == on_disk - {"manifest.json"}
  assert (manifest["schema"], manifest["step"]) == (checkpoint.SCHEMA, 7)


def test_importing_it_imports_nothing_heavy():
  program = (
    "import sys; from varl.run import checkpoint; print([n for n in ('jax', 'orbax', 'numpy') if n in sys.modules])"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
  assert done.stdout.strip() == "[]"


# Killed

# Imports once and forks, so that each death costs milliseconds. No JAX backend is started before a fork.
_KILLED = """
import os, pathlib, signal, sys, time
import numpy as np
import jax, orbax.checkpoint as ocp
from varl.run import checkpoint

def die(*_, **__):
  os.kill(os.getpid(), signal.SIGKILL)

def after(count, function):
  left = [count]
  def wrapped(*args, **kwargs):
    result = function(*args, **kwargs)
    left[0] -= 1
    return result if left[0] else die()
  return wrapped

def patch(point):
  if point == "in Orbax":
    ocp.PyTreeCheckpointHandler.finalize = die
  elif point == "before the manifest":
    checkpoint.files.write_atomically = die
  elif point == "while writing the manifest":
    os.replace = die
  elif point == "before it takes its name":
    checkpoint._put_in_place = die
  elif point == "between the two renames":
    pathlib.Path.rename = after(1, pathlib.Path.rename)
  elif point == "before the old ones go":
    checkpoint._put_in_place = after(1, checkpoint._put_in_place)
  elif point == "while the old ones go":
    checkpoint._remove = after(1, lambda path: (path / checkpoint.MANIFEST).unlink())

def state(step):
  return {"x": np.full((200, 300), step, np.float32), "step": step}

def child(work):
  pid = os.fork()
  if pid == 0:
    try:
      work()
    finally:
      os._exit(0)
  return pid

def point_run(directory, point, step):
  checkpoint.save(directory, 1, state(1))
  checkpoint.save(directory, 2, state(2))
  patch(point)
  checkpoint.save(directory, step, state(step))

def timed_run(directory, read, write):
  for step in range(1, 1000):
    checkpoint.save(directory, step, state(step))
    os.write(write, step.to_bytes(4, "little"))

root = pathlib.Path(sys.argv[1])
for line in sys.stdin.read().splitlines():
  directory, kind, argument, step = line.split("|")
  if kind == "point":
    _, status = os.waitpid(child(lambda: point_run(root / directory, argument, int(step))), 0)
    print(directory, os.WTERMSIG(status), 0, flush=True)
  else:
    read, write = os.pipe()
    pid = child(lambda: timed_run(root / directory, read, write))
    os.close(write)
    os.read(read, 4)  # from the first whole checkpoint on
    time.sleep(float(argument))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    rest = b""
    while block := os.read(read, 65536):
      rest += block
    print(directory, 9, 1 + len(rest) // 4, flush=True)
"""


def _kill(tmp_path, lines):
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", _KILLED, str(tmp_path)],
    input="\n".join(lines),
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    timeout=120,
  )
  return {name: (int(signal), int(last)) for name, signal, last in map(str.split, done.stdout.splitlines())}


def _check_whole(directory, allowed):
  example = {"x": np.zeros((200, 300), np.float32), "step": 0}
  with warnings.catch_warnings():
    warnings.simplefilter("error")  # killed is not damaged
    step, state = checkpoint.restore(directory, example)
  assert step in allowed
  assert state["step"] == step
  np.testing.assert_array_equal(state["x"], np.full((200, 300), step, np.float32))
  # And the run goes on from there.
  checkpoint.save(directory, step + 10, example)
  assert checkpoint.restore(directory, example)[0] == step + 10
  assert len(list(directory.iterdir())) == 2


def test_killed_at_each_point_of_a_save_the_last_complete_one_is_restored(tmp_path):
  points = [
    ("in Orbax", 3, 2),
    ("before the manifest", 3, 2),
    ("while writing the manifest", 3, 2),
    ("before it takes its name", 3, 2),
    ("before the manifest", 2, 2),
    ("between the two renames", 2, 2),
    ("before the old ones go", 3, 3),
    ("while the old ones go", 3, 3),
  ]
  lines = [f"{number}|point|{point}|{step}" for number, (point, step, _) in enumerate(points)]
  died = _kill(tmp_path, lines)
  assert died == {str(number): (9, 0) for number in range(len(points))}
  for number, (_, _, expected) in enumerate(points):
    _check_whole(tmp_path / str(number), {expected})


def test_killed_at_any_moment_the_last_complete_one_is_restored(tmp_path):
  delays = np.linspace(0.0, 0.12, 8)
  died = _kill(tmp_path, [f"{number}|timed|{delay}|0" for number, delay in enumerate(delays)])
  for name, (_, last) in died.items():
    # `last` was reported as saved. The one after it may have been completed before the report of it was sent.
    _check_whole(tmp_path / name, {last, last + 1})
  assert len(died) == len(delays)
