"""Messages, evidence and bound of finite processes against the enumeration of all trajectories, and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import (
  MDPS,
  SHAPES,
  cast,
  enumerated,
  make_case,
  numpy_tree,
)

from varl.exact import tabular


@pytest.fixture(scope="module", params=sorted(SHAPES))
def case(request):
  return make_case(request.param)


def infer(m, temperature, log_prior, log_policy, *, horizon):
  given = {"temperature": temperature, "horizon": horizon, "log_prior": log_prior}
  messages = tabular.message_passing(m, **given)
  optimum = tabular.soft_value_iteration(m, **given)
  return {
    "messages": messages,
    "log_evidence": tabular.log_evidence(m, **given),
    "elbo": tabular.elbo(m, log_policy, **given),
    "best": tabular.elbo(m, optimum.log_policy, **given),
    "best_value": jnp.sum(m.initial * optimum.value[0]) / temperature,
    "followed": tabular.visitation(m, log_policy, horizon=horizon),
  }


@pytest.fixture(scope="module")
def inferred(case):
  """What varl says, by dtype."""
  run = jax.jit(jax.vmap(partial(infer, horizon=case.horizon)))
  found = {}
  for dtype in (np.float32, np.float64):
    with jax.enable_x64(dtype is np.float64):
      found[dtype] = numpy_tree(run(*cast((case.m, case.temperature, case.log_prior, case.log_policy), dtype)))
      assert {x.dtype for x in jax.tree.leaves(found[dtype])} == {np.dtype(dtype)}
  return found


@pytest.fixture(scope="module")
def enumeration(case):
  every = [enumerated(case, i) for i in range(MDPS)]
  return {name: np.stack([found[name] for found in every]) for name in every[0]}


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-5), (np.float32, 1e-4)])
def test_inference_agrees_with_all_trajectories(case, inferred, enumeration, dtype, tolerance):
  found, messages = inferred[dtype], inferred[dtype]["messages"]
  close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
  close(messages.log_evidence, enumeration["log_evidence"])
  close(found["log_evidence"], enumeration["log_evidence"])
  close(found["elbo"], enumeration["elbo"])
  close(found["followed"], enumeration["followed"])
  marginals = np.exp(messages.log_marginals)
  close(marginals, enumeration["marginals"])
  close(marginals.sum(-1), 1.0)

  # Where a state cannot be reached, or nothing is chosen, there is nothing to compare.
  live = ~case.m.terminal[:, None, :] & (enumeration["marginals"][:, :-1] > 1e-12)
  assert live.mean() > 0.3
  close(np.exp(messages.log_policy)[live], enumeration["policy"][live])
  dynamics = np.exp(messages.log_dynamics)
  if case.m.successor is not None:
    # How often the posterior names each successor, added up over those named twice.
    states = case.m.reward.shape[1]
    dynamics = np.einsum("nhsak,nsakt->nhsat", dynamics, np.eye(states)[case.m.successor])
  close(dynamics.sum(-1)[live], 1.0)
  taken = live & (enumeration["policy"].min(-1) > 1e-12)
  close(dynamics[taken], enumeration["dynamics"][taken])


def test_the_bound_holds_and_is_tight_where_nothing_but_the_actions_is_random(case, inferred):
  deterministic = case.m.transition.shape[-1] == 1
  for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
    found = inferred[dtype]
    assert (found["elbo"] <= found["best"] + tolerance).all()
    assert (found["best"] <= found["log_evidence"] + tolerance).all()
    np.testing.assert_allclose(found["best"], found["best_value"], rtol=tolerance, atol=tolerance)
    gap = found["log_evidence"] - found["best"]
    if deterministic:
      np.testing.assert_allclose(gap, 0.0, atol=10 * tolerance)
    else:
      assert np.median(gap) > 1e-3


def test_message_passing_buys_the_ticket_and_soft_value_iteration_does_not():
  given = {"temperature": 1.0, "horizon": 2}
  m = tabular.lottery()
  messages, soft = tabular.message_passing(m, **given), tabular.soft_value_iteration(m, **given)
  # log(0.2 e⁴ + 0.8) = 2.46126; 0.2 · 4 = 0.8.
  np.testing.assert_allclose(messages.q[0, 0], [1.0, 2.46126], rtol=1e-5)
  np.testing.assert_allclose(soft.q[0, 0], [1.0, 0.8], rtol=1e-6)
  # 1/(1 + e^{-1.46126}) and 1/(1 + e^{0.2}).
  np.testing.assert_allclose(np.exp(messages.log_policy[0, 0, 1]), 0.81173, rtol=1e-4)
  np.testing.assert_allclose(np.exp(soft.log_policy[0, 0, 1]), 0.45017, rtol=1e-4)
  # The jackpot's posterior probability, 0.2 e⁴ / (0.2 e⁴ + 0.8).
  np.testing.assert_allclose(np.exp(messages.log_dynamics[0, 0, 1]), [0.0, 0.93174, 0.06826, 0.0], atol=1e-5)
  # p(O) = ½ e + ½ (0.2 e⁴ + 0.8) = 7.21895.
  np.testing.assert_allclose(np.exp(messages.log_evidence), 7.21895, rtol=1e-5)
  # The variational bound is the mean's: log(½ e + ½ e^0.8) = 0.90500.
  bound = tabular.elbo(m, soft.log_policy, **given)
  np.testing.assert_allclose(bound, 0.90500, rtol=1e-5)
  assert tabular.elbo(m, messages.log_policy, **given) < bound
