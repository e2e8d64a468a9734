"""Soft actor-critic against the closed form of a linear-quadratic problem."""

import jax
import numpy as np
import pytest

from varl.agents import sac
from varl.envs import spec, toys
from varl.exact import linear_quadratic
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer
from varl.networks import mlp
from varl.policies import gaussian

GAMMA, ALPHA = 0.9, 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sac_finds_gain_and_covariance(seed):
  env = toys.LinearQuadratic()
  config = sac.Config(
    learning_rate=1e-3,
    decay_updates=30_000,
    gamma=GAMMA,
    hidden=(64, 64),
    policy="gaussian",
    adapt_temperature=False,
    initial_temperature=ALPHA,
    normalize_observations=False,
  )
  settings = Settings(
    num_timesteps=64 * 1900,
    num_envs=64,
    episode_length=10,
    updates_per_env_step=0.25,
    batch_size=256,
    replay_capacity=64 * 1900,
    warm_up=64 * 25,
    eval_every=64 * 1900,
    eval_episodes=1,
  )
  trainer = make_trainer(env, sac.make(spec(env), config), settings)
  state, metrics = trainer.epoch(trainer.init(jax.random.key(seed)), settings.iterations)
  assert metrics["training/updates"] == 30_000

  # The policy where it has been, fitted by one gain.
  states = state.loop.replay.data.obs
  outputs = mlp(2, 2, hidden=(64, 64)).apply(state.agent.params["actor"], states)
  policy = gaussian(1).distribution(outputs)
  gain = -np.linalg.lstsq(np.asarray(states, np.float64), np.asarray(policy.mean(), np.float64), rcond=None)[0].T
  covariance = np.mean(np.square(np.asarray(policy.stddev(), np.float64)))
  exact = linear_quadratic.soft(env.problem(GAMMA), temperature=ALPHA)
  gain_error = np.linalg.norm(gain - exact.gain) / np.linalg.norm(exact.gain)
  covariance_error = abs(covariance / exact.covariance.item() - 1)
  print(f"gain {gain} of {exact.gain}, off by {gain_error:.2%}; covariance off by {covariance_error:.2%}")
  assert gain_error <= 0.05
  assert covariance_error <= 0.1
