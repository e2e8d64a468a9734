"""The ring against a Python list that keeps the newest rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varl.loop.replay import ring

ROW = {"tag": jnp.zeros((), jnp.int32), "obs": jnp.zeros((2,)), "flag": jnp.zeros((3, 1), bool)}
BATCH = 4


@functools.cache
def compiled(capacity):
  """A ring with its functions jitted once for all examples."""
  memory = ring(capacity, ROW)
  return memory, jax.jit(memory.add, donate_argnums=0), jax.jit(memory.sample, static_argnums=2)


def rows(tags):
  """Rows that carry their tag in every leaf."""
  tags = np.asarray(tags)
  obs = np.stack([tags, -tags], axis=-1).astype(np.float32)
  return {
    "tag": tags.astype(np.int32),
    "obs": obs,
    "flag": np.broadcast_to(tags[:, None, None] % 2 == 1, (len(tags), 3, 1)),
  }


def assert_whole(data):
  """That no row is a mixture of two."""
  tags = np.asarray(data["tag"])
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, data), rows(tags))
  return tags


def masks(least, most):
  return st.lists(st.lists(st.booleans(), min_size=BATCH, max_size=BATCH), min_size=least, max_size=most)


@pytest.mark.parametrize("capacity", [4, 5, 8, 11])
@given(masks=masks(0, 9))
def test_it_holds_the_newest_valid_rows(capacity, masks):
  memory, add, sample = compiled(capacity)
  state, expected, tag = memory.init(), [], 1
  for mask in masks:
    tags = np.arange(tag, tag + BATCH)
    tag += BATCH
    # Rows left out carry a tag that must never be seen.
    state = add(state, rows(np.where(mask, tags, -99)), np.array(mask))
    expected = [*expected, *tags[mask]][-capacity:]
    assert int(memory.size(state)) == len(expected)
    stored = assert_whole({name: x[: int(state.size)] for name, x in state.data.items()})
    assert sorted(stored) == expected
  drawn = assert_whole(sample(state, jax.random.key(tag), 64))
  assert set(drawn) <= set(expected or [0])


@pytest.mark.parametrize("batches", [1, 2, 3, 7])  # before, at, and after the wrap of 8 rows
def test_sampling_is_uniform(batches):
  memory, add, sample = compiled(8)
  state = memory.init()
  for i in range(batches):
    state = add(state, rows(np.arange(4 * i, 4 * i + 4)), np.ones(4, bool))
  stored = np.arange(max(0, 4 * batches - 8), 4 * batches)
  n = 20_000
  counts = np.bincount(np.asarray(sample(state, jax.random.key(0), n)["tag"]), minlength=4 * batches)
  assert counts.sum() == counts[stored].sum() == n
  cells = len(stored)
  chi_square = np.sum((counts[stored] - n / cells) ** 2) / (n / cells)
  # Mean cells - 1, standard deviation √(2 (cells - 1)): 4 of them.
  assert chi_square < cells - 1 + 4 * np.sqrt(2 * (cells - 1))


def test_samples_of_different_keys_differ_and_of_one_key_agree():
  memory, add, sample = compiled(8)
  state = add(memory.init(), rows(np.arange(4)), np.ones(4, bool))
  one, same, other = (np.asarray(sample(state, jax.random.key(i), 64)["tag"]) for i in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert (one != other).any()


def test_scan_is_the_python_loop():
  memory, add, _ = compiled(11)
  rng = np.random.default_rng(0)
  masks = rng.uniform(size=(20, BATCH)) > 0.3
  batches = jax.tree.map(lambda *x: np.stack(x), *(rows(np.arange(4 * i, 4 * i + 4)) for i in range(20)))
  scanned = jax.jit(lambda s: jax.lax.scan(lambda s, x: (memory.add(s, *x), None), s, (batches, masks))[0])(
    memory.init()
  )
  state = memory.init()
  for i in range(20):
    state = add(state, jax.tree.map(lambda x, i=i: x[i], batches), masks[i])
  jax.tree.map(np.testing.assert_array_equal, scanned, state)
  assert sorted(np.asarray(state.data["tag"])) == list(np.arange(80)[masks.ravel()][-11:])


def test_vmap_over_rings():
  memory, *_ = compiled(5)
  states = jax.vmap(lambda _: memory.init())(jnp.arange(2))
  batches = jax.tree.map(lambda *x: np.stack(x), rows(np.arange(4)), rows(np.arange(10, 14)))
  masks = np.array([[True, False, True, True], [False, False, False, True]])
  states = jax.jit(jax.vmap(memory.add))(states, batches, masks)
  np.testing.assert_array_equal(states.size, [3, 1])
  np.testing.assert_array_equal(states.data["tag"][:, :3], [[0, 2, 3], [13, 0, 0]])


def test_donated_rings_are_written_in_place():
  memory, add, _ = compiled(8)
  state = memory.init()
  before = state.data["obs"].unsafe_buffer_pointer()
  after = add(state, rows(np.arange(4)), np.ones(4, bool))
  assert state.data["obs"].is_deleted()
  assert after.data["obs"].unsafe_buffer_pointer() == before


def test_add_keeps_structure_shape_and_dtype():
  memory = ring(8, ROW)
  state = jax.eval_shape(memory.init)
  # Rows of wider types are stored as the ring's own.
  wide = {"tag": jnp.zeros(3, jnp.float32), "obs": jnp.zeros((3, 2), jnp.bfloat16), "flag": jnp.zeros((3, 3, 1))}
  after = jax.eval_shape(memory.add, state, wide, jnp.ones(3, bool))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)


def test_the_memory_it_takes():
  memory = ring(10, ROW)
  assert memory.nbytes == 10 * (4 + 2 * 4 + 3)
  assert memory.nbytes == sum(x.nbytes for x in jax.tree.leaves(memory.init().data))
  # Shapes are example enough.
  assert ring(10, jax.eval_shape(lambda: ROW)).nbytes == memory.nbytes


def test_bad_arguments():
  with pytest.raises(ValueError, match="capacity is a whole number >= 1, got 0"):
    ring(0, ROW)
  with pytest.raises(ValueError, match=r"fewer than 2\^30, got capacity=1073741824"):
    ring(2**30, ROW)
  memory = ring(3, ROW)
  with pytest.raises(ValueError, match="4 rows at once do not fit a replay buffer of capacity=3"):
    memory.add(memory.init(), rows(np.arange(4)), np.ones(4, bool))
