"""Batches of environments: ends of episodes, resets, the guard, action ranges, and JAX's transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import Counter, brax_warnings, rollout

from varl.envs import State, make, observe, toys, vectorize
from varl.envs.vector import RESETS

N = 3


@pytest.mark.parametrize("reset", RESETS)
def test_next_obs_is_the_true_one_at_every_end(reset):
  step, after, _ = rollout(vectorize(Counter(done_at=4), N, reset=reset), 12)
  np.testing.assert_array_equal(step.next_obs[..., 1], step.obs[..., 1] + 1)
  np.testing.assert_array_equal(step.next_obs[..., 0], step.obs[..., 0])
  np.testing.assert_array_equal(step.terminated, (np.arange(12) % 4 == 3)[:, None].repeat(N, 1))
  assert not step.truncated.any()
  assert step.valid.all()
  # What the policy sees after an end is a first observation, and else what the step led to.
  np.testing.assert_array_equal(after[..., 1], np.where(step.terminated, 0, step.next_obs[..., 1]))
  np.testing.assert_array_equal(step.obs[1:], after[:-1])
  np.testing.assert_array_equal(step.metrics["count"], step.next_obs[..., 1])


@pytest.mark.parametrize("reset", RESETS)
def test_consecutive_episodes(reset):
  step, _, _ = rollout(vectorize(Counter(), N, reset=reset, episode_length=2), 40)
  starts = step.obs[::2, :, 0]
  distinct = np.unique(starts)
  if reset == "cached":
    np.testing.assert_array_equal(starts, starts[:1].repeat(20, 0))
    assert distinct.size == N
  elif reset == "fresh":
    assert distinct.size == 20 * N
  else:
    # 57 draws from a pool of 256 after the first 3: 6 fewer distinct ones are expected, with standard deviation 2.
    assert 20 * N - 14 < distinct.size <= 20 * N


def test_a_pool_is_drawn_from_uniformly():
  vector = vectorize(Counter(), 64, episode_length=1, pool_size=4)
  step, _, _ = rollout(vector, 101)
  _, counts = np.unique(step.obs[1:, :, 0], return_counts=True)
  assert counts.size == 4
  # 6400 draws into 4 cells: standard deviation 34.6.
  assert np.abs(counts - 1600).max() < 4 * 34.6


def test_noise_is_new_in_every_copy_of_a_pooled_or_cached_state():
  env = toys.LinearQuadratic(noise=1.0, initial_std=0.0)
  for reset in ("pool", "cached"):
    vector = vectorize(env, N, reset=reset, episode_length=1, pool_size=1 if reset == "pool" else None)
    step, _, _ = rollout(vector, 20)
    np.testing.assert_array_equal(step.obs, 0.0)
    assert np.unique(step.next_obs[..., 0]).size == 20 * N


def test_legacy_noise_keys_are_renewed_too():
  class Legacy(Counter):
    def reset(self, rng):
      return super().reset(rng).replace(info={"rng": rng})

    def step(self, state, action):
      key, noise_key = jax.random.split(state.info["rng"])
      return super().step(state, action).replace(reward=jax.random.normal(noise_key), info={"rng": key})

  step, _, _ = rollout(vectorize(Legacy(), N, reset="cached", episode_length=1), 20)
  assert np.unique(step.reward).size == 20 * N


def test_terminated_and_truncated_are_apart():
  # Ends by itself at 6, is cut at 4: only cut. The other way round: only ends. Both at once: it ends.
  for done_at, limit, ends in ((6, 4, False), (4, 6, True), (4, 4, True)):
    step, after, _ = rollout(vectorize(Counter(done_at=done_at), N, episode_length=limit), 8)
    over = (np.arange(8) % 4 == 3)[:, None].repeat(N, 1)
    np.testing.assert_array_equal(step.terminated, over & ends)
    np.testing.assert_array_equal(step.truncated, over & (not ends))
    np.testing.assert_array_equal(after[..., 1] == 0, over)


def test_environments_end_at_different_times():
  class Staggered(Counter):
    def step(self, state, action):
      state = super().step(state, action)
      # The executed action says at which count this environment ends.
      return state.replace(done=jnp.where(state.obs[1] >= action[0], 1.0, 0.0))

  action = jnp.array([[2.0], [3.0], [5.0]])
  step, after, _ = rollout(vectorize(Staggered(action_size=1), 3), 30, action=action)
  expected = np.stack([np.arange(1, 31) % n == 0 for n in (2, 3, 5)], axis=1)
  np.testing.assert_array_equal(step.terminated, expected)
  np.testing.assert_array_equal(after[..., 1] == 0, expected)


@pytest.mark.parametrize("poison", ["obs", "reward"])
@pytest.mark.parametrize("action_repeat", [1, 2])
def test_a_step_that_turns_nan_is_marked_and_followed_by_a_reset(poison, action_repeat):
  env = Counter(nan_at=3 * action_repeat, poison=poison)
  step, after, _ = rollout(vectorize(env, N, action_repeat=action_repeat), 9)
  bad = (np.arange(9) % 3 == 2)[:, None].repeat(N, 1)
  np.testing.assert_array_equal(step.valid, ~bad)
  np.testing.assert_array_equal(step.reward, np.where(bad, 0.0, 2.0 * action_repeat))
  np.testing.assert_array_equal(step.next_obs[bad], step.obs[bad])
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((step, after)))
  # Cut, so that nothing bootstraps across the reset, but not ended by itself.
  np.testing.assert_array_equal(step.truncated, bad)
  assert not step.terminated.any()
  np.testing.assert_array_equal(after[..., 1] == 0, bad)


def test_without_the_guard_nan_passes_through():
  step, _, _ = rollout(vectorize(Counter(nan_at=3), N, nan_guard=False), 5)
  assert step.valid.all()
  assert not step.truncated.any()
  np.testing.assert_array_equal(np.isnan(step.next_obs[:, 0, 0]), [False, False, True, True, True])


def test_action_repeat_sums_rewards_and_stops_at_the_first_done():
  # Ends at 5 raw steps: 2 + 2 + 1; each raw step pays 2. The time limit would come at 6.
  step, _, _ = rollout(vectorize(Counter(done_at=5), N, action_repeat=2, episode_length=6), 6)
  np.testing.assert_array_equal(step.reward[:, 0], [4, 4, 2, 4, 4, 2])
  np.testing.assert_array_equal(step.next_obs[:, 0, 1], [2, 4, 5, 2, 4, 5])
  np.testing.assert_array_equal(step.terminated[:, 0], [False, False, True] * 2)
  assert not step.truncated.any()


def test_the_time_limit_counts_raw_steps():
  # 3, 6, 9 >= 7: cut after the third.
  step, _, _ = rollout(vectorize(Counter(), N, action_repeat=3, episode_length=7), 6)
  np.testing.assert_array_equal(step.truncated[:, 0], [False, False, True] * 2)


def test_actions_are_clipped_and_scaled_to_the_bounds():
  action = jnp.array([[-1.0, 0.0], [1.0, 0.5], [7.0, -7.0]])
  run = functools.partial(rollout, length=1, action=action)
  _, _, executed = run(vectorize(Counter(bounds=([0.0, -4.0], [2.0, 8.0])), N))
  np.testing.assert_allclose(executed[0], [[0.0, 2.0], [2.0, 5.0], [2.0, -4.0]], rtol=1e-6)
  _, _, executed = run(vectorize(Counter(bounds=(-3, 3)), N))
  np.testing.assert_allclose(executed[0], [[-3.0, 0.0], [3.0, 1.5], [3.0, -3.0]], rtol=1e-6)
  _, _, executed = run(vectorize(Counter(bounds=None), N))
  np.testing.assert_array_equal(executed[0], action)


def test_discrete_actions_pass_as_integers():
  vector = vectorize(make("chain", length=3), 2)
  step, after, cell = rollout(vector, 4, action=jnp.array([1, 0]))
  np.testing.assert_array_equal(step.terminated[:, 0], [False, True, False, True])
  np.testing.assert_array_equal(step.reward, np.array([[0, 0.1], [1, 0.1]] * 2, np.float32))
  np.testing.assert_array_equal(cell[:, 0], [1, 0, 1, 0])
  np.testing.assert_array_equal(after.argmax(-1), cell)


def avals(tree):
  return [(x.shape, x.dtype, x.weak_type) for x in map(jax.typeof, jax.tree.leaves(tree))]


def assert_traces_once(vector):
  """Steps from a reset and from a step compile once, with the state donated, and keep every type."""
  traces = []

  def step(state, action):
    traces.append(1)
    return vector.step(state, action)

  jitted = jax.jit(step, donate_argnums=0)
  state = jax.jit(vector.reset)(jax.random.key(0))
  expected = jax.tree.structure(state), avals(state)
  for _ in range(3):
    state, timestep = jitted(state, jnp.zeros((vector.num_envs, vector.spec.action_size)))
    assert (jax.tree.structure(state), avals(state)) == expected
  assert len(traces) == 1
  assert not any(weak for _, _, weak in avals(timestep))
  return state, timestep


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("action_repeat", [1, 2])
def test_step_does_not_retrace(reset, action_repeat):
  state, timestep = assert_traces_once(vectorize(Counter(), N, reset=reset, action_repeat=action_repeat))
  # reset said integer and step said float: the wider one holds.
  assert timestep.reward.dtype == state.env.reward.dtype == jnp.float32


def test_states_can_be_donated_without_jit_on_reset():
  for reset in RESETS:
    vector = vectorize(Counter(), N, reset=reset)
    state = vector.reset(jax.random.key(0))
    state, _ = jax.jit(vector.step, donate_argnums=0)(state, jnp.ones((N, 2)))
    assert observe(state)[0, 1] == 1


@brax_warnings
def test_a_brax_environment():
  env = make("inverted_pendulum")
  vector = vectorize(env, 2, episode_length=2, pool_size=2)
  state, timestep = assert_traces_once(vector)
  assert state.env.obs.shape == timestep.next_obs.shape == (2, 4)
  assert timestep.valid.all()
  # Three steps with a limit of two: the third is the first of a new episode.
  np.testing.assert_array_equal(state.steps, 1)
  assert np.isin(np.asarray(timestep.obs[:, 0]), np.asarray(state.pool.obs[:, 0])).all()


@pytest.mark.parametrize("reset", RESETS)
def test_vmap_over_seeds_equals_one_at_a_time(reset):
  vector = vectorize(Counter(done_at=3), N, reset=reset, episode_length=5)

  def run(key):
    def body(state, _):
      return vector.step(state, jnp.ones((N, 2)))

    return jax.lax.scan(body, vector.reset(key), None, length=7)[1]

  keys = jax.random.split(jax.random.key(0), 3)
  together = jax.jit(jax.vmap(run))(keys)
  single = jax.jit(run)
  apart = [single(key) for key in keys]
  jax.tree.map(np.testing.assert_array_equal, together, jax.tree.map(lambda *x: jnp.stack(x), *apart))
  assert np.unique(together.obs[:, 0, :, 0]).size == 3 * N


@pytest.mark.parametrize("action_repeat", [1, 2])
def test_shard_map_around_reset_and_steps(action_repeat):
  class Constant(Counter):
    def reset(self, rng):
      return State(obs=jnp.zeros(2), reward=jnp.zeros(()), done=jnp.zeros(()), data=jnp.zeros(2))

    def step(self, state, action):
      return State(obs=jnp.ones(2), reward=jnp.ones(()), done=jnp.zeros(()), data=jnp.zeros(2))

  # One device is enough: what has to agree are the types, which say over which axes a value varies.
  mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
  vector = vectorize(Constant(), N, action_repeat=action_repeat)

  def run(keys):
    def body(state, _):
      state, timestep = vector.step(state, jnp.ones((N, 2)))
      return state, timestep.reward

    return jax.lax.scan(body, vector.reset(keys[0]), None, length=2)[1]

  axes = jax.sharding.PartitionSpec("devices")
  out = jax.sharding.PartitionSpec(None, "devices")
  rewards = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=axes, out_specs=out))(jax.random.split(jax.random.key(0), 1))
  np.testing.assert_array_equal(rewards, np.full((2, N), action_repeat))


def test_a_single_environment_and_equal_seeds():
  vector = vectorize(Counter(done_at=2), 1)
  one, _, _ = rollout(vector, 5, seed=3)
  two, _, _ = rollout(vector, 5, seed=3)
  other, _, _ = rollout(vector, 5, seed=4)
  assert one.obs.shape == (5, 1, 2)
  assert one.reward.shape == (5, 1)
  np.testing.assert_array_equal(one.obs, two.obs)
  assert (one.obs[..., 0] != other.obs[..., 0]).all()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"num_envs": 0}, "num_envs is a whole number >= 1, got 0"),
    ({"num_envs": 2.5}, "num_envs is a whole number >= 1, got 2.5"),
    ({"episode_length": -1}, "episode_length is a whole number >= 1"),
    ({"action_repeat": None}, "action_repeat is a whole number >= 1"),
    ({"pool_size": 0}, "pool_size is a whole number >= 1"),
    ({"reset": "auto"}, "reset must be one of pool, fresh, cached; got 'auto'"),
    ({"reset": "fresh", "pool_size": 4}, 'pool_size is for reset="pool" only'),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    vectorize(Counter(), **{"num_envs": 2, **arguments})


def test_states_that_change_their_structure_or_shape_are_named():
  class Growing(Counter):
    def step(self, state, action):
      return super().step(state, action).replace(info={"extra": jnp.zeros(())})

  class Widening(Counter):
    def step(self, state, action):
      return super().step(state, action).replace(data=jnp.zeros(5))

  with pytest.raises(ValueError, match=r"another structure than reset: only from step: \.info\['extra'\]"):
    vectorize(Growing(), 2)
  with pytest.raises(ValueError, match=r"state\.data of Widening has shape \(2,\) from reset and \(5,\) from step"):
    vectorize(Widening(), 2)
