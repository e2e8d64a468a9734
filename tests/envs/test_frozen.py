"""Acting through a frozen policy: by its noise, which covers every action, and by its skills, for some steps each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import small

import varl
from varl import agents
from varl.agents import sac
from varl.envs import ChosenSkills, Latent, check, spec, toys, with_skill
from varl.run.export import Policy

KEY = jax.random.key_data(jax.random.key(0))


def frozen(env, **config):
  """A policy as it starts, with moments that are not those of nothing."""
  sizes = spec(env)
  agent = sac.make(sizes, small(sac, sizes, **config))
  params = agent.init(jax.random.key(1)).params
  moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape, x.dtype), params["actor"])
  return Policy(agent, {**params, "actor": moved}, getattr(env, "action_bounds", (-1.0, 1.0)))


class Wide(toys.PointMass):
  """A point mass whose actions are in units of its own."""

  action_bounds = (-4.0, 2.0)

  def step(self, state, action):
    return super().step(state, (action + 1.0) / 3.0)


@pytest.mark.parametrize("policy", ["flow", "tanh_gaussian"])
def test_noise_is_the_action_that_the_policy_would_make_of_it(policy):
  env = Wide()
  lower = frozen(env, policy=policy)
  outer = Latent(env, lower)
  assert check(outer).kept
  assert spec(outer) == varl.Spec(4, 2, bounded=False)
  state, own = outer.reset(KEY), env.reset(KEY)
  noise = jnp.array([0.7, -1.2])
  # What the policy draws with a key is what its head makes of that key's noise.
  raw = lower.agent.by_noise(lower.params, own.obs[None], noise[None])[0]
  found, wanted = outer.step(state, noise), env.step(own, 3.0 * jnp.tanh(raw) - 1.0)
  np.testing.assert_allclose(found.obs, wanted.obs, rtol=1e-6)
  np.testing.assert_allclose(found.reward, wanted.reward, rtol=1e-6)


def test_the_policy_itself_is_standard_noise():
  """Drawn actions and those of N(0, I) have the same moments."""
  env = toys.PointMass()
  lower = frozen(env, policy="flow")
  obs = jnp.broadcast_to(jnp.array([0.3, -0.2, 1.0, 0.5]), (20_000, 4))
  drawn = lower.agent.act(lower.params, (), obs, jax.random.key(3))[0]
  made = lower.agent.by_noise(lower.params, obs, jax.random.normal(jax.random.key(4), (20_000, 2)))
  np.testing.assert_allclose(made.mean(0), drawn.mean(0), atol=0.04)
  np.testing.assert_allclose(jnp.cov(made.T), jnp.cov(drawn.T), rtol=0.06, atol=0.05)


def test_an_agent_learns_in_latent_space():
  env = toys.PointMass()
  outer = Latent(env, frozen(env, policy="flow"))
  run = varl.train("sac", outer, num_timesteps=600, warm_up=200, eval_every=300, hidden=(8,), num_envs=4,
                   episode_length=20, batch_size=16, preset=False, policy="gaussian")  # fmt: skip
  assert np.isfinite(run.metrics[-1]["eval/episode_reward"])


class Counting(toys.PointMass):
  """Pays 1 a step, and ends after so many of them."""

  def __init__(self, end):
    super().__init__()
    self.end = end

  def reset(self, rng):
    state = super().reset(rng)
    return state.replace(obs=jnp.zeros(4), data=jnp.int32(0))

  def step(self, state, action):
    at = state.data + 1
    return state.replace(
      obs=jnp.array([0.0, 0.0, 0.0, 1.0]) * at, reward=jnp.ones(()), done=(at >= self.end) * 1.0, data=at
    )


def test_a_skill_acts_for_some_steps_or_until_the_end():
  inner = Counting(7)
  lower = frozen(with_skill(inner, 3))
  outer = ChosenSkills(inner, lower, 5)
  assert spec(outer) == varl.Spec(4, 3, discrete=True, bounded=False)
  state = outer.step(outer.reset(KEY), jnp.int32(1))
  assert (float(state.reward), float(state.done), float(state.obs[3])) == (5.0, 0.0, 5.0)
  state = outer.step(state, jnp.int32(2))
  assert (float(state.reward), float(state.done), float(state.obs[3])) == (2.0, 1.0, 7.0)


def test_the_skill_that_is_chosen_acts():
  env = toys.PointMass()
  skilled = with_skill(env, 3)
  lower = frozen(skilled)
  outer = ChosenSkills(env, lower, 1)
  assert check(outer).kept
  start = outer.reset(KEY)
  own = start.data[0]
  for skill in range(3):
    action = lower(jnp.concatenate([own.obs, jnp.eye(3)[skill]]))
    np.testing.assert_allclose(outer.step(start, jnp.int32(skill)).obs, env.step(own, action).obs, rtol=1e-6)


def test_what_no_frozen_policy_serves():
  env = toys.PointMass()
  with pytest.raises(
    ValueError, match=r"the policy is of observations \[4\], 2 actions.*the environment has observations \[3\]"
  ):
    Latent(varl.envs.Partial(env, (0, 1, 2)), frozen(env))
  with pytest.raises(ValueError, match="no skills to choose from"):
    ChosenSkills(env, frozen(env))
  with pytest.raises(ValueError, match="steps is a whole number >= 1, got 0"):
    ChosenSkills(env, frozen(with_skill(env, 2)), 0)
  with pytest.raises(ValueError, match="this one has a memory"):
    ChosenSkills(env, frozen(with_skill(env, 2), memory=4, memory_length=2))
  boltzmann = agents.load("sql").make(spec(env))
  with pytest.raises(ValueError, match="no map of noise to actions"):
    Latent(env, Policy(boltzmann, {}, None))
