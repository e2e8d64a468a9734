"""The first member of each axis, and the errors of gluing them: numbers by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import varl
from varl import duals, networks, policies, posteriors, priors, temperatures, values
from varl.agents import sac
from varl.networks import Network
from varl.types import Design, Particles, Posterior, Spec, Temperature, Transition, Value

OBS = np.float32([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]])


def constant(size):
  """A network that ignores its input: its parameters are its outputs."""
  return Network(lambda key: jnp.zeros(size), lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], size)))


def linear(members):
  """An ensemble Q_i(x) = w_i · x."""
  return Network(
    lambda key: jnp.ones((members, 3)), lambda params, x: jnp.einsum("ei,...i->e...", params, x)[..., None]
  )


def batch_of(obs, action=None, reward=0.0, discount=1.0):
  n = len(obs)

  def full(value):
    return jnp.broadcast_to(jnp.float32(value), (n,))

  action = np.zeros((n, 1), np.float32) if action is None else action
  return Transition(obs, action, full(reward), full(discount), obs, full(0.0), {})


# Priors


@pytest.mark.parametrize("make", [policies.gaussian, policies.tanh_gaussian])
def test_the_uniform_prior_is_the_improper_density_one(make):
  prior = priors.uniform(make(2))
  assert prior.init(jax.random.key(0)) == {}
  assert prior.step is None
  log_prob = prior.log_prob({}, OBS, np.full((5, 3, 2), 7.0, np.float32))
  assert log_prob.shape == (5, 3)
  assert (np.asarray(log_prob) == 0).all()


def test_the_uniform_prior_proposes_uniform_actions():
  action = priors.uniform(policies.tanh_gaussian(2)).proposal({}, OBS, jax.random.key(0), 4000)
  assert action.shape == (4000, 3, 2)
  # 24,000 draws of variance ⅓ on (-1, 1).
  assert abs(jnp.tanh(action).mean()) < 3 * np.sqrt(1 / 3 / 24_000)
  categorical = priors.uniform(policies.categorical(4))
  assert categorical.proposal({}, OBS, jax.random.key(0), 5).shape == (5, 3)
  assert (categorical.log_prob({}, OBS, jnp.zeros((5, 3), jnp.int32)) == 0).all()


def test_the_uniform_prior_of_the_whole_line_has_no_samples():
  with pytest.raises(ValueError, match="unbounded action space cannot be sampled"):
    priors.uniform(policies.gaussian(2)).proposal({}, OBS, jax.random.key(0), 4)


@pytest.mark.parametrize("make", [policies.gaussian, policies.tanh_gaussian])
def test_the_fixed_prior_is_the_head_at_its_outputs(make):
  head, outputs = make(2), np.float32([0.5, -0.5, 0.0, 1.0])
  prior = priors.fixed(head, outputs)
  action = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
  log_prob = prior.log_prob({}, OBS, action)
  assert log_prob.shape == (5, 3)
  np.testing.assert_array_equal(log_prob, head.log_prob(outputs, action))
  proposal = prior.proposal({}, OBS, jax.random.key(0), 4000)
  assert proposal.shape == (4000, 3, 2)
  std = np.asarray(head.distribution(outputs).stddev())
  np.testing.assert_array_less(np.abs(proposal.mean((0, 1)) - outputs[:2]), 4 * std / np.sqrt(12_000))
  with pytest.raises(ValueError, match=r"outputs of shape \(4,\), got \(2,\)"):
    priors.fixed(head, outputs[:2])


# Posteriors


@pytest.mark.parametrize("samples", [1, 7])
def test_direct_particles(samples):
  head = policies.tanh_gaussian(2)
  prior = priors.fixed(head, np.float32([0.2, 0.0, 0.0, 0.0]))
  posterior = posteriors.direct(networks.mlp(2, 4, hidden=(8,)), head, optax.sgd(0.1), samples=samples)
  params = jax.jit(posterior.init)(jax.random.key(0))
  design = Design(prior, posterior, None, None)
  drawn = jax.jit(lambda p, k: posterior.particles(design, p, batch_of(OBS), k))(params, jax.random.key(1))
  assert isinstance(drawn, Particles)
  assert [x.shape for x in drawn] == [(samples, 3, 2), (samples, 3), (samples, 3)]
  np.testing.assert_allclose(jax.nn.logsumexp(drawn.log_weight, axis=0), 0.0, atol=1e-6)
  outputs = networks.mlp(2, 4, hidden=(8,)).apply(params["actor"], OBS)
  expected = head.log_prob(outputs, drawn.action) - prior.log_prob({}, OBS, drawn.action)
  np.testing.assert_allclose(drawn.log_ratio, expected, atol=1e-5)


def test_direct_acts_by_samples_and_is_judged_by_its_mode():
  head = policies.tanh_gaussian(1)
  posterior = posteriors.direct(constant(2), head, optax.sgd(0.1))
  params, obs = {"actor": jnp.array([0.3, 0.0])}, np.zeros((4000, 2), np.float32)
  action, carry, extras = posterior.act(None, params, posterior.carry(4000), obs, jax.random.key(0))
  assert carry == ()
  assert action.shape == (4000, 1)
  assert abs(action.mean() - 0.3) < 4 / np.sqrt(4000)
  np.testing.assert_allclose(extras["log_prob"], head.log_prob(jnp.array([0.3, 0.0]), action), rtol=1e-4, atol=1e-5)
  action, _, extras = posterior.mode(None, params, (), obs, jax.random.key(0))
  np.testing.assert_allclose(action, np.full((4000, 1), 0.3), rtol=1e-6)
  np.testing.assert_allclose(extras["log_prob"], head.log_prob(jnp.array([0.3, 0.0]), action), rtol=1e-5)


def test_the_e_step_descends_alpha_log_pi_minus_q():
  """Gaussian policy, Q(s, a) = 3a and p = 1: ∂L/∂μ = -3, and ∂L/∂σ = -α/σ - 3 mean ε."""
  head, key = policies.gaussian(1, min_std=0.0), jax.random.key(0)
  value = Value(None, lambda params, obs, action: 3.0 * action[..., 0], None, None)
  posterior = posteriors.direct(constant(2), head, optax.sgd(1.0), samples=4)
  design = Design(priors.uniform(head), posterior, value, temperatures.fixed(0.5))
  step, params = posterior.step(design), {"actor": jnp.zeros(2)}
  new, _, metrics = step.step(params, step.init(params), batch_of(OBS), key)
  noise = jax.random.normal(varl.step.stream_key(key, "posterior"), (4, 3, 1))
  np.testing.assert_allclose(new["actor"][0], 3.0, rtol=1e-5)
  slope = 1 - np.exp(-1.0)  # dσ/dρ of softplus at σ = 1
  np.testing.assert_allclose(new["actor"][1], slope * (0.5 + 3.0 * noise.mean()), rtol=1e-4)
  np.testing.assert_allclose(metrics["q"], 3.0 * noise.mean(), rtol=1e-4)
  np.testing.assert_allclose(metrics["entropy"], 0.5 * np.mean(noise**2) + 0.5 * np.log(2 * np.pi), rtol=1e-5)


# Values


def fixed_posterior(action, log_ratio):
  """A posterior of two equally likely given actions for every state."""

  def particles(design, params, batch, key):
    shape = (2, len(batch.obs))
    actions = jnp.broadcast_to(jnp.float32(action)[:, None, None], (*shape, 1))
    ratios = jnp.broadcast_to(jnp.float32(log_ratio)[:, None], shape)
    return Particles(actions, jnp.full(shape, -jnp.log(2.0)), ratios)

  return Posterior(None, particles, None, None, None, None)


@pytest.mark.parametrize(("regularised", "next_value"), [(True, 0.25), (False, 2.0)])
@pytest.mark.parametrize(("pessimism", "shift"), [("min", 0.0), (0.0, 0.5), (2.0, -0.5)])
def test_the_value_target_by_hand(regularised, next_value, pessimism, shift):
  """Q̄_1 = s_1 + s_2 + a and Q̄_2 = Q̄_1 + s_2 at s = (0, 1), a in {0, 2}: their minimum is 1 and 3 and their deviation ½.

  V = 2 and 2 - α (4 + 3)/2 = 0.25 with α = ½; κ = 0 adds ½ and κ = 2 takes ½. y = 3·1 + ½ V.
  """
  value = values.q_value(
    networks.action_in(linear(2), lambda a: a),
    optax.sgd(1.0),
    gamma=0.5,
    tau=0.5,
    pessimism=pessimism,
    regularised=regularised,
    reward_scale=3.0,
  )
  params = value.init(jax.random.key(0))
  params = {**params, "target_critic": params["target_critic"].at[1, 1].set(2.0)}
  posterior = fixed_posterior([0.0, 2.0], [4.0, 3.0])
  step = value.step(Design(None, posterior, value, temperatures.fixed(0.5)))
  batch = batch_of(OBS[:1], action=np.float32([[5.0]]), reward=1.0)
  update = jax.jit(step.step)
  new, _, metrics = update(params, step.init(params), batch, jax.random.key(0))
  y = 3.0 + 0.5 * (next_value + shift)
  np.testing.assert_allclose(metrics["target_q"], y, rtol=1e-5)
  # Both members give 6 at (0, 1, 5): the loss is their sum, and each moves by (y - 6) times its input.
  np.testing.assert_allclose(metrics["critic_loss"], 2 * 0.5 * (6 - y) ** 2, rtol=1e-5)
  np.testing.assert_allclose(new["critic"], 1.0 + (y - 6) * np.array([[0, 1, 5], [0, 1, 5]]), rtol=1e-4)
  # The target follows the new critic.
  np.testing.assert_allclose(new["target_critic"], (params["target_critic"] + new["critic"]) / 2, rtol=1e-5)
  _, _, metrics = update(params, step.init(params), batch._replace(discount=jnp.zeros(1)), jax.random.key(0))
  np.testing.assert_allclose(metrics["target_q"], 3.0, rtol=1e-6)


def test_q_reduces_the_ensemble_at_executed_actions():
  value = values.q_value(networks.action_in(linear(2), jnp.tanh), optax.sgd(1.0))
  params = {"critic": jnp.float32([[1, 0, 1], [0, 0, 4]]), "target_critic": jnp.float32([[0, 0, 1], [0, 1, 0]])}
  action = np.float32(np.linspace(-3, 3, 12)).reshape(4, 3, 1)
  executed = np.tanh(action)[..., 0]
  np.testing.assert_allclose(value.q(params, OBS, action), np.minimum(OBS[:, 0] + executed, 4 * executed), rtol=1e-5)
  np.testing.assert_allclose(value.q_target(params, OBS, action), np.minimum(executed, OBS[:, 1]), rtol=1e-5)


def test_q_of_a_network_with_one_output_an_action():
  """Two members, two observations, three actions; Q_i = obs W_i, and the minimum over the members is taken."""
  weights = jnp.float32([[[1, 2, 3], [4, 5, 6]], [[6, 5, 4], [3, 2, 1]]])
  table = Network(None, lambda params, obs: jnp.einsum("bo,eoa->eba", obs, params))
  value = values.q_value(networks.action_out(table), optax.sgd(1.0))
  params, obs = {"critic": weights}, jnp.eye(2)
  np.testing.assert_array_equal(value.q(params, obs, jnp.int32([2, 0])), [3.0, 3.0])
  every = jnp.broadcast_to(jnp.arange(3)[:, None], (3, 2))
  np.testing.assert_array_equal(value.q(params, obs, every), [[1, 3], [2, 2], [3, 1]])
  to_weights = jax.grad(lambda w: jnp.sum(value.q({"critic": w}, obs, jnp.int32([2, 0]))))(weights)
  np.testing.assert_array_equal(to_weights, [[[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]])


def test_enumerated_particles_are_all_actions_weighed_by_the_policy():
  head = policies.categorical(3)
  logits = jnp.log(jnp.float32([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
  network = Network(lambda key: logits, lambda params, obs: params)
  posterior = posteriors.enumerated(network, head, optax.sgd(1.0))
  prior = priors.fixed(head, jnp.log(jnp.float32([0.5, 0.25, 0.25])))
  design = Design(prior, posterior, None, None)
  params = posterior.init(jax.random.key(0))
  got = posterior.particles(design, params, batch_of(OBS[:2]), jax.random.key(0))
  np.testing.assert_array_equal(got.action, [[0, 0], [1, 1], [2, 2]])
  np.testing.assert_allclose(np.exp(got.log_weight), [[0.2, 0.6], [0.3, 0.3], [0.5, 0.1]], rtol=1e-5)
  np.testing.assert_allclose(np.exp(got.log_ratio), [[0.4, 1.2], [1.2, 1.2], [2.0, 0.4]], rtol=1e-5)
  np.testing.assert_allclose(jax.nn.logsumexp(got.log_weight, axis=0), 0.0, atol=1e-6)
  np.testing.assert_array_equal(posterior.mode(design, params, (), OBS[:2], jax.random.key(0))[0], [2, 0])


@pytest.mark.parametrize("discrete", [False, True])
def test_one_pass_gives_particles_and_the_density_of_the_action_taken(discrete):
  head = policies.categorical(4) if discrete else policies.tanh_gaussian(2)
  make = posteriors.enumerated if discrete else posteriors.direct
  network = networks.mlp(2, head.size, hidden=(8,))
  posterior = make(network, head, optax.sgd(1.0))
  design = Design(priors.uniform(head), posterior, None, temperatures.fixed(1.0))
  params = posterior.init(jax.random.key(0))
  action = np.int32([3, 0, 1]) if discrete else np.float32([[0.1, -2.0], [1.0, 0.0], [-0.5, 0.5]])
  batch, key = batch_of(OBS, action), jax.random.key(1)

  def together(params):
    return posterior.evaluate(design, params, batch, key)

  def apart(params):
    return posterior.particles(design, params, batch, key), posterior.log_prob(params, OBS, action)

  jax.tree.map(np.testing.assert_array_equal, together(params), apart(params))
  slopes = (jax.grad(lambda p, f=f: f(p)[0].log_ratio.sum() + 2.0 * f(p)[1].sum())(params) for f in (together, apart))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *slopes)


def test_the_enumerated_posterior_settles_at_the_boltzmann_policy():
  """π ∝ p exp(Q/α), reached by its own E-step on a fixed Q."""
  head = policies.categorical(3)
  q = jnp.float32([1.0, 0.0, -0.5])
  network = Network(lambda key: jnp.zeros((1, 3)), lambda params, obs: jnp.broadcast_to(params, (len(obs), 3)))
  posterior = posteriors.enumerated(network, head, optax.adam(0.05))
  prior = priors.fixed(head, jnp.log(jnp.float32([0.2, 0.2, 0.6])))
  value = Value(None, lambda params, obs, action: q[action], None, None)
  design = Design(prior, posterior, value, temperatures.fixed(0.5))
  step = posterior.step(design)
  params = posterior.init(jax.random.key(0))

  def one(carry, key):
    params, state, metrics = step.step(*carry, batch_of(OBS[:1]), key)
    return (params, state), metrics

  (params, _), _ = jax.lax.scan(one, (params, step.init(params)), jax.random.split(jax.random.key(0), 1_000))
  expected = np.array([0.2, 0.2, 0.6]) * np.exp(np.array(q) / 0.5)
  np.testing.assert_allclose(jax.nn.softmax(params["actor"][0]), expected / expected.sum(), rtol=1e-4)


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"gamma": 1.0}, r"gamma lies in \[0, 1\), got 1.0"),
    ({"gamma": -0.1}, "got -0.1"),
    ({"tau": 0.0}, r"\(0, 1\], got 0.0"),
    ({"tau": 1.1}, r"\(0, 1\], got 1.1"),
    ({"pessimism": "max"}, "'min' or a number of standard deviations, got 'max'"),
  ],
)
def test_bad_values(kwargs, message):
  with pytest.raises(ValueError, match=message):
    values.q_value(networks.action_in(linear(2), jnp.tanh), optax.sgd(1.0), **kwargs)


# Temperatures


def test_a_fixed_temperature():
  temperature = temperatures.fixed(0.25)
  assert temperature.init(jax.random.key(0)) == {}
  assert temperature.step is None
  assert temperature.value({}) == 0.25
  for bad in (-0.1, float("inf"), float("nan")):
    with pytest.raises(ValueError, match=f"finite and not negative, got {bad}"):
      temperatures.fixed(bad)


@pytest.mark.parametrize(
  ("log_prob", "target", "direction"), [(2.0, -1.0, 1), (2.0, -3.0, -1), (-4.0, 5.0, 1), (1.0, -1.0, 0)]
)
def test_alpha_rises_exactly_while_the_entropy_is_below_its_target(log_prob, target, direction):
  head = policies.tanh_gaussian(1)
  temperature = temperatures.entropy_target(duals.dual(0.5), optax.sgd(0.1), target)
  posterior = fixed_posterior([0.0, 1.0], [log_prob - 1.0, log_prob + 1.0])
  design = Design(priors.uniform(head), posterior, None, temperature)
  params = temperature.init(jax.random.key(0))
  step = temperature.step(design)
  new, _, metrics = step.step(params, step.init(params), batch_of(OBS), jax.random.key(0))
  change = temperature.value(new) - temperature.value(params)
  assert np.sign(change) == direction
  # L = α (entropy - H̄), and its gradient in log α is the same.
  np.testing.assert_allclose(metrics["temperature_loss"], 0.5 * (-log_prob - target), rtol=1e-6)
  np.testing.assert_allclose(jnp.log(temperature.value(new) / 0.5), -0.1 * 0.5 * (-log_prob - target), atol=1e-6)
  np.testing.assert_allclose(metrics["entropy_target"], target)


def test_the_entropy_counts_whatever_the_prior():
  head = policies.tanh_gaussian(1)
  losses = []
  for prior in (priors.uniform(head), priors.fixed(head, np.float32([0.5, 1.0]))):
    posterior = posteriors.direct(constant(2), head, optax.sgd(0.1), samples=8)
    temperature = temperatures.entropy_target(duals.dual(0.5), optax.sgd(0.1), -1.0)
    params = {**posterior.init(jax.random.key(0)), **temperature.init(jax.random.key(0))}
    step = temperature.step(Design(prior, posterior, None, temperature))
    losses.append(step.step(params, step.init(params), batch_of(OBS), jax.random.key(0))[2]["temperature_loss"])
  np.testing.assert_allclose(*losses, rtol=1e-4)


# Designs


def sac_axes(**groups):
  head = policies.tanh_gaussian(1)
  posterior = posteriors.direct(constant(2), head, optax.sgd(0.1), group=groups.get("posterior", "actor"))
  value = values.q_value(
    networks.action_in(linear(2), head.execute), optax.sgd(0.1), group=groups.get("value", "critic")
  )
  temperature = temperatures.entropy_target(
    duals.dual(1.0), optax.sgd(0.1), -1.0, group=groups.get("temperature", "temperature")
  )
  return Design(priors.uniform(head), posterior, value, temperature), head


@pytest.mark.parametrize(
  ("groups", "message"),
  [
    ({"posterior": "critic"}, r"\['critic'\]"),
    ({"posterior": "target_critic"}, r"\['target_critic'\]"),
    ({"temperature": "actor"}, r"\['actor'\]"),
    ({"value": "temperature"}, r"\['temperature'\]"),
  ],
)
def test_two_axes_that_write_one_group(groups, message):
  design, head = sac_axes(**groups)
  with pytest.raises(ValueError, match=message):
    varl.agent(design, Spec(2, 1), head)


@pytest.mark.parametrize("group", ["actor", "target_critic", "normalizer"])
def test_two_axes_that_name_one_group(group):
  design, head = sac_axes()
  idle = Temperature(lambda key: {group: jnp.zeros(())}, lambda params: jnp.ones(()))
  agent = varl.agent(design._replace(temperature=idle), Spec(2, 1), head)
  with pytest.raises(ValueError, match=rf"temperature names the parameter groups \['{group}'\]"):
    agent.init(jax.random.key(0))


def test_the_agent_normalises_everything_that_its_axes_see(spec, config, agent, agent_init, agent_update, batch):
  """An agent with moments on raw frames is the agent without them on normalised ones."""
  plain = sac.make(spec, dataclasses.replace(config, normalize_observations=False))
  state = agent_init(jax.random.key(0))
  fresh = batch._replace(obs=5.0 + 3.0 * batch.obs, next_obs=5.0 + 3.0 * batch.next_obs)
  state = agent.observe(state, jax.tree.map(jnp.asarray, fresh), jnp.ones(16, bool))
  moments = state.params["normalizer"]

  def scale(x):
    return (x - moments.origin - moments.mean) / jnp.sqrt(moments.variance)

  scaled = batch._replace(obs=scale(fresh.obs), next_obs=scale(fresh.next_obs))
  bare = state._replace(params={name: x for name, x in state.params.items() if name != "normalizer"})
  after, metrics = agent_update(state, fresh, jax.random.key(1))
  expected, expected_metrics = jax.jit(plain.update)(bare, scaled, jax.random.key(1))
  for group in bare.params:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), after.params[group], expected.params[group])
  jax.tree.map(np.testing.assert_array_equal, after.params["normalizer"], moments)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3), metrics, expected_metrics)
  for choose, expected_choose in ((agent.act, plain.act), (agent.mode, plain.mode)):
    action = choose(state.params, (), fresh.obs, jax.random.key(2))[0]
    np.testing.assert_allclose(action, expected_choose(bare.params, (), scaled.obs, jax.random.key(2))[0], atol=1e-5)


def test_warm_up_is_uniform_and_says_so(agent, agent_init):
  params = agent_init(jax.random.key(0)).params
  action, carry, extras = agent.warm_up(params, (), np.zeros((4000, 4), np.float32), jax.random.key(0))
  assert carry == ()
  assert action.shape == (4000, 2)
  executed = np.asarray(agent.execute(action))
  assert abs(executed.mean()) < 4 * np.sqrt(1 / 3 / 8000)
  assert abs((executed**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / 8000)
  np.testing.assert_allclose(extras["log_prob"], np.full(4000, -2 * np.log(2)), rtol=1e-6)


# Soft actor-critic's Config


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"learning_rate": 0.0}, "learning_rate is a finite number > 0, got 0.0"),
    ({"gamma": 1.0}, r"gamma lies in \[0, 1\), got 1.0"),
    ({"tau": 0.0}, r"tau lies in \(0, 1\], got 0.0"),
    ({"critics": 0}, "critics"),
    ({"samples": 0}, "samples"),
    ({"reward_scale": float("nan")}, "reward_scale"),
    ({"initial_temperature": -1.0}, "initial_temperature"),
    ({"decay_updates": -1}, "decay_updates"),
    ({"max_grad_norm": -1.0}, "max_grad_norm"),
    ({"pessimism": "max"}, "pessimism"),
    ({"activation": "sine"}, "activation is one of"),
    ({"hidden": (32, 0)}, "each width of hidden is a whole number >= 1, got 0"),
    ({"policy": "beta"}, r"policy is one of .*, got 'beta'"),
  ],
)
def test_a_bad_config_is_an_error(spec, config, change, message):
  with pytest.raises(ValueError, match=message):
    sac.make(spec, dataclasses.replace(config, **change))


def test_a_config_that_does_not_fit_the_environment(config):
  with pytest.raises(ValueError, match="continuous actions"):
    sac.make(Spec(2, 3, discrete=True), config)
  with pytest.raises(ValueError, match="unbounded"):
    sac.make(Spec(2, 3, bounded=False), config)
  assert sac.make(Spec(2, 3, bounded=False), dataclasses.replace(config, policy="gaussian")).warm_up is None


@pytest.mark.parametrize(
  ("change", "target"), [({}, -2.0), ({"entropy_per_dimension": 0.5}, -1.0), ({"entropy_target": 0.7}, 0.7)]
)
def test_the_entropy_target(spec, config, batch, change, target):
  design = sac.design(spec, dataclasses.replace(config, **change))
  params = {**design.posterior.init(jax.random.key(0)), **design.temperature.init(jax.random.key(0))}
  step = design.temperature.step(design)
  metrics = jax.eval_shape(step.step, params, step.init(params), batch, jax.random.key(0))[2]
  assert set(metrics) == {"entropy_target", "temperature_loss", "temperature_grad_norm"}
  np.testing.assert_allclose(
    step.step(params, step.init(params), batch, jax.random.key(0))[2]["entropy_target"], target
  )
