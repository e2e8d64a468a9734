"""The density ratio against Gaussians whose ratio is known, and what a reward changes in an agent and what not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import prepared, transitions

import varl
from varl import components, networks, rewards
from varl.agents import beta_virel, mbpo, mpo, ppo, sac
from varl.step import IMAGINE_STREAM, IMAGINED, SIDE
from varl.types import Design, Model, Outcome, Reward, SideBatch, Spec, Temperature, Transition

SPEC = Spec(observation_size=1, action_size=1, bounded=False)
ALPHA = 0.5
UPDATES = 400


def quadratic(inputs):
  """A classifier whose logit is any quadratic of its inputs: what the ratio of two Gaussians is."""
  rows, columns = np.triu_indices(inputs)

  def apply(params, x):
    features = jnp.concatenate([x, x[..., rows] * x[..., columns]], axis=-1)
    return features @ params["slope"][:, None] + params["level"]

  size = inputs + len(rows)
  return networks.Network(lambda key: {"slope": jnp.zeros(size), "level": jnp.zeros(())}, apply)


def given_rows(rows=None, draws=None):
  """A model that imagines these rows."""
  return Model(
    init=lambda key: {},
    sample=lambda params, obs, action, key, member: Outcome(obs, obs[..., 0], obs[..., 0]),
    draws=lambda params, obs, action, key, member: Outcome(draws(obs, action), None, None),
    imagine=lambda design, params, batch, key: (rows, {}),
  )


def transition(obs, action, next_obs, **extras):
  count = jnp.zeros(len(obs))
  return Transition(
    *(jnp.asarray(x)[:, None] for x in (obs, action)), count, count + 1, next_obs[:, None], count, extras
  )


def make(model=None, **options):
  fixed = Temperature(lambda key: {}, lambda params: ALPHA)
  options = {"noise": 0.0, "clip": 100.0, "weight": 1.0} | options
  found = rewards.log_ratio(
    SPEC, quadratic(3), quadratic(2), optax.adam(optax.cosine_decay_schedule(0.1, UPDATES)), **options
  )
  return found, Design(None, None, None, fixed, model=model or given_rows(), reward=found)


def fit(real, imagined, **options):
  """The fitted parameters, (obs, action, next_obs) -> log p/q, and metrics of the last update; each sees a slice."""
  reward, design = make(**options)
  imagined = imagined._replace(extras={IMAGINED: jnp.ones(len(imagined.reward))})
  step = reward.step(design)
  size = min(len(real.reward), 10_000)

  @jax.jit
  def run(real, imagined):
    params = reward.observe(reward.init(jax.random.key(0)), real, jnp.ones(len(real.reward), bool), None)

    def one(carry, index):
      first = index * size % len(real.reward)
      mine, made = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, size), (real, imagined))
      batch = mine._replace(extras={IMAGINE_STREAM: (made, {})})
      params, state, metrics = step.step(*carry, batch, jax.random.fold_in(jax.random.key(1), index))
      return (params, state), metrics

    (params, _), metrics = jax.lax.scan(one, (params, step.init(params)), jnp.arange(UPDATES))
    return params, jax.tree.map(lambda x: jnp.mean(x[-20:]), metrics)

  params, metrics = run(real, imagined)

  def ratio(obs, action, next_obs):
    row = transition(*(jnp.asarray(x, float) for x in (obs, action, next_obs)), imagined=jnp.ones(len(obs)))
    return reward.value(design, params, row, jax.random.key(0))

  return params, ratio, metrics


def test_the_ratio_of_two_gaussians_has_its_coefficients():
  """log N(x; 0, 1) - log N(x; .5, 1.2²) = -.1528 x² - .3472 x + .2691 + ..., from 2·10⁵ rows of each."""
  keys = jax.random.split(jax.random.key(3), 4)
  obs, action, real, made = (jax.random.normal(key, (200_000,)) for key in keys)
  made = 0.5 + 1.2 * made
  _, ratio, metrics = fit(transition(obs, action, obs + real), transition(obs, action, obs + made))
  at = np.array([-1.0, 0.0, 1.0])
  low, middle, high = ratio(np.zeros(3), np.zeros(3), at)
  found = np.array([(low + high) / 2 - middle, (high - low) / 2, middle])
  np.testing.assert_allclose(found, [-0.1528, -0.3472, 0.2691], atol=0.01)
  # log p/q on average is KL(p ‖ q) on real rows, -KL(q ‖ p) on imagined ones.
  kl = np.log(1.2) + (1 + 0.25) / (2 * 1.44) - 0.5, (1.44 + 0.25) / 2 - 0.5 - np.log(1.2)
  np.testing.assert_allclose([metrics["log_ratio_real"], -metrics["log_ratio_imagined"]], kl, atol=0.01)
  assert 0.5 < metrics["log_ratio_accuracy"] < 0.7
  np.testing.assert_allclose(metrics["log_ratio_marginal_accuracy"], 0.5, atol=0.01)


@functools.cache
def fit_of_unequal():
  return fit(*unequal())


def unequal():
  """Two linear-Gaussian dynamics, of states and actions that differ, too."""
  keys = jax.random.split(jax.random.key(5), 6)
  obs, action, noise, other_obs, other_action, other_noise = (jax.random.normal(key, (200_000,)) for key in keys)
  other_obs, other_action = 0.7 + 0.8 * other_obs, 0.3 * other_obs + other_action
  real = transition(obs, action, obs + action + 0.5 * noise)
  made = transition(other_obs, other_action, other_obs + 0.8 * other_action + 0.2 + 0.6 * other_noise)
  return real, made


def log_ratio_of_unequal(obs, action, next_obs):
  def log_density(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std)

  change = next_obs - obs
  return log_density(change, action, 0.5) - log_density(change, 0.8 * action + 0.2, 0.6)


def test_unequal_states_and_actions_need_both_classifiers():
  params, ratio, _ = fit_of_unequal()
  rng = np.random.default_rng(0)
  obs, action = 0.3 + rng.normal(size=(2, 500))
  next_obs = obs + action + 0.5 * rng.normal(size=500)
  exact = log_ratio_of_unequal(obs, action, next_obs)
  found = ratio(obs, action, next_obs)
  assert np.sqrt(np.mean((found - exact) ** 2)) < 0.03
  # The first classifier alone: what it gives where the second one says nothing.
  reward, design = make()
  alone = {
    **params,
    "log_ratio": {**params["log_ratio"], "marginal": jax.tree.map(jnp.zeros_like, params["log_ratio"]["marginal"])},
  }
  one = reward.value(
    design,
    alone,
    transition(*(jnp.asarray(x) for x in (obs, action, next_obs)), imagined=jnp.ones(500)),
    jax.random.key(0),
  )
  assert np.sqrt(np.mean((one - exact) ** 2)) > 0.3


def test_the_divergence_is_that_of_the_models_draws():
  params, _, _ = fit_of_unequal()
  noise = np.random.default_rng(1).normal(size=(2_000, 1, 1))

  def draws(obs, action):
    return obs + 0.8 * action + 0.2 + 0.6 * noise

  reward, design = make(given_rows(draws=draws), form="divergence")
  at = transition(jnp.zeros(3), jnp.array([-1.0, 0.0, 1.0]), jnp.zeros(3), imagined=jnp.ones(3))
  found = reward.value(design, params, at, jax.random.key(0))
  gap = np.array([-0.2 + 0.2, 0.2, -0.2 + 0.2 + 0.0]) * 0 + (
    0.8 * np.array([-1.0, 0.0, 1.0]) + 0.2 - np.array([-1.0, 0.0, 1.0])
  )
  kl = np.log(0.5 / 0.6) + (0.36 + gap**2) / (2 * 0.25) - 0.5
  np.testing.assert_allclose(found, -kl, atol=0.05)


def test_what_is_paid_and_what_not():
  params, ratio, _ = fit_of_unequal()
  obs, action, next_obs = np.array([0.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.5]), np.array([0.1, 0.1, 3.0])
  full = ratio(obs, action, next_obs)
  row = transition(*(jnp.asarray(x) for x in (obs, action, next_obs)))._replace(reward=jnp.ones(3))
  mixed = row._replace(extras={IMAGINED: jnp.array([1.0, 0.0, 1.0])})

  def paid(batch, params=params, **options):
    reward, design = make(**options)
    return np.asarray(reward.value(design, params, batch, jax.random.key(0)))

  np.testing.assert_array_equal(paid(row), row.reward)  # no model made these
  np.testing.assert_allclose(paid(mixed), [1 + full[0], 1.0, 1 + full[2]], rtol=1e-5)
  np.testing.assert_allclose(
    paid(mixed, clip=0.01), [1 + 0.01 * np.sign(full[0]), 1.0, 1 + 0.01 * np.sign(full[2])], rtol=1e-5
  )
  np.testing.assert_allclose(paid(mixed, weight=None, reward_scale=2.0)[0], 1 + ALPHA / 2.0 * full[0], rtol=1e-5)
  np.testing.assert_array_equal(paid(mixed, warm_up=1), row.reward)
  np.testing.assert_array_equal(
    paid(mixed, params={**params, "log_ratio_rollouts": jnp.int32(2)}, warm_up=1) != 1, [1, 0, 1]
  )


def test_noise_on_the_inputs_holds_the_classifiers_back():
  few = jax.tree.map(lambda x: x[:50], unequal())
  noisy, plain = (fit(*few, noise=noise)[2] for noise in (1.0, 0.0))
  assert noisy["log_ratio_real"] < 0.5 * plain["log_ratio_real"]


def test_bad_choices_are_refused():
  for options, message in (
    ({"form": "kl"}, "form is one of sample, divergence; got 'kl'"),
    ({"clip": 0.0}, "clip must be above 0, got 0.0"),
    ({"noise": -1.0}, "noise must be at least 0, got -1.0"),
    ({"warm_up": -1}, "warm_up must be at least 0, got -1"),
  ):
    with pytest.raises(ValueError, match=message):
      make(**options)
  with pytest.raises(ValueError, match="correction is none, sample or divergence, got 'kl'"):
    mbpo.make(Spec(4, 2), mbpo.Config(hidden=(8,), correction="kl"))
  reward, design = make()
  for model in (None, given_rows()._replace(imagine=None)):
    with pytest.raises(ValueError, match="log_ratio tells imagined rows from real ones"):
      reward.step(design._replace(model=model))


# A reward in a design


def doubled(seen=None):
  """Pays twice the environment's reward and 1, and notes which reward its own step sees."""

  def step(design):
    return varl.assign("seen", lambda params, batch, key: (jnp.mean(batch.reward), {}))

  return Reward(lambda key: {"seen": jnp.zeros(())}, lambda design, params, batch, key: 2.0 * batch.reward + 1.0, step)


@pytest.mark.parametrize(
  ("module", "options"), [(sac, {}), (beta_virel, {}), (ppo, {}), (mpo, {"correction": "retrace", "sequence": 4})]
)
def test_a_design_learns_from_what_its_reward_pays_and_the_reward_from_the_environments(module, options):
  spec = Spec(4, 2)
  config = module.Config(hidden=(8,), **options)
  design, head = module.design(spec, config), components.policy_head(spec, config)
  plain, paid = varl.agent(design, spec, head), varl.agent(design._replace(reward=doubled()), spec, head)
  batch = transitions(0, (4, 4) if paid.sequence else (16,), spec)
  if paid.sequence:
    batch = batch._replace(extras={"log_prob": jnp.zeros((4, 4))})
  richer = batch._replace(reward=2.0 * batch.reward + 1.0)
  if paid.side_batch:
    batch, richer = (x._replace(extras={SIDE: SideBatch(x, jnp.int32(16))}) for x in (batch, richer))
  start, key = paid.init(jax.random.key(0)), jax.random.key(1)
  wanted_start = start._replace(params={name: x for name, x in start.params.items() if name != "seen"})
  if paid.on_policy:
    batch, richer = prepared(paid, start, batch), prepared(plain, wanted_start, richer)
  found, _ = jax.jit(paid.update)(start, batch, key)
  wanted, _ = jax.jit(plain.update)(wanted_start, richer, key)
  np.testing.assert_allclose(found.params["seen"], np.mean(batch.reward), rtol=1e-6)
  own = {name: x for name, x in found.params.items() if name != "seen"}
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), own, wanted.params)


@pytest.mark.parametrize("form", ["sample", "divergence"])
def test_a_corrected_agent_learns_both_classifiers(form):
  config = mbpo.Config(hidden=(8,), model_hidden=(8,), members=2, correction=form, correction_warm_up=0)
  agent = mbpo.make(Spec(4, 2), config)
  batch = transitions(0, (16,), Spec(4, 2))
  state = agent.observe(agent.init(jax.random.key(0)), batch, jnp.ones(16, bool))
  plain = mbpo.make(Spec(4, 2), mbpo.Config(hidden=(8,), model_hidden=(8,), members=2))
  new, metrics = jax.jit(agent.update)(state, batch, jax.random.key(1))
  assert {"log_ratio_accuracy", "log_ratio_imagined", "log_ratio_loss"} <= metrics.keys()
  for part in ("joint", "marginal"):
    moved = jax.tree.map(lambda x, y: np.any(x != y), new.params["log_ratio"][part], state.params["log_ratio"][part])
    assert any(jax.tree.leaves(moved))
  without = {name: x for name, x in state.params.items() if not name.startswith("log_ratio")}
  other, _ = jax.jit(plain.update)(
    state._replace(params=without, step=plain.init(jax.random.key(0)).step), batch, jax.random.key(1)
  )
  same = jax.tree.map(lambda x, y: np.allclose(x, y, atol=1e-6), new.params["model"], other.params["model"])
  assert all(jax.tree.leaves(same))  # the model learns as it does without
  assert not all(
    jax.tree.leaves(jax.tree.map(lambda x, y: np.allclose(x, y), new.params["critic"], other.params["critic"]))
  )
