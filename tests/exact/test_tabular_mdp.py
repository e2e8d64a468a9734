"""Finite processes as they are stored, the ready-made ones by hand, and the faults that are named."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import (
  cast,
  numpy_tree,
  one,
  processes,
  table,
)

from varl.exact import tabular

# Storage and problems


def test_dense_and_sparse_are_the_same():
  m = tabular.mdp(**one(processes(2, 1, 6, 2, branching=3, terminal=2), 0)._asdict())
  full = tabular.dense(m)
  np.testing.assert_allclose(full.transition, table(cast(numpy_tree(m), np.float64)), atol=1e-7)
  assert tabular.dense(full) is full
  value = jnp.arange(6.0)
  close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  close(tabular.expected(m, value), full.transition @ value)
  close(tabular.expected(full, value), full.transition @ value)
  close(tabular.log_expected(m, value), np.log(full.transition @ np.exp(value)))
  close(tabular.log_expected(full, value), np.log(full.transition @ np.exp(value)))
  np.testing.assert_array_equal(tabular.at_successors(m, value), m.successor)
  assert tabular.at_successors(full, value).shape == (1, 1, 6)
  close(tabular.arrivals(m, m.transition), full.transition.sum((0, 1)))
  close(tabular.arrivals(full, full.transition), full.transition.sum((0, 1)))
  log_policy = np.log(np.tile([0.3, 0.7], (6, 1)))
  matrix = np.einsum("sa,sat->st", np.exp(log_policy), full.transition)
  close(tabular.transition_matrix(m, log_policy), matrix)
  close(tabular.transition_matrix(full, log_policy), matrix)
  # A terminal state leads nowhere but to itself, whatever was said of it, and pays nothing.
  np.testing.assert_array_equal(full.transition[4:].argmax(-1), [[4, 4], [5, 5]])
  poisoned = np.array(full.transition)
  poisoned[4:] = np.nan
  clean = tabular.mdp(poisoned, full.reward.at[5].set(np.inf), discount=0.9, terminal=full.terminal)
  np.testing.assert_array_equal(clean.transition, full.transition)
  np.testing.assert_array_equal(clean.reward[4:], 0.0)
  np.testing.assert_allclose(clean.initial, [0.25, 0.25, 0.25, 0.25, 0.0, 0.0])


@pytest.mark.parametrize("branching", [None, 3])
def test_random_processes(branching):
  keys = jax.random.split(jax.random.key(0), 200)
  run = jax.jit(jax.vmap(lambda key: tabular.random_mdp(key, 5, 3, branching=branching, terminal=2, discount=0.8)))
  m = numpy_tree(run(keys))
  assert m.transition.shape == (200, 5, 3, branching or 5)
  live = m.transition[:, :3]
  np.testing.assert_allclose(live.sum(-1), 1.0, rtol=1e-6)
  np.testing.assert_allclose(m.initial.sum(-1), 1.0, rtol=1e-6)
  np.testing.assert_array_equal(m.initial[:, 3:], 0.0)
  np.testing.assert_array_equal(m.terminal, [[False, False, False, True, True]] * 200)
  np.testing.assert_allclose(m.discount, 0.8, rtol=1e-6)
  # An entry of a uniform distribution over n outcomes has mean 1/n and second moment 2/(n (n+1)); 5 standard errors.
  n = live.shape[-1]
  second = live[..., 0] ** 2
  assert abs(second.mean() - 2 / (n * (n + 1))) < 5 * second.std() / np.sqrt(second.size)
  reward = m.reward[:, :3]
  assert abs(reward.mean()) < 5 / np.sqrt(reward.size)
  assert abs((reward**2).mean() - 1) < 5 * np.sqrt(2 / reward.size)
  if branching:
    counts = np.bincount(m.successor[:, :3].ravel(), minlength=5)
    assert (np.abs(counts / counts.sum() - 0.2) < 5 * 0.4 / np.sqrt(counts.sum())).all()


def test_chain_by_hand():
  m = tabular.chain(4, discount=0.5)
  hard = tabular.hard_value_iteration(m)
  # Right from everywhere: 1, 1/2, 1/4; going back for ever pays 0.1 / (1 - 0.5) = 0.2 < 1/4.
  np.testing.assert_allclose(hard.value, [0.25, 0.5, 1.0, 0.0], rtol=1e-6)
  np.testing.assert_array_equal(hard.policy[:3], 1)
  np.testing.assert_allclose(hard.q[:, 0], [0.225, 0.225, 0.225, 0.0], rtol=1e-6)
  finite = tabular.hard_value_iteration(m, horizon=2)
  np.testing.assert_allclose(finite.value, [[0.15, 0.5, 1.0, 0.0], [0.1, 0.1, 1.0, 0.0], [0.0] * 4], rtol=1e-6)
  np.testing.assert_array_equal(finite.policy[0, :3], [0, 1, 1])


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_grid_is_given_as_rows_of_any_sequence(kind):
  assert tabular.gridworld(kind(("SS", "SG"))).reward.shape == (4, 4)
  assert tabular.gridworld(kind((2, 3))).reward.shape == (6, 4)


def test_gridworld_by_hand():
  m = tabular.gridworld(["S.G", "#.P"], slip=0.2, goal=2.0, pit=-3.0, step=-0.5)
  # Cells in reading order, without the wall: S, ., G, ., P.
  np.testing.assert_array_equal(m.terminal, [False, False, True, False, True])
  np.testing.assert_array_equal(m.initial, [1, 0, 0, 0, 0])
  full = np.asarray(tabular.dense(m).transition)
  np.testing.assert_allclose(full[0, 1], [0.2, 0.8, 0, 0, 0], atol=1e-6)  # Right: the sides are edge and wall.
  np.testing.assert_allclose(full[1, 2], [0.1, 0, 0.1, 0.8, 0], atol=1e-6)  # Down: the sides are right and left.
  np.testing.assert_allclose(full[3, 1], [0, 0.1, 0, 0.1, 0.8], atol=1e-6)  # Right: the sides are up and the edge.
  np.testing.assert_allclose(m.reward[1, 2], -0.5 + 0.1 * 2.0, rtol=1e-6)
  np.testing.assert_allclose(m.reward[3, 1], -0.5 + 0.8 * -3.0, rtol=1e-6)
  np.testing.assert_array_equal(m.reward[2], 0.0)
  # The shortest way over an open grid of n by n: 2n - 2 steps, the last of which pays.
  corner = tabular.hard_value_iteration(tabular.gridworld(4, slip=0.0, discount=0.9)).value[0]
  np.testing.assert_allclose(corner, 0.9**5, rtol=1e-6)
  assert tabular.gridworld((2, 3)).reward.shape == (6, 4)


# Bad input


def small(**changed):
  given = {"transition": np.full((2, 2, 2), 0.5), "reward": np.ones((2, 2)), "discount": 0.9}
  given.update(changed)
  return tabular.mdp(given.pop("transition"), given.pop("reward"), **given)


def spoilt(number, base=0.5):
  transition = np.full((2, 2, 2), base)
  transition[1, 0, 1] = number
  return transition


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"transition": spoilt(0.4)}, r"transition must sum to 1 .*got 0.9.* in state 1, action 0"),
    ({"transition": spoilt(-0.5)}, r"transition must not be negative; got -0.5 in state 1, action 0"),
    ({"transition": spoilt(np.nan)}, r"transition must be finite; got nan in state 1, action 0"),
    ({"transition": np.ones((2, 2))}, r"transition must have shape \(2, 2, 2\).*got \(2, 2\)"),
    ({"transition": np.ones((2, 2, 1))}, r"transition must have shape \(2, 2, 2\).*got \(2, 2, 1\)"),
    ({"transition": np.ones((2, 3, 1)), "successor": np.zeros((2, 3, 1), int)}, r"sparse transition must be"),
    ({"transition": np.ones((2, 2, 1)), "successor": np.zeros((2, 2, 2), int)}, r"successor must have the shape"),
    ({"transition": np.ones((2, 2, 1)), "successor": np.full((2, 2, 1), 2)}, r"successor must be in \[0, 2\); got 2"),
    ({"transition": np.ones((2, 2, 1)), "successor": np.zeros((2, 2, 1))}, r"successor must hold integers"),
    ({"reward": np.ones(2)}, r"reward must be \[states, actions\]; got shape \(2,\)"),
    ({"reward": [[1.0, 1.0], [np.nan, 1.0]]}, r"reward must be finite; got nan in state 1, action 0"),
    ({"discount": 1.1}, r"discount must be in \[0, 1\]; got 1.1"),
    ({"discount": -0.1}, r"discount must be in \[0, 1\]"),
    ({"discount": np.nan}, r"discount must be in \[0, 1\]"),
    ({"discount": [0.9]}, r"discount must be a scalar"),
    ({"initial": [0.5, 0.6]}, r"initial must sum to 1"),
    ({"initial": [1.5, -0.5]}, r"initial must not be negative; got -0.5"),
    ({"initial": [1.0]}, r"initial must have shape \(2,\)"),
    ({"terminal": [True]}, r"terminal must have shape \(2,\)"),
    ({"terminal": [True, True]}, r"every state is terminal"),
  ],
)
def test_faulty_processes_are_named(changed, message):
  with pytest.raises(ValueError, match=message):
    small(**changed)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf, [1.0, 2.0]])
def test_temperatures_are_positive_numbers(temperature):
  m = small()
  for run in (
    tabular.soft_value_iteration,
    partial(tabular.message_passing, horizon=2),
    partial(tabular.log_evidence, horizon=2),
    partial(tabular.elbo, log_policy=np.log(np.full((2, 2), 0.5)), horizon=2),
    partial(tabular.expectation_maximisation, iterations=2),
  ):
    with pytest.raises(ValueError, match="temperature must be one finite number > 0"):
      run(m, temperature=temperature)
  if temperature != 0.0:
    with pytest.raises(ValueError, match="temperature must be one finite number >= 0"):
      tabular.policy_evaluation(m, np.log(np.full((2, 2), 0.5)), temperature=temperature)


def test_faulty_horizons_priors_and_policies_are_named():
  m, endless = small(), small(discount=1.0)
  uniform = np.log(np.full((2, 2), 0.5))
  soft = partial(tabular.soft_value_iteration, temperature=1.0)
  em = partial(tabular.expectation_maximisation, temperature=1.0)
  for horizon in (0, -1, 2.5, True):
    for run in (
      soft,
      partial(tabular.message_passing, temperature=1.0),
      tabular.hard_value_iteration,
      partial(tabular.visitation, log_policy=uniform),
      partial(tabular.policy_evaluation, log_policy=uniform),
    ):
      with pytest.raises(ValueError, match="horizon is a whole number >= 1"):
        run(m, horizon=horizon)
  with pytest.raises(ValueError, match="horizon is a whole number >= 1, got None"):
    tabular.message_passing(m, temperature=1.0, horizon=None)
  for run in (
    soft,
    tabular.hard_value_iteration,
    partial(tabular.visitation, log_policy=uniform),
    partial(tabular.policy_evaluation, log_policy=uniform),
    partial(em, iterations=2),
  ):
    with pytest.raises(ValueError, match=r"infinite horizon needs discount < 1; got 1\.0"):
      run(endless)
  for prior, message in (
    (np.zeros(3), r"log_prior must broadcast to \[states, actions\] \(2, 2\); got shape \(3,\)"),
    ([[0.0, 0.0], [-np.inf, -np.inf]], "log_prior must be finite for some action .* in state 1 is -inf"),
    (np.nan, "log_prior must be finite"),
    (np.inf, "log_prior must be finite"),
  ):
    with pytest.raises(ValueError, match=message):
      soft(m, log_prior=prior)
  with pytest.raises(ValueError, match=r"log_policy must have shape \(2, 2\) or \(3, 2, 2\); got \(2, 2, 2\)"):
    tabular.visitation(m, np.zeros((2, 2, 2)), horizon=3)
  with pytest.raises(ValueError, match=r"log_policy must have shape \(2, 2\); got \(3, 2, 2\)"):
    tabular.policy_evaluation(m, np.zeros((3, 2, 2)))
  with pytest.raises(ValueError, match="e_step must be"):
    em(m, iterations=2, e_step="two_step")
  with pytest.raises(ValueError, match="iterations is a whole number >= 1"):
    em(m, iterations=0)
  for build, message in (
    (lambda: tabular.random_mdp(jax.random.key(0), 0, 2), "states is a whole number >= 1"),
    (lambda: tabular.random_mdp(jax.random.key(0), 2, 2, branching=0), "branching is a whole number >= 1"),
    (lambda: tabular.random_mdp(jax.random.key(0), 2, 2, terminal=2), r"terminal is a whole number in \[0, 2\), got 2"),
    (lambda: tabular.chain(1), "length is a whole number >= 2"),
    (lambda: tabular.gridworld(["SG", "."]), "rows of equal length"),
    (lambda: tabular.gridworld(["SX"]), "made of"),
    (lambda: tabular.gridworld(["..G"]), "needs a start"),
    (lambda: tabular.gridworld(1), "at least two cells"),
    (lambda: tabular.gridworld(3, slip=1.5), "slip must be in"),
    (lambda: tabular.lottery(chance=1.5), "chance must be in"),
  ):
    with pytest.raises(ValueError, match=message):
      build()
