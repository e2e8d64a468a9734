"""Linear-quadratic control: hand-worked numbers, quadrature, SciPy, simulation and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from varl.envs import toys
from varl.exact import linear_quadratic as lq

STATES, ACTIONS, PROBLEMS = 3, 2, 32
ALPHA = 0.3


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def scalar(a=1.0, b=1.0, q=1.0, r=1.0, w=0.3, discount=0.5):
  return lq.linear_quadratic([[a]], [[b]], [[q]], [[r]], noise_covariance=[[w]], discount=discount)


def float32(tree):
  return jax.tree.map(lambda x: x.astype(np.float32), tree)


@pytest.fixture(scope="module")
def solvers():
  """The solvers mapped over a batch of problems and compiled once: soft, hard, kl, evaluate, evaluate under a prior."""

  def kl(problem, alpha, gain, covariance):
    return lq.kl_regularised(problem, temperature=alpha, prior_gain=gain, prior_covariance=covariance)

  def evaluate(problem, gain, covariance, alpha):
    return lq.evaluate(problem, gain, covariance, temperature=alpha)

  def under_prior(problem, gain, covariance, alpha, prior_gain, prior_covariance):
    prior = {"prior_gain": prior_gain, "prior_covariance": prior_covariance}
    return lq.evaluate(problem, gain, covariance, temperature=alpha, **prior)

  return {
    "soft": jax.jit(jax.vmap(lambda problem, alpha: lq.soft(problem, temperature=alpha), (0, None))),
    "hard": jax.jit(jax.vmap(lq.hard)),
    "kl": jax.jit(jax.vmap(kl, (0, None, 0, 0))),
    "evaluate": jax.jit(jax.vmap(evaluate, (0, 0, 0, None))),
    "under_prior": jax.jit(jax.vmap(under_prior, (0, 0, 0, None, 0, 0))),
  }


@pytest.fixture(scope="module")
def problems():
  """Random problems, their A scaled by 1.3 so that many are unstable; fields `[PROBLEMS, ...]`."""
  with jax.enable_x64(True):
    draw = jax.jit(jax.vmap(lambda key: lq.random(key, STATES, ACTIONS, discount=0.95, noise=0.3)))
    batch = draw(jax.random.split(jax.random.key(0), PROBLEMS))
    return batch._replace(A=1.3 * batch.A)


@pytest.fixture(scope="module")
def priors():
  """A prior's gain and covariance for each problem."""
  rng = np.random.default_rng(1)
  root = rng.normal(size=(PROBLEMS, ACTIONS, ACTIONS))
  return rng.normal(size=(PROBLEMS, ACTIONS, STATES)), 0.3 * root @ root.mT + 0.05 * np.eye(ACTIONS)


# By hand


def test_without_control_the_value_is_a_geometric_series():
  """P = q / (1 - γ a²), K = 0, Σ = α / 2r; c = [γPw - (α/2) log(πα/r)] / (1 - γ)."""
  problem = scalar(a=0.5, b=0.0, q=2.0, r=4.0, w=0.1, discount=0.8)
  solution = lq.soft(problem, temperature=0.2)
  np.testing.assert_allclose(solution.P, [[2.5]], rtol=1e-14)
  np.testing.assert_allclose(solution.gain, [[0.0]], atol=1e-15)
  np.testing.assert_allclose(solution.covariance, [[0.025]], rtol=1e-14)
  np.testing.assert_allclose(solution.constant, 1.0 - 0.5 * np.log(0.05 * np.pi), rtol=1e-14)


def test_a_scalar_regulator_by_hand():
  """a = b = r = 1, γ = ½: P = q + P/(2 + P), so q = 3/2 gives P = 2, H = 2, K = ½."""
  problem = scalar(q=1.5)
  solution = lq.soft(problem, temperature=0.4)
  for name, exact in (("P", 2.0), ("H", 2.0), ("gain", 0.5), ("covariance", 0.1)):
    np.testing.assert_allclose(getattr(solution, name), [[exact]], rtol=1e-14, err_msg=name)
  # c = [γPw - α (½ log πα - ½ log H)] / (1 - γ)
  np.testing.assert_allclose(solution.constant, 0.6 - 0.4 * np.log(0.2 * np.pi), rtol=1e-14)
  regulator = lq.hard(problem)
  for name, exact in (("P", 2.0), ("H", 2.0), ("gain", 0.5), ("covariance", 0.0), ("constant", 0.6)):
    np.testing.assert_allclose(np.squeeze(getattr(regulator, name)), exact, rtol=1e-14, err_msg=name)
  # V(1) = -P - c; Q(1, 2) = -(1.5 + 4) + ½ (-2·(1 + 2)² - 2·0.3 - 0.6).
  np.testing.assert_allclose(lq.value(regulator, jnp.ones(1)), -2.6, rtol=1e-14)
  np.testing.assert_allclose(lq.q(problem, regulator, jnp.ones(1), jnp.full(1, 2.0)), -15.1, rtol=1e-14)


def test_a_scalar_posterior_by_hand():
  """With K_p = 1 and M = α/2Σ_p = 1: H = 2 + P/2, G = 1 + P/2, P = q + 1 + P/2 - G²/H; q = 4/3 gives P = 2."""
  problem = scalar(q=4 / 3)
  solution = lq.kl_regularised(problem, temperature=0.4, prior_gain=[[1.0]], prior_covariance=[[0.2]])
  for name, exact in (("P", 2.0), ("H", 3.0), ("gain", 2 / 3), ("covariance", 0.2 / 3)):
    np.testing.assert_allclose(getattr(solution, name), [[exact]], rtol=1e-14, err_msg=name)
  np.testing.assert_allclose(solution.constant, 0.6 + 0.4 * np.log(3.0), rtol=1e-14)


def test_the_value_of_a_scalar_policy_by_hand():
  """A - BK = ½, γ = ½: P = (1 + ¼)/(1 - ⅛) = 10/7, c = [½P·0.3 + (1 + ½P)·Σ] / ½ without temperature."""
  plain = lq.evaluate(scalar(), [[0.5]], [[0.2]])
  np.testing.assert_allclose(plain.P, [[10 / 7]], rtol=1e-14)
  np.testing.assert_allclose(plain.constant, 0.3 * 10 / 7 + 0.4 * 12 / 7, rtol=1e-14)
  # An entropy of ½ log(2πe Σ) a step, and a divergence of ½ (Σ/Σ_p + (k - k_p)² s²/Σ_p - 1 + log(Σ_p/Σ)).
  entropy = 0.5 * np.log(2 * np.pi * np.e * 0.2)
  regularised = lq.evaluate(scalar(), [[0.5]], [[0.2]], temperature=0.4)
  np.testing.assert_allclose(regularised.constant, plain.constant - 0.8 * entropy, rtol=1e-14)
  posterior = lq.evaluate(scalar(), [[0.5]], [[0.2]], temperature=0.4, prior_gain=[[1.0]], prior_covariance=[[0.1]])
  P = (1.25 + 0.4 * 0.5 * 0.25 / 0.1) * 8 / 7
  np.testing.assert_allclose(posterior.P, [[P]], rtol=1e-14)
  np.testing.assert_allclose(
    posterior.constant, 0.3 * P + 0.4 * (1 + 0.5 * P) + 0.4 * (2 - 1 + np.log(0.5)), rtol=1e-14
  )
  silent = lq.evaluate(scalar(), [[0.5]], [[0.0]])
  np.testing.assert_allclose(silent.constant, 0.3 * 10 / 7, rtol=1e-14)


# The Bellman equation


def log_normal(x, mean, variance):
  return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))


@pytest.mark.parametrize("prior", [None, (0.7, 0.5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bellman_equation_by_quadrature(seed, prior):
  """V(s) = α log ∫ p(a|s) exp((r + γ E[V(s')])/α) da on a grid, s' by Gauss-Hermite; p = 1 is MaxEnt's."""
  a, b, q, r, w, alpha = np.random.default_rng(seed).uniform(
    [0.8, 0.3, 0.5, 0.2, 0.05, 0.1], [1.4, 1.2, 2, 1, 0.5, 0.8]
  )
  problem, gamma = scalar(a, b, q, r, w, 0.9), 0.9
  if prior is None:
    solution = lq.soft(problem, temperature=alpha)
  else:
    solution = lq.kl_regularised(problem, temperature=alpha, prior_gain=[[prior[0]]], prior_covariance=[[prior[1]]])
  P, K, variance, c = (np.asarray(x).item() for x in solution[:4])
  nodes, weights = np.polynomial.hermite_e.hermegauss(8)
  weights = weights / weights.sum()
  states = np.linspace(-2.0, 2.0, 5)[:, None]
  actions = -K * states + np.sqrt(variance) * np.linspace(-14.0, 14.0, 4001)
  following = (a * states + b * actions)[..., None] + np.sqrt(w) * nodes
  values = -P * following**2 - c
  exponent = (-q * states**2 - r * actions**2 + gamma * values @ weights) / alpha
  if prior is not None:
    exponent += log_normal(actions, -prior[0] * states, prior[1])
  peak = exponent.max(axis=1, keepdims=True)
  density = np.exp(exponent - peak)
  step = np.diff(actions, axis=1)[:, :1]
  mass = (density * step).sum(axis=1)
  np.testing.assert_allclose(-P * states[:, 0] ** 2 - c, alpha * (np.log(mass) + peak[:, 0]), rtol=1e-9, atol=1e-9)
  # The posterior itself is the normalised integrand, and `q` is its exponent without the prior.
  posterior = density / mass[:, None]
  np.testing.assert_allclose(np.exp(lq.log_prob(solution, states[:, None], actions[..., None])), posterior, atol=1e-9)
  regularisation = 0.0 if prior is None else alpha * log_normal(actions, -prior[0] * states, prior[1])
  ours = lq.q(problem, solution, states[:, None], actions[..., None])
  np.testing.assert_allclose(ours, alpha * exponent - regularisation, rtol=1e-9, atol=1e-9)


def test_q_minus_v_is_the_log_policy_in_every_dimension(problems, priors, solvers):
  rng = np.random.default_rng(2)
  states, actions = rng.normal(size=(PROBLEMS, 7, STATES)), rng.normal(size=(PROBLEMS, 7, ACTIONS))

  @jax.jit
  @jax.vmap
  def gap(problem, solution, state, action):
    advantage = lq.q(problem, solution, state, action) - lq.value(solution, state)
    return advantage, lq.log_prob(solution, state, action)

  advantage, log_policy = gap(problems, solvers["soft"](problems, ALPHA), states, actions)
  np.testing.assert_allclose(advantage, ALPHA * log_policy, rtol=1e-9, atol=1e-9)
  advantage, log_policy = gap(problems, solvers["kl"](problems, ALPHA, *priors), states, actions)
  gain, covariance = priors
  deviation = actions + np.einsum("pdn,psn->psd", gain, states)
  distance = np.einsum("psd,pde,pse->ps", deviation, np.linalg.inv(covariance), deviation)
  log_prior = -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1][:, None])
  np.testing.assert_allclose(advantage, ALPHA * (log_policy - log_prior), rtol=1e-9, atol=1e-9)


def test_the_hard_solution_is_scipys(problems, solvers):
  solution = solvers["hard"](problems)
  spread = np.abs(np.linalg.eigvals(problems.A)).max(axis=-1)
  assert (spread > 1.03).sum() > PROBLEMS / 2  # 1 / sqrt(0.95) is 1.026: most are unstable, discounted or not
  for i in range(PROBLEMS):
    A, B, Q, R, W, gamma = (np.asarray(x[i]) for x in problems)
    P = solve_discrete_are(np.sqrt(gamma) * A, np.sqrt(gamma) * B, Q, R)
    np.testing.assert_allclose(solution.P[i], P, rtol=1e-8)
    gain = np.linalg.solve(R + gamma * B.T @ P @ B, gamma * B.T @ P @ A)
    np.testing.assert_allclose(solution.gain[i], gain, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solution.constant[i], gamma * np.trace(P @ W) / (1 - gamma), rtol=1e-8)


# Policy evaluation


def test_the_value_of_a_policy_is_the_sum_of_its_rewards(problems, priors, solvers):
  """By carrying the second moments of the state forward, 1000 steps, from one start in each problem."""
  rng = np.random.default_rng(3)
  A, B, Q, R, W, discount = map(np.asarray, problems)
  K = np.asarray(solvers["hard"](problems).gain) + 0.01 * rng.normal(size=(PROBLEMS, ACTIONS, STATES))
  root = rng.normal(size=(PROBLEMS, ACTIONS, ACTIONS))
  spread, (K_p, spread_p) = root @ root.mT + 0.1 * np.eye(ACTIONS), priors
  start = rng.normal(size=(PROBLEMS, STATES))
  closed, apart, metric = A - B @ K, K - K_p, np.linalg.inv(spread_p)

  def trace(x):
    return np.trace(x, axis1=1, axis2=2)

  moment, plain, divergence = start[:, :, None] * start[:, None, :], 0.0, 0.0
  entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * spread)[1] / (1 - discount)
  volumes = np.linalg.slogdet(spread_p)[1] - np.linalg.slogdet(spread)[1]
  for t in range(1000):
    plain -= discount**t * (trace(Q @ moment) + trace(R @ (K @ moment @ K.mT + spread)))
    squares = trace(metric @ (spread + apart @ moment @ apart.mT))
    divergence += discount**t * 0.5 * (squares - ACTIONS + volumes)
    moment = closed @ moment @ closed.mT + B @ spread @ B.mT + W
  assert discount[0] ** 1000 * np.abs(moment).max() < 1e-12
  for evaluation, exact in (
    (solvers["evaluate"](problems, K, spread, 0.0), plain),
    (solvers["evaluate"](problems, K, spread, ALPHA), plain + ALPHA * entropy),
    (solvers["under_prior"](problems, K, spread, ALPHA, K_p, spread_p), plain - ALPHA * divergence),
  ):
    np.testing.assert_allclose(jax.vmap(lq.value)(evaluation, start), exact, rtol=1e-9)


def test_solutions_have_the_value_of_their_own_policy(problems, priors, solvers):
  soft, hard, kl = solvers["soft"](problems, ALPHA), solvers["hard"](problems), solvers["kl"](problems, ALPHA, *priors)
  evaluate, under_prior = solvers["evaluate"], solvers["under_prior"]
  for solution, evaluation in (
    (soft, evaluate(problems, soft.gain, soft.covariance, ALPHA)),
    (hard, evaluate(problems, hard.gain, hard.covariance, 0.0)),
    (kl, under_prior(problems, kl.gain, kl.covariance, ALPHA, *priors)),
  ):
    np.testing.assert_allclose(evaluation.P, solution.P, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(evaluation.constant, solution.constant, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["soft", "kl"])
def test_every_other_policy_is_worth_less(kind, problems, priors, solvers):
  """Expected value over s ~ N(0, I), from -tr P - c, under changes of gain and of covariance, small and large."""
  more = () if kind == "soft" else priors
  best = solvers[kind](problems, ALPHA, *more)
  evaluate = solvers["evaluate" if kind == "soft" else "under_prior"]

  def worth(gain, covariance):
    evaluation = evaluate(problems, gain, covariance, ALPHA, *more)
    return -np.trace(evaluation.P, axis1=1, axis2=2) - evaluation.constant

  rng, top = np.random.default_rng(4), worth(best.gain, best.covariance)
  for size in (1e-3, 1e-1):
    lower = worth(best.gain + size * rng.normal(size=best.gain.shape), best.covariance)
    assert (np.isnan(lower) | (lower < top)).all()  # NaN: the change has made the policy's value infinite
    assert (lower < top).any()
    twist = np.eye(ACTIONS) + size * rng.normal(size=best.covariance.shape)
    assert (worth(best.gain, twist @ best.covariance @ twist.mT) < top).all()


def test_the_return_of_the_exact_policy_in_simulation():
  """4000 episodes of 150 steps in the environment, from a fixed state; what is left out is 0.9^150 = 1e-7."""
  with jax.enable_x64(False):
    env = toys.LinearQuadratic(noise=0.3)
    problem, start = env.problem(0.9), jnp.array([1.0, -0.5])

    def episode(solution, root, key):
      reset_key, key = jax.random.split(key)
      state = env.reset(jax.random.key_data(reset_key)).replace(obs=start)

      def step(state, key):
        action = -solution.gain @ state.obs + root @ jax.random.normal(key, (1,))
        log_prob = lq.log_prob(solution, state.obs, action)
        state = env.step(state, action)
        return state, (state.reward, log_prob)

      return jax.lax.scan(step, state, jax.random.split(key, 150))[1]

    @jax.jit
    def simulate(key):
      solution = lq.soft(problem, temperature=ALPHA)
      evaluation = lq.evaluate(problem, solution.gain, solution.covariance)
      run = jax.vmap(episode, (None, None, 0))
      outcome = run(solution, jnp.linalg.cholesky(solution.covariance), jax.random.split(key, 4000))
      return outcome, lq.value(solution, start), lq.value(evaluation, start)

    (rewards, log_probs), regularised, plain = simulate(jax.random.key(0))
    discounts = 0.9 ** np.arange(150)
    for returns, exact in (
      ((np.asarray(rewards) - ALPHA * np.asarray(log_probs)) @ discounts, regularised),
      (np.asarray(rewards) @ discounts, plain),
    ):
      error = returns.std() / np.sqrt(len(returns))
      assert abs(returns.mean() - exact) < 4 * error
      assert error < 0.02 * abs(exact)


# Limits


def test_temperature_leaves_the_gain_and_scales_the_covariance(problems, solvers):
  hard = solvers["hard"](problems)
  for alpha in (1.0, 1e-8):
    solution = solvers["soft"](problems, alpha)
    np.testing.assert_array_equal(solution.gain, hard.gain)
    np.testing.assert_allclose(solution.covariance, 0.5 * alpha * np.linalg.inv(hard.H), rtol=1e-9)
  np.testing.assert_allclose(solution.constant, hard.constant, atol=1e-4)  # (α/2)(log α) d / (1 - γ) at α = 1e-8


def test_the_prior_between_nothing_and_everything(problems, priors, solvers):
  gain, covariance = priors
  soft, hard = solvers["soft"](problems, ALPHA), solvers["hard"](problems)
  wide = solvers["kl"](problems, ALPHA, gain, 1e10 * covariance)
  np.testing.assert_allclose(wide.gain, soft.gain, rtol=1e-6, atol=1e-7)
  np.testing.assert_allclose(wide.covariance, soft.covariance, rtol=1e-6, atol=1e-8)
  # The constants differ by the density of the wide prior: a log p of -½ log|2πΣ_p| a step.
  log_volume = np.linalg.slogdet(2 * np.pi * 1e10 * covariance)[1]
  np.testing.assert_allclose(wide.constant - soft.constant, 0.5 * ALPHA * log_volume / 0.05, rtol=1e-6)
  cold = solvers["kl"](problems, 1e-9, gain, covariance)
  for name, tolerance in (("P", 1e-6), ("gain", 1e-6), ("covariance", 1e-8), ("constant", 1e-5)):
    np.testing.assert_allclose(getattr(cold, name), getattr(hard, name), rtol=tolerance, atol=tolerance, err_msg=name)
  # A prior that is worth following: near the optimum, and costly to leave.
  narrow = solvers["kl"](problems, 1e8, hard.gain + 1e-3, covariance)
  np.testing.assert_allclose(narrow.gain, hard.gain + 1e-3, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(narrow.covariance, covariance, rtol=1e-5, atol=1e-6)


# Transformations


def test_gradients_against_finite_differences():
  """Of every output with respect to every input, along random directions."""
  problem = jax.jit(lambda key: lq.random(key, 2, 1, noise=0.4))(jax.random.key(3))
  problem = problem._replace(A=1.2 * problem.A)
  rng = np.random.default_rng(5)
  weights = lq.Solution(*(rng.normal(size=s) for s in ((2, 2), (1, 2), (1, 1), (), (1, 1))))
  arguments = (problem, jnp.asarray(0.3), jnp.array([[0.3, -0.2]]), jnp.array([[0.5]]))

  def outcome(arguments):
    problem, alpha, gain, covariance = arguments
    prior = {"prior_gain": gain, "prior_covariance": covariance}
    posterior = lq.kl_regularised(problem, temperature=alpha, **prior)
    policy = lq.evaluate(problem, 0.9 * posterior.gain, posterior.covariance, temperature=alpha, **prior)
    return sum(map(jnp.vdot, weights, posterior)) + jnp.sum(policy.P) + policy.constant

  gradient = jax.jit(jax.grad(outcome))(arguments)
  directions = jax.tree.map(lambda x: rng.normal(size=(12, *x.shape)), arguments)
  analytic = sum(
    np.sum(g * d, axis=tuple(range(1, d.ndim)))
    for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(directions), strict=True)
  )
  step = 1e-5
  moved = jax.tree.map(lambda x, d: x + step * np.concatenate([d, -d]), arguments, directions)
  ahead, behind = np.split(np.asarray(jax.jit(jax.vmap(outcome))(moved)), 2)
  np.testing.assert_allclose(analytic, (ahead - behind) / (2 * step), rtol=1e-6)


def test_first_and_second_derivative_by_hand():
  """P = q + P/(2 + P): P' = 1 / (1 - 2/(2 + P)²) = 8/7 and P'' = -4 P'³ / (2 + P)³ = -32/343 at q = 3/2, P = 2."""
  problem = scalar()

  def P(cost):
    return lq.soft(problem._replace(Q=cost[None, None]), temperature=ALPHA).P[0, 0]

  first, second = jax.jit(jax.value_and_grad(jax.grad(P)))(jnp.asarray(1.5))
  np.testing.assert_allclose((first, second), (8 / 7, -32 / 343), rtol=1e-13)


def test_without_temperature_a_deterministic_policy_has_a_gradient():
  def cost(gain, covariance, alpha):
    evaluation = lq.evaluate(scalar(), gain, covariance, temperature=alpha)
    return evaluation.P[0, 0] + evaluation.constant

  gradient = jax.jit(jax.grad(cost, argnums=(0, 1)))(jnp.full((1, 1), 0.5), jnp.zeros((1, 1)), 0.0)
  # P(k) (1 + w) with P = (1 + k²) / (1 - ½ (1 - k)²): P' = [k - P (1 - k)/2] / (½ - ¼ (1 - k)²) at k = ½.
  np.testing.assert_allclose(gradient[0], [[1.3 * (0.5 - 10 / 7 / 4) / (0.5 - 0.25 * 0.25)]], rtol=1e-12)
  # And (R + γP) / (1 - γ) for each unit of variance.
  np.testing.assert_allclose(gradient[1], [[24 / 7]], rtol=1e-12)


def test_vmap_over_temperatures(problems, solvers):
  problem = jax.tree.map(lambda x: x[0], problems)
  temperatures = np.array([0.1, 1.0, 10.0])
  several = jax.jit(jax.vmap(lambda alpha: lq.soft(problem, temperature=alpha)))(temperatures)
  for i, alpha in enumerate(temperatures):
    for ours, one in zip(several, solvers["soft"](problems, alpha), strict=True):
      np.testing.assert_allclose(ours[i], one[0], rtol=1e-9, atol=1e-12)


def test_float32_against_float64(problems, priors, solvers):
  exact = solvers["kl"](problems, ALPHA, *priors)
  single = solvers["kl"](*float32((problems, np.float64(ALPHA), *priors)))
  for name in exact._fields:
    ours, theirs = np.asarray(getattr(single, name)), np.asarray(getattr(exact, name))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5 * np.abs(theirs).max(), err_msg=name)


def test_what_cannot_be_checked_comes_out_as_nan():
  """Inside jit, where nothing can raise: an unreachable unstable mode, an unseen one, an unstable policy."""
  problem = scalar()
  solve = jax.jit(lambda problem: lq.soft(problem, temperature=ALPHA))
  assert np.isfinite(solve(problem).P).all()
  assert np.isnan(solve(problem._replace(A=2.0 * problem.A, B=0.0 * problem.B)).P).all()
  assert np.isnan(solve(problem._replace(A=2.0 * problem.A, Q=0.0 * problem.Q)).P).all()
  evaluate = jax.jit(lambda gain: lq.evaluate(problem, gain, jnp.eye(1), temperature=ALPHA))
  assert np.isfinite(evaluate(jnp.full((1, 1), -0.41)).constant)  # ½ · 1.41² = 0.994
  assert np.isnan(evaluate(jnp.full((1, 1), -0.42)).constant)  # ½ · 1.42² = 1.008
  assert np.isnan(evaluate(jnp.full((1, 1), -9.0)).P).all()


# Problems


def test_random_problems_are_what_they_say():
  draw = jax.jit(jax.vmap(lambda key: lq.random(key, 3, 4, discount=0.99, noise=0.1)))
  batch = jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(1), 200)))
  for name, low, high in (("A", 0.5, 1.05), ("B", 0.5, 1.0), ("Q", 0.5, 1.5), ("R", 0.1, 0.5)):
    sizes = np.linalg.svd(getattr(batch, name), compute_uv=False)
    assert (sizes > low - 1e-9).all()
    assert (sizes < high + 1e-9).all()
    assert sizes.max() - sizes.min() > 0.9 * (high - low)  # the whole range is in use
  assert np.abs(np.linalg.eigvals(batch.A)).max() <= 1.05
  np.testing.assert_allclose(batch.noise, np.tile(0.01 * np.eye(3), (200, 1, 1)))
  for A, B, Q, R, W, discount in zip(*batch, strict=True):
    lq.linear_quadratic(A, B, Q, R, noise_covariance=W, discount=discount)


def test_the_environment_is_the_problem():
  env = toys.LinearQuadratic(noise=0.2)
  problem = env.problem(0.9)
  for name in "ABQR":
    np.testing.assert_array_equal(getattr(problem, name), getattr(env, name).astype(np.float64))
  np.testing.assert_allclose(problem.noise, 0.04 * np.eye(2), rtol=1e-15)
  np.testing.assert_allclose(problem.discount, 0.9, rtol=1e-15)
  assert {x.dtype for x in problem} == {jnp.dtype("float64")}
  with pytest.raises(ValueError, match=r"discount must lie in \(0, 1\); got 1.0"):
    env.problem(1.0)
  with jax.enable_x64(False):
    assert {x.dtype for x in env.problem(0.9)} == {jnp.dtype("float32")}


GOOD = {
  "A": [[1.0, 0.1], [0.0, 1.0]],
  "B": [[0.0], [0.1]],
  "Q": np.eye(2),
  "R": [[0.1]],
  "noise_covariance": np.eye(2),
  "discount": 0.9,
}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"A": np.eye(3)}, r"A must have shape \(2, 2\) to go with B \(2, 1\); got \(3, 3\)"),
    ({"B": [1.0, 2.0]}, r"B must be a matrix \[n, d\]; got shape \(2,\)"),
    ({"B": [[np.nan], [1.0]]}, "B must be finite"),
    ({"Q": [[1.0, 1.0], [0.0, 1.0]]}, "Q must be symmetric"),
    ({"Q": np.diag([1.0, -0.1])}, "Q must be symmetric and positive semi-definite"),
    ({"R": [[0.0]]}, "R must be symmetric and positive definite"),
    ({"R": [[np.inf]]}, "R must be finite"),
    ({"noise_covariance": np.eye(3)}, r"noise_covariance must have shape \(2, 2\) to go with A; got \(3, 3\)"),
    ({"noise_covariance": -np.eye(2)}, "noise_covariance must be symmetric and positive semi-definite"),
    ({"discount": 1.0}, r"discount must lie in \(0, 1\); got 1.0"),
    ({"discount": float("nan")}, r"discount must lie in \(0, 1\); got nan"),
    # √0.9 · 1.2 = 1.138: along the first axis no action reaches it.
    ({"A": np.diag([1.2, 0.5])}, r"B\) must be stabilisable.* eigenvalue 1.138 .*along \[1.0, 0.0\].*no action"),
    ({"A": [[0.0, 1.2], [-1.2, 0.0]], "B": np.zeros((2, 1))}, r"must be stabilisable.* eigenvalue [+-]?0[+-]1.138j"),
    ({"A": np.diag([0.5, 1.2]), "Q": np.diag([1.0, 0.0])}, r"Q\) must be detectable.*along \[0.0, 1.0\].*no cost sees"),
  ],
)
def test_linear_quadratic_refuses(change, message):
  lq.linear_quadratic(**GOOD)
  with pytest.raises(ValueError, match=message):
    lq.linear_quadratic(**(GOOD | change))


def test_what_the_discount_tames_needs_no_control():
  """√0.9 · 1.05 = 0.996: an unreachable mode that grows more slowly than the discount is a problem with a solution."""
  problem = lq.linear_quadratic(**(GOOD | {"A": np.diag([1.05, 0.5])}))
  np.testing.assert_allclose(lq.soft(problem, temperature=ALPHA).P[0, 0], 1 / (1 - 0.9 * 1.05**2), rtol=1e-10)


def test_solvers_refuse():
  problem = scalar()
  for alpha in (0.0, -1.0, float("nan"), float("inf"), np.ones(2)):
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
      lq.soft(problem, temperature=alpha)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
      lq.kl_regularised(problem, temperature=alpha, prior_gain=[[0.0]], prior_covariance=[[1.0]])
  with pytest.raises(ValueError, match="temperature must be a finite number >= 0"):
    lq.evaluate(problem, [[0.5]], [[1.0]], temperature=-1.0)
  with pytest.raises(ValueError, match=r"eigenvalues inside of the unit circle; the largest has modulus 1.41421"):
    lq.evaluate(problem, [[-1.0]], [[1.0]])
  with pytest.raises(ValueError, match=r"gain must have shape \(1, 1\) to go with B \(1, 1\); got \(1, 2\)"):
    lq.evaluate(problem, [[0.5, 0.5]], [[1.0]])
  with pytest.raises(ValueError, match="covariance must be symmetric and positive definite"):
    lq.evaluate(problem, [[0.5]], [[0.0]], temperature=1.0)
  with pytest.raises(ValueError, match="prior_gain needs prior_covariance"):
    lq.evaluate(problem, [[0.5]], [[1.0]], temperature=1.0, prior_gain=[[0.0]])
  with pytest.raises(ValueError, match="prior_covariance must be symmetric and positive definite"):
    lq.kl_regularised(problem, temperature=1.0, prior_gain=[[0.0]], prior_covariance=[[0.0]])
  with pytest.raises(ValueError, match="prior_gain must be finite"):
    lq.kl_regularised(problem, temperature=1.0, prior_gain=[[np.nan]], prior_covariance=[[1.0]])
  with pytest.raises(ValueError, match="states is a whole number >= 1, got 0"):
    lq.random(jax.random.key(0), 0, 1)
  with pytest.raises(ValueError, match="noise must be finite and >= 0; got -1"):
    lq.random(jax.random.key(0), 1, 1, noise=-1.0)
  with pytest.raises(ValueError, match="discount must lie in"):
    lq.random(jax.random.key(0), 1, 1, discount=0.0)
