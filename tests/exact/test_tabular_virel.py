"""Exact VIREL: hand-worked numbers, loops, finite differences in float64, and fifty random problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.exact import tabular, virel

STATES, ACTIONS, COUNT, GAMMA = 6, 3, 50, 0.9


def random_mdp(key):
  return tabular.random_mdp(key, STATES, ACTIONS, discount=GAMMA)


@pytest.fixture(scope="module")
def problems():
  """Fifty random MDPs, stacked."""
  return jax.jit(jax.vmap(random_mdp))(jax.random.split(jax.random.key(0), COUNT))


@pytest.fixture(scope="module")
def solutions(problems):
  return jax.jit(jax.vmap(tabular.hard_value_iteration))(problems)


def loop(reward, *, discount=0.5):
  """One state, one action, and back."""
  return tabular.mdp([[[1.0]]], [[reward]], discount=discount)


def ending():
  """Two states to act in, and an end. 0: stay for 1, or move on for 0. 1: end for 4, or for 2, or return to 0 for 0."""
  transition = np.zeros((3, 3, 3))
  transition[0, 0, 0] = transition[0, 1, 1] = transition[0, 2, 1] = 1
  transition[1, 0, 2] = transition[1, 1, 2] = transition[1, 2, 0] = 1
  transition[2, :, 2] = 1
  reward = [[1.0, 0.0, 0.0], [4.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
  return tabular.mdp(transition, reward, discount=0.5, terminal=[False, False, True])


# The Boltzmann policy


def test_boltzmann_by_hand():
  q = jnp.array([[0.0, 2 * np.log(3)], [5.0, 5.0]])
  np.testing.assert_allclose(jnp.exp(virel.boltzmann(q, 2.0)), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)
  np.testing.assert_allclose(
    jnp.exp(virel.boltzmann(q, jnp.array([[1.0], [2.0]]))), [[0.1, 0.9], [0.5, 0.5]], rtol=1e-6
  )


def test_boltzmann_at_zero_is_greedy_and_shares_ties():
  q = jnp.array([[1.0, 3.0, 2.0], [4.0, -1.0, 4.0]])
  log_policy = virel.boltzmann(q, 0.0)
  np.testing.assert_array_equal(jnp.exp(log_policy), [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
  assert jnp.isfinite(log_policy).all()


@pytest.mark.parametrize("wide", [False, True])
def test_boltzmann_is_finite_at_every_temperature(wide):
  with jax.enable_x64(wide):
    q = jnp.array([[-1e30, 0.0, 1.0, 1.0], [3e4, 3e4 - 1, 0.0, -3e4], [0.0, 0.0, 0.0, 0.0]])
    policy = jax.jit(virel.boltzmann)
    gradient = jax.jit(jax.grad(lambda q, epsilon: jnp.sum(jnp.exp(virel.boltzmann(q, epsilon))[:, 0])))
    # Among them numbers below the least normal one, which some devices flush to 0 in a division.
    for epsilon in (0.0, 5e-324, 1e-320, 1e-310, 1e-45, 1e-40, 1e-38, 1e-20, 1e-3, 1.0, 1e30):
      log_policy = policy(q, epsilon)
      assert log_policy.dtype == (jnp.float64 if wide else jnp.float32)
      assert jnp.isfinite(log_policy).all()
      assert jnp.isfinite(jnp.exp(log_policy) * log_policy).all()
      np.testing.assert_allclose(jnp.exp(log_policy).sum(-1), 1.0, rtol=1e-6)
      assert jnp.isfinite(gradient(q, epsilon)).all()


# The residual


def test_residual_by_hand():
  # T q = 1 + ½ 1 = 1.5, and Q* = 2.
  np.testing.assert_allclose(virel.residual(loop(1.0), jnp.array([[1.0]]), scale=0.1), 0.025, rtol=1e-6)
  np.testing.assert_allclose(virel.residual(loop(1.0), jnp.array([[2.0]])), 0.0, atol=1e-12)


def test_residual_by_loops():
  """T*, T^π, the weights and the end, term by term; what the table says of the end is not read."""
  m = ending()
  q = np.array([[0.5, 1.0, -1.0], [2.0, 0.0, 1.0], [np.nan, np.nan, np.nan]])
  policy = np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3], [1 / 3, 1 / 3, 1 / 3]])
  weight = np.array([[0.1, 0.2, 0.3], [0.15, 0.15, 0.1], [0.0, 0.0, 0.0]])
  follows = [[0, 1, 1], [2, 2, 0]]
  for log_policy in (None, np.log(policy)):
    errors = np.zeros((2, 3))
    for s in range(2):
      for a in range(3):
        after = follows[s][a]
        value = 0.0 if after == 2 else (q[after].max() if log_policy is None else policy[after] @ q[after])
        errors[s, a] = float(m.reward[s, a]) + 0.5 * value - q[s, a]
    chosen = None if log_policy is None else jnp.asarray(log_policy)
    even = virel.residual(m, jnp.asarray(q), log_policy=chosen, scale=3.0)
    np.testing.assert_allclose(even, 3.0 * np.mean(errors**2), rtol=1e-5)
    weighted = virel.residual(m, jnp.asarray(q), log_policy=chosen, weight=weight)
    np.testing.assert_allclose(weighted, np.sum(weight[:2] * errors**2), rtol=1e-5)


def test_the_residual_is_zero_exactly_at_the_optimal_value(problems, solutions):
  """(min w / c)^½ (1 - γ) |Q - Q*| <= ε^½ from the contraction of T*; and ε = 0 at Q* but for rounding."""
  residual = jax.jit(jax.vmap(virel.residual))
  # Value iteration stops within some 8 units in the last place of values around 10.
  np.testing.assert_array_less(residual(problems, solutions.q), 1e-9)
  for distance in (1e-2, 1.0, 10.0):
    noise = distance * np.random.default_rng(0).normal(size=solutions.q.shape).astype(np.float32)
    epsilon = residual(problems, solutions.q + noise)
    least = np.square((1 - GAMMA) * np.abs(noise).max((1, 2))) / (STATES * ACTIONS)
    assert (np.asarray(epsilon) > 0.999 * least).all()


def test_at_zero_temperature_the_operators_agree(problems):
  q = np.random.default_rng(1).normal(size=problems.reward.shape).astype(np.float32)
  optimal = jax.jit(jax.vmap(virel.residual))(problems, q)
  greedy = jax.jit(jax.vmap(lambda m, q: virel.residual(m, q, log_policy=virel.boltzmann(q, 0.0))))(problems, q)
  np.testing.assert_allclose(greedy, optimal, rtol=1e-6)


@pytest.fixture(scope="module")
def self_consistent():
  """(m, q, scale) -> the residual, and R(share ε) - share ε at 200 shares below 1 and at 1."""
  shares = np.append(np.linspace(0.0, 0.999, 200), 1.0).astype(np.float32)

  def solve(m, q, scale):
    epsilon = virel.boltzmann_residual(m, q, scale=scale)

    def excess(share):
      policy = virel.boltzmann(q, share * epsilon)
      return virel.residual(m, q, scale=scale, log_policy=policy) - share * epsilon

    return epsilon, jax.vmap(excess)(shares)

  return jax.jit(jax.vmap(solve, in_axes=(0, 0, None)))


@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0])
def test_the_boltzmann_residual_solves_its_own_equation(problems, solutions, self_consistent, scale):
  q = 3.0 * np.random.default_rng(2).normal(size=problems.reward.shape).astype(np.float32)
  epsilon, excess = self_consistent(problems, q, scale)
  assert (epsilon > 0).all()
  np.testing.assert_allclose(excess[:, -1] / epsilon, 0.0, atol=1e-5)
  # It is the least solution: below it the residual is larger than the temperature.
  assert (excess[:, :-1] > 0).all()
  np.testing.assert_array_less(self_consistent(problems, solutions.q, scale)[0], 1e-6 * epsilon)


# The two steps


@pytest.fixture(scope="module")
def point():
  """A problem, a table, a policy, and a distribution over states, in float64: to be used under `enable_x64`."""
  rng = np.random.default_rng(0)
  transition = rng.dirichlet(np.ones(4), size=(4, 3))
  log_policy = np.log(rng.dirichlet(np.ones(3), size=4))
  return transition, rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), log_policy, rng.dirichlet(np.ones(4))


def slopes(function, table, size=1e-6):
  """∂f/∂table by central differences."""
  basis = size * np.eye(table.size).reshape(-1, *table.shape)
  values = jax.jit(jax.vmap(function))(np.concatenate([table + basis, table - basis]))
  return (np.asarray(values[: table.size]) - np.asarray(values[table.size :])).reshape(table.shape) / (2 * size)


def test_the_lower_bound_by_hand():
  # ½ [(½ 2 + ½ 4)/2 + log 2] + ½ [1/2 + 0]
  q, weight = jnp.array([[2.0, 4.0], [1.0, 7.0]]), jnp.array([0.5, 0.5])
  log_policy = jnp.concatenate([jnp.log(jnp.array([[0.5, 0.5]])), virel.boltzmann(jnp.array([[1.0, 0.0]]), 0.0)])
  np.testing.assert_allclose(virel.lower_bound(q, 2.0, log_policy, weight=weight), 1.0 + np.log(2) / 2, rtol=1e-6)


def test_the_lower_bound_is_short_of_the_partition_function_by_the_divergence(point):
  with jax.enable_x64(True):
    _, _, q, log_policy, weight = point
    target = q / 0.7 - np.log(np.exp(q / 0.7).sum(-1, keepdims=True))
    divergence = weight @ np.sum(np.exp(log_policy) * (log_policy - target), axis=-1)
    partition, bound = jax.jit(virel.log_partition), jax.jit(virel.lower_bound)
    whole = partition(q, 0.7, weight=weight)
    np.testing.assert_allclose(whole, weight @ np.log(np.exp(q / 0.7).sum(-1)), rtol=1e-12)
    np.testing.assert_allclose(whole - bound(q, 0.7, log_policy, weight=weight), divergence, rtol=1e-11)
    tight = bound(q, 0.7, jax.jit(virel.boltzmann)(q, 0.7), weight=weight)
    np.testing.assert_allclose(tight, whole, rtol=1e-12)


def test_the_gradient_of_the_e_step(point):
  with jax.enable_x64(True):
    _, _, q, logits, weight = point
    epsilon = 0.3

    def bound(theta):
      return virel.lower_bound(q, epsilon, jax.nn.log_softmax(theta), weight=weight)

    for theta in (logits, 5.0 * logits + 1.0):
      gradient = virel.e_step_gradient(q, epsilon, jax.nn.log_softmax(theta), weight=weight)
      np.testing.assert_allclose(gradient, epsilon * slopes(bound, theta), atol=1e-8)
      assert np.abs(gradient).max() > 1e-3
    optimum = virel.e_step_gradient(q, epsilon, virel.boltzmann(q, epsilon), weight=weight)
    np.testing.assert_allclose(optimum, 0.0, atol=1e-14)
    # At ε = 0 it is the gradient of E_π[Q].
    still = virel.e_step_gradient(q, 0.0, logits, weight=weight)
    value = slopes(lambda theta: jnp.sum(weight * jnp.sum(jax.nn.softmax(theta) * q, axis=-1)), logits)
    np.testing.assert_allclose(still, value, atol=1e-8)


@pytest.mark.parametrize("operator", ["optimal", "actor"])
def test_the_gradient_of_the_m_step(point, operator):
  with jax.enable_x64(True):
    transition, reward, q, log_policy, weight = point
    m = tabular.mdp(transition, reward, discount=0.8)

    def error(q):
      return virel.residual(m, q, scale=0.2, log_policy=None if operator == "optimal" else log_policy)

    def bound(q):
      return virel.lower_bound(q, error(q), log_policy, weight=weight)

    gradient = jax.jit(lambda q: virel.m_step_gradient(q, log_policy, weight=weight, error=error))(q)
    epsilon = float(jax.jit(error)(q))
    np.testing.assert_allclose(gradient, epsilon**2 * slopes(bound, q), rtol=1e-6, atol=1e-8)
    # The first term, the second, and no other.
    mass = weight[:, None] * np.exp(log_policy)
    np.testing.assert_allclose(gradient, epsilon * mass - np.sum(mass * q) * slopes(error, q), atol=1e-8)


def test_under_the_exact_e_step_the_m_step_climbs_the_partition_function(point):
  with jax.enable_x64(True):
    transition, reward, q, _, weight = point
    m = tabular.mdp(transition, reward, discount=0.8)

    def error(q):
      return virel.residual(m, q, scale=0.2)

    def climb(q):
      return virel.m_step_gradient(q, virel.boltzmann(q, error(q)), weight=weight, error=error)

    whole = slopes(lambda q: virel.log_partition(q, error(q), weight=weight), q)
    np.testing.assert_allclose(jax.jit(climb)(q), float(error(q)) ** 2 * whole, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shift", [-20.0, 20.0])
def test_the_m_step_lowers_the_residual_where_values_are_positive(point, shift):
  """A shift of all rewards by (1 - γ) x shifts values by x and leaves the residual alone, not so the direction."""
  with jax.enable_x64(True):
    transition, reward, q, log_policy, weight = point
    m = tabular.mdp(transition, reward + 0.2 * shift, discount=0.8)

    def error(q):
      return virel.residual(m, q, scale=0.2)

    def change(q):
      return jnp.sum(virel.m_step_gradient(q, log_policy, weight=weight, error=error) * jax.grad(error)(q))

    assert float(jax.jit(change)(q + shift)) * shift < 0


# EM


def em(**options):
  return jax.jit(jax.vmap(lambda m: virel.expectation_maximisation(m, **options)))


def best(problems, solutions):
  return np.sum(np.asarray(problems.initial * solutions.value), axis=1)


@pytest.mark.parametrize("operator", ["optimal", "boltzmann"])
@pytest.mark.parametrize(
  ("m_step", "iterations", "step"), [("evaluation", 12, 1.0), ("backup", 200, 1.0), ("optimal", 250, 0.8)]
)
def test_em_ends_at_the_optimal_deterministic_policy(problems, solutions, operator, m_step, iterations, step):
  history = em(iterations=iterations, m_step=m_step, operator=operator, step=step)(problems)
  assert history.q.shape == (COUNT, iterations + 1, STATES, ACTIONS)
  assert history.expected_return.shape == history.epsilon.shape == (COUNT, iterations + 1)
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(history))
  # The rows: from Q = 0, whose residual under either operator is the mean square of the rewards.
  np.testing.assert_array_equal(history.q[:, 0], 0.0)
  np.testing.assert_allclose(history.epsilon[:, 0], 0.1 * np.mean(np.square(problems.reward), (1, 2)), rtol=1e-5)
  # ε → 0, the policy is deterministic and optimal, and so is its return.
  np.testing.assert_array_less(history.epsilon[:, -1], 1e-9)
  np.testing.assert_allclose(history.q[:, -1], solutions.q, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(np.argmax(history.log_policy[:, -1], axis=-1), solutions.policy)
  assert np.exp(history.log_policy[:, -1]).max(-1).min() > 0.999
  np.testing.assert_allclose(history.expected_return[:, -1], best(problems, solutions), rtol=1e-4)
  # It had something to learn.
  assert (history.expected_return[:, 0] < best(problems, solutions) - 0.1).all()


def test_evaluation_ends_faster_than_geometrically(problems):
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64 if x.dtype == np.float32 else x.dtype), problems)
    epsilon = np.asarray(em(iterations=10, scale=0.01)(wide).epsilon)
    assert epsilon.dtype == np.float64
  ratio = epsilon[:, 1:] / np.maximum(epsilon[:, :-1], 1e-300)
  assert (epsilon[:, -1] < 1e-24).all()
  # Until rounding is reached, each step shrinks ε by more than the one before.
  moving = (epsilon[:, 2:] > 1e-20) & (epsilon[:, 1:-1] > 1e-20)
  assert (ratio[:, 1:] < ratio[:, :-1])[moving].mean() > 0.8


def test_a_temperature_too_large_feeds_itself(problems, solutions):
  """Where the policy is in the target, a large scale keeps ε up and the policy random; with T* it cannot."""
  ends = {m_step: em(iterations=250, m_step=m_step, scale=100.0)(problems) for m_step in ("evaluation", "optimal")}
  stuck, free = ends["evaluation"], ends["optimal"]
  assert (stuck.epsilon[:, -1] > 1.0).all()
  np.testing.assert_allclose(stuck.epsilon[:, -1], stuck.epsilon[:, -2], rtol=1e-3)
  assert (stuck.expected_return[:, -1] < best(problems, solutions) - 0.1).all()
  np.testing.assert_array_less(free.epsilon[:, -1], 1e-6)
  np.testing.assert_array_equal(np.argmax(free.log_policy[:, -1], axis=-1), solutions.policy)


def test_one_iteration_by_hand():
  m = ending()
  history = virel.expectation_maximisation(m, iterations=1, scale=0.5, step=0.5, m_step="optimal")
  # From Q = 0 the target is the reward, ε = ½ (1 + 16 + 4)/6, and the policy is uniform: V = (1/2 + 1)... solved below.
  np.testing.assert_allclose(history.epsilon[0], 0.5 * 21 / 6, rtol=1e-6)
  np.testing.assert_allclose(history.q[1], 0.5 * np.asarray(m.reward), rtol=1e-6)
  # V₀ = ⅓ (1 + ½ V₀) + ⅔ ½ V₁ and V₁ = ⅓ (4 + 2 + ½ V₀)
  value = np.linalg.solve([[5 / 6, -1 / 3], [-1 / 6, 1.0]], [1 / 3, 2.0])
  np.testing.assert_allclose(history.expected_return[0], value.mean(), rtol=1e-6)


def test_a_horizon_serves_problems_that_end():
  m = ending()
  # Undiscounted and without the way back: two steps at most from the first state if it moves on.
  transition = m.transition.at[0, 0].set(jnp.array([0.0, 1.0, 0.0])).at[1, 2].set(jnp.array([0.0, 0.0, 1.0]))
  m = tabular.mdp(transition, m.reward, discount=1.0, initial=[1.0, 0.0, 0.0], terminal=m.terminal)
  history = virel.expectation_maximisation(m, iterations=8, horizon=2)
  np.testing.assert_allclose(history.q[-1, :2], [[5.0, 4.0, 4.0], [4.0, 2.0, 0.0]], rtol=1e-5)
  np.testing.assert_allclose(history.expected_return[-1], 5.0, rtol=1e-5)
  with pytest.raises(ValueError, match="discount"):
    virel.expectation_maximisation(m, iterations=8)


def test_em_starts_where_it_is_told(problems):
  m = jax.tree.map(lambda x: x[0], problems)
  start = jnp.arange(STATES * ACTIONS, dtype=jnp.float32).reshape(STATES, ACTIONS)
  history = virel.expectation_maximisation(m, iterations=0, q=start, scale=0.3)
  np.testing.assert_array_equal(history.q, start[None])
  np.testing.assert_allclose(history.epsilon[0], virel.residual(m, start, scale=0.3), rtol=1e-6)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"operator": "soft"}, "operator is one of .*'optimal', 'boltzmann'.*got 'soft'"),
    ({"m_step": "gradient"}, "m_step is one of .*'evaluation', 'backup', 'optimal'.*got 'gradient'"),
    ({"iterations": -1}, "iterations is a whole number >= 0, got -1"),
  ],
)
def test_bad_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    virel.expectation_maximisation(loop(1.0), **({"iterations": 1} | options))
