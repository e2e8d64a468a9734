"""Expectation maximisation on finite processes: it never falls, and ends at the hard optimum."""

import jax
import numpy as np
import pytest
from enumeration import numpy_tree, processes

from varl.exact import tabular


@pytest.mark.parametrize("e_step", ["optimal", "one_step"])
def test_expectation_maximisation_never_falls_and_ends_at_the_hard_optimum(e_step):
  m = processes(11, 100, 5, 3, terminal=1)

  def run(m):
    course = tabular.expectation_maximisation(m, temperature=0.5, iterations=150, e_step=e_step)
    paid = jax.vmap(lambda p, q: tabular.policy_evaluation(m, q, temperature=0.5, log_prior=p).value @ m.initial)
    optimum = tabular.hard_value_iteration(m)
    learned = tabular.policy_evaluation(m, course.log_prior[-1]).value
    return course, paid(course.log_prior[:-1], course.log_prior[1:]), optimum, learned

  with jax.enable_x64(True):
    course, paid, optimum, learned = numpy_tree(jax.jit(jax.vmap(run))(m))
  assert course.log_prior.shape == (100, 151, 5, 3)
  np.testing.assert_allclose(np.exp(course.log_prior).sum(-1), 1.0, rtol=1e-12)
  np.testing.assert_allclose(course.log_prior[:, 0], -np.log(3.0))
  rise = np.diff(course.objective, axis=1)
  assert rise.min() >= -1e-6
  assert rise[:, 0].min() > 1e-3
  # J(π_n, p_n) lies between the objectives before and after, or is the objective itself.
  if e_step == "optimal":
    np.testing.assert_allclose(paid, course.objective[:, :-1], rtol=1e-9, atol=1e-9)
  else:
    assert (paid >= course.objective[:, :-1] - 1e-9).all()
    assert (paid <= course.objective[:, 1:] + 1e-9).all()
  best = np.sum(m.initial * optimum.value, axis=1)
  assert (course.objective <= best[:, None] + 1e-9).all()
  np.testing.assert_allclose(learned, optimum.value, atol=2e-2)
  assert np.median(np.abs(learned - optimum.value).max(axis=1)) < 1e-6
  ordered = np.sort(optimum.q, axis=-1)
  clear = ~m.terminal & (ordered[..., -1] - ordered[..., -2] > 0.05)
  assert clear.mean() > 0.6
  np.testing.assert_array_equal(course.log_prior[:, -1].argmax(-1)[clear], optimum.policy[clear])
