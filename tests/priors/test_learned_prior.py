"""The learned prior and its E-step, on a fixed Q whose optimum and improvement are known in closed form."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

from varl import duals, losses, networks, policies, posteriors, priors, temperatures, values
from varl.exact import tabular
from varl.networks import Network
from varl.types import Design, Spec, Transition, Value

SPEC = Spec(2, 2)
HEAD = policies.gaussian(2, init_std=0.8, min_std=1e-4)
OBS = jax.random.normal(jax.random.key(0), (64, 2))
GAIN = jnp.array([[0.6, -0.3], [0.2, 0.5]])


def batch_of(obs, extras=None):
  nothing = jnp.zeros(len(obs))
  return Transition(obs, nothing, nothing, nothing, obs, nothing, extras or {})


def quadratic():
  """Q(s, a) = -‖a - K s‖²: its maximum is at K s."""

  def q(params, obs, action):
    return -jnp.sum(jnp.square(action - obs @ GAIN.T), axis=-1)

  return Value(lambda key: {}, q, q, None)


def constant(size):
  return Network(lambda key: jnp.zeros(size), lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], size)))


def bounds(shape=(2,), **budgets):
  budgets = budgets or {"mean": 0.02, "covariance": 2e-4}
  initial = {"mean": 1.0, "covariance": 10.0, "policy": 1.0}
  return {
    part: priors.Bound(duals.dual(initial[part], shape=shape, transform="softplus", floor=1e-8), budget)
    for part, budget in budgets.items()
  }


def design_of(prior, posterior, temperature, value=None):
  return Design(prior, posteriors.acting_by_prior(posterior), value or quadratic(), temperature)


def learned(head=HEAD, network=None, rate=3e-3, **options):
  options = {"bounds": bounds(), "target_every": 20, **options}
  network = networks.mlp(2, head.size, hidden=()) if network is None else network
  return priors.learned(network, head, optax.adam(rate), dual_optimizer=optax.adam(3e-2), **options)


# Parts of a policy


@pytest.mark.parametrize("make", [policies.gaussian, policies.tanh_gaussian])
def test_each_part_is_the_kl_of_the_policy_that_only_it_moves(make):
  head = make(3)
  old, new = jax.random.normal(jax.random.key(1), (2, 50, 6))
  parts = head.decouple(old, new)
  assert set(parts) == {"mean", "covariance"}
  for part in parts.values():
    assert part.kl.shape == (50, 3)
    wanted = head.distribution(old).kl_divergence(head.distribution(part.outputs))
    np.testing.assert_allclose(part.kl.sum(-1), wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(parts["mean"].outputs, jnp.concatenate([new[:, :3], old[:, 3:]], -1))
  np.testing.assert_array_equal(parts["covariance"].outputs, jnp.concatenate([old[:, :3], new[:, 3:]], -1))
  assert all((part.kl == 0).all() for part in head.decouple(old, old).values())


def test_the_part_of_a_categorical_policy_is_all_of_it():
  head = policies.categorical(4)
  old, new = 3 * jax.random.normal(jax.random.key(2), (2, 50, 4))
  part = head.decouple(old, new)["policy"]
  wanted = distrax.Categorical(logits=old).kl_divergence(distrax.Categorical(logits=new))
  np.testing.assert_allclose(part.kl[:, 0], wanted, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(part.outputs, new)
  assert (head.decouple(old, old)["policy"].kl == 0).all()


# The E-step


@pytest.mark.parametrize("eta", [0.1, 1.0, 30.0])
def test_the_temperatures_dual_and_its_gradient(eta):
  q = 3 * jax.random.normal(jax.random.key(3), (20, 5))
  value, slope = jax.value_and_grad(lambda eta: losses.temperature_dual(q, eta, 0.1).mean())(eta)
  exact = np.asarray(q, np.float64)
  top = exact.max(0)
  wanted = 0.1 * eta + top + eta * np.log(np.exp((exact - top) / eta).mean(0))
  np.testing.assert_allclose(losses.temperature_dual(q, eta, 0.1), wanted, rtol=1e-5)
  np.testing.assert_allclose(value, wanted.mean(), rtol=1e-5)
  weight = np.exp((exact - top) / eta)
  weight /= weight.sum(0)
  kl = np.sum(weight * np.log(np.maximum(weight, 1e-300) * 20), axis=0)
  np.testing.assert_allclose(slope, 0.1 - kl.mean(), rtol=1e-3, atol=1e-5)


def test_the_kl_budget_descends_that_dual():
  temperature = temperatures.kl_budget(duals.dual(2.0, transform="softplus"), optax.sgd(1.0), 0.1)
  prior = learned()
  design = design_of(prior, posteriors.boltzmann(samples=20), temperature)
  params = prior.init(jax.random.key(4)) | temperature.init(jax.random.key(5))
  batch = batch_of(OBS)
  drawn = design.posterior.particles(design, params, batch, jax.random.key(6))
  step = temperature.step(design)
  shared = batch_of(OBS, {"posterior": drawn})
  new, _, metrics = step.step(params, step.init(params), shared, jax.random.key(6))

  def dual(raw):
    eta = jax.nn.softplus(raw)
    return losses.temperature_dual(design.value.q_target(params, OBS, drawn.action), eta, 0.1).mean()

  wanted = jax.grad(dual)(params["temperature"])
  np.testing.assert_allclose(params["temperature"] - new["temperature"], wanted, rtol=1e-3)
  np.testing.assert_allclose(metrics["kl_budget_used"], metrics["kl"] / 0.1, rtol=1e-6)
  assert 1.0 <= metrics["effective_samples"] <= 20.0
  weights = jax.nn.softmax(design.value.q_target(params, OBS, drawn.action) / 2.0, axis=0)
  np.testing.assert_allclose(jnp.exp(drawn.log_weight), weights, rtol=1e-4)


def test_the_losses_together_are_an_independent_implementations():
  """rlax's `mpo_loss` and its gradients, on random inputs."""
  rng = np.random.default_rng(0)
  log_prob, q = jnp.float32(rng.normal(size=(2, 12, 5)))
  kl = jnp.float32(rng.uniform(0.0, 0.2, (2, 5)))
  epsilon, budgets = 0.1, (0.02, 0.005)

  def theirs(log_prob, kl, eta, alphas):
    constraints = [
      (kl[i], rlax.LagrangePenalty(alpha=alphas[i], epsilon=jnp.float32(budgets[i]), per_dimension=False))
      for i in range(2)
    ]
    temperature = rlax.LagrangePenalty(alpha=eta, epsilon=jnp.float32(epsilon))
    return jnp.mean(rlax.mpo_loss(log_prob, q, temperature, constraints)[0])

  def ours(log_prob, kl, eta, alphas):
    log_weight, _ = losses.boltzmann_weights(q, 0.0, eta)
    constant = jax.lax.stop_gradient
    trust_region = sum(constant(alphas[i]) * kl[i] + alphas[i] * constant(budgets[i] - kl[i]) for i in range(2))
    return jnp.mean(
      losses.weighted_likelihood(log_prob, log_weight) + losses.temperature_dual(q, eta, epsilon) + trust_region
    )

  inputs = (log_prob, kl, jnp.float32(0.7), jnp.float32([1.5, 40.0]))
  value, gradients = jax.value_and_grad(ours, argnums=(0, 1, 2, 3))(*inputs)
  their_value, their_gradients = jax.value_and_grad(theirs, argnums=(0, 1, 2, 3))(*inputs)
  np.testing.assert_allclose(value, their_value, rtol=1e-5)
  for one, two in zip(gradients, their_gradients, strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


# The M-step


def test_the_likelihood_of_weighted_actions():
  log_prob, weight = jnp.array([[-1.0], [-3.0]]), jnp.array([[0.25], [0.75]])
  np.testing.assert_allclose(losses.weighted_likelihood(log_prob, jnp.log(weight)), [2.5], rtol=1e-6)
  assert (jax.grad(lambda w: losses.weighted_likelihood(log_prob, w).sum())(jnp.log(weight)) == 0).all()


@pytest.mark.parametrize("shape", [(2,), ()])
def test_one_update_by_hand(shape):
  """The gradient of Σ_parts (-Σ w log π_part + α KL_part), and of the multipliers α (ε - KL)."""
  prior = learned(network=constant(4), bounds=bounds(shape), target_every=1, tau=0.5)
  design = design_of(prior, posteriors.boltzmann(samples=8), temperatures.fixed(1.0))
  params = prior.init(jax.random.key(7))
  params = {**params, "actor": jnp.array([0.3, -0.2, 0.1, 0.4])}
  batch = batch_of(OBS)
  drawn = design.posterior.particles(design, params, batch, jax.random.key(8))
  shared = batch_of(OBS, {"posterior": drawn})

  def both(actor, raw):
    old, new = HEAD.distribution(params["target_actor"]), HEAD.distribution(actor)
    (old_loc, old_std), (loc, std) = ((d.mean(), d.stddev()) for d in (old, new))
    kl_mean = 0.5 * ((loc - old_loc) / old_std) ** 2
    kl_covariance = 0.5 * ((old_std / std) ** 2 - 1.0) + jnp.log(std / old_std)
    if not shape:
      kl_mean, kl_covariance = kl_mean.sum(), kl_covariance.sum()
    weight = jnp.exp(drawn.log_weight)
    price = {part: 1e-8 + jax.nn.softplus(x) for part, x in raw.items()}
    likelihood = (weight * policies.normal(loc, old_std).log_prob(drawn.action)).sum(0)
    likelihood += (weight * policies.normal(old_loc, std).log_prob(drawn.action)).sum(0)
    policy = -likelihood.mean() + (price["mean"] * kl_mean).sum() + (price["covariance"] * kl_covariance).sum()
    multiplier = (price["mean"] * (0.02 - kl_mean)).sum() + (price["covariance"] * (2e-4 - kl_covariance)).sum()
    return policy, multiplier

  raw = params["actor_bounds"]
  policy_slope = jax.grad(lambda actor: both(actor, raw)[0])(params["actor"])
  price_slope = jax.grad(lambda raw: both(params["actor"], raw)[1])(raw)
  plain = priors.learned(
    constant(4), HEAD, optax.sgd(1.0), bounds(shape), optax.sgd(1.0), target_every=1, tau=0.5
  ).step(design)
  new, _, metrics = plain.step(params, plain.init(params), shared, jax.random.key(8))
  np.testing.assert_allclose(params["actor"] - new["actor"], policy_slope, rtol=1e-3, atol=1e-5)
  for part in ("mean", "covariance"):
    np.testing.assert_allclose(raw[part] - new["actor_bounds"][part], price_slope[part], rtol=1e-3, atol=1e-6)
  halfway = 0.5 * (params["target_actor"] + new["actor"])
  np.testing.assert_allclose(new["target_actor"], halfway, rtol=1e-5, atol=1e-7)
  old, actor = HEAD.distribution(params["target_actor"]), HEAD.distribution(params["actor"])
  spent = 0.5 * jnp.square((actor.mean() - old.mean()) / old.stddev())
  wanted = jnp.mean(spent) if shape else jnp.sum(spent)
  np.testing.assert_allclose(metrics["mean_multiplier_measured"], wanted, rtol=1e-4)
  np.testing.assert_allclose(metrics["mean_multiplier_budget_used"], wanted / 0.02, rtol=1e-4)


@pytest.fixture(scope="module")
def trained():
  """4,000 updates of E- and M-step on the fixed Q: the design, and by update the KLs, η and π̄."""
  prior = learned()
  temperature = temperatures.kl_budget(duals.dual(1.0, transform="softplus", floor=1e-8), optax.adam(5e-2), 0.1)
  design = design_of(prior, posteriors.boltzmann(samples=32), temperature)
  steps = (prior.step(design), temperature.step(design))

  @jax.jit
  def run(key):
    params = prior.init(key) | temperature.init(key)

    def update(carry, key):
      params, states = carry
      drawn = design.posterior.particles(design, params, batch_of(OBS), key)
      batch = batch_of(OBS, {"posterior": drawn})
      results = [step.step(params, state, batch, key) for step, state in zip(steps, states, strict=True)]
      new = {**results[0][0], "temperature": results[1][0]["temperature"]}
      mean = design.prior.mode(new, OBS)
      metrics = {**results[0][2], **results[1][2], "error": jnp.sqrt(jnp.mean((mean - OBS @ GAIN.T) ** 2))}
      return (new, [result[1] for result in results]), metrics

    start = (params, [step.init(params) for step in steps])
    (params, _), metrics = jax.lax.scan(update, start, jax.random.split(key, 4_000))
    return params, metrics

  return design, *run(jax.random.key(9))


def test_it_reaches_the_optimum_of_a_fixed_q(trained):
  design, params, metrics = trained
  assert float(metrics["error"][0]) > 0.4
  assert float(metrics["error"][-500:].max()) < 0.03
  assert float(metrics["entropy"][-1]) < float(metrics["entropy"][0]) - 1.0
  assert float(metrics["kl"][500:].mean()) == pytest.approx(0.1, rel=0.3)
  action, carry, extras = design.posterior.mode(design, params, (), OBS, jax.random.key(0))
  assert carry == ()
  np.testing.assert_allclose(action, OBS @ GAIN.T, atol=0.1)
  np.testing.assert_allclose(extras["log_prob"], design.prior.log_prob(params, OBS, action), rtol=1e-6)


def test_the_parts_stay_within_twice_their_budgets(trained):
  """As the multipliers measure it, which is the mean over a period of the slow copy (its KL starts at 0 each time)."""
  _, _, metrics = trained
  for part in ("mean", "covariance"):
    spent = np.asarray(metrics[f"{part}_multiplier_budget_used"]).reshape(-1, 20).mean(axis=1)
    assert (spent[10:] <= 2.0).all(), (part, spent.max())
  assert spent[10:].max() > 0.5  # of the covariance, whose budget binds


def test_the_slow_copy_is_the_policy_and_moves_on_its_beat():
  prior = learned(network=constant(4), target_every=3)
  design = design_of(prior, posteriors.boltzmann(samples=4), temperatures.fixed(1.0))
  step = prior.step(design)
  params = prior.init(jax.random.key(0))
  state, seen = step.init(params), []
  for i in range(6):
    params, state, _ = step.step(params, state, batch_of(OBS), jax.random.key(i))
    seen.append(params["target_actor"])
    assert np.any(params["actor"] != 0)
  for still in (seen[0], seen[1]):
    np.testing.assert_array_equal(still, jnp.zeros(4))
  np.testing.assert_array_equal(seen[2], seen[4])
  assert np.any(seen[2] != 0)
  assert np.any(seen[5] != seen[4])
  np.testing.assert_array_equal(seen[5], params["actor"])
  draws = prior.proposal({**params, "target_actor": jnp.array([5.0, -5.0, -9.0, -9.0])}, OBS, jax.random.key(1), 6)
  assert draws.shape == (6, 64, 2)
  np.testing.assert_allclose(draws, jnp.broadcast_to(jnp.array([5.0, -5.0]), draws.shape), atol=0.05)


def test_discrete_em_follows_the_exact_path():
  """All actions as particles and one multiplier: π̄ goes to softmax(log π̄ + Q/η), and its KL is the budget's."""
  head = policies.categorical(3)
  worth = jnp.array([0.0, 1.0, 3.0])

  def q(params, obs, action):
    return jnp.broadcast_to(worth[action], action.shape)

  prior = priors.learned(constant(3), head, optax.adam(3e-2), bounds((), policy=1e6), optax.sgd(0.0), target_every=400)
  design = design_of(prior, posteriors.softmax(head), temperatures.fixed(2.0), Value(lambda key: {}, q, q, None))
  step = prior.step(design)
  free = {"policy": jnp.float32(-20.0)}  # a multiplier of 0: the whole E-step is followed

  @jax.jit
  def run():
    params = {**prior.init(jax.random.key(0)), "actor_bounds": free}

    def update(carry, key):
      params, state, _ = step.step(*carry, batch_of(OBS[:4]), key)
      return (params, state), params["target_actor"]

    return jax.lax.scan(update, (params, step.init(params)), jax.random.split(jax.random.key(0), 1_200))[1]

  path = jax.nn.softmax(run()[399::400])
  exact = jnp.zeros(3)
  for policy in path:
    exact = jax.nn.log_softmax(exact + worth / 2.0)
    np.testing.assert_allclose(policy, jnp.exp(exact), atol=1e-4)


def test_em_on_finite_processes_follows_the_exact_path_and_never_falls():
  """MPO's own parts with exact values and M-steps taken to their end, on random processes."""
  states, actions, eta, rounds = 5, 3, 0.5, 4
  head = policies.categorical(actions)
  network = Network(lambda key: jnp.zeros((states, actions)), lambda table, obs: obs @ table)

  def q(params, obs, action):
    return jnp.take_along_axis((obs @ params["table"]).T, action, axis=0)

  value = Value(lambda key: {}, q, q, None)
  prior = priors.learned(network, head, optax.adam(3e-2), bounds((), policy=1e6), optax.sgd(0.0), target_every=3_000)
  design = design_of(prior, posteriors.softmax(head), temperatures.fixed(eta), value)
  step, obs = prior.step(design), jnp.eye(states)

  def run(process):
    params = {**prior.init(jax.random.key(0)), "actor_bounds": {"policy": jnp.float32(-20.0)}}

    def iterate(carry, _):
      params, state = carry
      log_policy = jax.nn.log_softmax(params["target_actor"])
      evaluation = tabular.policy_evaluation(process, log_policy)
      params = {**params, "table": evaluation.q}

      def update(carry, key):
        params, state, _ = step.step(*carry, batch_of(obs), key)
        return (params, state), None

      (params, state), _ = jax.lax.scan(update, (params, state), jax.random.split(jax.random.key(0), 3_000))
      return (params, state), (log_policy, jnp.sum(process.initial * evaluation.value))

    start = {**params, "table": jnp.zeros((states, actions))}
    return jax.lax.scan(iterate, (start, step.init(start)), None, length=rounds)[1]

  keys = jax.random.split(jax.random.key(9), 5)
  processes = jax.vmap(lambda key: tabular.random_mdp(key, states, actions, discount=0.9))(keys)
  path, objective = jax.jit(jax.vmap(run))(processes)
  for i in range(5):
    process = jax.tree.map(lambda x, i=i: x[i], processes)
    exact = tabular.expectation_maximisation(process, temperature=eta, iterations=rounds, e_step="one_step")
    np.testing.assert_allclose(np.exp(path[i]), np.exp(exact.log_prior[:rounds]), atol=1e-4)
    np.testing.assert_allclose(objective[i], exact.objective[:rounds], atol=1e-3)
    assert (np.diff(objective[i]) > -1e-5).all()


# Weights by rank, and actions out of bounds


def test_weights_by_rank():
  q = jnp.float32([[3.0], [-1.0], [10.0], [2.0], [0.0]])
  wanted = np.maximum(np.log(3.0) - np.log([2, 5, 1, 3, 4]), 0.0)
  np.testing.assert_allclose(jnp.exp(losses.rank_weights(q))[:, 0], wanted / wanted.sum(), rtol=1e-5)
  np.testing.assert_array_equal(losses.rank_weights(q), losses.rank_weights(100 * q - 7))
  with pytest.raises(ValueError, match="at least two actions"):
    losses.rank_weights(q[:1])


def test_ranked_particles_are_the_priors_actions():
  prior = learned()
  design = design_of(prior, posteriors.ranked(samples=6), temperatures.fixed(0.0))
  params = prior.init(jax.random.key(0))
  drawn = design.posterior.particles(design, params, batch_of(OBS), jax.random.key(1))
  np.testing.assert_allclose(jnp.exp(drawn.log_weight).sum(0), np.ones(64), rtol=1e-5)
  worth = design.value.q_target(params, OBS, drawn.action)
  np.testing.assert_array_equal(jnp.argmax(drawn.log_weight, 0), jnp.argmax(worth, 0))
  assert np.isfinite(drawn.log_ratio).all()
  with pytest.raises(ValueError, match="acting_by_prior"):
    posteriors.ranked().act(None, {}, (), OBS, jax.random.key(0))


def test_actions_out_of_bounds_are_worth_less_to_the_policy():
  value = values.out_of_bounds_penalty(quadratic(), 3.0)
  action = jnp.float32([[[0.5, -2.0]], [[1.5, 1.0]]])
  plain = quadratic().q({}, OBS[:1], action)
  for q in (value.q, value.q_target):
    np.testing.assert_allclose(q({}, OBS[:1], action), plain - jnp.float32([[3.0], [0.75]]), rtol=1e-6)
  with pytest.raises(ValueError, match=r"weight must be at least 0, got -1.0"):
    values.out_of_bounds_penalty(quadratic(), -1.0)


# What a value can be evaluated by


def test_samples_of_the_prior_are_equally_weighted_and_cost_nothing():
  prior = learned()
  design = design_of(prior, posteriors.boltzmann(samples=4), temperatures.fixed(1.0))
  params = prior.init(jax.random.key(0))
  drawn = priors.samples(5)(design, params, batch_of(OBS), jax.random.key(1))
  assert drawn.action.shape == (5, 64, 2)
  np.testing.assert_allclose(jnp.exp(drawn.log_weight), np.full((5, 64), 0.2), rtol=1e-6)
  assert (drawn.log_ratio == 0).all()
  np.testing.assert_array_equal(drawn.action, prior.proposal(params, OBS, jax.random.key(1), 5))


def test_every_action_of_the_prior_has_its_probability():
  head = policies.categorical(3)
  prior = priors.fixed(head, jnp.log(jnp.array([0.5, 0.3, 0.2])))
  design = Design(prior, None, None, None)
  drawn = priors.every_action(head)(design, {}, batch_of(OBS), jax.random.key(0))
  np.testing.assert_array_equal(drawn.action, jnp.broadcast_to(jnp.arange(3)[:, None], (3, 64)))
  np.testing.assert_allclose(jnp.exp(drawn.log_weight), jnp.array([[0.5], [0.3], [0.2]]) * np.ones(64), rtol=1e-5)
  assert (drawn.log_ratio == 0).all()


def test_the_fixed_priors_mode_can_act():
  prior = priors.fixed(HEAD, jnp.array([0.3, -0.4, 0.0, 0.0]))
  np.testing.assert_allclose(prior.mode({}, OBS), np.tile([0.3, -0.4], (64, 1)), rtol=1e-6)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: learned(bounds=bounds(mean=0.1)), r"parts \['covariance', 'mean'\], but there are bounds for \['mean'\]"),
    (lambda: temperatures.kl_budget(duals.dual(1.0), optax.sgd(1.0), 0.0), "above 0, got 0.0"),
    (lambda: priors.samples(0), "n is a whole number >= 1, got 0"),
    (
      lambda: posteriors.acting_by_prior(posteriors.boltzmann()).mode(
        Design(priors.uniform(HEAD), None, None, None), {}, (), OBS, None
      ),
      "no mode to be judged by",
    ),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
