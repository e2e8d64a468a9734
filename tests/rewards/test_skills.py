"""Skills told apart: the posterior, the information that is paid, and what has no skills."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions

from varl import envs, networks, rewards
from varl.agents import diayn
from varl.envs import toys
from varl.exact import information
from varl.types import Design, Spec

STATES, SKILLS = 4, 3
SPEC = Spec(STATES + SKILLS, 2, discrete=True, context=SKILLS)


def test_what_is_paid_is_the_information_between_skill_and_state():
  """Where each skill leads is given: q becomes the posterior, and the mean reward I(z; s'), enumerated."""
  channel = np.random.default_rng(0).dirichlet(0.5 * np.ones(STATES), size=SKILLS)
  reward = rewards.skills(SPEC, networks.mlp(STATES, SKILLS, hidden=()), optax.adam(0.05))
  design = Design(None, None, None, None)
  step = reward.step(design)
  params = reward.init(jax.random.key(0))

  def batch(key, n=512):
    skill_key, state_key = jax.random.split(key)
    skill = jax.random.randint(skill_key, (n,), 0, SKILLS)
    state = jax.random.categorical(state_key, jnp.log(jnp.asarray(channel))[skill])
    obs = jnp.concatenate([jnp.zeros((n, STATES)), jax.nn.one_hot(skill, SKILLS)], axis=-1)
    following = jnp.concatenate([jax.nn.one_hot(state, STATES), jax.nn.one_hot(skill, SKILLS)], axis=-1)
    return transitions(0, (n,), SPEC)._replace(obs=obs, next_obs=following)

  def update(state, key):
    batch_key, step_key = jax.random.split(key)
    params, inner, metrics = step.step(*state, batch(batch_key), step_key)
    return (params, inner), metrics

  keys = jax.random.split(jax.random.key(1), 3_000)
  (params, _), metrics = jax.jit(lambda: jax.lax.scan(update, (params, step.init(params)), keys))()
  exact = float(information.mutual_information(np.full(SKILLS, 1 / SKILLS), channel))
  rows = batch(jax.random.key(2), 40_000)
  paid = np.asarray(reward.value(design, params, rows, jax.random.key(0)))
  np.testing.assert_allclose(paid.mean(), exact, atol=0.02)
  np.testing.assert_allclose(metrics["skills_information"][-500:].mean(), exact, atol=0.02)
  posterior = channel / channel.sum(axis=0)
  likeliest = (posterior.max(axis=0) * channel.mean(axis=0)).sum()
  np.testing.assert_allclose(metrics["skills_accuracy"][-500:].mean(), likeliest, atol=0.02)
  assert paid.max() <= np.log(SKILLS)


def test_an_episode_keeps_its_skill_and_the_environment_does_not_see_it():
  env = envs.with_skill(toys.PointMass(), 3)
  envs.check(env)
  keys = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(0), 300))
  first = jax.vmap(env.reset)(keys)
  which = np.asarray(first.obs[:, -3:])
  assert (np.abs(which.mean(axis=0) - 1 / 3) < 5 * np.sqrt(0.25 / 300)).all()
  action = jnp.full((300, 2), 0.3)
  second = jax.vmap(env.step)(first, action)
  np.testing.assert_array_equal(second.obs[:, -3:], which)
  alone = jax.vmap(toys.PointMass().step)(first.data[1], action)
  np.testing.assert_allclose(second.obs[:, :4], alone.obs, rtol=1e-5)


def test_without_skills_it_is_refused():
  with pytest.raises(ValueError, match=r"at least two of them; the environment's context is 0"):
    diayn.make(Spec(4, 2), diayn.Config(hidden=(8,)))
  with pytest.raises(ValueError, match="skills is a whole number >= 2, got 1"):
    envs.with_skill(toys.PointMass(), 1)
