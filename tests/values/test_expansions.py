"""Expanded targets against exact values: the same mean for every horizon, and weights that mistrust a wrong model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import losses, models, networks, policies, posteriors, priors, temperatures, values
from varl.envs import toys
from varl.exact import linear_quadratic as lq
from varl.types import Design, Transition

ALPHA, STD, GAMMA = 0.3, 0.4, 0.9
PROBLEM = lq.random(jax.random.key(300), 2, 1, discount=GAMMA, noise=0.2)
GAIN = lq.soft(PROBLEM, temperature=ALPHA).gain + jnp.array([[0.2, -0.2]])
EXACT = lq.evaluate(PROBLEM, GAIN, [[STD**2]], temperature=ALPHA)
HEAD = policies.gaussian(1, init_std=STD)
NETWORK = networks.Network(
  lambda key: {}, lambda params, obs: jnp.concatenate([-obs @ GAIN.T, 0.0 * obs[..., :1]], axis=-1)
)
ROWS = 4_000


def outcome(obs, action, key):
  noise = jnp.sqrt(PROBLEM.noise[0, 0])
  return toys.LinearQuadratic(PROBLEM.A, PROBLEM.B, PROBLEM.Q, PROBLEM.R, noise=noise).outcome(obs, action, key)


def critic(*offsets):
  """The exact Q, once for each offset that is added to it."""

  def apply(params, obs, action):
    q = lq.q(PROBLEM, EXACT, jnp.broadcast_to(obs, (*action.shape[:-1], 2)), action)
    return jnp.stack([q + offset for offset in offsets])

  return networks.Critic(lambda key: {}, apply)


def design(expansion, offsets=(0.1, -0.1), model=None, **options):
  value = values.q_value(critic(*offsets), optax.sgd(1.0), gamma=GAMMA, pessimism=0.0, expansion=expansion, **options)
  posterior = posteriors.direct(NETWORK, HEAD, optax.sgd(1.0))
  return Design(priors.uniform(HEAD), posterior, value, temperatures.fixed(ALPHA), model=model or models.known(outcome))


def batch():
  obs = jnp.tile(jnp.array([[1.0, -0.5], [0.3, 0.8]]), (ROWS // 2, 1))
  ones = jnp.ones(ROWS)
  return Transition(obs, ones[:, None], 2.0 * ones, ones, obs, 0.0 * ones, {})


def target(made, key=0, rows=None):
  """What a step of the value reports."""
  step = made.value.step(made)
  params = {**made.value.init(jax.random.key(0)), "actor": {}}
  _, _, metrics = jax.jit(step.step)(params, step.init(params), rows or batch(), jax.random.key(key))
  return metrics


def targets(made):
  """The mean target of 30 steps of other noise."""
  step = made.value.step(made)
  params = {**made.value.init(jax.random.key(0)), "actor": {}}
  run = jax.jit(jax.vmap(lambda key: step.step(params, step.init(params), batch(), key)[2]["target_q"]))
  return np.asarray(run(jax.random.split(jax.random.key(0), 30)))


@pytest.mark.parametrize("kind", [values.mve, values.steve])
@pytest.mark.parametrize("horizon", [1, 3])
def test_with_a_known_model_and_exact_values_every_horizon_has_the_same_mean(kind, horizon):
  rows = batch()
  wanted = jnp.mean(2.0 + GAMMA * lq.value(EXACT, rows.next_obs))
  made = design(kind(horizon))
  found = targets(made)
  error = found.std() / np.sqrt(len(found))
  assert error < 0.02
  assert abs(found.mean() - wanted) < 4 * error + 1e-4
  plain = targets(design(None))
  assert abs(plain.mean() - wanted) < 4 * plain.std() / np.sqrt(30) + 1e-4


def disagreeing(by):
  """Two members, who are told apart by the reward that they promise."""
  known = models.known(outcome)

  def sample(params, obs, action, key, member=None):
    found = known.sample(params, obs, action, key, None)
    return found._replace(reward=found.reward + jnp.where(member == 0, by, -by))

  return known._replace(sample=sample, members=2)


def test_weights_fall_back_on_the_critic_where_the_model_is_unsure():
  sure, unsure = (target(design(values.steve(3), model=disagreeing(by)))["expansion_steps"] for by in (0.0, 30.0))
  assert unsure < 0.1
  assert sure > 0.5
  assert target(design(values.mve(3), model=disagreeing(30.0)))["expansion_steps"] == 3.0


def test_weights_are_those_of_least_variance():
  variance = jnp.array([0.5, 0.1, 0.2, 0.9])
  weights = losses.inverse_variance_weights(variance)
  np.testing.assert_allclose(weights, [0.11043, 0.55215, 0.27607, 0.06135], atol=1e-5)
  np.testing.assert_allclose(jnp.sum(weights**2 * variance), 1.0 / jnp.sum(1.0 / variance), rtol=1e-6)
  np.testing.assert_allclose(jnp.sum(weights**2 * variance), 0.0552, atol=1e-4)
  np.testing.assert_allclose(losses.inverse_variance_weights(jnp.array([0.0, 1.0])), [1.0, 0.0], atol=1e-6)


def test_after_an_end_nothing_counts():
  """A model that pays 3 and ends at once: V is 3 less the price of one action, for every horizon."""
  ends = models.known(lambda obs, action, key: (obs / 0.0, 3.0 - 0.0 * action[0], jnp.zeros(())))
  entropy = 0.5 * np.log(2.0 * np.pi * np.e * STD**2)
  for horizon in (1, 3):
    found = target(design(values.mve(horizon), model=ends))["target_q"]
    np.testing.assert_allclose(found, 2.0 + GAMMA * (3.0 + ALPHA * entropy), atol=0.02)


def test_real_ends_count_as_without_an_expansion():
  rows = batch()._replace(discount=jnp.zeros(ROWS))
  assert target(design(values.mve(2)), rows=rows)["target_q"] == 2.0


def test_bad_arguments():
  for wrong in (0, 1.5, True):
    with pytest.raises(ValueError, match="horizon is a whole number >= 1"):
      values.mve(wrong)
  with pytest.raises(ValueError, match="needs a model"):
    target(design(values.mve(1))._replace(model=None))
  with pytest.raises(ValueError, match="needs two of them at least; got 1"):
    target(design(values.steve(1), offsets=(0.0,)))
  with pytest.raises(ValueError, match="not both"):
    design(values.mve(1), correction=values.retrace(4), regularised=False)
  made = design(values.mve(1))
  memory = made.posterior._replace(carry=lambda batch: jnp.zeros(batch))
  with pytest.raises(ValueError, match="without memory"):
    target(made._replace(posterior=memory))
  silent = made.posterior._replace(act=lambda *args: (jnp.zeros((len(args[3]), 1)), (), {}))
  with pytest.raises(ValueError, match="records log_prob"):
    target(made._replace(posterior=silent))
