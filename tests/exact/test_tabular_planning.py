"""What particles converge to: the sums over all trajectories, and which way of weighing them is the posterior."""

import itertools

import jax
import numpy as np
import pytest
from enumeration import SHAPES, make_case, one, table

from varl.exact import tabular


@pytest.fixture(autouse=True)
def in_float64():
  with jax.enable_x64(True):
    yield


def case_of(shape, i):
  case = make_case(shape)
  rng = np.random.default_rng(i)
  m = one(case.m, i)
  proposal = np.log(rng.dirichlet(np.ones(m.reward.shape[1]), len(m.reward)))
  return m, case.temperature[i], case.log_prior[i], proposal


def by_trajectories(m, c, log_prior, proposal, value, steps, weight):
  """The expected weight by root action, in plain Python: every trajectory one at a time."""
  dynamics = table(m)
  states, actions = m.reward.shape
  ahead = m.discount * value / c
  total = np.zeros((states, actions))
  for path in itertools.product(range(states), *[range(actions), range(states)] * steps):
    s, root, arrived = path[0], path[1], None
    probability, log_weight = 1.0, 0.0
    for t in range(steps):
      a, following = path[1 + 2 * t], path[2 + 2 * t]
      if m.terminal[s]:  # one way on, at no charge
        if a != 0 or following != s:
          probability = 0.0
          break
        continue
      probability *= np.exp(proposal[s, a]) * dynamics[s, a, following]
      log_weight += m.reward[s, a] / c + log_prior[s, a] - proposal[s, a]
      expected = dynamics[s, a] @ ahead[t + 1]
      log_weight += expected if weight == "expected" else ahead[t + 1][following]
      if weight == "mixed" and t:
        log_weight -= np.log(dynamics[arrived] @ np.exp(ahead[t]))
      else:
        log_weight -= value[t][s] / c
      s, arrived = following, (s, a)
    total[path[0], root] += probability * np.exp(log_weight)
  return total


@pytest.mark.parametrize("weight", ["expected", "sampled", "mixed"])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_limit_is_the_sum_over_all_trajectories(shape, weight):
  steps = 2
  for i in range(3):
    m, c, log_prior, proposal = case_of(shape, i)
    solve = tabular.message_passing if weight == "sampled" else tabular.soft_value_iteration
    value = np.asarray(solve(m, temperature=c, horizon=3, log_prior=log_prior).value)
    total = by_trajectories(m, c, log_prior, proposal, value, steps, weight)
    limit = tabular.planning_limit(
      m, proposal, temperature=c, horizon=3, steps=steps, weight=weight, log_prior=log_prior
    )
    live = ~m.terminal
    np.testing.assert_allclose(np.exp(limit.log_mass)[live], total.sum(1)[live], rtol=1e-12)
    np.testing.assert_allclose(
      np.exp(limit.log_policy)[live], (total / total.sum(1, keepdims=True))[live], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_which_weights_are_a_posterior(shape):
  """Two are, to 1e-10, with a mass of 1; the mixed one is where dynamics are deterministic, and misses elsewhere."""
  gaps = []
  for i in range(10):
    m, c, log_prior, proposal = case_of(shape, i)
    options = {"temperature": c, "horizon": 4, "log_prior": log_prior}
    variational = np.exp(tabular.soft_value_iteration(m, **options).log_policy[0])
    optimistic = np.exp(tabular.message_passing(m, **options).log_policy[0])
    live = ~m.terminal
    for weight, posterior in (("expected", variational), ("sampled", optimistic)):
      limit = tabular.planning_limit(m, proposal, weight=weight, **options)
      np.testing.assert_allclose(np.exp(limit.log_policy)[live], posterior[live], rtol=0, atol=1e-10)
      np.testing.assert_allclose(limit.log_mass, 0.0, atol=1e-10)
    mixed = np.exp(tabular.planning_limit(m, proposal, weight="mixed", **options).log_policy)
    gaps.append([0.5 * np.abs(mixed - p)[live].sum(1).max() for p in (variational, optimistic)])
  gaps = np.array(gaps)
  if shape == "deterministic":
    assert gaps.max() < 1e-10
  else:
    assert gaps.min() > 1e-3


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"weight": "both"}, "weight is one of expected, sampled, mixed; got 'both'"),
    ({"steps": 0}, "steps is a whole number in .1, 5., got 0"),
    ({"steps": 5}, "steps is a whole number in .1, 5., got 5"),
    ({"horizon": None}, "horizon is a whole number >= 1, got None"),
  ],
)
def test_bad_arguments(change, message):
  m, c, _, proposal = case_of("dense", 0)
  with pytest.raises(ValueError, match=message):
    tabular.planning_limit(m, proposal, **{"temperature": c, "horizon": 4, **change})
