"""Learning from the rollout alone: what each epoch sees, and the loop around it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Steps

import varl
from varl import learner
from varl.agents import ppo, sac
from varl.envs import spec as spec_of
from varl.settings import Settings
from varl.trainer import AXIS, make_trainer
from varl.types import Agent, AgentState, Spec, Transition

SETTINGS = Settings(
  num_timesteps=256, num_envs=8, unroll_length=4, episode_length=6, batch_size=8, epochs=3, eval_every=128,
  eval_episodes=2,
)  # fmt: skip


def rollout(length, envs, extras=None):
  rows = jnp.arange(length * envs, dtype=jnp.float32).reshape(length, envs)
  zero = 0.0 * rows
  return Transition(rows[..., None], rows[..., None], rows, 1.0 + zero, rows[..., None], zero, extras or {})


def recorder(batches):
  """An agent that only notes which rows each update gets: `[batches, B]` of rewards, and of what `prepare` added."""

  def update(state, batch, key):
    count = state.params["count"]
    seen = state.params["seen"].at[count].set(batch.reward)
    noted = state.params["noted"].at[count].set(batch.extras["noted"][0])
    return AgentState({"count": count + 1, "seen": seen, "noted": noted}, {}), {"one": jnp.float32(1.0)}

  def prepare(state, transitions, key):
    count = jnp.full(transitions.reward.shape, state.params["count"], jnp.float32)
    return transitions._replace(extras={"noted": count})

  start = {"count": jnp.int32(0), "seen": jnp.full((batches, 8), -1.0), "noted": jnp.full(batches, -1.0)}
  agent = Agent(Spec(1, 1), lambda key: AgentState(start, {}), None, None, update, on_policy=True, prepare=prepare)
  return agent, AgentState(start, {})


@pytest.mark.parametrize("again", [False, True])
def test_each_epoch_sees_every_row_once_in_a_new_order(again):
  agent, state = recorder(12)
  settings = dataclasses.replace(SETTINGS, prepare_every_epoch=again)
  learn = jax.jit(learner.from_rollout(agent, settings).learn)
  state, memory, metrics = learn(state, (), rollout(4, 8), jnp.ones((4, 8), bool), jax.random.key(0), False)
  seen = np.asarray(state.params["seen"]).reshape(3, 32)
  for epoch in seen:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(32))
  assert len({tuple(epoch) for epoch in seen}) == 3
  assert memory == ()
  assert (metrics["updates"], metrics["one"]) == (12, 12)
  np.testing.assert_array_equal(state.params["noted"], np.repeat([0, 4, 8] if again else [0, 0, 0], 4))


def test_minibatches_of_trajectories_are_whole_environments():
  agent, state = recorder(12)
  settings = dataclasses.replace(SETTINGS, minibatches="trajectories")
  learn = jax.jit(learner.from_rollout(agent, settings).learn)
  state, *_ = learn(state, (), rollout(4, 8), jnp.ones((4, 8), bool), jax.random.key(0), False)
  seen = np.asarray(state.params["seen"]).reshape(3, 8, 4)  # epochs, environments, steps
  np.testing.assert_array_equal(seen - seen[:, :, :1], np.broadcast_to(8 * np.arange(4), (3, 8, 4)))
  np.testing.assert_array_equal(np.sort(seen[:, :, 0]), np.broadcast_to(np.arange(8), (3, 8)))
  assert len({tuple(order) for order in seen[:, :, 0]}) == 3
  # What is not valid is replaced where it stands.
  valid = jnp.ones((4, 8), bool).at[1, 3].set(False).at[:, 5].set(False)
  state, *_ = learn(agent.init(None), (), rollout(4, 8), valid, jax.random.key(0), False)
  again = np.asarray(state.params["seen"]).reshape(3, 8, 4)
  good = np.asarray(valid).reshape(-1)[seen.astype(int)]
  np.testing.assert_array_equal(again[good], seen[good])
  assert np.asarray(valid).reshape(-1)[again.astype(int)].all()


def test_bad_minibatches():
  with pytest.raises(ValueError, match=r"minibatches is one of \['rows', 'trajectories'\], got 'columns'"):
    dataclasses.replace(SETTINGS, minibatches="columns")
  with pytest.raises(ValueError, match="epochs, the passes over each, must be > 0"):
    Settings(minibatches="trajectories")
  with pytest.raises(ValueError, match="batch_size=2 over num_devices=1 holds no whole number of trajectories"):
    dataclasses.replace(SETTINGS, minibatches="trajectories", batch_size=2)


def test_replayed_sequences_are_of_one_environment_in_order():
  """Rows count up over time in each environment; a batch is `[T, B]`, and a broken sequence is never seen."""
  batches = []

  def update(state, batch, key):
    jax.debug.callback(lambda x: batches.append(np.asarray(x)), batch.reward)
    return state, {"one": jnp.float32(1.0)}

  agent = Agent(Spec(1, 1), None, None, None, update, sequence=3)
  settings = Settings(
    num_envs=4, unroll_length=6, updates_per_env_step=0.5, batch_size=12, replay_capacity=48, num_timesteps=48
  )
  row = jax.tree.map(lambda x: x[0, 0], rollout(6, 4))
  source = learner.from_replay(agent, settings, row)
  valid = jnp.ones((6, 4), bool).at[4, 1].set(False)
  state = AgentState({}, {})
  learn = jax.jit(source.learn)
  state, memory, metrics = learn(state, source.init(), rollout(6, 4), valid, jax.random.key(0), False)
  jax.effects_barrier()
  assert memory.size == 7
  assert (len(batches), metrics["updates"]) == (12, 12)
  for batch in batches:
    assert batch.shape == (3, 4)
    np.testing.assert_array_equal(np.diff(batch, axis=0), np.full((2, 4), 4.0))
    assert (np.isin(batch[0] // 4, [0, 3])).all()
    assert not np.isin(17, batch)


def test_rows_that_are_not_valid_are_left_out():
  valid = np.ones(32, bool)
  valid[[3, 17, 30]] = False
  rows = learner.valid_rows(jnp.asarray(valid))
  order = np.asarray(learner.shuffled(jax.random.key(0), rows))
  assert len(order) == 32
  assert set(order) == set(np.flatnonzero(valid))
  assert np.bincount(order).max() == 2
  none = np.asarray(learner.valid_rows(jnp.zeros(32, bool)))
  np.testing.assert_array_equal(none, np.arange(32))


def test_every_order_of_the_rows_is_as_likely():
  orders = jax.vmap(lambda key: learner.shuffled(key, jnp.arange(4)))(jax.random.split(jax.random.key(0), 24_000))
  _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
  assert len(counts) == 24
  # χ² with 23 degrees of freedom: beyond 49.7 once in a thousand.
  assert np.sum((counts - 1000.0) ** 2 / 1000.0) < 49.7


def test_what_follows_from_the_epochs():
  assert SETTINGS.updates_per_iteration == 12
  assert SETTINGS.updates_per_env_step == 12 / 32
  assert SETTINGS.replay_capacity == 32
  assert (SETTINGS.warm_up, SETTINGS.warm_up_iterations) == (0, 0)
  again = dataclasses.replace(SETTINGS, epochs=1)
  assert again.updates_per_iteration == 4
  repeated = dataclasses.replace(SETTINGS, action_repeat=2)
  assert (repeated.updates_per_iteration, repeated.steps_per_iteration) == (12, 64)
  with pytest.raises(ValueError, match=r"batch_size=9 does not divide a rollout of .* = 32 transitions"):
    dataclasses.replace(SETTINGS, batch_size=9)
  with pytest.raises(ValueError, match="epochs is a whole number >= 0"):
    dataclasses.replace(SETTINGS, epochs=-1)


def test_the_two_kinds_of_agents_need_their_own_settings(point_mass):
  spec = spec_of(point_mass)
  with pytest.raises(ValueError, match="epochs, the passes over each, must be > 0"):
    make_trainer(point_mass, ppo.make(spec), Settings(num_envs=8))
  with pytest.raises(ValueError, match="learns from replay: epochs must be 0, got epochs=3"):
    make_trainer(point_mass, sac.make(spec), SETTINGS)


CONFIG = ppo.Config(hidden=(16,), learning_rate=1e-3, normalize_observations=True)


def test_the_loop_counts_and_keeps_no_replay(point_mass):
  trainer = make_trainer(point_mass, ppo.make(spec_of(point_mass), CONFIG), SETTINGS)
  state, metrics = jax.jit(trainer.run)(jax.random.key(0))
  np.testing.assert_array_equal(metrics["training/updates"], [48, 48])
  assert trainer.replay_bytes == 0
  assert state.loop.replay == ()
  assert state.agent.params["normalizer"].frames == 256
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(metrics))


def test_steps_that_turned_non_finite_are_not_learned_from():
  env = Steps(nan_at=3)
  trainer = make_trainer(env, ppo.make(spec_of(env), CONFIG), SETTINGS)
  state, metrics = jax.jit(trainer.run)(jax.random.key(0))
  assert metrics["training/nan_resets"].sum() > 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.agent))


def test_values_learn_where_episodes_end_and_where_they_are_cut():
  """Reward 1 a step: cut after 6 steps V is 1/(1 - γ), and ended after 3 it is what is left."""
  settings = dataclasses.replace(
    SETTINGS, num_timesteps=64_000, num_envs=32, unroll_length=16, batch_size=64, epochs=4, eval_every=64_000
  )
  config = ppo.Config(hidden=(), value_hidden=(), gamma=0.9, learning_rate=3e-2, normalize_observations=False)
  for env, wanted in ((Steps(), [10.0] * 3), (Steps(done_at=3), [2.71, 1.9, 1.0])):
    agent = ppo.make(spec_of(env), config)
    state, _ = jax.jit(make_trainer(env, agent, settings).run)(jax.random.key(0))
    value = ppo.design(agent.spec, config).value
    got = value.prepare(None, state.agent.params, one_of_each(), jax.random.key(0))
    np.testing.assert_allclose(got["value_target"] - got["advantage"], wanted, rtol=0.02)


def one_of_each():
  obs = jnp.eye(3)
  return Transition(obs, jnp.zeros((3, 1)), jnp.zeros(3), jnp.zeros(3), obs, jnp.zeros(3), {})


def test_eight_devices_hold_the_same_parameters_and_count_all_rows(point_mass):
  settings = dataclasses.replace(SETTINGS, num_devices=8, batch_size=16, eval_episodes=8)
  trainer = make_trainer(point_mass, ppo.make(spec_of(point_mass), CONFIG, axis=AXIS), settings)
  state = trainer.init(jax.random.key(0))
  state, metrics = trainer.epoch(state, jnp.int32(3))
  assert metrics["training/updates"] == 3 * 3 * 2
  assert state.agent.params["normalizer"].frames == 96
  for leaf in jax.tree.leaves(state.agent.params):
    shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert all(np.array_equal(shards[0], shard) for shard in shards)


def test_a_run_resumed_is_the_run_that_went_on(tmp_path):
  kwargs = {
    "num_envs": 8, "unroll_length": 4, "batch_size": 16, "epochs": 2, "episode_length": 6, "hidden": (8,),
    "eval_every": 64, "eval_episodes": 2, "preset": False,
  }  # fmt: skip
  whole = varl.train("ppo", "point_mass", num_timesteps=256, out=tmp_path / "whole", **kwargs)
  varl.train("ppo", "point_mass", num_timesteps=128, out=tmp_path / "half", **kwargs)
  rest = varl.resume(tmp_path / "half", num_timesteps=256)
  jax.tree.map(np.testing.assert_array_equal, whole.params, rest.params)
