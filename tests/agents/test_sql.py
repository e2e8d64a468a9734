"""Soft Q-learning: values against quadrature, weights, Boltzmann policies, Munchausen's bonus, and the agents."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate

from varl import losses, networks, policies, posteriors, priors, temperatures, values
from varl.agents import sql, sql_discrete
from varl.exact import tabular
from varl.networks import Network
from varl.types import Design, Spec, Transition, Value

ALPHA = 0.4


def batch_of(obs, action=None, reward=0.0):
  n = len(obs)
  action = jnp.zeros((n, 1)) if action is None else action
  return Transition(obs, action, jnp.full(n, reward), jnp.ones(n), obs, jnp.zeros(n), {})


def value_of(q, q_target=None):
  target = q if q_target is None else q_target
  return Value(None, lambda p, obs, a: q(a), lambda p, obs, a: target(a), None)


def bumpy(a):
  """A critic on [-1, 1] with two unequal maxima."""
  return np.sin(5.0 * a) + 0.5 * a if isinstance(a, float | np.ndarray) else jnp.sin(5.0 * a) + 0.5 * a


# The value


@pytest.mark.parametrize("critic", [bumpy, lambda a: -3.0 * a**2, lambda a: 2.0 * a], ids=["bumpy", "bowl", "slope"])
@pytest.mark.parametrize("proposal", ["uniform", "triangular"])
def test_the_importance_value_against_quadrature(critic, proposal):
  """exp(V/α) is unbiased: 4,000 estimates of 20 proposals each lie about the integral, within 3 standard errors."""
  exact = integrate.quad(lambda a: np.exp(critic(float(a)) / ALPHA), -1.0, 1.0)[0]
  uniform = jax.random.uniform(jax.random.key(0), (2, 20, 4_000), minval=-1.0, maxval=1.0)
  if proposal == "uniform":
    action, log_q = uniform[0], jnp.full(uniform[0].shape, -jnp.log(2.0))
  else:  # the mean of two uniform numbers has the density 1 - |a| on (-1, 1)
    action = uniform.mean(0)
    log_q = jnp.log1p(-jnp.abs(action))
  value = losses.importance_value(critic(action), log_q, ALPHA)
  assert value.shape == (4_000,)
  estimate = np.exp(np.asarray(value, np.float64) / ALPHA)
  assert abs(estimate.mean() - exact) < 3 * estimate.std() / np.sqrt(len(estimate))
  assert estimate.std() / np.sqrt(len(estimate)) < 0.05 * exact


def test_the_value_by_hand():
  """Two proposals with Q = 0 and α log 3 of densities ½ and ¼: V = α log ½ (1/½ + 3/¼) = α log 7."""
  q, log_q = jnp.float32([[0.0], [ALPHA * np.log(3.0)]]), jnp.log(jnp.float32([[0.5], [0.25]]))
  np.testing.assert_allclose(losses.importance_value(q, log_q, ALPHA), [ALPHA * np.log(7.0)], rtol=1e-6)
  log_prior = jnp.log(jnp.float32([[0.5], [0.5]]))
  np.testing.assert_allclose(losses.importance_value(q, log_q, ALPHA, log_prior=log_prior), [ALPHA * np.log(3.5)])
  np.testing.assert_allclose(losses.enumerated_value(q, ALPHA), [ALPHA * np.log(4.0)], rtol=1e-6)
  np.testing.assert_allclose(losses.enumerated_value(q, ALPHA, log_prior=log_prior), [ALPHA * np.log(2.0)], rtol=1e-6)


def test_large_values_stay_finite():
  q = jnp.float32([[1e4], [-1e4]])
  np.testing.assert_allclose(losses.enumerated_value(q, 0.1), [1e4])
  np.testing.assert_allclose(losses.importance_value(q, jnp.zeros((2, 1)), 0.1), [1e4 - 0.1 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("prior", [0.0, "given"])
def test_the_weights_are_consistent_with_the_value(prior):
  """V of `soft_value` at the weighed proposals is the importance value, and the log-ratio is (Q - V)/α."""
  rng = np.random.default_rng(0)
  q, log_q, log_p = (rng.normal(size=(7, 5)).astype(np.float32) for _ in range(3))
  log_prior = 0.0 if prior == 0.0 else log_p
  value = losses.importance_value(q, log_q, ALPHA, log_prior=log_prior)
  log_weight, log_ratio = losses.boltzmann_weights(q, log_q, ALPHA, log_prior=log_prior)
  np.testing.assert_allclose(jax.nn.logsumexp(log_weight, axis=0), 0.0, atol=1e-6)
  np.testing.assert_allclose(losses.soft_value(q, log_weight, log_ratio, ALPHA), value, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(log_ratio, (q - value) / ALPHA, rtol=1e-4, atol=1e-5)


# Posteriors


@pytest.fixture(scope="module")
def sampled():
  """A design whose posterior proposes uniformly, of the bumpy critic; the slow copy's is -3 a²."""
  head = policies.tanh_gaussian(1)
  value = value_of(lambda u: bumpy(jnp.tanh(u)[..., 0]), lambda u: -3.0 * jnp.square(jnp.tanh(u)[..., 0]))
  posterior = posteriors.boltzmann(posteriors.uniform_proposal(head), samples=50, act_samples=400)
  return Design(priors.uniform(head), posterior, value, temperatures.fixed(ALPHA))


def test_particles_stand_for_the_boltzmann_policy_of_the_slow_copy(sampled):
  batch = batch_of(jnp.zeros((2_000, 1)))
  particles = jax.jit(lambda key: sampled.posterior.particles(sampled, {}, batch, key))
  drawn = particles(jax.random.key(0))
  assert [x.shape for x in drawn] == [(50, 2_000, 1), (50, 2_000), (50, 2_000)]
  np.testing.assert_allclose(jax.nn.logsumexp(drawn.log_weight, axis=0), 0.0, atol=1e-5)
  q = sampled.value.q_target({}, batch.obs, drawn.action)
  estimate = np.exp(np.asarray(losses.soft_value(q, drawn.log_weight, drawn.log_ratio, ALPHA), np.float64) / ALPHA)
  exact = integrate.quad(lambda a: np.exp(-3.0 * a**2 / ALPHA), -1.0, 1.0)[0]
  assert abs(estimate.mean() - exact) < 3 * estimate.std() / np.sqrt(2_000)
  shared = batch._replace(extras={"posterior": drawn})
  again = sampled.posterior.particles(sampled, {}, shared, jax.random.key(9))
  jax.tree.map(np.testing.assert_array_equal, again, drawn)


def test_acting_draws_from_the_boltzmann_policy_and_its_mode_is_the_best(sampled):
  obs = jnp.zeros((20_000, 1))
  act = jax.jit(lambda key: sampled.posterior.act(sampled, {}, (), obs, key)[0])
  executed = np.tanh(np.asarray(act(jax.random.key(1)), np.float64))[:, 0]
  edges = np.linspace(-1, 1, 11)
  weight = [integrate.quad(lambda a: np.exp(bumpy(a) / ALPHA), *pair)[0] for pair in itertools.pairwise(edges)]
  share = np.histogram(executed, edges)[0] / len(executed)
  # Three standard errors of a share, and the bias of 400 proposals.
  np.testing.assert_allclose(share, np.array(weight) / sum(weight), atol=3 * np.sqrt(0.25 / 20_000) + 0.005)
  mode, carry, extras = sampled.posterior.mode(sampled, {}, (), obs[:2], jax.random.key(1))
  grid = np.linspace(-1, 1, 20_001)
  np.testing.assert_allclose(np.tanh(mode)[:, 0], grid[np.argmax(bumpy(grid))], atol=2e-3)
  assert (carry, extras) == ((), {})


@pytest.mark.parametrize("size", [1, 3, 6])
def test_the_mode_is_the_maximum_in_several_dimensions(size):
  """Of a coupled quadratic, whose scale must not matter; with kinks, too, it is far beyond the best proposal."""
  rng = np.random.default_rng(size)
  root = rng.normal(size=(size, size))
  curvature = jnp.asarray(root @ root.T + 0.3 * np.eye(size), jnp.float32)
  gain = jnp.asarray(rng.normal(size=(2, size)), jnp.float32) / size
  obs = jax.random.normal(jax.random.key(1), (200, 2))
  head, proposal = policies.gaussian(size), posteriors.gaussian_proposal(size, 2.0)
  posterior = posteriors.boltzmann(proposal, act_samples=64)

  def distance(obs, action, kind):
    off = action - obs @ gain
    return jnp.sum((off @ curvature) * off, -1) if kind == "bowl" else jnp.sum(jnp.abs(off @ root), -1)

  for kind, scale in (("bowl", 1.0), ("bowl", 1e4), ("kinks", 1.0)):

    def q(params, obs, action, kind=kind, scale=scale):
      return -scale * distance(obs, action, kind)

    value = Value(None, q, q, None)
    design = Design(priors.uniform(head), posterior, value, temperatures.fixed(ALPHA))
    mode = jax.jit(lambda obs, design=design: posterior.mode(design, {}, (), obs, jax.random.key(0))[0])(obs)
    proposed = proposal(design, {}, obs, jax.random.key(0), 64)[0]
    reached, best = distance(obs, mode, kind), jnp.min(distance(obs, proposed, kind), axis=0)
    assert np.all(reached <= best)
    # Lines of kinks that run aslant stop a climb by coordinates early.
    assert np.mean(reached) < (0.2 if kind == "kinks" else 0.02) * np.mean(best)


def test_the_mode_of_discrete_actions_is_one_of_the_proposals():
  head = policies.categorical(3)
  value = Value(None, lambda p, obs, a: jnp.where(a == 2, 1.0, 0.0), None, None)
  design = Design(priors.fixed(head, jnp.zeros(3)), posteriors.boltzmann(), value, temperatures.fixed(ALPHA))
  mode = design.posterior.mode(design, {}, (), jnp.zeros((5, 2)), jax.random.key(0))[0]
  np.testing.assert_array_equal(mode, 2)


def test_the_temperature_sharpens_the_policy(sampled):
  obs = jnp.zeros((4_000, 1))
  spread = []
  for alpha in (0.1, 1.0):
    design = sampled._replace(temperature=temperatures.fixed(alpha))
    spread.append(float(jnp.std(jnp.tanh(design.posterior.act(design, {}, (), obs, jax.random.key(2))[0]))))
  assert spread[0] < 0.7 * spread[1]


def test_proposals_from_a_prior_that_is_a_density():
  """log_ratio = log(n w_n) and V = α log mean exp(Q/α)."""
  head = policies.tanh_gaussian(1)
  prior = priors.fixed(head, jnp.float32([0.3, 0.0]))
  posterior = posteriors.boltzmann(samples=8)
  design = Design(prior, posterior, value_of(lambda u: jnp.tanh(u)[..., 0]), temperatures.fixed(ALPHA))
  drawn = posterior.particles(design, {}, batch_of(jnp.zeros((3, 1))), jax.random.key(0))
  np.testing.assert_allclose(drawn.log_ratio, jnp.log(8.0) + drawn.log_weight, atol=1e-5)
  q = jnp.tanh(drawn.action)[..., 0]
  value = losses.soft_value(q, drawn.log_weight, drawn.log_ratio, ALPHA)
  np.testing.assert_allclose(value, ALPHA * np.log(np.exp(q / ALPHA).mean(0)), rtol=1e-5)


def test_gaussian_proposals_on_the_whole_line():
  """Q = -a², α = .4, proposals N(0, 2²): ∫ exp(Q/α) = √(πα)."""
  posterior = posteriors.boltzmann(posteriors.gaussian_proposal(1, 2.0), samples=50)
  value = value_of(lambda a: -jnp.square(a[..., 0]))
  design = Design(priors.uniform(policies.gaussian(1)), posterior, value, temperatures.fixed(ALPHA))
  drawn = posterior.particles(design, {}, batch_of(jnp.zeros((2_000, 1))), jax.random.key(0))
  v = losses.soft_value(-jnp.square(drawn.action[..., 0]), drawn.log_weight, drawn.log_ratio, ALPHA)
  estimate = np.exp(np.asarray(v, np.float64) / ALPHA)
  assert abs(estimate.mean() - np.sqrt(np.pi * ALPHA)) < 3 * estimate.std() / np.sqrt(2_000)
  with pytest.raises(ValueError, match="unbounded action space has no uniform proposals"):
    posteriors.uniform_proposal(policies.gaussian(1))


def test_the_softmax_policy_is_exact():
  """π ∝ p exp(Q̄/α) in the particles, and by Q itself in acting."""
  head = policies.categorical(3)
  q, q_target = jnp.float32([0.2, 0.0, -0.1]), jnp.float32([1.0, 0.5, 0.0])
  prior = priors.fixed(head, jnp.log(jnp.float32([0.2, 0.2, 0.6])))
  posterior = posteriors.softmax(head)
  design = Design(prior, posterior, value_of(lambda a: q[a], lambda a: q_target[a]), temperatures.fixed(0.5))
  drawn = posterior.particles(design, {}, batch_of(jnp.zeros((2, 1))), jax.random.key(0))
  policy = np.array([0.2, 0.2, 0.6]) * np.exp(np.asarray(q_target) / 0.5)
  np.testing.assert_array_equal(drawn.action, [[0, 0], [1, 1], [2, 2]])
  np.testing.assert_allclose(np.exp(drawn.log_weight[:, 0]), policy / policy.sum(), rtol=1e-5)
  np.testing.assert_allclose(
    losses.soft_value(q_target[drawn.action], drawn.log_weight, drawn.log_ratio, 0.5),
    0.5 * np.log(policy.sum()) * np.ones(2),
    rtol=1e-5,
  )
  obs = jnp.zeros((20_000, 1))
  action, _, extras = posterior.act(design, {}, (), obs, jax.random.key(1))
  policy = np.array([0.2, 0.2, 0.6]) * np.exp(np.asarray(q) / 0.5)
  policy /= policy.sum()
  np.testing.assert_allclose(np.bincount(action) / 20_000, policy, atol=3 * np.sqrt(0.25 / 20_000))
  np.testing.assert_allclose(np.exp(extras["log_prob"]), policy[np.asarray(action)], rtol=1e-5)
  np.testing.assert_array_equal(posterior.mode(design, {}, (), obs[:2], jax.random.key(1))[0], [2, 2])
  assert posterior.step is None
  assert posterior.init(jax.random.key(0)) == {}


def test_bad_counts():
  for counts in ({"samples": 0}, {"act_samples": -1}):
    with pytest.raises(ValueError, match=f"{next(iter(counts))} is a whole number >= 1"):
      posteriors.boltzmann(**counts)


# Munchausen


def test_the_bonus_by_hand():
  log_prob = jnp.float32([0.0, -1.0, -100.0])
  got = losses.munchausen_bonus(log_prob, 0.5, 0.9, -2.0)
  np.testing.assert_allclose(got, [0.0, -0.45, -1.8], rtol=1e-6)
  assert not jax.grad(lambda x: losses.munchausen_bonus(x, 0.5, 0.9, -2.0).sum())(log_prob).any()


def test_munchausens_fixed_point_is_the_soft_optimal_policy_at_a_lower_temperature():
  """softmax(Q/α) of Q = r + m α log π + γ P V is the soft-optimal policy at (1 - m) α, on a random process."""
  m = tabular.random_mdp(jax.random.key(0), 6, 3, discount=0.9)
  alpha, scale = 0.6, 0.5

  def sweep(q, _):
    value = losses.enumerated_value(q.T, alpha)
    log_policy = q / alpha - (value / alpha)[:, None]
    bonus = losses.munchausen_bonus(log_policy, alpha, scale, -jnp.inf)
    return m.reward + bonus + m.discount * m.transition @ value, None

  q = jax.lax.scan(sweep, jnp.zeros_like(m.reward), None, length=1_000)[0]
  exact = tabular.soft_value_iteration(m, temperature=(1 - scale) * alpha, log_prior=0.0)
  np.testing.assert_allclose(jax.nn.softmax(q / alpha), jnp.exp(exact.log_policy), atol=1e-4)


def discrete_value(**kwargs):
  """A table of two states and three actions as a critic, its optimiser plain descent with rate 1."""
  table = Network(lambda key: jnp.zeros((2, 3)), lambda params, obs: (obs @ params)[None])
  value = values.q_value(networks.action_out(table), optax.sgd(1.0), gamma=0.5, tau=1.0, reward_scale=2.0)
  return values.munchausen(value, reward_scale=2.0, **kwargs) if kwargs else value


def test_the_munchausen_target_by_hand():
  """At zero Q, π = 1/3 and V = α log 3: y = c r - m α log 3 + γ α log 3, with one of two rows moved by half of it."""
  head = policies.categorical(3)
  batch = batch_of(jnp.eye(2), jnp.int32([1, 2]), reward=1.0)
  alpha, targets = 0.5, []
  for kwargs in ({"scale": 0.9}, {"scale": 0.9, "floor": -0.1}, {"scale": 0.0}, {}):
    value = discrete_value(**kwargs)
    design = Design(priors.uniform(head), posteriors.softmax(head), value, temperatures.fixed(alpha))
    step, params = value.step(design), value.init(jax.random.key(0))
    new, _, metrics = jax.jit(step.step)(params, step.init(params), batch, jax.random.key(0))
    targets.append(float(metrics["target_q"]))
    np.testing.assert_allclose(new["critic"][0, 1], 0.5 * metrics["target_q"], rtol=1e-5)
    assert metrics.get("munchausen_bonus", 0.0) <= 0.0
  plain = 2.0 + 0.5 * alpha * np.log(3.0)
  np.testing.assert_allclose(targets, [plain - 0.9 * alpha * np.log(3.0), plain - 0.09, plain, plain], rtol=1e-5)


def test_bad_munchausen():
  for kwargs, message in (({"scale": 1.1}, r"\[0, 1\], got 1.1"), ({"scale": 0.5, "floor": 0.1}, "at most 0, got 0.1")):
    with pytest.raises(ValueError, match=message):
      discrete_value(**kwargs)


# The agents

DISCRETE = Spec(3, 4, discrete=True)


@pytest.fixture(scope="module")
def plain():
  """A discrete agent after one update; and what makes others like it."""
  config = sql_discrete.Config(hidden=(8,), learning_rate=1e-2)
  rng = np.random.default_rng(0)
  obs, next_obs = (jnp.float32(rng.normal(size=(16, 3))) for _ in range(2))
  batch = batch_of(obs, jnp.int32(rng.integers(0, 4, 16)), 1.0)._replace(next_obs=next_obs)

  def after(agent, updates=1):
    state = agent.init(jax.random.key(0))
    update = jax.jit(agent.update)
    history = []
    for i in range(updates):
      state, metrics = update(state, batch, jax.random.key(i))
      history.append((state, metrics))
    return history

  return config, after


def test_munchausen_with_scale_zero_is_plain_soft_q_learning(plain):
  config, after = plain
  scale = jnp.float32(0.0)  # an array, so that the bonus is computed
  with_zero = after(sql_discrete.make(DISCRETE, dataclasses.replace(config, munchausen=scale)), 3)
  without = after(sql_discrete.make(DISCRETE, config), 3)
  assert jax.tree.structure(with_zero[-1][0]) == jax.tree.structure(without[-1][0])
  # Two compilations, which may round differently.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), with_zero[-1][0], without[-1][0])
  assert with_zero[-1][1]["munchausen_bonus"] == 0.0
  paper = after(sql_discrete.make(DISCRETE, dataclasses.replace(config, munchausen=0.9)))
  assert paper[0][1]["munchausen_bonus"] < 0.0


def test_the_target_is_copied_at_its_period(plain):
  config, after = plain
  history = after(sql_discrete.make(DISCRETE, dataclasses.replace(config, target_every=3)), 4)
  leaf = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(s.params["target_critic"])]) for s, _ in history]
  live = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(s.params["critic"])]) for s, _ in history]
  np.testing.assert_array_equal(leaf[0], leaf[1])
  np.testing.assert_allclose(leaf[2], live[2], rtol=1e-5, atol=1e-7)
  np.testing.assert_array_equal(leaf[3], leaf[2])
  assert (live[3] != leaf[3]).any()


def test_there_is_no_policy_network():
  assert set(sql_discrete.make(DISCRETE, sql_discrete.Config(hidden=(8,))).init(jax.random.key(0)).params) == {
    "critic",
    "target_critic",
    "normalizer",
  }
  importance = sql.make(Spec(2, 1), sql.Config(hidden=(8,), sampler="importance"))
  assert set(importance.init(jax.random.key(0)).params) == {"critic", "target_critic", "normalizer"}


@pytest.mark.parametrize(("sampler", "bounded"), [("stein", False), ("importance", True), ("importance", False)])
def test_the_continuous_agent_updates_and_acts(sampler, bounded):
  spec = Spec(3, 2, bounded=bounded)
  config = sql.Config(hidden=(8,), sampler=sampler, particles=8, value_samples=6, act_samples=16, start_updates=1)
  agent = sql.make(spec, config)
  state, update = agent.init(jax.random.key(0)), jax.jit(agent.update)
  obs = jnp.float32(np.random.default_rng(0).normal(size=(16, 3)))
  for i in range(2):  # the second update's value is proposed for by the sampler
    state, metrics = update(state, batch_of(obs, jnp.zeros((16, 2))), jax.random.key(i))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))
  action = agent.act(state.params, (), obs, jax.random.key(2))[0]
  assert action.shape == (16, 2)
  assert (agent.warm_up is not None) == bounded


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"sampler": "svgd"}, r"sampler is one of \['importance', 'langevin', 'stein'\], got 'svgd'"),
    ({"particles": 7}, "two equal sets"),
    ({"target_every": 0}, "target_every is a whole number > 0, got 0"),
    ({"temperature": 0.0}, "temperature is a finite number > 0, got 0.0"),
    ({"sampler_learning_rate": -1.0}, "sampler_learning_rate"),
    ({"value_samples": 0.5}, "value_samples is a whole number > 0, got 0.5"),
    ({"start_updates": -1}, "start_updates"),
    ({"chain_steps": 0}, "chain_steps is a whole number > 0, got 0"),
    ({"chain_step_size": 0.0}, "chain_step_size"),
    ({"proposal_std": 0.0}, "proposal_std"),
  ],
)
def test_a_bad_config_is_an_error(change, message):
  with pytest.raises(ValueError, match=message):
    sql.make(Spec(2, 1), sql.Config(**change))


def test_a_config_that_does_not_fit_the_environment():
  with pytest.raises(ValueError, match="sql needs continuous actions"):
    sql.make(DISCRETE)
  with pytest.raises(ValueError, match="sql_discrete needs discrete actions"):
    sql_discrete.make(Spec(2, 1))
  with pytest.raises(ValueError, match=r"munchausen lies in \[0, 1\], got 1.5"):
    sql_discrete.make(DISCRETE, sql_discrete.Config(munchausen=1.5))
