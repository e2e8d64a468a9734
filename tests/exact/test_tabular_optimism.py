"""The optimistic model: its corrected problem is worth what exact inference says, and no other model's is more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.exact import tabular

C = 0.7


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def process(seed, **options):
  return tabular.random_mdp(jax.random.key(seed), 6, 3, **{"discount": 0.9, "terminal": 1} | options)


@pytest.mark.parametrize("options", [{}, {"branching": 3}, {"terminal": 0, "discount": 0.97}])
def test_its_corrected_problem_has_its_value(options):
  for seed in range(5):
    m = process(seed, **options)
    found = tabular.optimistic_model(m, temperature=C)
    np.testing.assert_allclose(np.exp(found.log_dynamics).sum(axis=-1), 1.0, atol=1e-12)
    problem = tabular.corrected_problem(m, found.log_dynamics, temperature=C)
    soft = tabular.soft_value_iteration(problem, temperature=C)
    np.testing.assert_allclose(soft.value, found.value, atol=1e-9)
    np.testing.assert_allclose(soft.q, found.q, atol=1e-9)
    np.testing.assert_allclose(soft.log_policy, found.log_policy, atol=1e-9)


def test_it_is_the_limit_of_message_passing():
  m = process(0)
  found, messages = tabular.optimistic_model(m, temperature=C), tabular.message_passing(m, temperature=C, horizon=300)
  np.testing.assert_allclose(messages.value[0], found.value, atol=1e-9)
  np.testing.assert_allclose(messages.log_policy[0], found.log_policy, atol=1e-9)
  live = ~np.asarray(m.terminal)
  np.testing.assert_allclose(messages.log_dynamics[0][live], found.log_dynamics[live], atol=1e-9)


def test_no_other_model_is_worth_more_and_the_true_one_is_worth_the_soft_value():
  m = process(1)
  found = tabular.optimistic_model(m, temperature=C)

  def worth(log_dynamics):
    problem = tabular.corrected_problem(m, log_dynamics, temperature=C)
    return np.asarray(tabular.soft_value_iteration(problem, temperature=C).value)

  soft = np.asarray(tabular.soft_value_iteration(m, temperature=C).value)
  np.testing.assert_allclose(worth(jnp.log(m.transition)), soft, atol=1e-9)
  assert np.all(soft[:-1] < found.value[:-1] - 1e-3)
  for seed in range(20):
    noise = jax.random.normal(jax.random.key(seed), m.transition.shape)
    for around, scale in ((found.log_dynamics, 0.1), (jnp.log(m.transition), 1.0)):
      assert np.all(worth(jax.nn.log_softmax(around + scale * noise, axis=-1)) <= found.value + 1e-9)
  # The optimum is flat: a step of h away costs h².
  noise = jax.random.normal(jax.random.key(0), m.transition.shape)
  costs = [found.value - worth(jax.nn.log_softmax(found.log_dynamics + h * noise, axis=-1)) for h in (1e-2, 2e-2)]
  np.testing.assert_allclose(costs[1][:-1] / costs[0][:-1], 4.0, rtol=0.1)


def test_deterministic_dynamics_cannot_be_hoped_for():
  m = process(2, branching=1)
  found, soft = tabular.optimistic_model(m, temperature=C), tabular.soft_value_iteration(m, temperature=C)
  np.testing.assert_allclose(found.value, soft.value, atol=1e-9)


def test_what_a_ticket_is_worth():
  m = tabular.lottery(discount=0.99)
  found = tabular.optimistic_model(m, temperature=1.0)
  np.testing.assert_allclose(found.q[0, 1], np.log(0.2 * np.exp(0.99 * 4.0) + 0.8), atol=1e-9)
  win = 0.2 * np.exp(0.99 * 4.0)
  np.testing.assert_allclose(np.exp(found.log_dynamics[0, 1, 1]), win / (win + 0.8), atol=1e-9)


def test_derivatives_and_batches():
  m = process(3)

  def total(reward):
    return tabular.optimistic_model(m._replace(reward=reward), temperature=C).value.sum()

  gradient = jax.grad(total)(m.reward)
  step = np.zeros_like(m.reward)
  step[2, 1] = 1e-6
  np.testing.assert_allclose(gradient[2, 1], (total(m.reward + step) - total(m.reward - step)) / 2e-6, rtol=1e-5)
  values = jax.vmap(lambda c: tabular.optimistic_model(m, temperature=c).value)(jnp.array([0.5, C]))
  np.testing.assert_allclose(values[1], tabular.optimistic_model(m, temperature=C).value, atol=1e-9)


def test_bad_input_is_refused():
  m = process(0)
  with pytest.raises(ValueError, match=r"log_dynamics must have the shape of transition, \(6, 3, 6\); got \(6, 3\)"):
    tabular.corrected_problem(m, jnp.zeros((6, 3)), temperature=C)
  with pytest.raises(ValueError, match="rows of log_dynamics must sum to 1"):
    tabular.corrected_problem(m, jnp.zeros(m.transition.shape), temperature=C)
  with pytest.raises(ValueError, match="temperature"):
    tabular.corrected_problem(m, jnp.log(m.transition), temperature=0.0)
  with pytest.raises(ValueError, match="horizon"):
    tabular.optimistic_model(m._replace(discount=jnp.asarray(1.0)), temperature=C)
