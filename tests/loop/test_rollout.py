"""Rollouts and evaluation with an agent whose every action is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Steps

from varl.envs import State, vectorize
from varl.envs import spec as spec_of
from varl.loop import rollout
from varl.loop.evaluate import evaluator
from varl.types import Agent


class Lottery:
  """Episodes of 1 to 6 steps, drawn at reset. Reward: the executed action, clipped to ±1. Observation: the length."""

  observation_size, action_size = 1, 1

  def reset(self, rng):
    length = jax.random.randint(rng, (), 1, 7)
    return State(length[None].astype(jnp.float32), jnp.zeros(()), jnp.zeros(()), data=(length, jnp.int32(0)))

  def step(self, state, action):
    length, count = state.data
    done = (count + 1 >= length).astype(jnp.float32)
    return State(state.obs, action[0], done, data=(length, count + 1))


def counting(env):
  """An agent whose memory counts its steps. It acts by 0.1 × the count, its mode is -1, its warm-up a draw."""

  def act(params, carry, obs, key):
    action = 0.1 * carry[:, None].astype(jnp.float32) * params
    return action, carry + 1, {"count": carry, "noise": jax.random.normal(key, carry.shape)}

  def mode(params, carry, obs, key):
    _, carry, extras = act(params, carry, obs, key)
    return -jnp.ones((len(obs), 1)), carry, extras

  def warm_up(params, carry, obs, key):
    _, carry, extras = act(params, carry, obs, key)
    return jax.random.uniform(key, (len(obs), 1), minval=0.5), carry, extras

  return Agent(
    spec=spec_of(env),
    init=None,
    act=act,
    mode=mode,
    carry=lambda n: jnp.zeros(n, jnp.int32),
    update=None,
    execute=lambda action: action,
    warm_up=warm_up,
    observe=None,
    prepare=None,
  )


def unroll(env, length, *, num_envs=2, calls=1, warm_up=False, seed=0, **kwargs):
  """`calls` rollouts, one after another: the last state, and the rest concatenated over time as NumPy."""
  batch, agent = vectorize(env, num_envs, **kwargs), counting(env)

  @jax.jit
  def run(key):
    state = rollout.init(batch, agent, key)
    seen = []
    for i in range(calls):
      key = jax.random.fold_in(key, i)
      state, *new = rollout.unroll(batch, agent, jnp.float32(1.0), state, key, length, warm_up)
      seen.append(new)
    return state, seen

  state, seen = run(jax.random.key(seed))
  transitions, valid, _ = jax.tree.map(lambda *x: np.concatenate(x), *[(*s[:2], None) for s in seen])
  return state, transitions, valid, [s[2] for s in seen]


def test_memory_starts_again_with_each_episode_and_goes_on_between_rollouts():
  state, transitions, valid, episodes = unroll(Steps(done_at=3), 4, calls=2)
  assert transitions.obs.shape == (8, 2, 3)
  count = np.array([0, 1, 2, 0, 1, 2, 0, 1])
  np.testing.assert_array_equal(transitions.extras["count"], np.stack([count, count], axis=1))
  np.testing.assert_allclose(transitions.action[:, :, 0], 0.1 * transitions.extras["count"], rtol=1e-6)
  np.testing.assert_array_equal(transitions.obs[:, 0], np.eye(3)[count])
  np.testing.assert_array_equal(transitions.next_obs[:, 0], np.eye(3)[(count + 1) % 3])
  np.testing.assert_array_equal(transitions.discount[:, 0], count != 2)
  assert valid.all()
  assert (transitions.truncated == 0).all()
  assert [int(e.ended) for e in episodes] == [2, 2]
  assert [float(e.return_sum) for e in episodes] == [6.0, 6.0]
  assert [float(e.length_sum) for e in episodes] == [6.0, 6.0]
  np.testing.assert_array_equal(state.lengths, [2, 2])
  np.testing.assert_array_equal(state.returns, [2.0, 2.0])
  assert len(np.unique(transitions.extras["noise"])) == 16  # a key a step


def test_a_time_limit_truncates_and_does_not_terminate():
  _, transitions, _, episodes = unroll(Steps(), 6, episode_length=4, action_repeat=2)
  np.testing.assert_array_equal(transitions.truncated[:, 0], [0, 1, 0, 1, 0, 1])
  assert (transitions.discount == 1).all()
  np.testing.assert_array_equal(transitions.reward, np.full((6, 2), 2.0))
  # The true next observation, and not the first of the next episode.
  np.testing.assert_array_equal(transitions.next_obs[:, 0], np.eye(3)[[2, 1, 2, 1, 2, 1]])
  np.testing.assert_array_equal(transitions.obs[:, 0], np.eye(3)[[0, 2, 0, 2, 0, 2]])
  assert int(episodes[0].ended) == 6
  assert float(episodes[0].length_sum) == 24  # environment steps
  assert float(episodes[0].return_sum) == 24


def test_a_non_finite_step_is_no_episode_and_resets_the_memory():
  _, transitions, valid, episodes = unroll(Steps(nan_at=3), 6)
  np.testing.assert_array_equal(valid[:, 0], [True, True, False, True, True, False])
  np.testing.assert_array_equal(transitions.extras["count"][:, 0], [0, 1, 2, 0, 1, 2])
  assert int(episodes[0].nan_resets) == 4
  assert int(episodes[0].ended) == 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(transitions))


@pytest.mark.parametrize("warm", [True, jnp.bool_(True)])
def test_warm_up_takes_the_other_policy(warm):
  _, transitions, _, _ = unroll(Steps(), 6, warm_up=warm)
  assert (transitions.action >= 0.5).all()
  _, transitions, _, _ = unroll(Steps(), 4, warm_up=jnp.bool_(False))
  assert (transitions.action < 0.5).all()


def test_one_key_gives_one_rollout():
  runs = [unroll(Lottery(), 12, num_envs=4, seed=seed)[1] for seed in (0, 0, 1)]
  jax.tree.map(np.testing.assert_array_equal, runs[0], runs[1])
  assert not np.array_equal(runs[0].obs, runs[2].obs)


# Evaluation


def test_only_first_episodes_count_and_each_once():
  env, n = Lottery(), 2000
  evaluate = jax.jit(evaluator(env, counting(env), episodes=n, episode_length=100))
  metrics = evaluate(jnp.float32(1.0), jax.random.key(0))
  lengths, key = np.arange(1, 7), jax.random.key(0)
  # A mean over episodes: 3.5 with deviation √(35/12). Counting all episodes of a fixed time would give less.
  std = np.sqrt(35 / 12)
  assert abs(metrics["eval/avg_episode_length"] - lengths.mean()) < 4 * std / np.sqrt(n)
  # By the mode each step costs 1.
  np.testing.assert_allclose(metrics["eval/episode_reward"], -metrics["eval/avg_episode_length"], rtol=1e-5)
  np.testing.assert_allclose(metrics["eval/episode_reward_std"], std, rtol=0.05)
  assert metrics["eval/nan_episodes"] == 0
  assert evaluate(jnp.float32(1.0), key) == metrics
  assert evaluate(jnp.float32(1.0), jax.random.key(1)) != metrics


def test_the_exploring_policy_is_evaluated_on_request():
  class Paid(Steps):
    def step(self, state, action):
      return super().step(state, action).replace(reward=action[0])

  env = Paid(done_at=5)
  for stochastic, expected in ((False, -5.0), (True, 0.1 * (0 + 1 + 2 + 3 + 4))):
    evaluate = jax.jit(evaluator(env, counting(env), episodes=3, stochastic=stochastic))
    np.testing.assert_allclose(
      evaluate(jnp.float32(1.0), jax.random.key(0))["eval/episode_reward"], expected, rtol=1e-5
    )


def test_evaluation_counts_environment_steps_and_obeys_the_time_limit():
  metrics = jax.jit(evaluator(Steps(), counting(Steps()), episodes=3, episode_length=8, action_repeat=2))(
    jnp.float32(1.0), jax.random.key(0)
  )
  assert metrics["eval/avg_episode_length"] == 8
  assert metrics["eval/episode_reward"] == 8
  assert metrics["eval/episode_reward_std"] == 0


def test_episodes_that_turn_non_finite_are_counted():
  env = Steps(nan_at=3)
  metrics = jax.jit(evaluator(env, counting(env), episodes=3))(jnp.float32(1.0), jax.random.key(0))
  assert metrics["eval/nan_episodes"] == 3
  assert metrics["eval/episode_reward"] == 2
