"""Soft actor-critic against the closed form of a linear-quadratic problem."""

import jax
import numpy as np
import pytest

from varl.agents import sac
from varl.envs import spec, toys
from varl.networks import mlp
from varl.policies import gaussian
from varl.settings import Settings
from varl.trainer import make_trainer

GAMMA, ALPHA = 0.9, 0.3


def closed_form(env, gamma, alpha):
  """Gain K and covariance of the soft-optimal policy N(-K s, α/2 H⁻¹), by iterating the Riccati equation in float64.

  H = R + γ BᵀPB,  G = γ BᵀPA,  P = Q + γ AᵀPA - Gᵀ H⁻¹ G,  K = H⁻¹ G.
  """
  A, B, Q, R = (np.asarray(m, np.float64) for m in (env.A, env.B, env.Q, env.R))
  P = np.zeros_like(Q)
  for _ in range(2000):
    H, G = R + gamma * B.T @ P @ B, gamma * B.T @ P @ A
    P = Q + gamma * A.T @ P @ A - G.T @ np.linalg.solve(H, G)
  return np.linalg.solve(H, G), alpha / 2 * np.linalg.inv(H)


def test_the_closed_form_is_the_optimum_of_the_bellman_equation():
  """In one dimension, without control of the next state: P = q / (1 - γ a²), K = 0, σ² = α / 2r."""
  env = toys.LinearQuadratic(A=[[0.5]], B=[[0.0]], Q=[[2.0]], R=[[4.0]])
  gain, covariance = closed_form(env, 0.9, 0.2)
  np.testing.assert_allclose(gain, [[0.0]])
  np.testing.assert_allclose(covariance, [[0.025]])
  # And with it, a = -k s: no other gain does better from s = 1 under V(s) = -P s².
  env = toys.LinearQuadratic(A=[[1.0]], B=[[1.0]], Q=[[1.0]], R=[[1.0]])
  gain, _ = closed_form(env, 0.9, 0.2)

  def cost(k):  # Σ_t γ^t (1 + k²) (1 - k)^{2t}
    return (1 + k**2) / (1 - 0.9 * (1 - k) ** 2)

  assert cost(gain[0, 0]) < min(cost(gain[0, 0] - 1e-3), cost(gain[0, 0] + 1e-3))


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
  exact_gain, exact_covariance = closed_form(env, GAMMA, ALPHA)
  gain_error = np.linalg.norm(gain - exact_gain) / np.linalg.norm(exact_gain)
  covariance_error = abs(covariance / exact_covariance.item() - 1)
  print(f"gain {gain} of {exact_gain}, off by {gain_error:.2%}; covariance off by {covariance_error:.2%}")
  assert gain_error <= 0.05
  assert covariance_error <= 0.1
