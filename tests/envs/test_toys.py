"""The toy problems against their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import rollout

from varl.envs import toys, vectorize


def run_policy(env, policy, num_envs, length, seed=0):
  """Rewards `[length, num_envs]` of `policy` (observations -> actions)."""
  vector = vectorize(env, num_envs, episode_length=length)

  @jax.jit
  def run(key):
    def body(state, _):
      state, step = vector.step(state, policy(state.env.obs))
      return state, step.reward

    return jax.lax.scan(body, vector.reset(key), None, length=length)[1]

  return np.asarray(run(jax.random.key(seed)))


def test_point_mass_rewards_getting_to_the_origin():
  idle = run_policy(toys.PointMass(), lambda obs: jnp.zeros((obs.shape[0], 2)), 256, 50)
  pushed = run_policy(toys.PointMass(), lambda obs: -4 * obs[:, :2] - 2 * obs[:, 2:], 256, 50)
  assert (idle >= -1).all()
  assert (idle <= 0).all()
  # E|x| of a uniform point in [-1, 1]² is 0.7652, with standard deviation 0.285: 4 standard errors are 0.036 of reward.
  assert abs(idle[0].mean() + 0.7652 / 2) < 0.036
  assert pushed[-1].mean() > -0.01


def test_point_mass_by_hand():
  env = toys.PointMass()
  state = env.reset(jax.random.PRNGKey(0))
  state = env.step(state.replace(obs=jnp.array([0.5, -2.0, 1.0, -1.0])), jnp.array([1.0, 0.0]))
  # v = 0.8 (1, -1) + 0.2 (1, 0) = (1, -0.8); x = (0.5 + 0.2, clip(-2.16)) = (0.7, -2).
  np.testing.assert_allclose(state.obs, [0.7, -2.0, 1.0, -0.8], rtol=1e-6)
  np.testing.assert_allclose(state.reward, -1.0)


def test_linear_quadratic_by_hand():
  env = toys.LinearQuadratic(A=[[1.0, 2.0], [0.0, 1.0]], B=[[0.0], [3.0]], Q=np.eye(2), R=[[2.0]], noise=0.0)
  state = env.reset(jax.random.PRNGKey(0)).replace(obs=jnp.array([1.0, -1.0]))
  state = env.step(state, jnp.array([0.5]))
  np.testing.assert_allclose(state.obs, [-1.0, 0.5], rtol=1e-6)
  np.testing.assert_allclose(state.reward, -(2.0 + 2.0 * 0.25), rtol=1e-6)


def test_linear_quadratic_of_traced_arrays_is_one_of_data():
  """An environment of each of several problems under `vmap`; shapes are checked even so."""

  def after(A, noise):
    env = toys.LinearQuadratic(A=A, noise=noise, initial_std=noise)
    return env.step(env.reset(jax.random.PRNGKey(0)), jnp.ones(1)).obs

  scales, noises = jnp.float32([0.5, 1.0]), jnp.float32([0.1, 0.2])
  matrices = scales[:, None, None] * jnp.float32([[1.0, 0.1], [0.0, 1.0]])
  mapped = jax.jit(jax.vmap(after))(matrices, noises)
  np.testing.assert_allclose(mapped, [after(*pair) for pair in zip(matrices, noises, strict=True)], rtol=1e-5)
  with pytest.raises(ValueError, match=r"A must have shape \(2, 2\)"):
    jax.eval_shape(after, jax.ShapeDtypeStruct((3, 3), jnp.float32), 0.1)


def test_linear_quadratic_moments():
  env = toys.LinearQuadratic(A=np.zeros((2, 2)), B=np.zeros((2, 1)), noise=0.5, initial_std=2.0)
  step, _, _ = rollout(vectorize(env, 2000), 2)
  # Relative standard error of a standard deviation from 4000 numbers: 1 / sqrt(8000) = 1.1 %.
  np.testing.assert_allclose(step.obs[0].std(), 2.0, rtol=0.045)
  np.testing.assert_allclose(step.next_obs.std(axis=(1, 2)), 0.5, rtol=0.045)
  assert abs(np.corrcoef(step.next_obs[0].ravel(), step.next_obs[1].ravel())[0, 1]) < 4 / np.sqrt(4000)


def test_the_default_linear_quadratic_problem_can_be_controlled():
  env = toys.LinearQuadratic()
  A, B, Q, R = (np.asarray(m, np.float64) for m in (env.A, env.B, env.Q, env.R))
  P = Q
  for _ in range(2000):
    gain = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    P = Q + A.T @ P @ A - A.T @ P @ B @ gain
  assert np.abs(np.linalg.eigvals(A - B @ gain)).max() < 0.95
  # Average cost under the optimal gain: tr(P W), W = noise² I.
  rewards = run_policy(env, lambda obs: -obs @ jnp.asarray(gain.T, jnp.float32), 512, 400)
  averages = rewards[200:].mean(axis=0)
  error = averages.std() / np.sqrt(512)
  assert abs(averages.mean() + env.noise**2 * np.trace(P)) < 4 * error


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"A": np.eye(3)}, r"A must have shape \(2, 2\)"),
    ({"B": [1.0, 2.0]}, "B must be a matrix"),
    ({"Q": [[1.0, 1.0], [0.0, 1.0]]}, "Q must be symmetric"),
    ({"R": [[0.0]]}, "R must be symmetric and positive definite"),
    ({"noise": -1.0}, "noise must be finite and >= 0"),
    ({"initial_std": float("nan")}, "initial_std must be finite"),
  ],
)
def test_linear_quadratic_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    toys.LinearQuadratic(**arguments)


def test_chain_needs_two_cells():
  with pytest.raises(ValueError, match="length is a whole number >= 2, got 1"):
    toys.Chain(length=1)
