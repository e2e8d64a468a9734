"""The bound of a policy over options, enumerated: what holds for every process, and what a window is worth."""

import jax
import numpy as np
import pytest

from varl.exact import tabular
from varl.exact.options import LARGEST, OptionPolicy, option_bound

T = 4


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def process(seed):
  return tabular.random_mdp(jax.random.key(seed), 2, 2, discount=0.9)


def policy(seed, options=2, continuation=None):
  rng = np.random.default_rng(seed)
  stay = rng.uniform(0.2, 0.9, 2) if continuation is None else continuation
  return OptionPolicy(rng.dirichlet(np.ones(options), size=2), rng.dirichlet(0.7 * np.ones(2), size=(2, options)), stay)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_gap_falls_to_nothing_as_the_window_grows(direction):
  """In each of 50 random processes: bound <= evidence <= log p(R̂ = 1), and the gap falls with K."""
  for seed in range(50):
    found = [
      option_bound(process(seed), policy(seed), horizon=T, window=window, direction=direction)
      for window in (0, 1, 2, None)
    ]
    gaps = np.array([one.gap for one in found])
    assert (np.diff(gaps) <= 1e-12).all()
    assert abs(gaps[-1]) < 1e-9
    assert gaps[0] > 1e-6
    for one in found:
      assert one.bound <= one.evidence + 1e-12
      assert one.evidence <= one.log_evidence + 1e-9
      assert 0.0 <= one.information <= T * np.log(2)


def test_a_window_of_the_past_tells_the_forward_model_nothing():
  for seed in range(10):
    gaps = [
      option_bound(process(seed), policy(seed), horizon=T, window=window, past=True).gap for window in (0, 1, 2, None)
    ]
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-12)
    assert gaps[0] > 1e-6


def test_without_a_reverse_model_of_the_future_the_backward_one_needs_the_next_state():
  """The backward posterior conditions on s_{t+1}: with it the whole past closes the gap, whatever the process."""
  for seed in range(10):
    assert abs(option_bound(process(seed), policy(seed), horizon=T, direction="backward").gap) < 1e-9


def test_one_option_is_maximum_entropy():
  """E[Σ r/c - log π + log p] of its policy, by exact evaluation with the same horizon."""
  for seed in range(5):
    m, one = process(seed), policy(seed, options=1)
    found = option_bound(m, one, horizon=T, temperature=0.5)
    assert abs(found.gap) < 1e-12
    assert abs(found.information) < 1e-12
    log_policy = np.broadcast_to(np.log(one.action[:, 0]), (T, 2, 2))
    undiscounted = m._replace(discount=m.discount * 0 + 1.0)
    worth = tabular.policy_evaluation(undiscounted, log_policy, temperature=0.5, horizon=T)
    np.testing.assert_allclose(found.bound, np.sum(m.initial * worth.value[0]) / 0.5, rtol=1e-9)


def test_the_posterior_reaches_the_evidence():
  """The best policy of one option reaches log p(R̂ = 1) where nothing is random."""
  transition = np.zeros((2, 2, 2))
  transition[0, 0, 0] = transition[0, 1, 1] = transition[1, 0, 1] = transition[1, 1, 0] = 1.0
  m = tabular.mdp(transition, [[0.3, -0.2], [1.0, 0.1]], discount=1.0, initial=[1.0, 0.0])
  # One step: the posterior of the first action alone.
  weights = np.exp(np.array(m.reward))
  best = OptionPolicy(np.ones((2, 1)), (weights / weights.sum(axis=1, keepdims=True))[:, None], 0.0)
  found = option_bound(m, best, horizon=1)
  np.testing.assert_allclose(found.evidence, found.log_evidence, atol=1e-7)


def test_an_option_for_the_whole_episode_is_a_skill():
  """q_cont = 1: the options are one number z, and the information that of z and the trajectory (DIAYN's bound)."""
  for seed in range(5):
    m, skills = process(seed), policy(seed, continuation=1.0)
    skills = skills._replace(option=np.tile(skills.option[:1], (2, 1)))  # p(z), whatever the first state
    found = option_bound(m, skills, horizon=T)
    p = skills.option[0]
    # π(τ, z) enumerated apart from the machinery: a run of T steps by one skill.
    transition = np.asarray(tabular.dense(m).transition, np.float64)
    totals = {}
    for z in range(2):
      stack = [((s,), np.asarray(m.initial, np.float64)[s] * p[z]) for s in range(2)]
      for _ in range(T):
        stack = [
          ((*path, a, s), mass * skills.action[path[-1], z, a] * transition[path[-1], a, s])
          for path, mass in stack for a in range(2) for s in range(2)
        ]  # fmt: skip
      for path, mass in stack:
        totals.setdefault(path, np.zeros(2))[z] += mass
    joint = np.array(list(totals.values()))
    marginal = joint.sum(axis=1, keepdims=True)
    told = joint > 0
    terms = joint[told] * np.log((joint / np.where(marginal > 0, marginal, 1.0) / p)[told])
    np.testing.assert_allclose(found.information, terms.sum(), atol=1e-9)
    assert abs(found.gap) < 1e-9
    # Where options never change, the first is told by the whole future, the others by the one before.
    assert option_bound(m, skills, horizon=T, window=0).gap > 1e-6


def test_the_gap_is_the_information_that_the_window_does_not_hold():
  """Nothing, where the option is certain or where all do the same."""
  certain = OptionPolicy(np.array([[1.0, 0.0], [1.0, 0.0]]), np.full((2, 2, 2), 0.5), 0.5)
  assert abs(option_bound(process(0), certain, horizon=T, window=0).gap) < 1e-12
  alike = OptionPolicy(np.full((2, 2), 0.5), np.full((2, 2, 2), 0.5), 0.5)  # options that do the same
  found = option_bound(process(0), alike, horizon=T, window=0)
  assert abs(found.gap) < 1e-12
  assert abs(found.information) < 1e-12


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"direction": "sideways"}, "direction is forward or backward; got 'sideways'"),
    ({"horizon": 0}, "horizon is a whole number >= 1, got 0"),
    ({"window": -1}, "window is a whole number >= 0, got -1"),
    ({"horizon": 12}, rf"more than {LARGEST:,}; a shorter horizon"),
  ],
)
def test_what_cannot_be_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    option_bound(process(0), policy(0), **{"horizon": T, **given})
  with pytest.raises(ValueError, match=r"option \[S, O\] and action \[S, O, A\]"):
    option_bound(process(0), OptionPolicy(np.ones((3, 1)), np.ones((2, 1, 2)) / 2, 0.0), horizon=T)
  with pytest.raises(ValueError, match="option holds distributions"):
    option_bound(process(0), policy(0)._replace(option=np.ones((2, 2))), horizon=T)
