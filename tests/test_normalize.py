"""Running moments against NumPy's in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from varl import normalize

update, scale = jax.jit(normalize.update), jax.jit(normalize.apply)


def moments_of(moments):
  """Mean and standard deviation, with the origin added in float64."""
  mean = np.asarray(moments.origin, np.float64) + np.asarray(moments.mean, np.float64)
  return mean, np.sqrt(np.asarray(moments.variance, np.float64))


def assert_moments(moments, frames, *, rtol=1e-4):
  """That the moments are those of the frames; the mean's error counts in deviations."""
  frames = np.asarray(frames, np.float64)
  mean, std = moments_of(moments)
  assert moments.frames == len(frames)
  np.testing.assert_allclose((mean - frames.mean(0)) / (frames.std(0) + 1e-12), 0.0, atol=rtol)
  np.testing.assert_allclose(std, frames.std(0), rtol=rtol)


@given(st.lists(st.lists(st.booleans(), min_size=16, max_size=16), min_size=1, max_size=5), st.integers(0, 2**16))
def test_any_split_gives_the_moments_of_the_whole(masks, seed):
  rng = np.random.default_rng(seed)
  moments, taken = normalize.init(3), []
  for mask in np.array(masks):
    x = rng.normal([0.0, -50.0, 3.0], [1.0, 5.0, 0.01], (16, 3)).astype(np.float32)
    x[~mask] = rng.choice([np.nan, np.inf, 1e30])
    moments = update(moments, x, mask)
    taken.append(x[mask])
  taken = np.concatenate(taken)
  if len(taken) > 1:
    assert_moments(moments, taken, rtol=1e-3)
  elif len(taken) == 0:
    jax.tree.map(np.testing.assert_array_equal, moments, normalize.init(3))


def test_leading_axes_are_all_frames():
  x = np.random.default_rng(0).normal(2.0, 3.0, (5, 4, 2)).astype(np.float32)
  valid = np.random.default_rng(1).uniform(size=(5, 4)) > 0.5
  assert_moments(update(normalize.init(2), x), x.reshape(-1, 2))
  assert_moments(update(normalize.init(2), x, valid), x[valid])


def test_many_small_updates_do_not_drift():
  x = np.random.default_rng(0).normal(-7.0, 2.0, (2000, 8, 2)).astype(np.float32)
  moments = jax.jit(lambda x: jax.lax.scan(lambda m, x: (normalize.update(m, x), None), normalize.init(2), x)[0])(x)
  assert_moments(moments, x.reshape(-1, 2))


@pytest.mark.parametrize("before", [2**24, 2**27, normalize.MAX_FRAMES - 3])
def test_frames_are_counted_to_the_last_and_the_count_ends_where_it_says(before):
  x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
  moments = update(normalize.init(2), x)._replace(frames=jnp.int32(before))
  moments = update(moments, x[:1])
  assert moments.frames == before + 1
  for _ in range(2):
    moments = update(moments, x)
    assert moments.frames == min(before + 9, normalize.MAX_FRAMES)
    before = moments.frames - 1
  assert all(np.isfinite(leaf).all() for leaf in moments)


def test_no_frame_is_the_identity():
  moments = normalize.init(3)
  x = np.float32([[1e6, -3.0, 0.0], [50.0, 0.0, 2.0]])
  np.testing.assert_array_equal(scale(moments, x), x)
  still = update(moments, np.full((4, 3), np.nan, np.float32), np.zeros(4, bool))
  jax.tree.map(np.testing.assert_array_equal, still, moments)
  np.testing.assert_array_equal(scale(still, x), x)


def test_a_masked_update_changes_no_bit():
  moments = update(normalize.init(2), np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))
  still = update(moments, np.full((8, 2), np.inf, np.float32), np.zeros(8, bool))
  jax.tree.map(np.testing.assert_array_equal, still, moments)


def test_a_constant_dimension_becomes_zero_and_stays_bounded():
  x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
  x[:, 1] = 0.1
  moments = normalize.init(2)
  for part in np.split(x, 8):
    moments = update(moments, part)
  scaled = np.asarray(scale(moments, x))
  np.testing.assert_allclose(scaled[:, 1], 0.0, atol=1e-3)
  moved = scale(moments, np.float32([[0.0, 0.2], [0.0, -5.0]]))
  np.testing.assert_array_equal(moved[:, 1], [10.0, -10.0])  # clipped


def test_an_offset_of_a_million_leaves_unit_variance():
  rng = np.random.default_rng(0)
  moments = normalize.init(1)
  for _ in range(50):
    # The grid of float32 at 1e6 is 1/16 wide.
    moments = update(moments, rng.normal(1e6, 1.0, (256, 1)).astype(np.float32))
  scaled = np.asarray(scale(moments, rng.normal(1e6, 1.0, (20_000, 1)).astype(np.float32)), np.float64)
  np.testing.assert_allclose(moments_of(moments)[1], 1.0, rtol=0.01)
  # 20,000 draws: the standard error of their mean is .007, of their deviation .005.
  assert abs(scaled.mean()) < 0.03
  np.testing.assert_allclose(scaled.std(), 1.0, rtol=0.02)


def test_apply_by_hand():
  moments = normalize.Moments(
    jnp.int32(9), jnp.float32([100.0, 0.0]), jnp.float32([1.0, -1.0]), jnp.float32([4.0, 0.0])
  )
  x = np.float32([[103.0, -1.0], [1e9, -0.9999]])
  np.testing.assert_allclose(scale(moments, x), [[1.0, 0.0], [10.0, 1.0]], rtol=1e-3)
  np.testing.assert_allclose(normalize.apply(moments, x, clip=0.5, min_std=1.0), [[0.5, 0.0], [0.5, 1e-4]], rtol=1e-2)


@pytest.mark.parametrize("check_vma", [True, False])
def test_eight_devices_are_one_stream(mesh, check_vma):
  rng = np.random.default_rng(0)
  sharded = jax.jit(
    jax.shard_map(
      functools.partial(normalize.update, axis="devices"),
      mesh=mesh,
      in_specs=(P(), P("devices"), P("devices")),
      out_specs=P(),
      check_vma=check_vma,
    )
  )
  one = eight = normalize.init(3)
  for _ in range(3):
    x = rng.normal([1e4, 0.0, -2.0], [1.0, 3.0, 0.1], (64, 3)).astype(np.float32)
    valid = rng.uniform(size=64) > 0.3
    valid[:8] = False  # one device sees no valid frame
    one, eight = update(one, x, valid), sharded(eight, x, valid)
  assert one.frames == eight.frames
  np.testing.assert_allclose(moments_of(one)[0], moments_of(eight)[0], rtol=1e-6)
  np.testing.assert_allclose(one.variance, eight.variance, rtol=1e-4)
