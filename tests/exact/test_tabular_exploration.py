"""Beliefs against Bayes' rule written out, and what each way of exploring costs on a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.exact import tabular

CHAIN = tabular.chain(6, discount=1.0)
EPISODES, HORIZON, SEEDS = 400, 8, 20


def test_a_belief_is_bayes_rule():
  known = tabular.belief(3, 2, concentration=0.5, reward_mean=1.0, reward_std=2.0)
  seen = [(0, 1, 3.0, 2), (0, 1, 2.0, 1), (0, 1, 2.5, 2), (2, 0, -1.0, 0)]
  for state, action, reward, next_state in seen:
    known = tabular.learn(known, state, action, reward, next_state, noise_std=0.5)
  np.testing.assert_allclose(known.concentration[0, 1], [0.5, 1.5, 2.5])
  np.testing.assert_allclose(known.concentration[2, 0], [1.5, 0.5, 0.5])
  np.testing.assert_allclose(known.concentration[1], 0.5)
  # The posterior of a mean, on a grid.
  grid = np.linspace(-2.0, 5.0, 20_001)
  log_density = -0.5 * ((grid - 1.0) / 2.0) ** 2
  for reward in (3.0, 2.0, 2.5):
    log_density += -0.5 * ((reward - grid) / 0.5) ** 2
  weight = np.exp(log_density - log_density.max())
  weight /= weight.sum()
  mean = np.sum(weight * grid)
  np.testing.assert_allclose(known.reward_mean[0, 1], mean, rtol=1e-4)
  np.testing.assert_allclose(1.0 / known.reward_precision[0, 1], np.sum(weight * (grid - mean) ** 2), rtol=1e-4)


def test_drawn_processes_are_those_of_the_belief():
  m = tabular.random_mdp(jax.random.key(0), 3, 2, terminal=1)
  known = tabular.belief(3, 2, concentration=np.array([0.1, 1.0, 4.0]), reward_mean=2.0, reward_std=0.3)
  drawn = jax.vmap(lambda key: tabular.drawn_process(known, key, m))(jax.random.split(jax.random.key(1), 20_000))
  rows = np.asarray(drawn.transition[:, 0, 1])
  np.testing.assert_allclose(rows.sum(axis=-1), 1.0, atol=1e-5)
  share = np.array([0.1, 1.0, 4.0]) / 5.1
  np.testing.assert_allclose(rows.mean(axis=0), share, atol=0.01)
  np.testing.assert_allclose(rows.var(axis=0), share * (1 - share) / 6.1, rtol=0.05)
  np.testing.assert_allclose([drawn.reward[:, 1, 0].mean(), drawn.reward[:, 1, 0].std()], [2.0, 0.3], atol=0.01)
  np.testing.assert_array_equal(drawn.transition[0, 2], [[0, 0, 1], [0, 0, 1]])  # terminal: known
  np.testing.assert_allclose(tabular.expected_process(known, m).transition[0, 1], share, rtol=1e-6)


def regrets(strategy, **options):
  def run(key):
    return tabular.explore(
      CHAIN, key, episodes=EPISODES, horizon=HORIZON, strategy=strategy, noise_std=0.1, **options
    ).regret

  return np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(0), SEEDS)))


def test_posterior_sampling_stops_paying_and_noise_on_actions_does_not():
  """Every strategy starts from one belief; the corridor pays a little for turning back at once."""
  psrl, greedy, soft = regrets("psrl"), regrets("epsilon_greedy"), regrets("soft", temperature=0.1)
  for regret in (psrl, greedy, soft):
    assert np.all(regret >= -1e-5)  # nothing beats the optimum
  best = float(tabular.hard_value_iteration(CHAIN, horizon=HORIZON).value[0, 0])
  assert psrl[:, -100:].mean() < 0.02 * best
  totals = np.array([regret.sum(axis=1) for regret in (psrl, greedy, soft)])
  half = 1.96 * totals.std(axis=1) / np.sqrt(SEEDS)
  assert np.all(totals.mean(axis=1)[1:] - half[1:] > 1.5 * (totals.mean(axis=1)[0] + half[0])), totals.mean(axis=1)
  # As long as it acts, noise costs: the second half of the episodes as much as any.
  assert greedy[:, -100:].mean() > 0.05 * best


def test_who_knows_has_no_regret():
  certain = tabular.belief(6, 2)._replace(
    concentration=1e7 * tabular.dense(CHAIN).transition + 1e-3,
    reward_mean=CHAIN.reward,
    reward_precision=jnp.full((6, 2), 1e10),
  )
  found = tabular.explore(CHAIN, jax.random.key(0), episodes=5, horizon=HORIZON, prior=certain)
  np.testing.assert_allclose(found.regret, 0.0, atol=1e-4)
  seen = found.belief.concentration - certain.concentration
  assert 5 * 5 - 1 <= float(seen.sum()) <= 5 * HORIZON + 1  # what follows the end of an episode teaches nothing


def test_bad_input_is_refused():
  for options, message in (
    ({"strategy": "ucb"}, "strategy is one of psrl, epsilon_greedy, soft; got 'ucb'"),
    ({"episodes": 0}, "episodes is a whole number >= 1, got 0"),
    ({"horizon": 0}, "horizon"),
    ({"horizon": None}, "horizon is a whole number >= 1, got None"),
  ):
    with pytest.raises(ValueError, match=message):
      tabular.explore(CHAIN, jax.random.key(0), **{"episodes": 3, "horizon": 4} | options)
  with pytest.raises(ValueError, match=r"concentration must be above 0; got 0\.0"):
    tabular.belief(2, 2, concentration=0.0)
  with pytest.raises(ValueError, match="states is a whole number >= 1, got 0"):
    tabular.belief(0, 2)
