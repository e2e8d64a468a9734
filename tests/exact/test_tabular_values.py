"""Values, visits and their derivatives against Newton's method, linear programming, plain iteration and differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumeration import (
  MDPS,
  cast,
  linear_program,
  make_case,
  numpy_tree,
  one,
  processes,
  soft_policy_iteration,
  table,
)

from varl.exact import tabular

# Fixed points


@pytest.fixture(scope="module", params=["deterministic", "terminal"])
def discounted(request):
  case = make_case(request.param, discount=0.9)
  with jax.enable_x64(True):
    run = jax.jit(jax.vmap(lambda m, c, p: tabular.soft_value_iteration(m, temperature=c, log_prior=p)))
    soft = numpy_tree(run(case.m, case.temperature, case.log_prior))
    hard = numpy_tree(jax.jit(jax.vmap(tabular.hard_value_iteration))(case.m))
  return request.param, case, soft, hard


def test_fixed_points_agree_with_newton_and_with_linear_programming(discounted):
  _, case, soft, hard = discounted
  for i in range(MDPS):
    m = one(case.m, i)
    expected = soft_policy_iteration(m, case.temperature[i], case.log_prior[i])
    np.testing.assert_allclose(soft.value[i], expected, rtol=1e-9, atol=1e-9)
    live = ~m.terminal
    q = m.reward + 0.9 * table(m) @ expected
    np.testing.assert_allclose(soft.q[i][live], q[live], rtol=1e-9, atol=1e-9)
    logits = case.log_prior[i] + q / case.temperature[i]
    log_policy = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    np.testing.assert_allclose(soft.log_policy[i][live], log_policy[live], rtol=1e-8, atol=1e-8)
    best = linear_program(m)
    np.testing.assert_allclose(hard.value[i], best, rtol=1e-7, atol=1e-7)
    greedy = np.argmax(m.reward + 0.9 * table(m) @ best, axis=1)
    np.testing.assert_array_equal(hard.policy[i][live], greedy[live])


def test_messages_over_a_long_horizon_reach_the_fixed_point_only_without_chance(discounted):
  kind, case, soft, _ = discounted
  with jax.enable_x64(True):
    run = jax.jit(
      jax.vmap(lambda m, c, p: tabular.message_passing(m, temperature=c, log_prior=p, horizon=300).value[0])
    )
    messages = np.asarray(run(case.m, case.temperature, case.log_prior))
  if kind == "deterministic":
    np.testing.assert_allclose(messages, soft.value, rtol=1e-8, atol=1e-8)
  else:
    # Optimism: never below, and well above where chance has a say.
    assert (messages >= soft.value - 1e-9).all()
    assert np.median(np.max(messages - soft.value, axis=1)) > 0.1


def test_soft_becomes_hard_as_the_temperature_falls(discounted):
  _, case, _, hard = discounted
  temperatures = np.array([1.0, 0.1, 0.01, 1e-3, 1e-4])
  with jax.enable_x64(True):
    run = jax.jit(jax.vmap(jax.vmap(lambda m, c: tabular.soft_value_iteration(m, temperature=c), (None, 0)), (0, None)))
    soft = numpy_tree(run(case.m, temperatures))
  gap = hard.value[:, None] - soft.value
  # Under a normalised uniform prior a step loses between 0 and c log A.
  assert (gap >= -1e-12).all()
  assert (gap <= (temperatures * np.log(case.m.reward.shape[-1]) / 0.1)[None, :, None] + 1e-12).all()
  ordered = np.sort(hard.q, axis=-1)
  clear = ~case.m.terminal & (ordered[..., -1] - ordered[..., -2] > 0.01)
  assert clear.mean() > 0.5
  greedy = np.eye(case.m.reward.shape[-1])[hard.policy]
  np.testing.assert_allclose(np.exp(soft.log_policy[:, -1])[clear], greedy[clear], atol=1e-9)


@partial(jax.jit, static_argnums=1)
def solve(m, last):
  return jax.vmap(lambda m: tabular.soft_value_iteration(m, temperature=0.5, max_iterations=last).value)(m)


@pytest.mark.parametrize("discount", [0.9, 0.99, 0.999])
def test_the_iteration_ends_in_float32_and_near_float64(discount):
  m, epsilon = processes(5, MDPS, 20, 3, branching=3, discount=discount), 2.0**-23
  single = cast(m, np.float32)
  value = np.asarray(solve(single, 100_000))
  # The change shrinks by γ a step, from at most max |r| to 4 epsilons of it: 14,600 steps for the slowest of these.
  np.testing.assert_array_equal(value, solve(single, 15_000))
  with jax.enable_x64(True):
    exact = np.asarray(solve(m, 100_000))
  # What is left at the end, and the rounding of each step, add up over 1/(1-γ) steps.
  scale = np.abs(exact).max(axis=1, keepdims=True)
  assert (np.abs(value - exact) <= 8 * epsilon / (1 - discount) * scale).all()


# Evaluation and visitation


@pytest.fixture(scope="module", params=["terminal", "sparse"])
def followed(request):
  """A random policy in 25 processes at γ = 0.9: its values and visits, and what plain iteration says of them."""
  case = make_case(request.param, discount=0.9)

  def run(m, c, log_prior, log_policy):
    return (
      tabular.policy_evaluation(m, log_policy),
      tabular.policy_evaluation(m, log_policy, temperature=c, log_prior=log_prior),
      tabular.visitation(m, log_policy),
    )

  with jax.enable_x64(True):
    found = numpy_tree(jax.jit(jax.vmap(run))(case.m, case.temperature, case.log_prior, case.log_policy[:, 0]))
  return case, found


def test_evaluation_and_visitation_are_those_of_plain_iteration(followed):
  case, (plain, soft, visits) = followed
  for i in range(MDPS):
    m, log_policy = one(case.m, i), case.log_policy[i, 0]
    dynamics, live, policy = table(m), ~m.terminal, np.exp(log_policy)
    cost = case.temperature[i] * np.sum(policy * (log_policy - case.log_prior[i]), axis=1)
    for found, charged in ((plain, 0.0), (soft, cost)):
      value = np.zeros(len(live))
      for _ in range(400):
        q = (m.reward + 0.9 * dynamics @ value) * live[:, None]
        value = (np.sum(policy * q, axis=1) - charged) * live
      np.testing.assert_allclose(found.value[i], value, rtol=1e-10, atol=1e-10)
      np.testing.assert_allclose(found.q[i], q, rtol=1e-10, atol=1e-10)
    step = np.where(live[:, None], np.einsum("sa,sat->st", policy, dynamics), np.eye(len(live)))
    expected = sum(0.9**t * m.initial @ np.linalg.matrix_power(step, t) for t in range(400))
    np.testing.assert_allclose(visits[i], expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(visits[i].sum(), 10.0, rtol=1e-12)
    # The same return by visits and by values.
    earned = np.sum(policy * m.reward, axis=1) * live
    np.testing.assert_allclose(visits[i] @ earned, m.initial @ plain.value[i], rtol=1e-9)


def test_the_optimal_policy_is_worth_the_optimum_and_the_divergence_is_charged():
  """One state, one step: V = Σ π r - c KL; with the unnormalised prior, plus c times the entropy."""
  m = tabular.mdp(np.ones((1, 2, 1)), [[1.0, 2.0]], discount=0.5)
  given = {"temperature": 0.5, "horizon": 1}
  log_policy = np.log([[0.25, 0.75]])
  entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
  uniform = tabular.policy_evaluation(m, log_policy, **given)
  np.testing.assert_allclose(uniform.q[0], [[1.0, 2.0]])
  np.testing.assert_allclose(uniform.value[:, 0], [1.75 - 0.5 * (np.log(2.0) - entropy), 0.0], rtol=1e-6)
  maxent = tabular.policy_evaluation(m, log_policy, log_prior=0.0, **given)
  np.testing.assert_allclose(maxent.value[0, 0], 1.75 + 0.5 * entropy, rtol=1e-6)
  # A policy that never does one thing, under a prior that never does it either: 0 log 0 = 0.
  never = tabular.policy_evaluation(m, [[0.0, -np.inf]], log_prior=[0.0, -np.inf], **given)
  np.testing.assert_allclose(never.value[0, 0], 1.0)
  optimum = tabular.soft_value_iteration(m, log_prior=0.0, **given)
  np.testing.assert_allclose(optimum.value[0, 0], 0.5 * np.log(np.exp(2.0) + np.exp(4.0)), rtol=1e-6)
  best = tabular.policy_evaluation(m, optimum.log_policy, log_prior=0.0, **given)
  np.testing.assert_allclose(best.value, optimum.value, rtol=1e-6)
  # And for ever: V = 0.5 log(e² + e⁴) / (1 - 0.5).
  forever = tabular.soft_value_iteration(m, temperature=0.5, log_prior=0.0)
  np.testing.assert_allclose(forever.value[0], np.log(np.exp(2.0) + np.exp(4.0)), rtol=1e-6)


# Derivatives and transformations


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_derivatives_of_the_fixed_point(form):
  with jax.enable_x64(True):
    m = tabular.mdp(**one(processes(3, 1, 4, 2, branching=2, terminal=1), 0)._asdict())
    m = tabular.dense(m) if form == "dense" else m

    def start_value(reward, temperature, discount):
      changed = m._replace(reward=reward, discount=discount)
      return jnp.sum(m.initial * tabular.soft_value_iteration(changed, temperature=temperature).value)

    point = (m.reward, jnp.float64(0.7), m.discount)
    value, gradient = jax.jit(jax.value_and_grad(start_value, argnums=(0, 1, 2)))(*point)
    # By central differences; the third of ±1e-5 is 1e-10 of the derivative.
    run = jax.jit(jax.vmap(start_value))
    flat = np.concatenate([np.ravel(x) for x in point])
    shifted = flat + 1e-5 * np.concatenate([np.eye(len(flat)), -np.eye(len(flat))])
    size = m.reward.size
    values = np.asarray(run(shifted[:, :size].reshape(-1, *m.reward.shape), shifted[:, size], shifted[:, size + 1]))
    differences = (values[: len(flat)] - values[len(flat) :]) / 2e-5
    np.testing.assert_allclose(np.concatenate([np.ravel(x) for x in gradient]), differences, rtol=1e-6, atol=1e-7)
    assert np.isfinite(value)

    # ∂J/∂r(s, a) = d(s) π(a|s), and nothing for a terminal state.
    log_policy = tabular.soft_value_iteration(m, temperature=0.7).log_policy
    visits = jnp.where(m.terminal, 0.0, tabular.visitation(m, log_policy))
    np.testing.assert_allclose(gradient[0], visits[:, None] * jnp.exp(log_policy), rtol=1e-9, atol=1e-12)
    forward = jax.jit(jax.jacfwd(start_value))(*point)
    np.testing.assert_allclose(forward, gradient[0], rtol=1e-9, atol=1e-12)


def test_derivatives_of_evidence_and_hard_values_are_visits():
  """∂ log p(O)/∂r = Σ_t p(s_t, a_t|O)/c;  ∂J*/∂r = the visits of the greedy policy."""
  with jax.enable_x64(True):
    m = tabular.mdp(**one(processes(4, 1, 4, 2, terminal=1, discount=1.0), 0)._asdict())
    gradient = jax.grad(lambda r: tabular.log_evidence(m._replace(reward=r), temperature=0.5, horizon=3))(m.reward)
    found = tabular.message_passing(m, temperature=0.5, horizon=3)
    pairs = jnp.exp(found.log_marginals[:-1, :, None] + found.log_policy).sum(0) / 0.5
    np.testing.assert_allclose(gradient, jnp.where(m.terminal[:, None], 0.0, pairs), rtol=1e-9)
    m = m._replace(discount=jnp.float64(0.9))
    gradient = jax.grad(lambda r: m.initial @ tabular.hard_value_iteration(m._replace(reward=r)).value)(m.reward)
    greedy = jax.nn.one_hot(tabular.hard_value_iteration(m).policy, 2, dtype=jnp.float64)
    visits = jnp.where(m.terminal, 0.0, tabular.visitation(m, jnp.log(greedy)))
    np.testing.assert_allclose(gradient, visits[:, None] * greedy, rtol=1e-9, atol=1e-12)


def test_a_second_process_is_not_traced_again():
  traces = []

  @jax.jit
  def run(m, temperature):
    traces.append(1)
    return tabular.soft_value_iteration(m, temperature=temperature).value

  first, second = (tabular.mdp(**one(processes(seed, 1, 4, 2), 0)._asdict()) for seed in (0, 1))
  jitted = run(first, 0.5)
  run(second, 0.7)
  assert len(traces) == 1
  np.testing.assert_array_equal(jitted, tabular.soft_value_iteration(first, temperature=0.5).value)
