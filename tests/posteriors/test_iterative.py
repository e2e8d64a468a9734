"""Iterative amortised inference and the searches it is compared with: closed forms on a fixed quadratic Q."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import varl
from varl import duals, networks, policies, posteriors, priors, temperatures, values
from varl.agents import iterative_sac
from varl.networks import Network
from varl.posteriors import objective
from varl.posteriors.iterative import normalise
from varl.report import diagnostics
from varl.types import Design, Spec, Transition, Value

ALPHA = 0.3
CURVATURE = jnp.float32([1.0, 4.0])
COVARIANCE = ALPHA / 2.0 / CURVATURE
HEAD = policies.gaussian(2, init_std=0.5)
OBS = jax.random.uniform(jax.random.key(9), (128, 2), minval=-1.5, maxval=1.5)


def best(obs):
  """Harder to guess from the state than to climb to."""
  x, y = 4.0 * obs[..., 0], 4.0 * obs[..., 1]
  return jnp.stack([jnp.sin(x) * jnp.cos(y), jnp.sin(x * obs[..., 1])], axis=-1)


def quadratic(params, obs, action):
  """Q = -Σ H_i (a_i - a*_i(s))²: the optimal policy is N(a*(s), α/2 H⁻¹), within the Gaussian family."""
  return -jnp.sum(CURVATURE * jnp.square(action - best(obs)), axis=-1)


FIXED = Value(None, quadratic, quadratic, None)
OPTIMUM = float(ALPHA * (-1.0 + 0.5 * jnp.sum(jnp.log(2 * jnp.pi * jnp.e * COVARIANCE))))  # E[Q] = -α d/2


def at(obs):
  nothing = jnp.zeros(len(obs))
  return Transition(obs, nothing, nothing, nothing, obs, nothing, {})


def design_of(posterior, value=FIXED, head=HEAD, prior=None, alpha=ALPHA):
  return Design(prior or priors.uniform(head), posterior, value, temperatures.fixed(alpha))


def constant(new, gate):
  """A network that ignores its input: f = new, and ω = sigmoid(gate) everywhere."""
  return Network(
    lambda key: (jnp.float32(new), jnp.float32(gate)),
    lambda params, x: jnp.broadcast_to(jnp.concatenate(params), (*x.shape[:-1], 2 * len(params[0]))),
  )


def iterative(width=32, optimizer=None, head=HEAD, **kwargs):
  size = posteriors.iterative_inputs(2, head)
  network = networks.mlp(size, 2 * head.size, hidden=(width, width), zero_output=True)
  return posteriors.iterative(network, head, optimizer or optax.sgd(1.0), **kwargs)


def trained(posterior, updates):
  """The posterior's parameters after its own E-steps on the fixed Q."""
  step = posterior.step(design_of(posterior))
  params = posterior.init(jax.random.key(0))

  def one(carry, key):
    obs_key, key = jax.random.split(key)
    obs = jax.random.uniform(obs_key, (64, 2), minval=-1.5, maxval=1.5)
    params, state, metrics = step.step(*carry, at(obs), key)
    return (params, state), metrics["inference_gain"] if "inference_gain" in metrics else jnp.zeros(())

  keys = jax.random.split(jax.random.key(1), updates)
  (params, _), gain = jax.jit(lambda: jax.lax.scan(one, (params, step.init(params)), keys))()
  return params, gain


UPDATES = 1_000
RATE = optax.cosine_decay_schedule(3e-3, UPDATES)


@pytest.fixture(scope="module")
def learned():
  """(design, params, the gain by update) of iterative inference, K = 3."""
  posterior = iterative(optimizer=optax.adam(RATE), iterations=3, samples=8)
  params, gain = trained(posterior, UPDATES)
  return design_of(posterior), params, gain


def gap_of(design, params):
  measure = jax.jit(
    lambda: diagnostics.amortisation_gap(
      design, HEAD, params, OBS, jax.random.key(2), steps=300, restarts=1, samples=16, rounds=64
    )
  )
  return measure()


@pytest.fixture(scope="module")
def gap(learned):
  return gap_of(*learned[:2])


# The closed form


def test_the_iterates_reach_the_closed_form(learned):
  design, params, _ = learned
  run = jax.jit(lambda: design.posterior.draw(design, params, at(OBS), jax.random.key(5)))()
  assert run.outputs.shape == (4, 128, 4)
  first, last = HEAD.distribution(run.outputs[0]), HEAD.distribution(run.outputs[-1])
  assert (np.asarray(first.mean()) == 0).all()
  np.testing.assert_allclose(first.stddev(), 0.5, rtol=1e-5)
  # Against deviations of .39 and .19, and means that spread by .5 and .7.
  assert float(jnp.sqrt(jnp.mean(jnp.square(last.mean() - best(OBS))))) < 0.15
  np.testing.assert_allclose(jnp.mean(last.variance(), axis=0), COVARIANCE, rtol=0.05)


def test_the_objective_rises_with_every_iteration(learned):
  design, params, gain = learned
  by_iteration = jax.jit(
    lambda: diagnostics.objective_by_iteration(design, params, OBS, jax.random.key(1), rounds=32)
  )()
  mean = np.asarray(by_iteration.mean(axis=1))
  assert mean.shape == (4,)
  assert (np.diff(mean) > 0).all()
  assert abs(mean[-1] - OPTIMUM) < 0.1
  # At the start, in closed form: E[Q] = -Σ H (a*² + ¼), and the entropy of σ = ½.
  start = -jnp.sum(CURVATURE * (jnp.square(best(OBS)) + 0.25), axis=-1) + ALPHA * np.log(2 * np.pi * np.e / 4)
  np.testing.assert_allclose(mean[0], start.mean(), atol=0.02)
  assert float(gain[0]) == pytest.approx(0.0, abs=0.3)  # heads that start at 0 leave λ_0 where it is
  assert float(gain[-1]) > 1.5


def test_its_amortisation_gap_is_smaller_than_directs(gap):
  network = networks.mlp(2, HEAD.size, hidden=(32, 32))
  posterior = posteriors.direct(network, HEAD, optax.adam(RATE), samples=8)
  params, _ = trained(posterior, UPDATES)
  other = gap_of(design_of(posterior), params)
  np.testing.assert_allclose(gap.optimum, OPTIMUM, atol=5e-3)
  difference = np.asarray(other.gap - gap.gap)
  half_width = 1.96 * difference.std() / np.sqrt(len(difference))
  print(f"gap {gap.gap.mean():.4f}, direct {other.gap.mean():.4f}, difference ± {half_width:.4f}")
  assert difference.mean() > half_width


def test_the_gap_of_a_given_policy_is_its_divergence_from_the_best():
  """gap = α KL(π ‖ π*), in closed form, and 0 for π* itself."""
  mean, std = jnp.float32([0.4, -0.3]), jnp.float32([0.6, 0.3])
  rho = jnp.log(jnp.expm1(std - 1e-3)) - np.log(np.expm1(0.5 - 1e-3))
  outputs = jnp.concatenate([mean, rho])
  network = Network(lambda key: outputs, lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], 4)))
  design = design_of(posteriors.direct(network, HEAD, optax.sgd(1.0), samples=64))
  params = {"actor": outputs}
  got = jax.jit(
    lambda: diagnostics.amortisation_gap(
      design, HEAD, params, OBS, jax.random.key(0), steps=300, restarts=2, rounds=200,
    )
  )()  # fmt: skip
  wanted = ALPHA * policies.gaussian_kl(mean, std, best(OBS), jnp.sqrt(COVARIANCE)).sum(-1)
  # 12,800 draws a state; Q - α log π deviates by less than 6 within a state.
  np.testing.assert_allclose(got.gap, wanted, atol=4 * 6 / np.sqrt(12_800))
  np.testing.assert_allclose(got.gap.mean(), wanted.mean(), atol=0.02)
  np.testing.assert_allclose(got.optimum, OPTIMUM, atol=5e-3)
  np.testing.assert_allclose(HEAD.distribution(got.outputs).mean(), best(OBS), atol=0.05)


@pytest.mark.parametrize("kind", ["gradient", "cem over parameters", "cem over actions"])
def test_search_finds_the_closed_form(kind):
  if kind == "gradient":
    posterior, mean_error, ratio = posteriors.gradient(HEAD, steps=400, learning_rate=0.03, samples=16), 0.06, 0.1
  elif kind == "cem over parameters":
    posterior = posteriors.cem(HEAD, iterations=30, population=128, elites=24, samples=64, over="parameters")
    mean_error, ratio = 0.1, 0.2
  else:
    posterior = posteriors.cem(HEAD, iterations=8, population=128, elites=16)
    mean_error, ratio = 0.02, None
  design = design_of(posterior)
  assert posterior.init(jax.random.key(0)) == {}
  assert posterior.step is None
  obs = OBS[:48]
  action, _, extras = jax.jit(lambda: posterior.mode(design, {}, (), obs, jax.random.key(0)))()
  assert float(jnp.sqrt(jnp.mean(jnp.square(action - best(obs))))) < mean_error
  # At the mode log π = -½ Σ log 2π σ².
  if ratio is not None:
    volume = np.exp(-2 * np.asarray(extras["log_prob"])) / (2 * np.pi) ** 2
    np.testing.assert_allclose(volume.mean(), np.prod(COVARIANCE), rtol=2 * ratio)
  drawn = jax.jit(lambda: posterior.particles(design, {}, at(obs), jax.random.key(1)))()
  np.testing.assert_allclose(jax.nn.logsumexp(drawn.log_weight, axis=0), 0.0, atol=1e-6)
  error = np.asarray(drawn.action - best(obs))
  assert abs(error.mean()) < 0.1
  if ratio is not None:
    np.testing.assert_allclose(error.var(axis=(0, 1)), COVARIANCE, rtol=3 * ratio)


def test_the_density_of_a_searched_policy_is_that_of_the_executed_action():
  head = policies.tanh_gaussian(2)
  family = posteriors.search.by_moments(head)
  outputs = jnp.float32([0.3, -0.2, np.log(0.5), np.log(0.25)])
  same = jnp.concatenate([outputs[:2], jnp.log(jnp.expm1(jnp.exp(outputs[2:]) - 1e-3)) - np.log(np.expm1(1 - 1e-3))])
  noise = head.noise(jax.random.key(0), 7, ())
  for got, wanted in zip(family.transform(outputs, noise), head.transform(same, noise), strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
  raw = head.transform(same, noise)[0]
  np.testing.assert_allclose(family.log_prob(outputs, raw), head.log_prob(same, raw), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(family.mode(outputs), outputs[:2])


@pytest.mark.parametrize("through", [False, True])
def test_the_semi_amortised_start_climbs_its_own_objective_or_the_refined_one(through):
  """The E-step against central differences in the start, which is one for all states; refining it raises J̃."""
  network = Network(
    lambda key: jnp.float32([0.5, -0.5, 0.1, -0.3]), lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], 4))
  )
  posterior = posteriors.gradient(
    HEAD, steps=3, learning_rate=0.1, samples=4, network=network, optimizer=optax.sgd(1.0), through=through
  )
  design = design_of(posterior)
  step, batch, key = posterior.step(design), at(OBS[:8]), jax.random.key(2)
  params = posterior.init(jax.random.key(0))

  @jax.jit
  def run(start):
    new, _, metrics = step.step({"actor": start}, step.init(params), batch, key)
    return new["actor"] - start, metrics["objective"]

  moved, value = run(params["actor"])
  nudges = 0.02 * jnp.eye(4)
  slope = jnp.stack([(run(params["actor"] + n)[1] - run(params["actor"] - n)[1]) / 0.04 for n in nudges])
  np.testing.assert_allclose(moved, slope, rtol=0.03, atol=0.01)

  @jax.jit
  def objectives():
    found = posterior.draw(design, params, batch, varl.step.stream_key(key, "posterior"))
    return [
      jnp.mean(objective.estimate(design, HEAD, {}, batch.obs, outputs, found.noise, target=True))
      for outputs in (network.apply(params["actor"], batch.obs), found.outputs)
    ]

  started, refined = objectives()
  assert refined > started + 0.2
  assert float(value) == pytest.approx(float(refined if through else started), rel=1e-4)


# The update, by hand


def test_the_gate_mixes_old_and_new():
  """With f and ω constant, λ_k = ω^k λ_0 + (1 - ω^k) f."""
  head = policies.gaussian(1)
  start, new, gate = np.float32([1.0, -1.0]), np.float32([3.0, 0.5]), np.float32([0.0, np.log(3.0)])
  posterior = posteriors.iterative(constant(new, gate), head, optax.sgd(1.0), iterations=3, samples=2, start=start)
  value = Value(None, lambda params, obs, action: -(action[..., 0] ** 2), None, None)
  design = design_of(posterior, value._replace(q_target=value.q), head)
  params = posterior.init(jax.random.key(0))
  run = jax.jit(lambda key: posterior.draw(design, params, at(OBS[:5]), key))(jax.random.key(0))
  omega = np.float32([0.5, 0.75])
  for k in range(4):
    wanted = omega**k * start + (1 - omega**k) * new
    np.testing.assert_allclose(run.outputs[k], np.broadcast_to(wanted, (5, 2)), rtol=1e-5)


def test_normalised_gradients():
  got = normalise(jnp.float32([[1.0, 3.0, 5.0, 7.0], [10.0, 30.0, 50.0, 70.0]]), "layer")
  np.testing.assert_allclose(got, [np.float32([-3, -1, 1, 3]) / np.sqrt(5)] * 2, rtol=1e-5)
  np.testing.assert_allclose(normalise(jnp.float32([[3.0, 4.0]]), "rms"), [[3 / 12.5**0.5, 4 / 12.5**0.5]], rtol=1e-6)
  assert (np.asarray(normalise(jnp.zeros((2, 4)), "layer")) == 0).all()
  np.testing.assert_allclose(normalise(jnp.float32([[0.1, -7.0]]), "layer"), [[1.0, -1.0]], rtol=1e-5)  # but a sign


def learned_critic():
  critic = networks.action_in(networks.ensemble(networks.mlp(4, 1, hidden=(8,)), 2), HEAD.execute)
  return values.q_value(critic, optax.sgd(0.1), pessimism=1.0)


@pytest.fixture(scope="module")
def learning():
  """(design, params) with a critic of its own, K = 2 and M = 3; the heads are not at zero."""
  prior = priors.fixed(HEAD, jnp.float32([0.1, 0.0, 0.2, 0.0]))
  head_noise = Network(lambda key: networks.mlp(10, 8, hidden=(8,)).init(key), networks.mlp(10, 8, hidden=(8,)).apply)
  posterior = posteriors.iterative(head_noise, HEAD, optax.sgd(1.0), iterations=2, samples=3)
  design = design_of(posterior, learned_critic(), prior=prior)
  params = {**posterior.init(jax.random.key(0)), **design.value.init(jax.random.key(1))}
  params["critic"] = jax.tree.map(lambda x: x + 0.1, params["critic"])
  return design, params


@pytest.mark.parametrize("target", [True, False])
def test_the_step_is_the_gradient_of_every_iterates_objective(learning, target):
  """Against plain differentiation of -1/K Σ_k J̃(λ_k) with inputs held constant, through the critic asked for."""
  design, params = learning
  network = networks.mlp(10, 8, hidden=(8,))
  posterior = posteriors.iterative(network, HEAD, optax.sgd(1.0), iterations=2, samples=3, target=target)
  design = design._replace(posterior=posterior)
  obs, key = OBS[:6], jax.random.key(3)
  noise = HEAD.noise(varl.step.stream_key(key, "posterior"), 9, (6,)).reshape(3, 3, 6, 2)

  def loss(actor):
    outputs, total = jnp.zeros((6, 4)), 0.0
    for k in range(2):
      climb = objective.ascent(design, HEAD, params, target=target)
      slope = climb(obs, outputs, noise[k])[1]
      features = jnp.concatenate([obs, outputs, normalise(slope, "layer")], axis=-1)
      new, gate = jnp.split(network.apply(actor, jax.lax.stop_gradient(features)), 2, axis=-1)
      outputs = jax.nn.sigmoid(gate) * jax.lax.stop_gradient(outputs) + (1 - jax.nn.sigmoid(gate)) * new
      total += jnp.mean(objective.estimate(design, HEAD, params, obs, outputs, noise[k + 1], target=target))
    return -total / 2

  step = design.posterior.step(design)
  new, _, metrics = jax.jit(step.step)(params, step.init(params), at(obs), key)
  value, slope = jax.jit(jax.value_and_grad(loss))(params["actor"])
  np.testing.assert_allclose(metrics["actor_loss"], value, rtol=1e-5)
  jax.tree.map(
    lambda a, b, g: np.testing.assert_allclose(a - b, g, rtol=1e-3, atol=1e-6), params["actor"], new["actor"], slope
  )


def test_no_gradient_into_the_critic_or_through_the_inputs(learning):
  design, params = learning

  def of_particles(params):
    drawn = design.posterior.particles(design, params, at(OBS[:6]), jax.random.key(0))
    return jnp.sum(drawn.action) + jnp.sum(drawn.log_ratio)

  def of_draw(params):
    run = design.posterior.draw(design, params, at(OBS[:6]), jax.random.key(0))
    return sum(jnp.sum(x) for x in run)

  particles, run = jax.jit(lambda p: (jax.grad(of_particles)(p), jax.grad(of_draw)(p)))(params)
  for group in ("critic", "target_critic"):
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(particles[group]))
  assert any((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(particles["actor"]))
  assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(run))


def test_sharing_the_draw_changes_no_number(learning):
  """The actor's and the temperature's steps see one draw, whether it is passed on or drawn by each."""
  design, params = learning
  temperature = temperatures.entropy_target(duals.dual(ALPHA), optax.sgd(0.1), -1.0)
  design = design._replace(temperature=temperature)
  params = {**params, **temperature.init(jax.random.key(0))}
  both = varl.joint(design.posterior.step(design), temperature.step(design))
  shared = varl.share("posterior", lambda *args: design.posterior.draw(design, *args), both)
  state, key = both.init(params), jax.random.key(4)
  plain, _, metrics = jax.jit(both.step)(params, state, at(OBS[:6]), key)
  other, _, other_metrics = jax.jit(shared.step)(params, state, at(OBS[:6]), key)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (plain, metrics), (other, other_metrics)
  )
  # The temperature's loss is α (entropy - H̄) at the entropy that the actor's loss reports.
  np.testing.assert_allclose(metrics["temperature_loss"], ALPHA * (metrics["entropy"] + 1.0), rtol=1e-4)


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 5])
def test_any_number_of_iterations(iterations):
  head = policies.tanh_gaussian(2, init_std=0.5)
  posterior = iterative(width=4, head=head, iterations=iterations, samples=2)
  design = design_of(posterior, head=head)
  step = posterior.step(design)

  @jax.jit
  def run(key):
    params = posterior.init(key)
    drawn = posterior.particles(design, params, at(OBS[:3]), key)
    action, _, extras = posterior.act(design, params, (), OBS[:3], key)
    return params, drawn, action, extras, step.step(params, step.init(params), at(OBS[:3]), key)

  params, drawn, action, extras, (new, _, metrics) = run(jax.random.key(0))
  assert [x.shape for x in drawn] == [(2, 3, 2), (2, 3), (2, 3)]
  assert action.shape == (3, 2)
  assert {name: x.shape for name, x in extras.items()} == {"log_prob": (3,)}
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((new, metrics, extras, drawn)))
  assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(params), strict=True))


# Acting


def test_acting_from_untrained_heads_is_the_start():
  """N(0, ¼) before squashing, whatever the state and K; J̃ = E[Q] + α entropy at every iterate."""
  posterior = iterative(iterations=2, samples=400)
  value = Value(None, None, lambda params, obs, action: -jnp.sum(action**2, axis=-1), None)
  design = design_of(posterior, value)
  params, obs = posterior.init(jax.random.key(0)), jnp.tile(OBS, (8, 1))
  action, carry, extras = jax.jit(lambda k: posterior.act(design, params, (), obs, k))(jax.random.key(1))
  assert carry == ()
  assert abs(float(action.mean())) < 4 * 0.5 / np.sqrt(2048)
  assert float(action.var()) == pytest.approx(0.25, abs=4 * 0.25 * np.sqrt(2 / 2048))
  wanted = HEAD.log_prob(jnp.zeros(4), action)
  np.testing.assert_allclose(extras["log_prob"], wanted, rtol=1e-4, atol=1e-4)
  start = -0.5 + ALPHA * np.log(2 * np.pi * np.e / 4)
  by_iteration = diagnostics.objective_by_iteration(design, params, obs, jax.random.key(2), rounds=1)
  np.testing.assert_allclose(by_iteration.mean(1), np.full(3, start), atol=0.01)


def test_a_key_draws_inferences_noise_apart_from_the_actions(learning):
  """Two draws from two keys, neither the one given; and one key gives one result."""
  design, params = learning
  noises = []
  head = HEAD._replace(noise=lambda key, n, shape: noises.append(key) or HEAD.noise(key, n, shape))
  posterior = posteriors.iterative(networks.mlp(10, 8, hidden=(8,)), head, optax.sgd(1.0), iterations=2, samples=3)

  @jax.jit
  def act(key):
    noises.clear()
    result = posterior.act(design, params, (), OBS[:4], key)
    return result, [jax.random.key_data(key) for key in (*noises, key)]

  first, keys = act(jax.random.key(0))
  assert len({tuple(np.asarray(data)) for data in keys}) == len(keys) == 3
  again, _ = act(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, first, again)


def test_the_mode_is_a_function_of_the_state_alone(learning):
  design, params = learning
  mode = jax.jit(lambda obs, key: design.posterior.mode(design, params, (), obs, key)[0])
  one = mode(OBS[:6], jax.random.key(0))
  np.testing.assert_array_equal(one, mode(OBS[:6], jax.random.key(1)))
  np.testing.assert_allclose(one[::-1], mode(OBS[:6][::-1], jax.random.key(0)), rtol=1e-4, atol=1e-5)


# What is refused


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: iterative(iterations=0), "iterations is a whole number >= 1, got 0"),
    (lambda: iterative(samples=0), "samples is a whole number >= 1, got 0"),
    (lambda: iterative(gradient_norm="batch"), r"\['layer', 'rms'\], got 'batch'"),
    (lambda: iterative(start=np.zeros(3, np.float32)), r"shape \(4,\), got \(3,\)"),
    (lambda: iterative(head=policies.categorical(4)), "this head's are discrete"),
    (lambda: posteriors.gradient(HEAD, steps=0), "steps is a whole number >= 1, got 0"),
    (lambda: posteriors.gradient(HEAD, through=True), "there is none"),
    (lambda: posteriors.gradient(HEAD, optimizer=optax.sgd(1.0)), "both network and optimizer"),
    (
      lambda: posteriors.gradient(
        HEAD, network=networks.mlp(2, 4), optimizer=optax.sgd(1.0), start=np.zeros(4, np.float32)
      ),
      "not by both",
    ),
    (lambda: posteriors.cem(HEAD, elites=101), "elites is a whole number in .1, 101., got 101"),
    (lambda: posteriors.cem(HEAD, over="states"), "'actions' or 'parameters', got 'states'"),
    (lambda: posteriors.cem(HEAD, spread=0.0), "spread=0.0"),
    (
      lambda: diagnostics.amortisation_gap(None, HEAD, {}, OBS, jax.random.key(0), restarts=0),
      "restarts is a whole number",
    ),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_posterior_that_does_not_iterate_has_no_objective_by_iteration():
  network = networks.mlp(2, 4, hidden=(4,))
  posterior = posteriors.direct(network, HEAD, optax.sgd(1.0))
  with pytest.raises(ValueError, match=r"only posteriors\.iterative has an objective by iteration"):
    diagnostics.objective_by_iteration(
      design_of(posterior), posterior.init(jax.random.key(0)), OBS[:2], jax.random.key(0), rounds=1
    )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"inference_iterations": 0}, "inference_iterations"),
    ({"samples": 0}, "samples"),
    ({"prior": "learned"}, "'fixed' or 'uniform', got 'learned'"),
    ({"prior_std": 0.0}, "prior_std"),
    ({"initial_std": 0.0}, "initial_std is a finite number > 0, got 0.0"),
    ({"gradient_norm": "none"}, "gradient_norm"),
    ({"policy": "beta"}, r"policy is one of .*, got 'beta'"),
  ],
)
def test_a_bad_config_is_an_error(change, message):
  with pytest.raises(ValueError, match=message):
    iterative_sac.make(Spec(2, 2), dataclasses.replace(iterative_sac.Config(hidden=(8,)), **change))


def test_a_config_that_does_not_fit_the_environment():
  with pytest.raises(ValueError, match="continuous actions"):
    iterative_sac.make(Spec(2, 3, discrete=True))
  with pytest.raises(ValueError, match="unbounded"):
    iterative_sac.make(Spec(2, 3, bounded=False))


def test_the_fixed_prior_is_a_squashed_normal():
  config = iterative_sac.Config(hidden=(8,), prior="fixed", prior_std=0.8)
  prior = iterative_sac.design(Spec(2, 2), config).prior
  raw = jnp.float32([[[0.3, -1.2]]])
  wanted = np.sum(
    -0.5 * (np.asarray(raw) / 0.8) ** 2 - np.log(0.8 * np.sqrt(2 * np.pi)) - np.log(1 - np.tanh(raw) ** 2)
  )
  np.testing.assert_allclose(prior.log_prob({}, OBS[:1], raw)[0, 0], wanted, rtol=1e-5)
