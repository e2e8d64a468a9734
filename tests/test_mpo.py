"""MPO where the exact answer is the greedy policy of a finite process, and what its Config refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl.agents import mpo
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.exact import tabular
from varl.types import Spec


def test_the_policy_of_a_finite_process_becomes_greedy():
  process = tabular.random_mdp(jax.random.key(3), 6, 3, discount=0.9)
  env = Tabular(process)
  config = mpo.Config(
    gamma=0.9, learning_rate=1e-2, hidden=(), normalize_observations=False, tau=0.05, target_every=1,
    initial_temperature=1.0, initial_policy_multiplier=1.0, epsilon_policy=1e-2,
  )  # fmt: skip
  agent = mpo.make(spec(env), config)
  settings = varl.Settings(
    num_timesteps=16_000, num_envs=64, episode_length=50, updates_per_env_step=0.25, batch_size=128,
    replay_capacity=16_000, warm_up=1_024, eval_every=4_000, eval_episodes=1,
  )  # fmt: skip
  state, metrics = jax.jit(varl.make_trainer(env, agent, settings).run)(jax.random.key(0))
  exact = tabular.hard_value_iteration(process)
  best, second = np.sort(np.asarray(exact.q), axis=1)[:, :-3:-1].T
  clear = best - second > 0.1
  assert clear.sum() >= 4
  chosen, _, extras = agent.mode(state.agent.params, (), jnp.eye(6), jax.random.key(0))
  np.testing.assert_array_equal(chosen[clear], np.asarray(jnp.argmax(exact.q, axis=1))[clear])
  assert (np.exp(extras["log_prob"])[clear] > 0.6).all()
  assert metrics["training/entropy"][-1] < 0.1
  assert (metrics["training/policy_multiplier_budget_used"] < 2.0).all()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"samples": 0}, "samples"),
    ({"epsilon": 0.0}, "epsilon"),
    ({"epsilon_covariance": -1.0}, "epsilon_covariance"),
    ({"initial_mean_multiplier": 0.0}, "initial_mean_multiplier"),
    ({"target_every": 0}, "target_every"),
    ({"dual_learning_rate": float("inf")}, "dual_learning_rate"),
    ({"policy": "beta"}, "policy is one of"),
  ],
)
def test_bad_settings(change, message):
  with pytest.raises(ValueError, match=message):
    mpo.make(Spec(3, 2), mpo.Config(**change))


def test_a_multiplier_a_dimension_or_one_for_all():
  for per_dimension, shape in ((True, (2,)), (False, ())):
    agent = mpo.make(Spec(3, 2), mpo.Config(hidden=(4,), per_dimension=per_dimension))
    raw = jax.eval_shape(agent.init, jax.random.key(0)).params["actor_bounds"]
    assert {part: x.shape for part, x in raw.items()} == {"mean": shape, "covariance": shape}
