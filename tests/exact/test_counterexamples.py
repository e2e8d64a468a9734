"""The counterexamples: every objective's verdict on a grid against its closed form."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.exact import counterexamples as ce

LABELS, BATCH = 32, 1092
CLOSE = 1e-4
"""Margins relative to temperature and rewards below which a verdict in float32 may fall either way."""


def product(*columns):
  """The columns of the Cartesian product, as float32 (integers stay integers)."""
  return [
    np.array(column, np.int32 if isinstance(column[0], int) else np.float32)
    for column in zip(*itertools.product(*columns), strict=True)
  ]


@pytest.fixture(scope="module")
def sweep():
  """(problems, c) -> verdicts, the batch filled up to one size by repetition, so that few programs are compiled."""
  run = jax.jit(ce.sweep, static_argnames="m_step")

  def judge(problems, c, *, m_step="evaluation", q=None):
    rows = np.arange(BATCH) % len(c)
    filled = jax.tree.map(lambda x: np.asarray(x)[rows], problems)
    start = np.zeros(problems.mdp.reward.shape[1:], np.float32) if q is None else q
    verdicts = run(filled, np.asarray(c, np.float32)[rows], m_step=m_step, q=start)
    return jax.tree.map(lambda x: np.asarray(x)[: len(c)], verdicts)

  return judge


@pytest.fixture(scope="module")
def build_rooms():
  return jax.jit(jax.vmap(partial(ce.maxent_room, actions=LABELS)))


@pytest.fixture(scope="module")
def build_lotteries():
  return jax.jit(jax.vmap(ce.lottery))


@pytest.fixture(scope="module")
def rooms(sweep, build_rooms):
  """(k1, r1, r2, c) of a grid with r₂ > r₁, its problems and verdicts."""
  temperature = [float(c) for c in np.geomspace(0.03, 30.0, 13)]
  grid = product([1, 2, 3, 5, 8, 16, 32], [-2.0, 0.0, 1.5], [0.05, 0.4, 1.0, 3.0], temperature)
  grid[2] += grid[1]
  problems = build_rooms(*grid[:3])
  return grid, problems, sweep(problems, grid[3])


@pytest.fixture(scope="module")
def lotteries(sweep, build_lotteries):
  """(safe, jackpot, chance, c) of a grid where the lottery's mean is below the safe reward."""
  share, jackpot, safe, c = product(
    [0.1, 0.5, 0.9], [2.0, 5.0, 20.0], [0.5, 1.0], [float(c) for c in np.geomspace(0.03, 100.0, 15)]
  )
  grid = [safe, jackpot, share * safe / jackpot, c]
  problems = build_lotteries(*grid[:3])
  return grid, problems, sweep(problems, c)


# The rooms


def test_maxent_turns_exactly_at_its_threshold(rooms):
  (k1, r1, r2, c), _, verdicts = rooms
  # c log k₁ > r₂ - r₁, in float64.
  margin = np.float64(c) * np.log(np.float64(k1)) - (np.float64(r2) - np.float64(r1))
  clear = np.abs(margin) > CLOSE * (np.abs(r1) + np.abs(r2) + c)
  assert clear.mean() > 0.99
  np.testing.assert_array_equal(verdicts.maxent[clear] == ce.FIRST_ROOM, margin[clear] > 0)
  np.testing.assert_allclose(ce.maxent_margin(k1, r1, r2, c), margin, rtol=1e-4, atol=1e-5)
  # Both verdicts occur, and at one and the same pair of rooms it is the temperature that decides.
  wrong = (verdicts.maxent == ce.FIRST_ROOM).reshape(-1, 13)
  assert 0.2 < wrong.mean() < 0.8
  assert (wrong.any(1) & ~wrong.all(1)).mean() > 0.5


def test_the_other_objectives_take_the_better_room(rooms):
  _, _, verdicts = rooms
  for verdict in (verdicts.reward, verdicts.pseudo_likelihood, verdicts.virel):
    np.testing.assert_array_equal(verdict, ce.SECOND_ROOM)


def test_the_objectives_agree_where_the_larger_room_is_the_better_one(sweep, build_rooms):
  k1, c = product([2, 8], [0.1, 1.0, 10.0])
  one = np.ones(len(c), np.float32)
  for verdict in sweep(build_rooms(k1, one, 0.5 * one), c):
    np.testing.assert_array_equal(verdict, ce.FIRST_ROOM)


def test_labels_are_not_actions(sweep, build_rooms):
  """Three actions under any number of labels are three actions; c log 3 lies between 1.05 and 1.15."""
  k1, r1, r2 = np.array([3, 3]), np.zeros(2, np.float32), np.array([1.05, 1.15], np.float32)
  few = jax.vmap(partial(ce.maxent_room, actions=3))(k1, r1, r2)
  for problems in (few, build_rooms(k1, r1, r2)):
    np.testing.assert_array_equal(sweep(problems, [1.0, 1.0]).maxent, [ce.FIRST_ROOM, ce.SECOND_ROOM])
  assert ce.maxent_room(3, 0.0, 1.0).mdp.reward.shape == (4, 3)
  assert ce.maxent_room(1, 0.0, 1.0).mdp.reward.shape == (4, 2)


def test_the_rooms_as_a_process():
  m, log_count = ce.maxent_room(3, 1.0, 2.0, actions=4)
  assert [int(np.argmax(m.transition[0, a])) for a in range(4)] == [1, 2, 1, 1]
  np.testing.assert_array_equal(m.transition[1:, :, 3], 1.0)
  np.testing.assert_array_equal(m.reward, np.array([[0.0], [1.0], [2.0], [0.0]]) * np.ones(4))
  np.testing.assert_array_equal(m.terminal, [False, False, False, True])
  np.testing.assert_array_equal(m.initial, [1.0, 0.0, 0.0, 0.0])
  np.testing.assert_array_equal(np.sum(np.exp(log_count), axis=1), [2, 3, 1, 4])


# The lottery


def test_pseudo_likelihood_gambles_exactly_at_its_threshold(lotteries):
  (safe, jackpot, chance, c), _, verdicts = lotteries
  safe64, jackpot64, p, c64 = (np.float64(x) for x in (safe, jackpot, chance, c))
  # log E[e^{(r - safe)/c}], in float64 and without overflow.
  log_mean = np.logaddexp(np.log(p) + (jackpot64 - safe64) / c64, np.log1p(-p) - safe64 / c64)
  clear = np.abs(c64 * log_mean) > CLOSE * (jackpot64 + c64)
  assert clear.mean() > 0.9
  np.testing.assert_array_equal(verdicts.pseudo_likelihood[clear] == ce.GAMBLE, log_mean[clear] > 0)
  margin = ce.pseudo_likelihood_margin(safe, jackpot, chance, c)
  np.testing.assert_allclose(margin, c64 * log_mean, rtol=1e-4, atol=1e-5 * (30 + c64.max()))
  gambles = (verdicts.pseudo_likelihood == ce.GAMBLE).reshape(-1, 15)
  assert 0.2 < gambles.mean() < 0.8
  # Cold ones gamble on any jackpot; hot ones look at the mean.
  assert gambles[:, 0].all()
  assert not gambles[:, -1].any()


def test_the_threshold_is_the_ratio_of_evidences(sweep, build_lotteries):
  # p(O|gamble) = ½ e² + ½ against p(O|safe) = e^x: equal at x = log((e² + 1)/2).
  even = float(np.log((np.exp(2.0) + 1) / 2))
  np.testing.assert_allclose(ce.certainty_equivalent(2.0, 0.5, 1.0), even, rtol=1e-6)
  both = np.ones(2, np.float32)
  problems = build_lotteries(np.float32([even - 0.01, even + 0.01]), 2.0 * both, 0.5 * both)
  np.testing.assert_array_equal(sweep(problems, both).pseudo_likelihood, [ce.GAMBLE, ce.SAFE])
  np.testing.assert_allclose(ce.certainty_equivalent(2.0, 0.5, 1e4), 1.0, atol=1e-3)
  np.testing.assert_allclose(ce.certainty_equivalent(2.0, 0.5, 1e-2), 2.0, atol=1e-2)
  np.testing.assert_allclose(ce.certainty_equivalent(2.0, 0.0, 1.0, blank=-1.0), -1.0, rtol=1e-6)


def test_the_other_objectives_take_the_safe_arm(lotteries):
  _, _, verdicts = lotteries
  for verdict in (verdicts.reward, verdicts.maxent, verdicts.virel):
    np.testing.assert_array_equal(verdict, ce.SAFE)


def test_every_objective_takes_a_lottery_with_the_larger_mean(sweep, build_lotteries):
  c = np.geomspace(0.1, 10.0, 5).astype(np.float32)
  one = np.ones(5, np.float32)
  for verdict in sweep(build_lotteries(one, 10 * one, 0.2 * one), c):
    np.testing.assert_array_equal(verdict, ce.GAMBLE)


# VIREL


@pytest.mark.parametrize("m_step", ["evaluation", "optimal"])
def test_virel_is_right_from_every_start(rooms, lotteries, sweep, m_step):
  """Also from tables that are sure of the wrong arm, and of values that nothing pays."""
  for (grid, problems, _), answer in ((rooms, ce.SECOND_ROOM), (lotteries, ce.SAFE)):
    for sign in (-1.0, 1.0):
      start = np.zeros(problems.mdp.reward.shape[1:], np.float32)
      start[0, answer] = -sign * 20.0
      start[1:] = sign * 5.0
      verdicts = sweep(problems, grid[-1], m_step=m_step, q=start)
      np.testing.assert_array_equal(verdicts.virel, answer)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: ce.maxent_room(0, 1.0, 2.0), "at least one action, got k1=0"),
    (lambda: ce.maxent_room(5, 1.0, 2.0, actions=4), "at least k1=5, got 4"),
    (lambda: ce.maxent_room(1, 1.0, 2.0, actions=1), "at least 2 .* got 1"),
    (lambda: jax.vmap(lambda k: ce.maxent_room(k, 1.0, 2.0))(jnp.arange(1, 3)), "must be given where k1 is traced"),
    (lambda: ce.lottery(1.0, 5.0, 1.5), r"chance must be in \[0, 1\]; got 1.5"),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
