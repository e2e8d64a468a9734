"""A policy over options: its choice, its mixture, and what it and its value descend on, against sums by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import components, networks, policies
from varl.agents import options
from varl.types import Spec, Transition

SPEC = Spec(3, 4, discrete=True)
CONFIG = options.Config(
  hidden=(8,), reverse_hidden=(8,), options=3, temperature=0.3, information_weight=2.0, gamma=0.9, lam=0.7,
  continuation=0.4, standardise=False, normalize_observations=False, reward_scale=2.0,
)  # fmt: skip
OPTION, PREVIOUS = policies.OPTION, policies.PREVIOUS


def made(**fields):
  config = dataclasses.replace(CONFIG, **fields)
  design = options.design(SPEC, config)
  agent = options.make(SPEC, config)
  return design, agent, agent.init(jax.random.key(0)).params


def rows(shape, agent, params, seed=0):
  """A rollout `[T, N]` whose options follow one another, with some ends."""
  rng = np.random.default_rng(seed)
  obs = jnp.asarray(rng.normal(size=(shape[0] + 1, shape[1], 3)), jnp.float32)
  terminated, truncated = (jnp.asarray(rng.uniform(size=shape) < 0.2, jnp.float32) for _ in range(2))
  truncated = truncated * (1 - terminated)
  carry, steps = agent.carry(shape[1]), []
  for t in range(shape[0]):
    action, carry, extras = agent.act(params, carry, obs[t], jax.random.key(t))
    steps.append((action, extras))
    ended = (terminated[t] + truncated[t]) > 0
    carry = jnp.where(ended, CONFIG.options, carry)
  action, extras = jax.tree.map(lambda *x: jnp.stack(x), *steps)
  reward = jnp.asarray(rng.normal(size=shape), jnp.float32)
  # A cut episode's true next state is not the one of the row after.
  following = jnp.where(truncated[..., None] > 0, obs[1:] + 1.0, obs[1:])
  return Transition(obs[:-1], action, reward, 1.0 - terminated, following, truncated, extras)


def test_the_choice_goes_on_or_is_made_anew():
  network = networks.mlp(5, 2, hidden=(8,))
  choosing = policies.choice(network, 2, continuation=0.7)
  params = choosing.init(jax.random.key(0))
  obs = jax.random.normal(jax.random.key(1), (3, 3))
  previous = jnp.array([0, 1, 2])  # the last one: an episode's first step
  fresh = jax.nn.softmax(network.apply(params["options"], jnp.concatenate([obs, jax.nn.one_hot(previous, 2)], -1)))
  expected = np.asarray(fresh).copy()
  expected[:2] = 0.7 * np.eye(2) + 0.3 * expected[:2]
  np.testing.assert_allclose(np.exp(choosing.log_prob(params, obs, previous)), expected, rtol=1e-5)
  always = policies.choice(network, 2, continuation=1.0).log_prob(params, obs, previous)
  np.testing.assert_allclose(np.exp(always)[:2], np.eye(2), atol=1e-6)
  assert np.isfinite(always).all()
  uniform = policies.choice(None, 2)
  assert uniform.init(jax.random.key(0)) == {}
  np.testing.assert_allclose(np.exp(uniform.log_prob({}, obs, previous)), 0.5, rtol=1e-6)


@pytest.mark.parametrize("continuous", [False, True])
def test_particles_are_of_the_mixture(continuous):
  spec = Spec(3, 2) if continuous else SPEC
  config = dataclasses.replace(CONFIG, policy="gaussian")
  design = options.design(spec, config)
  params = options.make(spec, config).init(jax.random.key(0)).params
  obs = jax.random.normal(jax.random.key(1), (5, 3))
  previous = jnp.array([0, 1, 2, 3, 3])
  zero = jnp.zeros(5)
  batch = Transition(obs, zero.astype(int), zero, zero, obs, zero, {PREVIOUS: previous})
  drawn = design.posterior.particles(design, params, batch, jax.random.key(2))
  np.testing.assert_allclose(jax.nn.logsumexp(drawn.log_weight, axis=0), 0.0, atol=1e-6)

  before = jax.nn.one_hot(previous, 3)
  fresh = jax.nn.softmax(
    networks.mlp(6, 3, hidden=(8,)).apply(params["options"], jnp.concatenate([obs, before], axis=-1))
  )
  choice = jnp.where((previous < 3)[:, None], 0.4 * before + 0.6 * fresh, fresh)
  head = components.policy_head(spec, config)
  network = networks.mlp(6, head.size, hidden=(8,))
  mixed = 0.0
  for o in range(3):
    outputs = network.apply(params["actor"], jnp.concatenate([obs, jnp.tile(jnp.eye(3)[o], (5, 1))], axis=-1))
    density = jnp.exp(jax.vmap(lambda a, outputs=outputs: head.log_prob(outputs, a))(drawn.action))
    mixed = mixed + choice[:, o] * density
  np.testing.assert_allclose(jnp.exp(drawn.log_ratio), mixed, rtol=1e-4)
  if not continuous:
    np.testing.assert_allclose(jnp.exp(drawn.log_weight), mixed, rtol=1e-4)


@pytest.mark.parametrize("reverse", ["none", "backward"])
def test_returns_are_those_of_sums_by_hand(reverse):
  design, agent, params = made(reverse=reverse)
  rollout = rows((6, 4), agent, params)
  found = design.value.prepare(design, params, rollout, jax.random.key(0))
  price, alpha, gamma, lam = (0.6 if reverse == "backward" else 0.0), 0.3, 0.9, 0.7
  network = networks.mlp(6, 3, hidden=(8,))

  def valued(obs, previous):
    before = np.eye(4)[previous][:, :3]
    inputs = jnp.concatenate([obs, before], axis=-1)
    log_choice = np.log(0.4 * before + 0.6 * np.asarray(jax.nn.softmax(network.apply(params["options"], inputs))))
    fresh = np.asarray(jax.nn.log_softmax(network.apply(params["options"], inputs)))
    log_choice = np.where((previous < 3)[:, None], log_choice, fresh)
    q = np.asarray(network.apply(params["value"], inputs))
    return q, log_choice, np.sum(np.exp(log_choice) * (q - price * log_choice), axis=-1)

  option, previous = np.asarray(rollout.extras[OPTION]), np.asarray(rollout.extras[PREVIOUS])
  log_prob = np.asarray(rollout.extras["log_prob"])
  target = np.zeros((6, 4))
  for t in reversed(range(6)):
    q, log_choice, value = valued(rollout.obs[t], previous[t])
    np.testing.assert_allclose(log_choice, rollout.extras["log_options"][t], rtol=1e-4, atol=1e-5)
    bootstrap = valued(rollout.next_obs[t], option[t])[2]
    if t < 5:
      after = valued(rollout.obs[t + 1], previous[t + 1])[1]
      on = target[t + 1] - price * np.take_along_axis(after, option[t + 1][:, None], -1)[:, 0]
      mixed = (1 - lam) * bootstrap + lam * on
      bootstrap = np.where(np.asarray(rollout.truncated[t]) > 0, bootstrap, mixed)
    paid = 2.0 * np.asarray(rollout.reward[t]) - alpha * log_prob[t]
    target[t] = paid + gamma * np.asarray(rollout.discount[t]) * bootstrap
    own = np.take_along_axis(q, option[t][:, None], -1)[:, 0]
    np.testing.assert_allclose(found["advantage"][t], target[t] - own, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
      found["option_advantage"][t], q - price * log_choice - value[:, None], rtol=1e-3, atol=1e-4
    )
  np.testing.assert_allclose(found["value_target"], target, rtol=1e-3, atol=1e-4)


def test_the_choices_gradient_is_that_of_its_value():
  """At the policy that acted, the loss's gradient in the choice is that of -E[V(s, o')], the sum over options exact."""
  design, agent, params = made()
  rollout = rows((6, 4), agent, params)
  state = agent.init(jax.random.key(0))
  prepared = agent.prepare(state, rollout, jax.random.key(1))
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), prepared)
  network = networks.mlp(6, 3, hidden=(8,))
  inputs = jnp.concatenate([flat.obs, jax.nn.one_hot(flat.extras[PREVIOUS], 3)], axis=-1)
  q = network.apply(params["value"], inputs)
  choosing = policies.choice(network, 3, continuation=0.4)

  def value(own):
    log_choice = choosing.log_prob({"options": own}, flat.obs, flat.extras[PREVIOUS])
    return -jnp.mean(jnp.sum(jnp.exp(log_choice) * (q - 0.6 * log_choice), axis=-1))

  step = options.design(SPEC, CONFIG).posterior.step(design)
  moved, _, metrics = step.step(params, step.init(params), flat, jax.random.key(2))
  exact = jax.grad(value)(params["options"])
  # Adam's first step is its learning rate times the sign of the gradient.
  signs = jax.tree.map(
    lambda new, old: np.sign(np.round(np.asarray(old - new), 8)), moved["options"], params["options"]
  )
  for sign, slope in zip(jax.tree.leaves(signs), jax.tree.leaves(exact), strict=True):
    clear = np.abs(slope) > 1e-5
    assert clear.mean() > 0.3
    np.testing.assert_array_equal(sign[clear], np.sign(slope)[clear])
  np.testing.assert_allclose(metrics["policy_ratio"], 0.0, atol=1e-5)


def test_usage_and_information_at_their_ends():
  design, agent, params = made(choice="uniform", continuation=0.0)
  prepared = agent.prepare(agent.init(jax.random.key(0)), rows((40, 8), agent, params), jax.random.key(1))
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), prepared)

  def metrics(actor):
    step = design.posterior.step(design)
    return step.step({**params, "actor": actor}, step.init(params), flat, jax.random.key(2))[2]

  same = jax.tree.map(jnp.zeros_like, params["actor"])
  found = metrics(same)
  np.testing.assert_allclose(found["option_information"], 0.0, atol=1e-6)
  np.testing.assert_allclose(found["option_usage"], np.log(3), atol=0.01)
  np.testing.assert_allclose(found["option_entropy"], np.log(3), rtol=1e-5)
  layers = same["params"]  # option o does action o, whatever the state
  apart = {
    "Dense_0": {**layers["Dense_0"], "kernel": layers["Dense_0"]["kernel"].at[3:, :3].set(jnp.eye(3))},
    "Dense_1": {**layers["Dense_1"], "kernel": layers["Dense_1"]["kernel"].at[:3, :3].set(50.0 * jnp.eye(3))},
  }
  found = metrics({"params": apart})
  np.testing.assert_allclose(found["option_information"], found["option_usage"], atol=1e-4)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"options": 1}, "options are at least two, got options=1"),
    ({"continuation": 1.5}, "continuation"),
    ({"reverse": "sideways"}, "reverse is one of backward, forward, none; got 'sideways'"),
    ({"choice": "greedy"}, "choice is learned or uniform; got 'greedy'"),
    ({"window": -1}, "window"),
    ({"information_weight": -1.0}, "information_weight"),
  ],
)
def test_bad_settings(fields, message):
  with pytest.raises(ValueError, match=message):
    options.make(SPEC, options.Config(**fields))
