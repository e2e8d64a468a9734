"""Maximum-entropy inverse reinforcement learning against enumeration of all trajectories, and recovered rewards."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl.exact import inverse, tabular

S, A, H, F, B = 4, 3, 4, 3, 6


# Problems, and what enumeration says of them


def problem(seed, *, deterministic=False, discount=None):
  """NumPy arrays of one random problem: transition, initial, terminal, discount, features, ψ, c, prior, an expert."""
  rng = np.random.default_rng(seed)
  transition = rng.dirichlet(np.full(S, 0.7), (S, A))
  if deterministic:
    transition = np.eye(S)[rng.integers(0, S, (S, A))]
  terminal = np.arange(S) == (S - 1 if seed % 2 else -1)
  initial = np.where(terminal, 0.0, rng.dirichlet(np.ones(S)))
  return {
    "transition": np.where(terminal[:, None, None], np.eye(S)[:, None], transition),
    "initial": initial / initial.sum(),
    "terminal": terminal,
    "discount": rng.uniform(0.5, 1.0) if discount is None else discount,
    "features": np.where(terminal[:, None, None], 0.0, rng.normal(size=(S, A, F))),
    "psi": rng.normal(size=F),
    "temperature": rng.uniform(0.3, 2.0),
    "log_prior": np.log(rng.dirichlet(np.ones(A), S)),
    "expert": rng.dirichlet(np.ones(A), (H, S)),
  }


def soft_policy(p, psi):
  """π `[H, S, A]` and V `[H, S]`, by loops."""
  reward, value, policies, values = p["features"] @ psi, np.zeros(S), [], []
  for _ in range(H):
    q = reward + p["discount"] * p["transition"] @ value
    weight = np.exp(p["log_prior"] + q / p["temperature"])
    value = np.where(p["terminal"], 0.0, p["temperature"] * np.log(weight.sum(1)))
    policies.insert(0, weight / weight.sum(1, keepdims=True))
    values.insert(0, value)
  return np.array(policies), np.array(values)


PATHS = np.array(list(itertools.product(itertools.product(range(S), range(A)), repeat=H)))  # [N, H, 2]
STATES, ACTIONS = PATHS[..., 0], PATHS[..., 1]


def alive(p):
  """Which steps of each path are taken. A path that ended has one continuation only: there, and action 0."""
  return ~p["terminal"][STATES]


def dynamics(p):
  """P(s_0) Π_t P(s_{t+1}|s_t, a_t) of each path."""
  live = alive(p)
  probability = p["initial"][STATES[:, 0]] * np.where(live, 1.0, ACTIONS == 0).prod(1)
  for t in range(H - 1):
    probability = probability * p["transition"][STATES[:, t], ACTIONS[:, t], STATES[:, t + 1]]
  return probability


def acted(p, policy):
  """Π_t π_t(a_t|s_t) of each path."""
  return np.where(alive(p), policy[np.arange(H), STATES, ACTIONS], 1.0).prod(1)


def path_features(p):
  """Σ_t γ^t f(s_t, a_t) of each path, `[N, F]`."""
  weight = np.where(alive(p), p["discount"] ** np.arange(H), 0.0)
  return np.einsum("nt,ntf->nf", weight, p["features"][STATES, ACTIONS])


def enumerated_log_likelihood(p, psi):
  """E[Σ_t γ^t log π_t(a_t|s_t)] under the expert, for π soft-optimal for ψ."""
  log_policy = np.log(soft_policy(p, psi)[0])[np.arange(H), STATES, ACTIONS]
  weight = np.where(alive(p), p["discount"] ** np.arange(H), 0.0)
  return np.sum(dynamics(p) * acted(p, p["expert"]) * (weight * log_policy).sum(1))


def differences(function, x, step=1e-5):
  """Central differences of a scalar function."""
  return np.array([(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))])


# The same in JAX


def arrays(p):
  """(MDP, the rest) as JAX arrays of the default dtype."""
  m = tabular.mdp(
    p["transition"] + 0.0,
    p["features"] @ p["psi"],
    discount=p["discount"],
    initial=p["initial"],
    terminal=p["terminal"],
  )
  rest = {k: jnp.asarray(p[k]) for k in ("features", "psi", "temperature", "log_prior")}
  with np.errstate(divide="ignore"):
    return m, {**rest, "log_expert": jnp.asarray(np.log(p["expert"]))}


def stack(problems):
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[arrays(p) for p in problems])


def solve(m, rest, psi, horizon=H):
  return tabular.soft_value_iteration(
    m._replace(reward=rest["features"] @ psi),
    temperature=rest["temperature"],
    horizon=horizon,
    log_prior=rest["log_prior"],
  )


def of_occupancy(m, rest):
  """Likelihood, gradient by the forward pass, gradient by autodiff, and feature expectations, of a known expert."""
  weights = inverse.occupancy(m, rest["log_expert"], horizon=H)

  def likelihood(psi):
    return inverse.expected_log_likelihood(solve(m, rest, psi).log_policy, weights)

  log_policy = solve(m, rest, rest["psi"]).log_policy
  return {
    "likelihood": likelihood(rest["psi"]),
    "forward": inverse.gradient(m, rest["features"], log_policy, weights, temperature=rest["temperature"]),
    "autodiff": jax.grad(likelihood)(rest["psi"]),
    "expert": inverse.feature_expectations(m, rest["log_expert"], rest["features"], horizon=H),
    "soft": inverse.feature_expectations(m, log_policy, rest["features"], horizon=H),
  }


def of_demonstrations(m, rest, demonstrations, discount, horizon):
  """The same of finitely many demonstrations, and their feature mismatch from their own first states."""
  weights = inverse.counts(m, demonstrations, horizon=horizon, discount=discount)

  def likelihood(psi):
    return inverse.log_likelihood(m, solve(m, rest, psi, horizon).log_policy, demonstrations, discount=discount).mean()

  log_policy = solve(m, rest, rest["psi"], horizon).log_policy
  first = jnp.zeros_like(m.initial).at[demonstrations.state[:, 0]].add(1 / demonstrations.state.shape[0])
  seen = inverse.empirical_feature_expectations(m, demonstrations, rest["features"], discount=discount)
  soft = inverse.feature_expectations(m._replace(initial=first), log_policy, rest["features"], horizon=horizon)
  return {
    "likelihood": likelihood(rest["psi"]),
    "expected": inverse.expected_log_likelihood(log_policy, weights),
    "forward": inverse.gradient(m, rest["features"], log_policy, weights, temperature=rest["temperature"]),
    "autodiff": jax.grad(likelihood)(rest["psi"]),
    "mismatch": (seen - soft) / rest["temperature"],
  }


def draw(p, seed, n=5):
  """n demonstrations `[n, H]` of the expert, in NumPy."""
  rng = np.random.default_rng(seed)
  probability = dynamics(p) * acted(p, p["expert"])
  paths = rng.choice(len(PATHS), n, p=probability / probability.sum())
  return STATES[paths], ACTIONS[paths], alive(p)[paths]


@pytest.fixture(scope="module")
def problems():
  return [problem(seed) for seed in range(B)]


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def wide(request):
  with jax.enable_x64(request.param):
    yield request.param


def tolerance(wide):
  return {"rtol": 0, "atol": 1e-9 if wide else 1e-4}


# The likelihood and its gradient


def test_of_a_known_expert_against_all_trajectories(problems, wide):
  found = jax.jit(jax.vmap(of_occupancy))(*stack(problems))
  for i, p in enumerate(problems):
    expert, soft = acted(p, p["expert"]), acted(p, soft_policy(p, p["psi"])[0])
    np.testing.assert_allclose(np.sum(dynamics(p) * expert), 1.0)
    by_expert, by_soft = (np.sum((dynamics(p) * x)[:, None] * path_features(p), 0) for x in (expert, soft))
    exact = (by_expert - by_soft) / p["temperature"]
    assert np.abs(exact).max() > 0.05
    one = {name: value[i] for name, value in found.items()}
    assert one["forward"].dtype == (jnp.float64 if wide else jnp.float32)
    np.testing.assert_allclose(one["likelihood"], enumerated_log_likelihood(p, p["psi"]), **tolerance(wide))
    np.testing.assert_allclose(one["expert"], by_expert, **tolerance(wide))
    np.testing.assert_allclose(one["soft"], by_soft, **tolerance(wide))
    np.testing.assert_allclose(one["forward"], exact, **tolerance(wide))
    np.testing.assert_allclose(one["autodiff"], exact, **tolerance(wide))
    slope = differences(lambda psi, p=p: enumerated_log_likelihood(p, psi), p["psi"])
    np.testing.assert_allclose(exact, slope, rtol=0, atol=1e-7)


@pytest.mark.parametrize("weight", ["discounted", "plain"])
def test_of_finitely_many_demonstrations(problems, wide, weight):
  """Under stochastic dynamics the gradient of their likelihood is not the mismatch of their features."""
  drawn = [draw(p, seed) for seed, p in enumerate(problems)]
  demonstrations = inverse.Demonstrations(*(jnp.asarray(np.stack(x)) for x in zip(*drawn, strict=True)))
  discount = None if weight == "discounted" else 1.0
  run = functools.partial(of_demonstrations, discount=discount, horizon=H)
  found = jax.jit(jax.vmap(run))(*stack(problems), demonstrations)
  for i, p in enumerate(problems):
    state, action, mask = drawn[i]
    base = p["discount"] if weight == "discounted" else 1.0

    def likelihood(psi, p=p, state=state, action=action, mask=mask, base=base):
      log_policy = np.log(soft_policy(p, psi)[0])[np.arange(H), state, action]
      return np.where(mask, base ** np.arange(H) * log_policy, 0.0).sum(1).mean()

    slope = differences(likelihood, p["psi"])
    np.testing.assert_allclose(found["likelihood"][i], likelihood(p["psi"]), **tolerance(wide))
    np.testing.assert_allclose(found["expected"][i], likelihood(p["psi"]), **tolerance(wide))
    np.testing.assert_allclose(found["forward"][i], slope, rtol=0, atol=1e-7 if wide else 1e-4)
    np.testing.assert_allclose(found["autodiff"][i], slope, rtol=0, atol=1e-7 if wide else 1e-4)
    assert np.abs(found["mismatch"][i] - slope).max() > 1e-2


@pytest.mark.parametrize("discount", [None, 1.0], ids=["discounted", "plain"])
def test_without_a_horizon_the_forward_pass_is_one_linear_solve(problems, discount):
  """The counts' weights may be anything: the gradient is that of the likelihood they are the weights of."""
  drawn = [draw(p, seed) for seed, p in enumerate(problems)]
  with jax.enable_x64(True):
    demonstrations = inverse.Demonstrations(*(jnp.asarray(np.stack(x)) for x in zip(*drawn, strict=True)))
    m, rest = stack(problems)
    m = m._replace(discount=jnp.minimum(m.discount, 0.9))
    run = functools.partial(of_demonstrations, discount=discount, horizon=None)
    found = jax.jit(jax.vmap(run))(m, rest, demonstrations)
    np.testing.assert_allclose(found["forward"], found["autodiff"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["expected"], found["likelihood"], rtol=1e-12)
    assert np.abs(found["mismatch"] - found["autodiff"]).max() > 1e-2

    def stationary(m, rest):
      log_expert = rest["log_expert"][0]
      weights = inverse.occupancy(m, log_expert)
      log_policy = solve(m, rest, rest["psi"], None).log_policy
      forward = inverse.gradient(m, rest["features"], log_policy, weights, temperature=rest["temperature"])
      features = functools.partial(inverse.feature_expectations, m, features=rest["features"])
      mismatch = (features(log_expert) - features(log_policy)) / rest["temperature"]
      # A horizon long enough is none at all.
      long = inverse.occupancy(m, log_expert, horizon=400).sum(0)
      return forward, mismatch, weights, long

    forward, mismatch, weights, long = jax.jit(jax.vmap(stationary))(m, rest)
    np.testing.assert_allclose(forward, mismatch, rtol=0, atol=1e-9)
    np.testing.assert_allclose(weights, long, rtol=0, atol=1e-9)


def test_under_deterministic_dynamics_the_mismatch_is_the_gradient_and_the_likelihoods_are_one():
  problems = [problem(seed, deterministic=True, discount=1.0) for seed in range(B)]
  drawn = [draw(p, seed) for seed, p in enumerate(problems)]
  with jax.enable_x64(True):
    demonstrations = inverse.Demonstrations(*(jnp.asarray(np.stack(x)) for x in zip(*drawn, strict=True)))
    m, rest = stack(problems)
    run = functools.partial(of_demonstrations, discount=None, horizon=H)
    found = jax.jit(jax.vmap(run))(m, rest, demonstrations)
    np.testing.assert_allclose(found["forward"], found["mismatch"], rtol=0, atol=1e-9)
    causal, joint = likelihoods(m, rest, demonstrations)
    np.testing.assert_allclose(causal, joint, rtol=0, atol=1e-9)


@jax.jit
@jax.vmap
def likelihoods(m, rest, demonstrations):
  """Causal, and of the distribution over trajectories, each `[B, N]`."""
  options = {"temperature": rest["temperature"], "log_prior": rest["log_prior"]}
  log_policy = solve(m, rest, rest["psi"]).log_policy
  causal = inverse.log_likelihood(m, log_policy, demonstrations)
  return causal, inverse.trajectory_log_likelihood(m, demonstrations, **options)


def test_the_distribution_over_trajectories_against_all_of_them():
  """p(τ|s_0, O) ∝ P(τ) Π p(a|s) e^{r/c}: normalised by enumeration, and another than the causal one."""
  problems = [problem(seed, discount=1.0) for seed in range(B)]
  with jax.enable_x64(True):
    chosen = [np.random.default_rng(seed).choice(np.flatnonzero(dynamics(p)), 50) for seed, p in enumerate(problems)]
    paths = [(STATES[c], ACTIONS[c], alive(p)[c]) for c, p in zip(chosen, problems, strict=True)]
    demonstrations = inverse.Demonstrations(*(jnp.asarray(np.stack(x)) for x in zip(*paths, strict=True)))
    causal, joint = likelihoods(*stack(problems), demonstrations)
  for i, p in enumerate(problems):
    score = p["log_prior"] + p["features"] @ p["psi"] / p["temperature"]
    log_weight = np.where(alive(p), score[STATES, ACTIONS], 0.0).sum(1)
    own = dynamics(p) / p["initial"][STATES[:, 0]].clip(1e-300)
    total = np.bincount(STATES[:, 0], own * np.exp(log_weight), minlength=S)
    exact = log_weight - np.log(total.clip(1e-300))[STATES[:, 0]]
    np.testing.assert_allclose(joint[i], exact[chosen[i]], rtol=0, atol=1e-9)
    assert np.abs(joint[i] - causal[i]).max() > 0.05


def test_a_bandit_by_hand():
  """One state, two arms, one step: log π = log sigmoid(ψ/c), so ∂L/∂ψ = (n - σ)/c, zero at ψ = c log(n / (1 - n))."""
  m = tabular.mdp(np.ones((1, 2, 1)), np.zeros((1, 2)), discount=1.0)
  features, c = jnp.asarray([[[1.0], [0.0]]]), 0.5
  log_policy = jnp.log(jnp.full((1, 1, 2), 0.5))
  weights = jnp.asarray([[[0.8, 0.2]]])
  np.testing.assert_allclose(inverse.gradient(m, features, log_policy, weights, temperature=c), [0.6], rtol=1e-6)
  np.testing.assert_allclose(inverse.expected_log_likelihood(log_policy, weights), np.log(0.5), rtol=1e-6)
  seen = inverse.demonstrations(m, [[0]] * 5, [[0], [0], [1], [0], [0]])
  options = {"temperature": c, "horizon": 1, "optimizer": optax.sgd(0.5)}
  found = jax.jit(lambda expert: inverse.fit(m, features, expert, **options))(jnp.asarray([0.8]))
  np.testing.assert_allclose(found.psi, [0.5 * np.log(4)], atol=1e-4)
  np.testing.assert_allclose(jnp.exp(found.log_policy), weights, atol=1e-4)
  np.testing.assert_allclose(inverse.empirical_feature_expectations(m, seen, features), [0.8], rtol=1e-6)


# Demonstrations


def test_samples_come_from_the_policy(problems):
  """Counts of 20,000 demonstrations against the occupancy, each within five standard errors; dense and sparse."""
  n = 20_000
  p = problems[1]
  m, rest = arrays(p)
  order = np.argsort(p["transition"], axis=-1)[..., ::-1]
  sparse = tabular.mdp(
    np.take_along_axis(p["transition"], order, -1),
    m.reward,
    discount=p["discount"],
    initial=p["initial"],
    terminal=p["terminal"],
    successor=order,
  )

  @jax.jit
  def run(m):
    drawn = inverse.sample_demonstrations(jax.random.key(0), m, rest["log_expert"], n, H)
    # The weights of one and the same expert for the gradient: those of the dense form.
    weights = inverse.occupancy(arrays(p)[0], rest["log_expert"], horizon=H) ** 2
    log_policy = solve(m, rest, rest["psi"]).log_policy
    return drawn, {
      "seen": inverse.counts(m, drawn, horizon=H, discount=1.0),
      "exact": inverse.occupancy(m._replace(discount=jnp.ones(())), rest["log_expert"], horizon=H),
      "gradient": inverse.reward_gradient(m, log_policy, weights, temperature=1.0),
    }

  of_dense, of_sparse = run(m), run(sparse)
  for drawn, found in (of_dense, of_sparse):
    exact = found["exact"]
    error = np.sqrt(np.maximum(exact * (1 - exact), 1e-9) / n)
    assert np.all(np.abs(found["seen"] - exact) <= 5 * error + 1e-6)
    # It ends where the terminal state is reached, and stays there.
    np.testing.assert_array_equal(drawn.mask, ~p["terminal"][np.asarray(drawn.state)])
    assert 0 < np.mean(~drawn.mask[:, -1]) < 1
    np.testing.assert_array_equal(inverse.demonstrations(m, drawn.state, drawn.action).mask, drawn.mask)
  for name in ("exact", "gradient"):
    np.testing.assert_allclose(of_dense[1][name], of_sparse[1][name], atol=1e-6)


def test_counts_by_hand():
  m = tabular.mdp(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), discount=0.5)
  seen = inverse.demonstrations(m, [[0, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 1, 0]], [[True] * 3, [True, True, False]])
  np.testing.assert_allclose(inverse.counts(m, seen), [[0.0, 1.25], [0.375, 0.0]])
  by_time = inverse.counts(m, seen, horizon=4)
  np.testing.assert_allclose(by_time[0], [[0, 1], [0, 0]])
  np.testing.assert_allclose(by_time[1], [[0, 0.25], [0.25, 0]])
  np.testing.assert_allclose(by_time[3], 0.0)
  np.testing.assert_allclose(inverse.counts(m, seen, discount=1.0), [[0.0, 1.5], [1.0, 0.0]])
  log_policy = jnp.log(jnp.asarray([[0.25, 0.75], [0.9, 0.1]]))
  expected = [np.log(0.75) + 0.75 * np.log(0.9), 1.5 * np.log(0.75)]
  np.testing.assert_allclose(inverse.log_likelihood(m, log_policy, seen), expected, rtol=1e-6)


# Recovered rewards


def recover(m, rest, *, by, horizon, **options):
  """Fits to a soft-optimal expert; (its log-policy, feature expectations of both, the fit)."""
  log_expert = solve(m, rest, rest["psi"], horizon).log_policy
  features = functools.partial(inverse.feature_expectations, m, features=rest["features"], horizon=horizon)
  expert = features(log_expert) if by == "features" else inverse.occupancy(m, log_expert, horizon=horizon)
  shared = {"temperature": rest["temperature"], "log_prior": rest["log_prior"], "horizon": horizon}
  found = inverse.fit(m, rest["features"], expert, **shared, **options)
  return log_expert, features(log_expert), features(found.log_policy), found


@pytest.mark.parametrize(("by", "horizon"), [("features", None), ("occupancy", H)])
def test_the_recovered_policy_has_the_experts_features_and_is_its_policy(problems, by, horizon):
  m, rest = stack(problems)
  m = m._replace(discount=jnp.minimum(m.discount, 0.95))
  log_expert, expert, soft, found = jax.jit(jax.vmap(functools.partial(recover, by=by, horizon=horizon)))(m, rest)
  np.testing.assert_allclose(soft, expert, rtol=0, atol=1e-4)
  live = ~m.terminal[..., None] if horizon is None else ~m.terminal[:, None, :, None]
  # ψ need not be unique; the policy of the model's class that explains an expert is.
  assert np.abs(np.where(live, np.exp(found.log_policy) - np.exp(log_expert), 0.0)).max() < 2e-3
  steps = np.asarray(found.steps)
  assert (steps < 200).all()
  for i, n in enumerate(steps):
    objective = np.asarray(found.objective[i])
    assert np.isfinite(objective[: n + 1]).all()
    assert np.isnan(objective[n + 1 :]).all()
    assert objective[n] > objective[0]
    assert found.gradient[i, n] <= 2.5e-5


def test_in_float64_and_with_a_penalty(problems):
  """At the optimum the mismatch is l2 ψ."""
  with jax.enable_x64(True):
    m, rest = stack(problems[:1] * 2)
    l2 = jnp.asarray([0.0, 0.1])
    _, expert, soft, found = jax.jit(
      jax.vmap(lambda m, rest, l2: recover(m, rest, by="features", horizon=H, l2=l2, tolerance=1e-9))
    )(m, rest, l2)
    mismatch = (expert - soft) / rest["temperature"][:, None]
    np.testing.assert_allclose(mismatch, l2[:, None] * found.psi, rtol=0, atol=1e-8)
    assert np.linalg.norm(found.psi[1]) < 0.9 * np.linalg.norm(found.psi[0])


def test_of_demonstrations_with_a_reward_function():
  """The fit is at the maximum of their own likelihood, above the reward that made them; ψ may be any pytree."""
  n = 500
  with jax.enable_x64(True):
    m, rest = arrays(problem(0, discount=1.0))
    features = rest["features"]

    def reward(psi):
      return features[..., :1] @ psi["a"] + features[..., 1:] @ psi["b"]

    @jax.jit
    def run(m):
      log_expert = solve(m, rest, rest["psi"]).log_policy
      seen = inverse.sample_demonstrations(jax.random.key(1), m, log_expert, n, H)
      found = inverse.fit(
        m,
        reward,
        seen,
        initial={"a": jnp.zeros(1), "b": jnp.zeros(F - 1)},
        temperature=rest["temperature"],
        horizon=H,
        log_prior=rest["log_prior"],
      )
      weights = inverse.counts(m, seen, horizon=H)
      slope = inverse.gradient(m, features, found.log_policy, weights, temperature=rest["temperature"])
      likelihoods = [inverse.log_likelihood(m, x, seen).mean() for x in (found.log_policy, log_expert)]
      return found, slope, *likelihoods, jnp.abs(jnp.exp(found.log_policy) - jnp.exp(log_expert)).max()

    found, slope, best, true, difference = run(m)
    np.testing.assert_allclose(slope, 0.0, atol=1e-8)
    np.testing.assert_allclose(found.reward, reward(found.psi), rtol=1e-12)
    np.testing.assert_allclose(found.objective[found.steps], best, rtol=1e-10)
    # Twice the excess of n demonstrations is chi-square with F degrees of freedom.
    assert true < best < true + 3 * F / (2 * n)
    assert difference < 0.1


# Arguments


def test_bad_arguments_are_named(problems):
  m, rest = arrays(problems[1])
  features, log_policy = rest["features"], rest["log_expert"]
  seen = inverse.demonstrations(m, [[0, 1]], [[0, 1]])
  cases = [
    (lambda: inverse.demonstrations(m, [0, 1], [0, 1]), r"\[N, T\]"),
    (lambda: inverse.demonstrations(m, [[0.0]], [[0]]), "states must be integers"),
    (lambda: inverse.demonstrations(m, [[0]], [[A]]), r"actions must lie in \[0, 3\), got 3 to 3"),
    (lambda: inverse.demonstrations(m, [[0]], [[0]], [[True, True]]), "the mask must have the shape"),
    (lambda: inverse.demonstrations(m, [[0, 0]], [[0, 0]], [[False, True]]), "once the mask is False"),
    (lambda: inverse.demonstrations(m, [[S - 1]], [[0]], [[True]]), r"terminal state: \[3\]"),
    (lambda: inverse.sample_demonstrations(jax.random.key(0), m, log_policy, 0, H), "n is a whole number >= 1, got 0"),
    (lambda: inverse.sample_demonstrations(jax.random.key(0), m, log_policy, 1, 2), "horizon=2"),
    (lambda: inverse.counts(m, seen, horizon=1), "more than the horizon of 1"),
    (lambda: inverse.log_likelihood(m, log_policy[:1], seen), "the demonstrations have 2 steps, the policy 1"),
    (lambda: inverse.trajectory_log_likelihood(m, seen, temperature=1.0), "discount must be 1"),
    (lambda: inverse.reward_gradient(m, log_policy, log_policy[0], temperature=1.0), "shape of the policy"),
    (lambda: inverse.fit(m, features, seen, temperature=1.0, iterations=0), "iterations"),
    (lambda: inverse.fit(m, features[0], seen, temperature=1.0), r"features must be \[S, A, F\]"),
    (
      lambda: inverse.fit(m, features, jnp.zeros(F + 1), temperature=1.0),
      r"expected features must be \(3,\), got \(4,\)",
    ),
    (lambda: inverse.fit(m, features, jnp.zeros((S, S)), temperature=1.0), "occupancy must be"),
    (lambda: inverse.fit(m, lambda psi: psi, seen, temperature=1.0), "needs initial parameters"),
    (lambda: inverse.fit(m, lambda psi: psi, jnp.zeros(F), temperature=1.0, initial=m.reward), "not with a reward"),
  ]
  for call, message in cases:
    with pytest.raises(ValueError, match=message):
      call()
