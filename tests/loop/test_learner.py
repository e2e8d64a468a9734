"""Learning from the rollout alone: what each epoch sees, and the loop around it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Steps

import varl
from varl.agents import ppo, sac
from varl.envs import spec as spec_of
from varl.loop import learner
from varl.loop.settings import Settings
from varl.loop.trainer import AXIS, make_trainer
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
    seen = state.params["seen"].at[count].set(batch.reward.reshape(-1))
    noted = state.params["noted"].at[count].set(batch.extras["noted"][0] if batch.extras else -batch.reward.shape[0])
    return AgentState({"count": count + 1, "seen": seen, "noted": noted}, {}), {"one": jnp.float32(1.0)}

  def prepare(state, transitions, key):
    count = jnp.full(transitions.reward.shape, state.params["count"], jnp.float32)
    return transitions._replace(extras={"noted": count})

  start = {"count": jnp.int32(0), "seen": jnp.full((batches, 8), -1.0), "noted": jnp.full(batches, -1.0)}
  agent = Agent(Spec(1, 1), lambda key: AgentState(start, {}), None, None, update, on_policy=True, prepare=prepare)
  return agent, AgentState(start, {})


@pytest.mark.parametrize("every", ["rollout", "epoch"])
def test_each_epoch_sees_every_row_once_in_a_new_order(every):
  agent, state = recorder(12)
  settings = dataclasses.replace(SETTINGS, prepare_every=every)
  learn = jax.jit(learner.from_rollout(agent, settings).learn)
  state, memory, metrics = learn(state, (), rollout(4, 8), jnp.ones((4, 8), bool), jax.random.key(0), False)
  seen = np.asarray(state.params["seen"]).reshape(3, 32)
  for epoch in seen:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(32))
  assert len({tuple(epoch) for epoch in seen}) == 3
  assert memory == ()
  assert (metrics["updates"], metrics["one"]) == (12, 12)
  np.testing.assert_array_equal(state.params["noted"], np.repeat([0, 4, 8] if every == "epoch" else [0, 0, 0], 4))


@pytest.mark.parametrize("every", varl.loop.settings.PREPARE_EVERY)
def test_minibatches_of_trajectories_are_whole_environments(every):
  agent, state = recorder(12)
  settings = dataclasses.replace(SETTINGS, minibatches="trajectories", prepare_every=every)
  learn = jax.jit(learner.from_rollout(agent, settings).learn)
  state, *_ = learn(state, (), rollout(4, 8), jnp.ones((4, 8), bool), jax.random.key(0), False)
  seen = np.asarray(state.params["seen"]).reshape(3, 4, 4, 2)  # epochs, minibatches, steps, environments
  np.testing.assert_array_equal(seen - seen[:, :, :1], np.broadcast_to(8 * np.arange(4)[:, None], (3, 4, 4, 2)))
  envs = seen[:, :, 0].reshape(3, 8)
  np.testing.assert_array_equal(np.sort(envs), np.broadcast_to(np.arange(8), (3, 8)))
  assert len({tuple(order) for order in envs}) == 3
  # -4: the update was given trajectories of 4 steps, which `prepare` has not seen.
  noted = {"rollout": [0, 0, 0], "epoch": [0, 4, 8], "minibatch": [-4, -4, -4]}[every]
  np.testing.assert_array_equal(state.params["noted"], np.repeat(noted, 4))


def test_one_minibatch_is_prepared_the_same_whenever_that_is(point_mass):
  """With one epoch of one minibatch the values have not changed in between."""
  agent = ppo.make(spec_of(point_mass), CONFIG)
  settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=32, minibatches="trajectories")
  params = []
  for every in varl.loop.settings.PREPARE_EVERY:
    trainer = make_trainer(point_mass, agent, dataclasses.replace(settings, prepare_every=every))
    state, metrics = jax.jit(trainer.run)(jax.random.key(0))
    assert metrics["training/updates"].sum() == 7  # of eight rollouts the first gives the moments
    params.append(state.agent.params)
  for other in params[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params[0], other)


def test_a_minibatch_prepared_by_its_update_evaluates_the_values_once(point_mass):
  agent = ppo.make(spec_of(point_mass), dataclasses.replace(CONFIG, value_hidden=(128, 128)))
  state, key = agent.init(jax.random.key(0)), jax.random.key(1)
  steps = rollout(8, 16, {"log_prob": jnp.zeros((8, 16))})
  steps = steps._replace(obs=jnp.zeros((8, 16, 4)), next_obs=jnp.zeros((8, 16, 4)), action=jnp.zeros((8, 16, 2)))

  def flops(f, *args):
    return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]

  rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), agent.prepare(state, steps, key))
  apart = flops(agent.prepare, state, steps, key) + flops(agent.update, state, rows, key)
  once = 2 * 8 * 16 * (4 * 128 + 128 * 128 + 128)
  assert apart - flops(agent.update, state, steps, key) > 0.95 * once


def test_bad_minibatches():
  with pytest.raises(ValueError, match=r"minibatches is one of \['rows', 'trajectories'\], got 'columns'"):
    dataclasses.replace(SETTINGS, minibatches="columns")
  with pytest.raises(ValueError, match="epochs, the passes over each, must be > 0"):
    Settings(minibatches="trajectories")
  with pytest.raises(ValueError, match="prepare_every='epoch' is of rollouts"):
    Settings(prepare_every="epoch")
  with pytest.raises(ValueError, match="prepare_every='minibatch' needs whole trajectories"):
    dataclasses.replace(SETTINGS, prepare_every="minibatch")
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


def test_steps_that_are_not_valid_are_replaced():
  steps = rollout(4, 8, {"log_prob": jnp.ones((4, 8))})
  valid = np.ones((4, 8), bool)
  valid[1, 3] = valid[0, 6] = False
  valid[:, 5] = False
  got = learner.replace_invalid(steps, jnp.asarray(valid))
  rows = np.asarray(got.reward, int)
  np.testing.assert_array_equal(rows[valid], np.flatnonzero(valid))
  assert valid.reshape(-1)[rows].all()
  assert len(set(rows[~valid])) == 6
  np.testing.assert_array_equal(got.obs[..., 0], got.reward)
  # Those in their place stand alone, and a row before one ends there.
  alone = ~valid
  alone[0, 3] = True
  np.testing.assert_array_equal(got.truncated, alone)
  for all_or_none in (jnp.ones((4, 8), bool), jnp.zeros((4, 8), bool)):
    jax.tree.map(np.testing.assert_array_equal, learner.replace_invalid(steps, all_or_none), steps)


def test_what_is_not_valid_reaches_no_return(point_mass):
  """Whatever stands in a row that is not valid, the advantages of all others are the same."""
  agent = ppo.make(spec_of(point_mass), CONFIG)
  state = agent.init(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 3)
  obs = jax.random.normal(keys[0], (5, 3, 4))
  zero = jnp.zeros((4, 3))
  steps = Transition(obs[:-1], jnp.zeros((4, 3, 2)), jax.random.normal(keys[1], (4, 3)), 1 + zero, obs[1:], zero, {})
  valid = jnp.ones((4, 3), bool).at[2, 1].set(False)
  other = steps._replace(reward=steps.reward.at[2, 1].set(99.0), obs=steps.obs.at[2, 1].set(9.0))
  first, second = (
    agent.prepare(state, learner.replace_invalid(x, valid), keys[2]).extras["advantage"] for x in (steps, other)
  )
  np.testing.assert_array_equal(first, second)
  plain = agent.prepare(state, steps, keys[2]).extras["advantage"]
  np.testing.assert_allclose(first[:, [0, 2]], plain[:, [0, 2]], rtol=1e-5)
  np.testing.assert_allclose(first[3, 1], plain[3, 1], rtol=1e-5)


def test_every_order_of_the_rows_is_as_likely():
  orders = jax.vmap(lambda key: learner.shuffled(key, 4))(jax.random.split(jax.random.key(0), 24_000))
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
  np.testing.assert_array_equal(metrics["training/updates"], [36, 48])
  np.testing.assert_array_equal(metrics["env_steps"], [128, 256])
  assert trainer.replay_bytes == 0
  assert state.loop.replay == ()
  assert state.agent.params["observed"].frames == 256
  assert state.agent.params["normalizer"].frames == 224  # the last rollout's count from the next one on
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
  assert metrics["training/updates"] == 2 * 3 * 2
  assert state.agent.params["observed"].frames == 96
  assert state.agent.params["normalizer"].frames == 64
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
