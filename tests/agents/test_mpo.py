"""MPO where the exact answer is the greedy policy of a finite process, and what its Config refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl import policies, temperatures, values
from varl.agents import mpo
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.exact import tabular
from varl.types import Spec, Transition


def virels_em(env_spec, config):
  """The same design with the critic's residual as its temperature: MPO as VIREL's expectation maximisation."""
  design = mpo.design(env_spec, config)
  residual = temperatures.bellman_residual(scale=1.0, rows=256)
  head = policies.categorical(env_spec.action_size)
  return varl.agent(design._replace(temperature=residual), env_spec, head, normalize_observations=False)


VARIANTS = {
  "sampled": {},
  "parametric": {"inference": "parametric"},
  "retrace": {"correction": "retrace", "sequence": 4},
  "as VIREL's EM": {},
}


@pytest.mark.parametrize("name", list(VARIANTS))
def test_the_policy_of_a_finite_process_becomes_greedy(name):
  process = tabular.random_mdp(jax.random.key(3), 6, 3, discount=0.9)
  env = Tabular(process)
  config = mpo.Config(
    gamma=0.9, learning_rate=1e-2, hidden=(), normalize_observations=False, tau=0.05, target_every=1,
    initial_temperature=1.0, initial_policy_multiplier=1.0, epsilon_policy=1e-2, **VARIANTS[name],
  )  # fmt: skip
  agent = (virels_em if "VIREL" in name else mpo.make)(spec(env), config)
  settings = varl.Settings(
    num_timesteps=16_000, num_envs=64, episode_length=50, updates_per_env_step=0.25, batch_size=128,
    replay_capacity=16_000, warm_up=1_024, eval_every=4_000, eval_episodes=1, unroll_length=4,
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
    ({"inference": "exact"}, "inference is one of"),
    ({"weights": "uniform"}, "weights is one of"),
    ({"weights": "rank", "inference": "parametric"}, "weights='rank' needs inference='sampled'"),
    ({"action_penalty": 1.0}, "action_penalty must be 0"),
    ({"correction": "vtrace"}, "correction is one of none, retrace, n_step"),
    ({"correction": "retrace", "sequence": 1}, "sequence is a whole number >= 2, got 1"),
    ({"lam": 1.5}, "lam"),
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


# Sequences from replay


def test_the_targets_of_sequences_are_retraces():
  """One update's targets, by hand from the slow copies, for a batch of two sequences of three."""
  agent_spec = Spec(2, 3, discrete=True)
  config = mpo.Config(
    hidden=(8,), correction="retrace", sequence=3, gamma=0.9, lam=0.8, critics=2, normalize_observations=False
  )
  agent, design = mpo.make(agent_spec, config), mpo.design(agent_spec, config)
  assert agent.sequence == 3
  params = agent.init(jax.random.key(0)).params
  rng = np.random.default_rng(0)
  obs, next_obs = jnp.float32(rng.normal(size=(2, 3, 2, 2)))
  action = jnp.int32(rng.integers(0, 3, (3, 2)))
  reward, behaviour = jnp.float32(rng.normal(size=(2, 3, 2)))
  behaviour = -jnp.abs(behaviour)
  discount, truncated = jnp.ones((3, 2)).at[1, 0].set(0.0), jnp.zeros((3, 2)).at[0, 1].set(1.0)
  batch = Transition(obs, action, reward, discount, next_obs, truncated, {"log_prob": behaviour})
  target = design.value.prepare(design, params, batch, jax.random.key(1))["value_target"]

  every = jnp.broadcast_to(jnp.arange(3)[:, None, None], (3, 3, 2))
  policy = jnp.exp(design.prior.log_prob(params, next_obs, every))
  next_value = jnp.sum(policy * design.value.q_target(params, next_obs, every), axis=0)
  q = design.value.q_target(params, obs, action)
  trace = 0.8 * np.minimum(1.0, np.exp(design.prior.log_prob(params, obs, action) - behaviour))
  wanted = np.zeros((3, 2))
  for b in range(2):
    for t in (2, 1, 0):
      wanted[t, b] = reward[t, b] + 0.9 * discount[t, b] * next_value[t, b]
      if t < 2 and discount[t, b] and not truncated[t, b]:
        wanted[t, b] += 0.9 * trace[t + 1, b] * (wanted[t + 1, b] - q[t + 1, b])
  np.testing.assert_allclose(target, wanted, rtol=1e-4, atol=1e-5)
  of_steps = mpo.design(agent_spec, dataclasses.replace(config, correction="n_step"))
  longest = of_steps.value.prepare(of_steps, params, batch, jax.random.key(1))["value_target"]
  for b, t in ((0, 0), (1, 1)):  # up to the episode's end, and to the sequence's
    last = next_value[2, 1] if b else 0.0
    rewards = [reward[t, b], reward[t + 1, b]]
    np.testing.assert_allclose(longest[t, b], rewards[0] + 0.9 * rewards[1] + 0.81 * last, rtol=1e-4)
  new, metrics = jax.jit(agent.update)(agent.init(jax.random.key(0)), batch, jax.random.key(1))
  np.testing.assert_allclose(metrics["target_q"], wanted.mean(), rtol=1e-4)
  assert jax.tree.structure(new) == jax.tree.structure(agent.init(jax.random.key(0)))


def test_sequences_that_do_not_fit():
  env = Tabular(tabular.random_mdp(jax.random.key(3), 6, 3, discount=0.9))
  agent = mpo.make(spec(env), mpo.Config(correction="retrace", sequence=4))
  for change, message in (({"unroll_length": 6}, "unroll_length=6"), ({"batch_size": 130}, "batch_size=130")):
    settings = {"num_envs": 4, "unroll_length": 4, "batch_size": 128, **change}
    with pytest.raises(ValueError, match=f"{message} is not divisible by the length 4"):
      varl.make_trainer(env, agent, varl.Settings(**settings))
  residual = temperatures.bellman_residual(scale=1.0)
  design = mpo.design(spec(env), mpo.Config(correction="retrace", sequence=4))
  with pytest.raises(ValueError, match="needs a value of single transitions"):
    varl.agent(design._replace(temperature=residual), spec(env), policies.categorical(3))
  with pytest.raises(ValueError, match="regularised must be False"):
    values.q_value(None, None, correction=values.retrace(4))
