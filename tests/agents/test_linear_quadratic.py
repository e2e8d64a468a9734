"""Soft actor-critic, and on a learned model, against the closed form of a linear-quadratic problem."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import varl
from varl import components, models
from varl.agents import mbpo, sac
from varl.envs import spec, toys
from varl.exact import linear_quadratic
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer
from varl.models.ensemble import inputs_of, outputs_of
from varl.networks import mlp
from varl.policies import gaussian
from varl.types import Design, Transition

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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_agent_of_a_learned_model_finds_the_gain_of_the_estimated_system(seed):
  """From 40 rows the system is estimated badly; what learns from that model alone finds the model's optimum."""
  env = toys.LinearQuadratic(((0.9, 0.3), (0.0, 0.8)), ((0.0,), (0.3,)), noise=0.3)
  own, true = spec(env), env.problem(GAMMA)
  rng = np.random.default_rng(10 + seed)
  obs, action = rng.normal(size=(40, 2)), rng.normal(size=(40, 1))
  following = obs @ np.asarray(true.A).T + action @ np.asarray(true.B).T + 0.3 * rng.normal(size=(40, 2))
  zeros = np.zeros(40)
  rows = Transition(*(jnp.asarray(x, float) for x in (obs, action, zeros, zeros + 1, following, zeros)), {})

  network = mlp(inputs_of(own), outputs_of(own), hidden=())
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-2, 3_000))
  learned = models.ensemble(
    own, network, optimizer, members=1, ends="never", bootstrap=False, log_variance=(-4.0, -3.9), bounds_weight=0.0
  )
  step = learned.step(Design(None, None, None, None, model=learned))

  @jax.jit
  def fit():
    params = learned.observe(learned.init(jax.random.key(0)), rows, jnp.ones(40, bool), None)

    def one(carry, key):
      return step.step(*carry, rows, key)[:2], None

    return jax.lax.scan(one, (params, step.init(params)), jax.random.split(jax.random.key(1), 3_000))[0][0]

  fitted = fit()
  basis = np.concatenate([np.zeros((1, 3)), np.eye(3)])
  many = 20_000  # the model's own mean, by its draws
  drawn = jax.vmap(
    lambda key: learned.sample(fitted, jnp.asarray(basis[:, :2]), jnp.asarray(basis[:, 2:]), key, None).next_obs
  )(jax.random.split(jax.random.key(2), many))
  mean = np.asarray(drawn, np.float64).mean(axis=0)
  slopes = (mean[1:] - mean[0]).T
  design = np.concatenate([obs, action, np.ones((40, 1))], axis=1)
  np.testing.assert_allclose(slopes, np.linalg.lstsq(design, following, rcond=None)[0].T[:, :3], atol=5e-3)
  estimated = true._replace(A=jnp.asarray(slopes[:, :2], float), B=jnp.asarray(slopes[:, 2:], float))

  def sample(params, obs, action, key, member=None):
    paid = -(jnp.einsum("...i,ij,...j", obs, true.Q, obs) + jnp.einsum("...i,ij,...j", action, true.R, action))
    return learned.sample(fitted, obs, action, key, member)._replace(reward=paid)

  config = mbpo.Config(
    learning_rate=3e-3, decay_updates=12_000, tau=0.02, gamma=GAMMA, hidden=(64, 64), critics=1, policy="full_gaussian",
    adapt_temperature=False, initial_temperature=ALPHA, normalize_observations=False, real_share=0.0, max_grad_norm=1.0,
  )  # fmt: skip
  head = components.policy_head(own, config)
  fixed = models.known(env.outcome)._replace(sample=sample)
  agent = varl.agent(mbpo.design(own, config, model=fixed), own, head, normalize_observations=False)
  steps = 4 * 12_000 + 1_600
  settings = Settings(
    num_timesteps=steps, num_envs=8, episode_length=20, updates_per_env_step=0.25, batch_size=128, warm_up=1_600,
    replay_capacity=steps // 4, eval_every=steps, eval_episodes=1,
  )  # fmt: skip
  trainer = make_trainer(env, agent, settings)
  state, _ = trainer.epoch(trainer.init(jax.random.key(seed)), settings.iterations)
  met = state.loop.replay.data.obs[:4_096]
  mode = agent.mode(state.agent.params, agent.carry(len(met)), met, jax.random.key(0))[0]
  with_one = np.concatenate([np.asarray(met, np.float64), np.ones((len(met), 1))], axis=1)
  gain = -np.linalg.lstsq(with_one, np.asarray(mode, np.float64), rcond=None)[0].T[:, :2]
  wanted, other = (linear_quadratic.soft(p, temperature=ALPHA).gain for p in (estimated, true))
  error, of_true = (np.linalg.norm(gain - x) / np.linalg.norm(x) for x in (wanted, other))
  print(f"off the estimated system's gain by {error:.2%}, off the true one's by {of_true:.2%}")
  assert error <= 0.05
  assert of_true > 2 * error
