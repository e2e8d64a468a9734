"""A finite process as an environment: its steps against its arrays, and its returns against exact evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import envs
from varl.envs import Tabular, toys
from varl.exact import tabular


def test_it_is_an_environment():
  env = Tabular(tabular.gridworld(3))
  envs.check(env)
  spec = envs.spec(env)
  assert (spec.observation_size, spec.action_size, spec.discrete, spec.bounded) == (9, 4, True, False)


@pytest.mark.parametrize("branching", [None, 3])
def test_steps_follow_the_arrays(branching):
  m = tabular.random_mdp(jax.random.key(1), 5, 2, branching=branching, terminal=1)
  env, n = Tabular(m), 4000
  keys = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(0), n))
  first = jax.jit(jax.vmap(env.reset))(keys)
  assert first.obs.dtype == first.reward.dtype == first.done.dtype == jnp.float32

  def within(counts, probability):
    # 5 standard errors of a frequency.
    error = 5 * np.sqrt(probability * (1 - probability) / counts.sum()) + 1e-7
    assert (np.abs(counts / counts.sum() - probability) <= error).all()

  within(np.asarray(first.obs).sum(0), np.asarray(m.initial))
  np.testing.assert_array_equal(first.done, 0.0)
  np.testing.assert_array_equal(first.obs.argmax(-1), first.data[0])

  step = jax.jit(jax.vmap(env.step))
  actions = jnp.arange(n) % 2
  second = step(first, actions)
  third = step(second, actions)
  transition = np.asarray(tabular.dense(m).transition)
  for now, after in ((first, second), (second, third)):
    place, following = np.asarray(now.obs).argmax(-1), np.asarray(after.obs)
    np.testing.assert_array_equal(after.reward, m.reward[place, actions])
    np.testing.assert_array_equal(after.done, following[:, 4])
    np.testing.assert_array_equal(following.sum(-1), 1.0)
    for s in range(5):
      for a in range(2):
        chosen = (place == s) & (np.asarray(actions) == a)
        if chosen.any():
          within(following[chosen].sum(0), transition[s, a])
  # Two steps of one episode do not share their noise.
  same = np.asarray(first.obs).argmax(-1) == np.asarray(second.obs).argmax(-1)
  assert (np.asarray(second.obs)[same].argmax(-1) != np.asarray(third.obs)[same].argmax(-1)).any()


def test_the_corridor_is_the_toy_corridor():
  ours, theirs = Tabular(tabular.chain(5)), toys.Chain(5)
  key = jax.random.PRNGKey(0)
  a, b = ours.reset(key), theirs.reset(key)
  for action in (1, 1, 0, 1, 0, 0, 1, 1, 1, 1):
    np.testing.assert_array_equal(a.obs, b.obs)
    a, b = ours.step(a, jnp.int32(action)), theirs.step(b, jnp.int32(action))
    np.testing.assert_array_equal(a.reward, jnp.float32(b.reward))
    np.testing.assert_array_equal(a.done, b.done)
  assert a.done == 1.0


def test_returns_of_a_random_policy_are_its_value():
  m, n, length = tabular.gridworld(["S..", ".#P", "..G"], slip=0.3), 2000, 40
  vector = envs.vectorize(Tabular(m), n, episode_length=length)

  @jax.jit
  def run(key):
    start_key, action_key = jax.random.split(key)

    def body(state, key):
      state, step = vector.step(state, jax.random.randint(key, (n,), 0, 4))
      return state, step

    return jax.lax.scan(body, vector.reset(start_key), jax.random.split(action_key, length))[1]

  step = run(jax.random.key(0))
  reward, alive = np.asarray(step.reward), np.cumprod(1.0 - np.asarray(step.terminated), axis=0)
  alive = np.concatenate([np.ones((1, n)), alive[:-1]])
  returns = np.sum(float(m.discount) ** np.arange(length)[:, None] * alive * reward, axis=0)
  uniform = np.full(m.reward.shape, -np.log(4.0))
  value = np.sum(m.initial * tabular.policy_evaluation(m, uniform, horizon=length).value[0])
  assert abs(returns.mean() - value) < 4 * returns.std() / np.sqrt(n)
  # And the two are not both about 0.
  assert abs(value) > 8 * returns.std() / np.sqrt(n)


def test_what_is_no_single_process_is_refused():
  with pytest.raises(ValueError, match=r"one process.*\(2, 3, 2\)"):
    Tabular(jax.vmap(lambda key: tabular.random_mdp(key, 3, 2))(jax.random.split(jax.random.key(0), 2)))
  m = tabular.chain(3)._replace(initial=jnp.array([0.5, 0.0, 0.5]))
  with pytest.raises(ValueError, match=r"terminal state; initial is above 0 in \[2\]"):
    Tabular(m)
