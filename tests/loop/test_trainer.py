"""The loop: what it counts, that it learns the right values, and that it is one function under every transform."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Steps

from varl.agents import sac
from varl.envs import spec as spec_of
from varl.envs import toys
from varl.loop.settings import Settings
from varl.loop.trainer import AXIS, epochs_of, make_trainer, run_keys

CONFIG = sac.Config(hidden=(16,))
SETTINGS = Settings(
  num_timesteps=96,
  num_envs=4,
  episode_length=10,
  unroll_length=2,
  updates_per_env_step=0.5,
  batch_size=16,
  replay_capacity=128,
  warm_up=32,
  eval_every=32,
  eval_episodes=4,
)


def assert_close(a, b, *, rtol=1e-4, atol=1e-5):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def params_of(state):
  return state.agent.params


class Run:
  """A run by epochs on the host, with everything seen on the way."""

  def __init__(self, env):
    agent, self.traces = sac.make(spec_of(env), CONFIG), []

    def update(*args):
      self.traces.append(None)
      return agent.update(*args)

    self.trainer = make_trainer(env, agent._replace(update=update), SETTINGS)
    init_key, eval_key = run_keys(jax.random.key(0))
    self.rows, self.deleted, self.counts = [], [], []
    state = self.trainer.init(init_key)
    for epoch in range(3):
      before = state
      state, metrics = self.trainer.epoch(state, 4)
      evaluation = self.trainer.evaluate(state, jax.random.fold_in(eval_key, 4 * (epoch + 1)))
      self.rows.append({"env_steps": 32 * (epoch + 1), "iterations": 4 * (epoch + 1), **evaluation, **metrics})
      self.deleted.append(
        all(x.is_deleted() for x in jax.tree.leaves(before) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key))
      )
      self.counts.append(len(self.traces))
    self.state = state


@pytest.fixture(scope="module")
def run(point_mass):
  return Run(point_mass)


def test_epochs_do_not_retrace_and_donate_their_state(run):
  assert run.counts[0] > 0
  assert run.counts == [run.counts[0]] * 3
  assert run.deleted == [True] * 3


def test_another_length_does_not_retrace(run):
  state = run.trainer.init(jax.random.key(3))
  state, metrics = run.trainer.epoch(state, 5)
  assert len(run.traces) == run.counts[0]
  assert metrics["training/updates"] == 4  # of five iterations four are warm-up
  assert state.loop.iteration == 5


def test_updates_happen_at_the_ratio_asked_for(run):
  # 8 environment steps and 4 updates an iteration; the first 32 steps are the warm-up.
  assert [int(row["training/updates"]) for row in run.rows] == [0, 16, 16]
  assert run.state.loop.iteration == 12
  assert run.state.loop.replay.size == 96
  assert run.rows[0]["training/critic_loss"] == 0  # a mean over none
  for row in run.rows[1:]:
    assert all(np.isfinite(value) for value in row.values()), row


def test_episodes_are_counted(run):
  # Episodes last 10 steps: of 4 environments after 8, 16 and 24 steps each.
  assert [int(row["training/episodes"]) for row in run.rows] == [0, 4, 4]
  assert run.rows[0]["training/episode_reward"] == 0  # a mean over none
  assert run.rows[1]["training/avg_episode_length"] == 10
  assert -10 < run.rows[1]["training/episode_reward"] < 0
  assert all(row["training/nan_resets"] == 0 for row in run.rows)


def test_the_normaliser_saw_each_fresh_frame_once(run):
  frames = np.asarray(run.state.loop.replay.data.obs, np.float64)[:96]  # nothing has been overwritten yet
  moments = params_of(run.state)["normalizer"]
  assert moments.frames == 96
  np.testing.assert_allclose(moments.origin + moments.mean, frames.mean(0), atol=1e-5)
  np.testing.assert_allclose(moments.variance, frames.var(0), rtol=1e-4)


def test_warm_up_actions_are_uniform_and_recorded(run):
  data = run.state.loop.replay.data
  np.testing.assert_allclose(data.extras["log_prob"][:32], np.full(32, -2 * np.log(2)), rtol=1e-6)
  assert not np.allclose(data.extras["log_prob"][32:96], -2 * np.log(2))


def test_the_state_is_as_its_shapes_say(run):
  assert jax.tree.map(lambda x: (x.shape, x.dtype), run.state) == jax.tree.map(
    lambda x: (x.shape, x.dtype), run.trainer.shapes
  )
  replay = run.state.loop.replay.data
  assert run.trainer.replay_bytes == sum(x.nbytes for x in jax.tree.leaves(replay))


def train(hyper, key):
  """A whole run with the agent built inside, for hyper-parameters that may be traced."""
  env = toys.PointMass()
  config = dataclasses.replace(CONFIG, **hyper)
  state, metrics = make_trainer(env, sac.make(spec_of(env), config), SETTINGS).run(key)
  return params_of(state), metrics


HYPER = {"learning_rate": 3e-4, "gamma": 0.99, "tau": 0.005, "entropy_target": -2.0}
OTHERS = {"learning_rate": [1e-3, 3e-4], "gamma": [0.9, 0.99], "tau": [0.1, 0.005], "entropy_target": [1.0, -2.0]}


@pytest.fixture(scope="module")
def single():
  return jax.jit(train)


def test_run_is_init_and_epochs(run, single):
  params, metrics = single(HYPER, jax.random.key(0))
  assert_close(params, params_of(run.state))
  assert_close(metrics, jax.tree.map(lambda *x: np.stack(x), *run.rows), rtol=1e-3)
  np.testing.assert_array_equal(metrics["env_steps"], [32, 64, 96])


def test_environment_steps_that_32_bits_do_not_count():
  """Five epochs of 2^29 steps and a rest: exact where int32 holds them, else the nearest float32."""
  long = Settings(num_timesteps=2**31 + 2**29 + 64, num_envs=64, unroll_length=4, eval_every=2**29)
  iterations, ends, steps = epochs_of(long)
  exact = [2**29, 2**30, 3 * 2**29, 2**31, 2**31 + 2**29, 2**31 + 2**29 + 256]
  np.testing.assert_array_equal(ends, [x // 256 for x in exact])
  np.testing.assert_array_equal(iterations, np.diff([0, *ends]))
  assert steps.dtype == jnp.float32
  np.testing.assert_array_equal(steps, np.float32(exact))
  short = epochs_of(dataclasses.replace(long, num_timesteps=2**31 - 256))[2]
  assert short.dtype == jnp.int32
  np.testing.assert_array_equal(short, [*exact[:3], 2**31 - 256])


def test_vmap_over_seeds_is_separate_runs(single):
  keys = jax.random.split(jax.random.key(1), 2)
  together = jax.jit(jax.vmap(train, in_axes=(None, 0)))(HYPER, keys)
  for i in range(2):
    assert_close(jax.tree.map(lambda x, i=i: x[i], together), single(HYPER, keys[i]), rtol=1e-3)
  assert not np.allclose(*together[1]["training/episode_reward"][:, 1])


def test_vmap_over_hyper_parameters_is_separate_runs(single):
  hyper = {name: jnp.float32(values) for name, values in OTHERS.items()}
  together = jax.jit(jax.vmap(train, in_axes=(0, None)))(hyper, jax.random.key(0))
  for i in range(2):
    one = {name: values[i] for name, values in OTHERS.items()}
    assert_close(jax.tree.map(lambda x, i=i: x[i], together), single(one, jax.random.key(0)), rtol=1e-3)
  # Each of them counts: a run differs from one in which it alone is the other's.
  params, _ = single(HYPER, jax.random.key(0))
  for name, group in (
    ("learning_rate", "actor"),
    ("gamma", "critic"),
    ("tau", "target_critic"),
    ("entropy_target", "temperature"),
  ):
    changed, _ = single({**HYPER, name: OTHERS[name][0]}, jax.random.key(0))
    same = jax.tree.map(lambda x, y: np.allclose(x, y, rtol=0, atol=1e-6), changed[group], params[group])
    assert not all(jax.tree.leaves(same)), name


def test_eight_devices(point_mass):
  settings = dataclasses.replace(
    SETTINGS, num_devices=8, num_envs=16, num_timesteps=192, warm_up=64, eval_every=192, batch_size=64, eval_episodes=8
  )
  agent, traces = sac.make(spec_of(point_mass), CONFIG, axis=AXIS), []

  def update(*args):
    traces.append(1)
    return agent.update(*args)

  trainer = make_trainer(point_mass, agent._replace(update=update), settings)
  state = trainer.init(jax.random.key(0))
  placed = jax.tree.map(lambda x: x.sharding, state)
  state, metrics = trainer.epoch(state, 3)
  first = len(traces)
  state, metrics = trainer.epoch(state, 3)
  assert len(traces) == first > 0
  assert metrics["training/updates"] == 3 * 16  # 32 steps and 16 updates an iteration, after 2 of warm-up
  assert metrics["training/episodes"] == 16
  assert all(np.isfinite(value) for value in metrics.values())
  for leaf in jax.tree.leaves(state.agent):
    assert len(leaf.addressable_shards) == 8
    for shard in leaf.addressable_shards:
      np.testing.assert_array_equal(shard.data, leaf.addressable_shards[0].data)
  # One stream of observations, from environments that live apart.
  frames = np.asarray(state.loop.replay.data.obs)
  assert frames.shape == (8, 16, 4)
  assert (np.asarray(state.loop.replay.size) == 16).all()
  assert len(np.unique(frames[:, 0], axis=0)) == 8
  assert params_of(state)["normalizer"].frames == 192
  assert jax.tree.map(lambda x: x.sharding, state) == placed
  assert jax.tree.map(lambda x: x.sharding, trainer.shapes) == placed
  assert all(np.isfinite(value) for value in trainer.evaluate(state, jax.random.key(1)).values())


def test_a_time_limit_bootstraps_and_an_end_does_not():
  """Reward 1 for ever, cut every 5 steps, is worth 1/(1 - γ) = 10; ended after 3 steps 1 + γ + γ², 1 + γ and 1."""
  config = sac.Config(
    hidden=(32, 32),
    learning_rate=3e-3,
    gamma=0.9,
    tau=0.05,
    adapt_temperature=False,
    initial_temperature=1e-4,
    normalize_observations=False,
  )
  settings = Settings(
    num_timesteps=2560,
    num_envs=8,
    episode_length=5,
    updates_per_env_step=1.0,
    batch_size=64,
    replay_capacity=2560,
    warm_up=64,
    eval_every=2560,
    eval_episodes=2,
  )

  def learned(done_at, key):
    env = Steps(done_at)
    state, metrics = make_trainer(env, sac.make(spec_of(env), config), settings).run(key)
    value = sac.design(spec_of(env), config).value
    action = jnp.arctanh(jnp.linspace(-0.9, 0.9, 7))[:, None, None] * jnp.ones((1, 3, 1))
    return value.q(params_of(state), jnp.eye(3), action), metrics

  q, metrics = jax.jit(jax.vmap(learned))(jnp.array([0, 3]), jax.random.split(jax.random.key(0), 2))
  np.testing.assert_allclose(metrics["eval/avg_episode_length"][:, -1], [5, 3])
  np.testing.assert_allclose(metrics["training/episode_reward"][:, -1], [5, 3])
  # Within 5 %, at every step of the episode and for every action.
  np.testing.assert_allclose(q[0], np.full((7, 3), 10.0), rtol=0.05)
  np.testing.assert_allclose(q[1], np.tile([2.71, 1.9, 1.0], (7, 1)), rtol=0.05)


def test_non_finite_steps_are_counted_and_kept_out_of_replay():
  env = Steps(nan_at=4)
  trainer = make_trainer(env, sac.make(spec_of(env), CONFIG), SETTINGS)
  state, metrics = trainer.epoch(trainer.init(jax.random.key(0)), 12)
  # 24 steps in each of 4 environments, every fourth of which is NaN.
  assert metrics["training/nan_resets"] == 24
  assert state.loop.replay.size == 72
  assert params_of(state)["normalizer"].frames == 72
  assert metrics["training/updates"] == 32
  assert metrics["training/episodes"] == 0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.agent, state.loop.replay)))
  assert trainer.evaluate(state, jax.random.key(1))["eval/nan_episodes"] == 4


def test_bad_arguments(point_mass):
  agent = sac.make(spec_of(point_mass), CONFIG)
  with pytest.raises(
    ValueError, match=r"built for Spec\(observation_size=4.*but the environment is Spec\(observation_size=3"
  ):
    make_trainer(Steps(), agent, SETTINGS)
  many = dataclasses.replace(SETTINGS, num_devices=16, num_envs=16, eval_episodes=16)
  with pytest.raises(ValueError, match=r"num_devices=16, but JAX sees 8 \(cpu\)"):
    make_trainer(point_mass, agent, many)
