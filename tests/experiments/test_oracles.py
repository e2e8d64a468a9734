"""Every algorithm against its exact answer: the table of `experiments.oracles`, short and (slow) in full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.oracles import finite, regulators
from experiments.oracles.__main__ import RESULTS
from experiments.oracles.entries import ORACLES
from experiments.oracles.rows import Row, Scale
from experiments.oracles.runs import spread
from experiments.oracles.table import measure, record, recorded, table
from varl import agents
from varl.envs import spec
from varl.envs.tabular import Tabular
from varl.exact import linear_quadratic, tabular

SHORT_MISSES = {("vmpo", "policy total variation")}
"""V-MPO leaves two actions of nearly equal value apart long after the others do; the value it loses by that is held."""

ROW = Row("sac", "p", "q", 1.0, 1.0, (0.01, 0.02, 0.03), 0.02)


def test_every_algorithm_has_an_oracle():
  assert set(ORACLES) == set(agents.AGENTS)
  assert all(ORACLES.values())


QUICK = ("sac", "sql_discrete", "ppo")
"""Algorithms whose short form is run at every commit; that of the others takes longer and is run with `-m slow`."""


@pytest.mark.parametrize(
  "algorithm", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ORACLES]
)
def test_short(algorithm):
  rows = measure([algorithm], Scale((0,), short=True))
  text = table(rows)
  print(text)
  assert rows
  assert all(row.holds or (row.algorithm, row.quantity) in SHORT_MISSES for row in rows), text


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", list(ORACLES))
def test_full(algorithm):
  """What the record says to hold does; what it says to miss may."""
  rows = measure([algorithm], Scale((0, 1, 2), short=False))
  text = table(rows)
  print(text)
  missed = {(row.problem, row.quantity) for row in recorded(algorithm, RESULTS) if not row.holds}
  assert rows
  assert all(row.holds or (row.problem, row.quantity) in missed for row in rows), text


def test_the_regulators_are_what_they_say():
  problems = regulators.problems()
  assert [problem.B.shape for problem in problems] == list(regulators.SHAPES)
  assert {actions for _, actions in regulators.SHAPES} == {1, 2, 3}
  for problem in problems:
    noise = float(jnp.sqrt(problem.noise[0, 0]))
    assert 0.9 <= problem.discount <= 0.97
    assert 0.05 <= noise <= 0.2
    assert 1 / (1 - problem.discount) <= regulators.EPISODE_LENGTH + 0.5
    linear_quadratic.linear_quadratic(*problem[:4], noise_covariance=problem.noise, discount=float(problem.discount))
    coupled = [m for m in (problem.Q, problem.R) if len(m) > 1]
    assert any(np.abs(m - np.diag(np.diag(m))).max() > 0.02 for m in coupled)
    env = regulators.environment(problem)
    assert spec(env).action_size == problem.B.shape[1]
    np.testing.assert_allclose(env.noise, noise)


def test_the_regulators_answers_in_float64():
  """The Riccati recursion run to its end by hand, and the policy's value summed up from where it starts."""
  for problem in regulators.problems():
    A, B, Q, R, W, gamma = (np.asarray(x, np.float64) for x in problem)
    P = np.zeros_like(A)
    for _ in range(3_000):
      H = R + gamma * B.T @ P @ B
      K = gamma * np.linalg.solve(H, B.T @ P @ A)
      P = Q + gamma * A.T @ P @ (A - B @ K)
    soft, hard = linear_quadratic.soft(problem, temperature=0.3), linear_quadratic.hard(problem)
    for solution in (soft, hard):
      np.testing.assert_allclose(solution.gain, K, atol=2e-5)
      np.testing.assert_allclose(solution.P, P, atol=2e-4)
    np.testing.assert_allclose(soft.covariance, 0.15 * np.linalg.inv(H), rtol=1e-4, atol=1e-6)
    # E Σ γ^t (cost + α log π) from s = 0, by the second moments of the closed loop.
    closed, covariance = A - B @ K, 0.15 * np.linalg.inv(H)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    moment, soft_cost, hard_moment, hard_cost = np.zeros_like(A), 0.0, np.zeros_like(A), 0.0
    for t in range(1_000):
      state_cost = Q + K.T @ R @ K
      soft_cost += gamma**t * (np.trace(state_cost @ moment) + np.trace(R @ covariance) - 0.3 * entropy)
      hard_cost += gamma**t * np.trace(state_cost @ hard_moment)
      moment = closed @ moment @ closed.T + B @ covariance @ B.T + W
      hard_moment = closed @ hard_moment @ closed.T + W
    np.testing.assert_allclose([soft.constant, hard.constant], [soft_cost, hard_cost], rtol=1e-3, atol=1e-3)


def test_the_processes_are_what_they_say():
  stacked = finite.processes()
  assert stacked.reward.shape == (finite.COUNT, finite.STATES, finite.ACTIONS)
  np.testing.assert_array_equal(stacked.terminal.sum(axis=1), np.arange(finite.COUNT) % 3)
  assert stacked.discount.min() >= 0.9
  assert stacked.discount.max() <= 0.97
  assert 1 / (1 - stacked.discount.min()) > finite.EPISODE_LENGTH
  for index in range(3):
    process = jax.tree.map(lambda leaf, i=index: leaf[i], stacked)
    Tabular(process)
    value = tabular.soft_value_iteration(process, temperature=0.3, log_prior=0.0).value
    np.testing.assert_array_equal(np.asarray(value)[np.asarray(process.terminal)], 0.0)


@pytest.mark.parametrize("together", [False, True])
def test_runs_are_rows_of_data(together):
  keys = jnp.stack([jax.random.key(seed) for seed in range(3)])
  found = spread(
    lambda x, key: {"y": 2.0 * x["a"] + jax.random.normal(key)}, {"a": jnp.arange(3.0)}, keys, together=together
  )
  np.testing.assert_allclose(found["y"], 2.0 * np.arange(3.0) + np.asarray([jax.random.normal(key) for key in keys]))


def test_a_row_holds_by_its_mean_and_says_how_sure_it_is():
  assert ROW.holds
  assert ROW.error == pytest.approx(0.02)
  assert ROW.interval == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)  # t_{.975} of 2 degrees of freedom
  missed = ROW._replace(tolerance=0.019)
  assert not missed.holds
  assert "| MISS |" in table([missed])
  assert "MISS" not in table([ROW])


def test_an_algorithm_without_an_oracle_is_an_error():
  with pytest.raises(ValueError, match="'sacc' has no oracle"):
    measure(["sacc"], Scale((0,), short=True))


def test_what_is_recorded_counts_for_its_problems_and_seeds(tmp_path, monkeypatch):
  assert recorded("sac", tmp_path) == []
  record("sac", [ROW], (0, 1, 2), 1.0, tmp_path)
  assert recorded("sac", tmp_path) == recorded("sac", tmp_path, (0, 1, 2)) == [ROW]
  assert recorded("sac", tmp_path, (0, 1)) == []
  monkeypatch.setattr("experiments.oracles.table.problem_set", lambda: "others")
  assert recorded("sac", tmp_path) == []
