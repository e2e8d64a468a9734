"""Sequential Monte Carlo planning against its exact limits: a scalar regulator and finite processes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import losses, models, policies, posteriors, priors, temperatures
from varl.exact import linear_quadratic as lq
from varl.exact import tabular
from varl.types import Design, Outcome, Posterior, Transition

STEPS = 8
NOISE = 0.3
HEAD = policies.gaussian(1)


def proposing(act):
  return Posterior(lambda key: {}, None, None, act, act, lambda batch: ())


def batch_of(obs):
  zeros = jnp.zeros(len(obs))
  return Transition(obs, zeros, zeros, zeros, obs, zeros, {})


# A scalar regulator over eight steps: x' = x + u/2 + .3 ε, r = -(x² + u²/5)/2, u ~ N(0, 1) a priori. Observation: x, t.


def regulator(target):
  """(design, V) with exact values; where the value is quadratic, two points of the noise give its expectation."""
  problem = lq.linear_quadratic([[1.0]], [[0.5]], [[0.5]], [[0.1]], noise_covariance=[[NOISE**2]], discount=0.5)
  problem = problem._replace(discount=jnp.ones(()))
  steps = lq.finite_horizon(problem, temperature=1.0, horizon=STEPS, target=target, prior_covariance=[[1.0]])
  P = jnp.append(steps.P[:, 0, 0], 0.0)
  c = jnp.append(steps.constant, 0.0)

  def value(design, params, obs, key):
    time = obs[:, 1].astype(int)
    return -(P[time] * obs[:, 0] ** 2 + c[time])

  def outcome(obs, action, key, noise=None):
    noise = NOISE * jax.random.normal(key) if noise is None else noise
    following = jnp.array([obs[0] + 0.5 * action[0] + noise, obs[1] + 1.0])
    return following, -0.5 * (obs[0] ** 2 + 0.2 * action[0] ** 2), jnp.ones(())

  def draws(params, obs, action, key, member):
    both = [jax.vmap(lambda o, a, w=w: outcome(o, a, None, w))(obs, action) for w in (NOISE, -NOISE)]
    return Outcome(*jax.tree.map(lambda *x: jnp.stack(x), *both))

  prior = priors.fixed(HEAD, standard_normal())
  model = models.known(outcome)._replace(draws=draws)
  return Design(prior, None, None, temperatures.fixed(1.0), model=model), value


def standard_normal():
  """The outputs for which the head is N(0, 1)."""
  outputs = jnp.zeros(HEAD.size)
  std = HEAD.distribution(outputs).stddev()[0]
  assert std == pytest.approx(1.0)
  return outputs


def wide(design, params, carry, obs, key):
  """A proposal that is neither prior nor posterior: N(-.3 x, 1.3²)."""
  mean = -0.3 * obs[:, :1]
  action = mean + 1.3 * jax.random.normal(key, mean.shape)
  density = -0.5 * ((action - mean) / 1.3) ** 2 - jnp.log(1.3) - 0.5 * jnp.log(2 * jnp.pi)
  return action, carry, {"log_prob": density[:, 0]}


EXACT = {"variational": (-0.72590, 0.72861), "optimistic": (-0.58197, 0.76867)}


@pytest.mark.parametrize("target", list(EXACT))
def test_the_error_falls_as_one_over_the_root_of_the_particles(target):
  """√N rmse of the first action's mean within ±25 % of constant, N = 64 to 4096; 256 plans each, with resampling."""
  design, value = regulator(target)
  exact_mean, exact_std = EXACT[target]
  errors = []
  for count in (64, 256, 1024, 4096):
    plans = 256 if count < 4096 else 64
    planner = posteriors.smc(
      proposing(wide), particles=count, horizon=STEPS, gamma=1.0, target=target, value=value, infer=True
    )
    obs = jnp.tile(jnp.array([[1.0, 0.0]]), (plans, 1))
    run = jax.jit(functools.partial(planner.particles, design, {}, batch_of(obs)))
    found = run(jax.random.key(count))
    weight, action = jnp.exp(found.log_weight), found.action[..., 0]
    mean = jnp.sum(weight * action, axis=0)
    errors.append(float(jnp.sqrt(count * jnp.mean((mean - exact_mean) ** 2))))
    if count == 1024:
      second = jnp.mean(jnp.sum(weight * (action - mean) ** 2, axis=0))
      np.testing.assert_allclose(jnp.mean(mean), exact_mean, atol=4 * errors[-1] / np.sqrt(count * plans))
      np.testing.assert_allclose(jnp.sqrt(second), exact_std, rtol=0.02)
  assert max(errors) / np.mean(errors) < 1.25, errors
  assert min(errors) / np.mean(errors) > 0.75, errors


def test_the_two_targets_are_told_apart():
  """The optimistic posterior differs from the variational one by .14 in its mean: each planner is at its own."""
  means = {}
  for target in EXACT:
    design, value = regulator(target)
    planner = posteriors.smc(
      proposing(wide), particles=512, horizon=3, gamma=1.0, target=target, value=value, infer=True
    )
    found = planner.particles(design, {}, batch_of(jnp.tile(jnp.array([[1.0, 0.0]]), (256, 1))), jax.random.key(1))
    means[target] = float(jnp.mean(jnp.sum(jnp.exp(found.log_weight) * found.action[..., 0], axis=0)))
  for target, mean in means.items():
    assert abs(mean - EXACT[target][0]) < 0.02, means


# A finite process, each action of which leads to four equally likely states. Observation: the state one-hot, and t.


def process():
  """Rows of P are multiples of ¼, so that four draws are an exact expectation; the last state is terminal."""
  rng = np.random.default_rng(3)
  states, actions = 4, 3
  following = rng.integers(0, states, (states, actions, 4))
  following[-1] = states - 1
  transition = np.stack([np.sum(following == s, axis=-1) / 4 for s in range(states)], axis=-1)
  reward = np.where(np.arange(states)[:, None] < states - 1, rng.normal(size=(states, actions)), 0.0)
  m = tabular.mdp(
    transition, reward, discount=0.9, initial=[0.4, 0.3, 0.3, 0.0], terminal=np.arange(states) == states - 1
  )
  return m, jnp.asarray(following)


@pytest.mark.parametrize("target", list(EXACT))
def test_root_actions_are_the_limit_of_a_noisy_process(target):
  """Within four standard errors of `tabular.planning_limit` from every state, for a proposal that is not uniform."""
  m, following = process()
  horizon, c = 3, 0.6
  states, actions = m.reward.shape
  mixed = 0.5 * np.random.default_rng(0).dirichlet(np.ones(actions), states) + 0.5 / actions
  log_proposal = jnp.log(jnp.asarray(mixed))
  weight = {"variational": "expected", "optimistic": "sampled"}[target]
  limit = tabular.planning_limit(m, log_proposal, temperature=c, horizon=horizon, weight=weight, log_prior=0.0)
  solve = tabular.soft_value_iteration if target == "variational" else tabular.message_passing
  values = solve(m, temperature=c, horizon=horizon, log_prior=0.0).value

  def value(design, params, obs, key):
    return values[obs[:, -1].astype(int), jnp.argmax(obs[:, :-1], axis=-1)]

  def outcome(obs, action, which):
    state = jnp.argmax(obs[:-1])
    to = following[state, action, which]
    return (
      jnp.append(jax.nn.one_hot(to, states), obs[-1] + 1), m.reward[state, action], 1.0 - m.terminal[to].astype(float),
    )  # fmt: skip

  def draws(params, obs, action, key, member):
    found = [jax.vmap(functools.partial(outcome, which=i))(obs, action) for i in range(4)]
    return Outcome(*jax.tree.map(lambda *x: jnp.stack(x), *found))

  def act(design, params, carry, obs, key):
    logits = log_proposal[jnp.argmax(obs[:, :-1], axis=-1)]
    action = jax.random.categorical(key, logits)
    return action, carry, {"log_prob": jnp.take_along_axis(logits, action[:, None], axis=1)[:, 0]}

  head = policies.categorical(actions)
  model = models.known(lambda obs, action, key: outcome(obs, action, jax.random.randint(key, (), 0, 4)))
  design = Design(priors.uniform(head), None, None, temperatures.fixed(c), model=model._replace(draws=draws))
  planner = posteriors.smc(
    proposing(act), particles=2048, horizon=horizon, gamma=0.9, target=target, value=value, infer=True
  )
  plans = 128
  rows = jnp.concatenate([jnp.eye(states)[:-1], jnp.zeros((states - 1, 1))], axis=1)
  run = jax.jit(functools.partial(planner.particles, design, {}, batch_of(jnp.repeat(rows, plans, 0))))
  found = run(jax.random.key(2))
  got = jnp.sum(jnp.exp(found.log_weight)[..., None] * jax.nn.one_hot(found.action, actions), axis=0)
  got = got.reshape(states - 1, plans, actions)
  wanted, error = jnp.exp(limit.log_policy[:-1]), jnp.std(got, axis=1) / np.sqrt(plans)
  assert (error < 4e-3).all(), error
  np.testing.assert_array_less(jnp.abs(got.mean(1) - wanted), 4 * error + 5e-4)


# What the pieces do


def test_systematic_resampling_keeps_every_share():
  weight = jnp.array([[0.5, 0.1], [0.3, 0.2], [0.15, 0.3], [0.05, 0.4]])
  counts = []
  for seed in range(400):
    index = losses.systematic_resample(jnp.log(weight), jax.random.key(seed))
    assert index.shape == (4, 2)
    count = jax.nn.one_hot(index, 4).sum(0).T
    assert (count >= jnp.floor(4 * weight)).all()
    assert (count <= jnp.ceil(4 * weight)).all()
    counts.append(count)
  np.testing.assert_allclose(np.mean(counts, 0), 4 * weight, atol=0.08)


def test_an_end_freezes_a_weight_and_the_last_step_keeps_its_own():
  """A process that ends after one step: further steps change nothing. And weights are read out unequal."""

  def outcome(obs, action, key):
    return obs + 1.0, -jnp.square(action[0]), jnp.zeros(())

  def act(design, params, carry, obs, key):
    action = jax.random.normal(key, (len(obs), 1))
    return action, carry, {"log_prob": -0.5 * action[:, 0] ** 2}

  def value(design, params, obs, key):
    return jnp.zeros(len(obs)) + 7.0 * obs[:, 0]  # after an end it must not count

  design = Design(priors.fixed(HEAD, standard_normal()), None, None, temperatures.fixed(1.0),
                  model=models.known(outcome))  # fmt: skip
  obs = batch_of(jnp.zeros((2, 1)))
  weights = {}
  for horizon in (1, 3):
    planner = posteriors.smc(
      proposing(act), particles=64, horizon=horizon, gamma=1.0, value=value, infer=True, resample_below=0.0
    )
    found = planner.particles(design, {}, obs, jax.random.key(0))
    expected = jax.nn.log_softmax(-jnp.square(found.action[..., 0]), axis=0)
    np.testing.assert_allclose(found.log_weight, expected, atol=1e-5)
    weights[horizon] = found.log_weight
  always = posteriors.smc(
    proposing(act), particles=64, horizon=1, gamma=1.0, value=value, infer=True, resample_below=1.0
  )
  found = always.particles(design, {}, obs, jax.random.key(0))
  assert jnp.std(found.log_weight) > 0.1


@pytest.mark.parametrize(("target", "differ"), [("variational", 0.0), ("optimistic", 10.0)])
def test_a_plan_weighs_by_the_probability_of_an_end_and_not_by_luck(target, differ):
  """Going on with probability .5 and V = 10: the variational weight is that of 5 in every particle, without noise."""

  def still(design, params, carry, obs, key):
    return jnp.zeros((len(obs), 1)), carry, {"log_prob": jnp.zeros(len(obs))}

  design, _ = regulator("variational")
  model = models.known(lambda obs, action, key: (obs, jnp.zeros(()), jnp.full((), 0.5)))
  planner = posteriors.smc(
    proposing(still),
    particles=64,
    horizon=1,
    gamma=1.0,
    infer=True,
    value=lambda design, params, obs, key: jnp.full(len(obs), 10.0),
    target=target,
  )
  found = planner.particles(design._replace(model=model), {}, batch_of(jnp.zeros((2, 2))), jax.random.key(0))
  np.testing.assert_allclose(jnp.ptp(found.log_weight, axis=0), differ, rtol=1e-4, atol=1e-5)


def test_acting_records_what_planning_did():
  design, value = regulator("variational")
  planner = posteriors.smc(proposing(wide), particles=128, horizon=4, gamma=1.0, value=value)
  obs = jnp.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
  action, carry, extras = jax.jit(lambda key: planner.act(design, {}, (), obs, key))(jax.random.key(0))
  assert action.shape == (3, 1)
  assert carry == ()
  assert set(extras) == {
    "plan_effective_samples", "plan_resamplings", "plan_weight_entropy", "plan_improvement",
  }  # fmt: skip
  assert (extras["plan_effective_samples"] > 0).all()
  assert (extras["plan_effective_samples"] <= 1).all()
  assert (extras["plan_improvement"] > 0).all()  # the posterior's actions are better than the proposal's
  assert (extras["plan_weight_entropy"] <= np.log(128) + 1e-5).all()
  best, _, _ = planner.mode(design, {}, (), obs, jax.random.key(1))
  again, _, _ = planner.mode(design, {}, (), obs, jax.random.key(2))
  np.testing.assert_array_equal(best, again)
  assert best[0, 0] < 0 < best[1, 0]


@pytest.mark.parametrize("exact", [False, True])
def test_the_mode_is_where_weight_times_proposal_is_highest(exact):
  """Of 256 roots the densest lies near the posterior's mean -.72590, from a wide proposal or from the posterior itself.

  With the posterior as its proposal all weights are equal, and the largest one says nothing.
  """
  design, value = regulator("variational")

  def act(design, params, carry, obs, key):
    mean, std = -0.72590 * obs[:, :1], 0.72861
    action = mean + std * jax.random.normal(key, mean.shape)
    density = -0.5 * ((action - mean) / std) ** 2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)
    return action, carry, {"log_prob": density[:, 0]}

  proposal = proposing(act if exact else wide)
  planner = posteriors.smc(proposal, particles=256, horizon=1, gamma=1.0, value=value)
  action, _, _ = planner.mode(design, {}, (), jnp.tile(jnp.array([[1.0, 0.0]]), (64, 1)), jax.random.key(0))
  assert jnp.abs(action - EXACT["variational"][0]).max() < 0.2
  assert jnp.abs(jnp.mean(action) - EXACT["variational"][0]) < 0.02


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"particles": 0}, "particles is a whole number >= 1"),
    ({"horizon": 0}, "horizon is a whole number >= 1"),
    ({"value_samples": 0}, "value_samples is a whole number >= 1"),
    ({"target": "greedy"}, "target is one of variational, optimistic; got 'greedy'"),
    ({"resample_below": 1.5}, r"resample_below lies in \[0, 1\], got 1.5"),
  ],
)
def test_bad_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    posteriors.smc(proposing(wide), **options)


def test_bad_designs():
  design, value = regulator("variational")
  obs = jnp.zeros((1, 2))
  with pytest.raises(ValueError, match="planning needs a model"):
    posteriors.smc(proposing(wide), value=value).act(design._replace(model=None), {}, (), obs, jax.random.key(0))
  silent = proposing(lambda *args: (jnp.zeros((len(args[3]), 1)), (), {}))
  with pytest.raises(ValueError, match="records no log_prob"):
    posteriors.smc(silent, value=value).act(design, {}, (), obs, jax.random.key(0))
  with pytest.raises(ValueError, match="without memory"):
    posteriors.smc(proposing(wide)._replace(carry=lambda batch: jnp.zeros(batch)))


# One belief an episode


def test_an_episode_is_planned_through_by_one_member():
  """Two beliefs: one pays for actions to the right, the other for those to the left."""

  def outcome(obs, action, member):
    return Outcome(obs, 8.0 * jnp.where(member == 0, 1.0, -1.0) * action[..., 0], jnp.ones(obs.shape[:-1]))

  def sample(params, obs, action, key, member):
    drawn = jax.random.randint(key, obs.shape[:-1], 0, 2)
    return outcome(obs, action, drawn if member is None else member)

  def draws(params, obs, action, key, member):
    return jax.tree.map(
      lambda *x: jnp.stack(x), *(outcome(obs, action, i if member is None else member) for i in (0, 1))
    )

  model = models.known(lambda obs, action, key: None)._replace(sample=sample, draws=draws, members=2)
  design = Design(priors.fixed(HEAD, standard_normal()), None, None, temperatures.fixed(1.0), model=model)

  def planner(thompson):
    return posteriors.smc(
      proposing(wide),
      particles=64,
      horizon=1,
      value=lambda design, params, obs, key: jnp.zeros(len(obs)),
      thompson=thompson,
    )

  held, obs = planner(True), jnp.zeros((400, 2))
  carry = held.carry(400)
  signs = []
  for seed in range(3):
    action, carry, _ = held.act(design, {}, carry, obs, jax.random.key(seed))
    assert set(np.unique(carry)) == {0, 1}
    signs.append(np.sign(action[:, 0]))
    assert np.mean(signs[-1] == 1 - 2 * np.asarray(carry)) > 0.98
  assert np.mean(signs[0] == signs[2]) > 0.96  # the member is kept
  assert 0.4 < np.mean(carry) < 0.6
  begun = carry.at[:200].set(held.carry(200))  # as the loop does where episodes end
  _, after, _ = held.act(design, {}, begun, obs, jax.random.key(9))
  np.testing.assert_array_equal(after[200:], carry[200:])
  assert 0.3 < np.mean(after[:200] != carry[:200]) < 0.7
  assert planner(False).carry(3) == ()
  # The mean of both beliefs pays for nothing: without a member, plans are the proposal.
  action, _, _ = planner(False).act(design, {}, (), obs, jax.random.key(0))
  assert abs(np.mean(np.sign(action))) < 0.15
  assert held.mode(design, {}, carry, obs, jax.random.key(0))[1] is carry
