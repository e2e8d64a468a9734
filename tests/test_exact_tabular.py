"""Finite processes against enumeration of all trajectories, plain NumPy, linear programming and numbers by hand."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from varl.exact import tabular

MDPS = 25


class Case(NamedTuple):
  """25 random processes of one shape, with a prior, a policy and a temperature each, in float64 NumPy."""

  m: tabular.MDP
  horizon: int
  temperature: np.ndarray
  log_prior: np.ndarray
  log_policy: np.ndarray


SHAPES = {  # states, actions, horizon, and what else
  "dense": (4, 3, 4, {}),
  "terminal": (4, 2, 4, {"terminal": 1}),
  "sparse": (3, 3, 3, {"branching": 2, "terminal": 1}),
  "deterministic": (4, 3, 4, {"branching": 1}),
}


def numpy_tree(tree):
  return jax.tree.map(np.asarray, tree)


def cast(tree, dtype):
  return jax.tree.map(lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, tree)


def processes(seed, n, states, actions, *, discount=0.9, branching=None, terminal=0):
  """n random processes, float64 NumPy. Rows of terminal states are random, too: nothing may look at them."""
  rng = np.random.default_rng(seed)
  shape = (n, states, actions, branching or states)
  return tabular.MDP(
    transition=rng.dirichlet(np.ones(shape[-1]), shape[:-1]),
    reward=rng.normal(size=shape[:-1]),
    initial=np.concatenate([rng.dirichlet(np.ones(states - terminal), n), np.zeros((n, terminal))], axis=1),
    discount=np.full(n, discount),
    terminal=np.tile(np.arange(states) >= states - terminal, (n, 1)),
    successor=rng.integers(states, size=shape, dtype=np.int32) if branching else None,
  )


def make_case(name, discount=1.0):
  states, actions, horizon, options = SHAPES[name]
  seed = sorted(SHAPES).index(name)
  m, rng = processes(seed, MDPS, states, actions, discount=discount, **options), np.random.default_rng(seed)
  if name == "deterministic":  # Of the first state, too.
    m = m._replace(initial=np.eye(states)[rng.integers(states, size=MDPS)])
  return Case(
    m=m,
    horizon=horizon,
    temperature=rng.uniform(0.3, 2.0, MDPS),
    log_prior=np.log(rng.dirichlet(np.ones(actions), (MDPS, states))),
    log_policy=np.log(rng.dirichlet(np.ones(actions), (MDPS, horizon, states))),
  )


@pytest.fixture(scope="module", params=sorted(SHAPES))
def case(request):
  return make_case(request.param)


# Plain NumPy, one process at a time


def one(tree, i):
  return jax.tree.map(lambda x: x[i], tree)


def table(m):
  """P(s'|s, a) `[S, A, S]`."""
  if m.successor is None:
    return m.transition
  states, actions = m.reward.shape
  dense = np.zeros((states, actions, states))
  for s in range(states):
    for a in range(actions):
      for p, t in zip(m.transition[s, a], m.successor[s, a], strict=True):
        dense[s, a, t] += p
  return dense


def all_trajectories(m, step_weight):
  """The weight of every (s_0, a_0, .., s_H), an array with 2H + 1 axes; `step_weight` `[H, S, A]` is paid at a step.

  From a terminal state there is one way on, at no charge: action 0, staying.
  """
  dynamics = table(m)
  weight = m.initial
  for now in step_weight:
    factor = now[:, :, None] * dynamics
    factor[m.terminal] = 0.0
    for s in np.flatnonzero(m.terminal):
      factor[s, 0, s] = 1.0
    weight = weight[..., None, None] * factor
  return weight


def marginal(weight, *axes):
  return weight.sum(tuple(i for i in range(weight.ndim) if i not in axes))


def enumerated(case, i):
  """Evidence, posterior marginals, policy and dynamics, and a policy's lower bound, from the trajectories alone."""
  m, c, horizon = one(case.m, i), case.temperature[i], case.horizon
  joint = all_trajectories(m, np.stack([np.exp(case.log_prior[i] + m.reward / c)] * horizon))
  chosen = all_trajectories(m, np.exp(case.log_policy[i]))
  evidence = joint.sum()
  posterior = joint / evidence
  some = chosen > 0
  with np.errstate(invalid="ignore", divide="ignore"):
    pairs = [marginal(posterior, 2 * t, 2 * t + 1) for t in range(horizon)]
    triples = [marginal(posterior, 2 * t, 2 * t + 1, 2 * t + 2) for t in range(horizon)]
    return {
      "log_evidence": np.log(evidence),
      "marginals": np.stack([marginal(posterior, 2 * t) for t in range(horizon + 1)]),
      "policy": np.stack([pair / pair.sum(-1, keepdims=True) for pair in pairs]),
      "dynamics": np.stack([triple / triple.sum(-1, keepdims=True) for triple in triples]),
      "elbo": np.sum(chosen[some] * (np.log(joint[some]) - np.log(chosen[some]))),
      "followed": np.stack([marginal(chosen, 2 * t) for t in range(horizon)]),
    }


def soft_policy_iteration(m, c, log_prior):
  """V of the soft fixed point by Newton's method: evaluation by a linear solve, then the Boltzmann policy, repeated."""
  dynamics, live = table(m), ~m.terminal
  value = np.zeros(len(live))
  for _ in range(60):
    logits = log_prior + (m.reward + m.discount * dynamics @ value) / c
    policy = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    earned = np.sum(policy * (m.reward - c * (np.log(policy) - log_prior)), axis=1) * live
    matrix = np.einsum("sa,sat->st", policy, dynamics) * live[:, None]
    value = np.linalg.solve(np.eye(len(live)) - m.discount * matrix, earned)
  return value


def linear_program(m):
  """V of the hard fixed point: the least V with V >= r + γ P V, V(terminal) = 0."""
  dynamics, live = table(m), ~m.terminal
  states = len(m.reward)
  rows = m.discount * dynamics[live] - np.eye(states)[live][:, None, :]
  bounds = [(None, None) if alive else (0, 0) for alive in live]
  found = scipy.optimize.linprog(
    np.ones(states), A_ub=rows.reshape(-1, states), b_ub=-m.reward[live].reshape(-1), bounds=bounds, method="highs"
  )
  assert found.status == 0
  return found.x


# Inference against enumeration


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


# Expectation maximisation


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
  for horizon in (0, -1, 2.0, True):
    for run in (
      soft,
      partial(tabular.message_passing, temperature=1.0),
      tabular.hard_value_iteration,
      partial(tabular.visitation, log_policy=uniform),
      partial(tabular.policy_evaluation, log_policy=uniform),
    ):
      with pytest.raises(ValueError, match="horizon must be an integer of at least 1"):
        run(m, horizon=horizon)
  with pytest.raises(ValueError, match="need a horizon"):
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
  with pytest.raises(ValueError, match="iterations must be"):
    em(m, iterations=0)
  for build, message in (
    (lambda: tabular.random_mdp(jax.random.key(0), 0, 2), "states >= 1"),
    (lambda: tabular.random_mdp(jax.random.key(0), 2, 2, branching=0), "branching >= 1"),
    (lambda: tabular.random_mdp(jax.random.key(0), 2, 2, terminal=2), "terminal < states"),
    (lambda: tabular.chain(1), "length must be at least 2"),
    (lambda: tabular.gridworld(["SG", "."]), "rows of equal length"),
    (lambda: tabular.gridworld(["SX"]), "made of"),
    (lambda: tabular.gridworld(["..G"]), "needs a start"),
    (lambda: tabular.gridworld(1), "at least two cells"),
    (lambda: tabular.gridworld(3, slip=1.5), "slip must be in"),
    (lambda: tabular.lottery(chance=1.5), "chance must be in"),
  ):
    with pytest.raises(ValueError, match=message):
      build()
