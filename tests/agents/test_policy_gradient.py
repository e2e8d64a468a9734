"""Policy gradients: surrogates by hand, estimators against the gradient of all trajectories, steps within a bound."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import duals, losses, networks, policies, posteriors, priors, returns, temperatures, values
from varl.exact import tabular
from varl.networks import Network
from varl.types import Design, Transition

# Surrogates


def test_the_clip_takes_the_gradient_where_the_ratio_gains_by_going_further():
  ratio, advantage = jnp.float32([1.5, 1.5, 0.5, 0.5, 1.1]), jnp.float32([2.0, -2.0, 2.0, -2.0, 3.0])

  def loss(log_prob):
    return losses.clipped_ratio(log_prob, jnp.zeros(5), advantage, 0.2)

  value, clipped = loss(jnp.log(ratio))
  np.testing.assert_allclose(value, [-2.4, 3.0, -1.0, 1.6, -3.3], rtol=1e-6)
  np.testing.assert_array_equal(clipped, [1, 0, 0, 1, 0])
  slope = jax.grad(lambda x: loss(x)[0].sum())(jnp.log(ratio))
  np.testing.assert_allclose(slope, [0.0, 3.0, -1.0, 0.0, -3.3], rtol=1e-6)


def test_near_the_policy_that_acted_all_surrogates_have_one_gradient():
  log_prob, advantage = jax.random.normal(jax.random.key(0), (2, 9))
  wanted = jax.grad(lambda x: losses.score_function(x, advantage).sum())(log_prob)
  np.testing.assert_allclose(wanted, -advantage)
  for surrogate in (
    lambda x: losses.importance_ratio(x, log_prob, advantage),
    lambda x: losses.clipped_ratio(x, log_prob, advantage, 0.1)[0],
  ):
    np.testing.assert_allclose(jax.grad(lambda x, f=surrogate: f(x).sum())(log_prob), wanted, rtol=1e-6)


def test_constants_have_no_gradient():
  log_prob, advantage = jax.random.normal(jax.random.key(0), (2, 9))
  assert (jax.grad(lambda a: losses.score_function(log_prob, a).sum())(advantage) == 0).all()
  for surrogate in (losses.importance_ratio, lambda *x: losses.clipped_ratio(*x, 0.2)[0]):
    slopes = jax.grad(lambda b, a, f=surrogate: f(log_prob, b, a).sum(), (0, 1))(log_prob, advantage)
    assert all((slope == 0).all() for slope in slopes)


def test_standardised_advantages():
  advantage = jnp.float32([1.0, 2.0, 6.0])
  np.testing.assert_allclose(losses.standardised(advantage), (advantage - 3) / np.sqrt(14 / 3), rtol=1e-6)
  np.testing.assert_array_equal(losses.standardised(jnp.full(4, 7.0)), np.zeros(4))
  mapped = jax.vmap(lambda a: losses.standardised(a, "i"), axis_name="i")(advantage[:, None])[:, 0]
  np.testing.assert_allclose(mapped, losses.standardised(advantage), rtol=1e-6)


# Estimators against the gradient over all trajectories

STATES, ACTIONS, HORIZON, ALPHA = 3, 2, 4, 0.3
PROCESS = tabular.random_mdp(jax.random.key(5), STATES, ACTIONS, discount=0.9)
HEAD = policies.categorical(ACTIONS)
LOGITS = jax.random.normal(jax.random.key(1), (STATES, ACTIONS))
PRIOR = jnp.log(jnp.float32([0.7, 0.3]))
TABLE = Network(lambda key: LOGITS, lambda logits, obs: obs @ logits)
BASELINE = Network(lambda key: jnp.zeros(STATES), lambda v, obs: (obs @ v)[..., None])


def enumerated_objective(logits, alpha, log_prior):
  """E[Σ_t r_t - α (log π - log p)], summed over every trajectory of HORIZON steps."""
  log_policy = jax.nn.log_softmax(logits)
  pairs = list(itertools.product(range(STATES), range(ACTIONS)))
  path = np.array(list(itertools.product(pairs, repeat=HORIZON)))  # [N, T, 2]
  s, a = path[..., 0], path[..., 1]
  log_prob = jnp.log(PROCESS.initial)[s[:, 0]] + log_policy[s, a].sum(1)
  log_prob += jnp.log(PROCESS.transition)[s[:, :-1], a[:, :-1], s[:, 1:]].sum(1)
  gain = PROCESS.reward[s, a] - alpha * (log_policy[s, a] - log_prior[a])
  return jnp.sum(jnp.exp(log_prob) * gain.sum(1))


def episodes(key, n):
  """`[T, n]` transitions of whole episodes under the policy of LOGITS."""
  log_policy = jax.nn.log_softmax(LOGITS)
  first, key = jax.random.split(key)
  state = jax.random.categorical(first, jnp.log(PROCESS.initial), shape=(n,))

  def step(state, key):
    act, move = jax.random.split(key)
    action = jax.random.categorical(act, log_policy[state])
    following = jax.random.categorical(move, jnp.log(PROCESS.transition)[state, action])
    return following, (state, action, following)

  _, (s, a, after) = jax.lax.scan(step, state, jax.random.split(key, HORIZON))
  ends = jnp.zeros((HORIZON, n)).at[-1].set(1.0)
  one_hot = jnp.eye(STATES)
  extras = {"log_prob": log_policy[s, a]}
  return Transition(one_hot[s], a, PROCESS.reward[s, a], 1.0 - ends, one_hot[after], 0.0 * ends, extras)


ESTIMATORS = {
  "reinforce": ("score", 0.0, priors.uniform(HEAD), jnp.zeros(ACTIONS)),
  "reinforce, standardised returns": ("score", 0.0, priors.uniform(HEAD), jnp.zeros(ACTIONS)),
  "maximum entropy": ("score", ALPHA, priors.uniform(HEAD), jnp.zeros(ACTIONS)),
  "a prior": ("score", ALPHA, priors.fixed(HEAD, PRIOR), PRIOR),
  "ratio": ("ratio", ALPHA, priors.uniform(HEAD), jnp.zeros(ACTIONS)),
  "clip": ("clip", ALPHA, priors.uniform(HEAD), jnp.zeros(ACTIONS)),
}


@pytest.fixture(scope="module")
def rollouts():
  return jax.jit(episodes, static_argnums=1)(jax.random.key(2), 100_000)


@pytest.fixture(scope="module")
def baseline():
  """The mean reward to come in each state, of other episodes: any serves, and a good one needs fewer samples."""
  others = jax.jit(episodes, static_argnums=1)(jax.random.key(3), 10_000)
  to_come = jnp.cumsum(others.reward[::-1], axis=0)[::-1]
  return jnp.einsum("tns,tn->s", others.obs, to_come) / others.obs.sum((0, 1))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_the_estimate_is_the_gradient_over_all_trajectories(name, rollouts, baseline):
  surrogate, alpha, prior, log_prior = ESTIMATORS[name]
  standardise = "standardised" in name
  policy = posteriors.enumerated(TABLE, HEAD, optax.sgd(1.0))
  posterior = posteriors.score(policy, optax.sgd(1.0), surrogate=surrogate, standardise=standardise)
  value = values.lambda_value(BASELINE, optax.sgd(0.0), gamma=1.0, lam=1.0, regularised=alpha > 0)
  design = Design(prior, posterior, value, temperatures.fixed(alpha))
  params = {"actor": LOGITS, "value": baseline}
  rollout = rollouts._replace(extras=rollouts.extras | value.prepare(design, params, rollouts, jax.random.key(0)))
  batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout)
  step = posterior.step(design)
  new, _, metrics = jax.jit(step.step)(params, step.init(params), batch, jax.random.key(0))
  estimate = (new["actor"] - LOGITS) * HORIZON  # a mean over rows, where the objective is a sum over steps
  if standardise:
    estimate = estimate * jnp.std(batch.extras["advantage"])
  wanted = jax.grad(enumerated_objective)(LOGITS, alpha, log_prior)
  assert np.linalg.norm(estimate - wanted) < 0.02 * np.linalg.norm(wanted)
  cosine = jnp.vdot(estimate, wanted) / (jnp.linalg.norm(estimate) * jnp.linalg.norm(wanted))
  assert cosine > 0.999
  assert metrics["policy_ratio"] < 1e-5


def test_a_bonus_on_the_state_at_hand_is_not_the_maximum_entropy_gradient(rollouts):
  """What keeps `regularised` and `divergence` apart: the first sees the entropy of the states to come."""
  plain = jax.grad(enumerated_objective)(LOGITS, 0.0, jnp.zeros(ACTIONS))
  visits = rollouts.obs.mean(axis=(0, 1)) * HORIZON
  bonus = jax.grad(lambda logits: -(visits[:, None] * jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum())
  wanted = jax.grad(enumerated_objective)(LOGITS, 3.0, jnp.zeros(ACTIONS))
  assert np.linalg.norm(plain + 3.0 * bonus(LOGITS) - wanted) > 0.02 * np.linalg.norm(wanted)


def test_the_divergence_in_the_loss_is_that_of_each_state():
  prior, alpha = priors.fixed(HEAD, PRIOR), 0.7
  policy = posteriors.enumerated(TABLE, HEAD, optax.sgd(1.0))
  posterior = posteriors.score(policy, optax.sgd(1.0), divergence=True, standardise=False)
  design = Design(prior, posterior, None, temperatures.fixed(alpha))
  obs = jnp.eye(STATES)
  nothing = jnp.zeros(STATES)
  batch = Transition(
    obs, jnp.zeros(STATES, jnp.int32), nothing, nothing, obs, nothing, {"log_prob": nothing, "advantage": nothing}
  )
  step = posterior.step(design)
  new, _, metrics = step.step({"actor": LOGITS}, step.init({"actor": LOGITS}), batch, jax.random.key(0))

  def kl(logits):
    log_policy = jax.nn.log_softmax(logits)
    return jnp.mean(jnp.sum(jnp.exp(log_policy) * (log_policy - PRIOR), axis=-1))

  np.testing.assert_allclose(LOGITS - new["actor"], alpha * jax.grad(kl)(LOGITS), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(metrics["actor_loss"], alpha * kl(LOGITS), rtol=1e-5)


def test_soft_q_learnings_gradient_is_the_policys_and_the_values():
  """1704.06440, section 4: with Q = V + α log π/p, ∇ ½(Q - y)² = α · policy gradient + value gradient, in expectation.

  Expectations are exact: every state and action is a row, weighed by the Boltzmann policy of Q.
  """
  alpha, gamma = 0.4, 0.9
  table = jax.random.normal(jax.random.key(3), (STATES, ACTIONS))
  shape = (STATES, ACTIONS)
  log_prior = jnp.broadcast_to(PRIOR, shape)

  def log_policy_of(q):
    return jax.nn.log_softmax(q / alpha + log_prior)

  def value_of(q):
    return losses.enumerated_value(q.T, alpha, log_prior=log_prior.T)

  weight = jnp.exp(log_policy_of(table))
  following = PROCESS.reward + gamma * PROCESS.transition @ value_of(table)  # r + γ E[V(s')]
  soft_q = jax.grad(lambda q: jnp.sum(weight * losses.squared_error(q, following)))(table)

  log_ratio = log_policy_of(table) - log_prior
  regularised = (following - alpha * log_ratio).reshape(1, -1)  # r - α log π/p + γ V(s'), rewards of one-step episodes
  nothing = jnp.zeros_like(regularised)
  now = jnp.broadcast_to(value_of(table)[:, None], shape).reshape(1, -1)
  advantage = returns.gae(regularised, nothing, nothing, now, nothing, gamma=gamma, lam=1.0).reshape(shape)
  target = jnp.sum(weight * (now.reshape(shape) + advantage), axis=1)

  def policy_loss(q):
    return jnp.sum(weight * losses.score_function(log_policy_of(q), advantage))

  def value_loss(q):
    return jnp.sum(losses.squared_error(value_of(q), target))

  wanted = alpha * jax.grad(policy_loss)(table) + jax.grad(value_loss)(table)
  np.testing.assert_allclose(soft_q, wanted, atol=1e-5)
  assert np.linalg.norm(wanted) > 0.1


# The trust region


def natural_case(max_kl, advantage, head=HEAD, network=TABLE, obs=None, action=None, **options):
  obs = jnp.tile(jnp.eye(STATES), (20, 1)) if obs is None else obs
  policy = (posteriors.enumerated if head is HEAD else posteriors.direct)(network, head, optax.sgd(1.0))
  posterior = posteriors.natural(
    policy,
    lambda old, new, obs: head.kl(network.apply(old, obs), network.apply(new, obs)),
    max_kl=max_kl,
    standardise=False,
    **options,
  )
  design = Design(priors.uniform(head), posterior, None, temperatures.fixed(0.0))
  params = {"actor": network.init(jax.random.key(0))}
  if action is None:
    action = jax.random.randint(jax.random.key(4), (len(obs),), 0, ACTIONS)
  log_prob = policy.log_prob(params, obs, action)
  nothing = jnp.zeros(len(obs))
  extras = {"log_prob": log_prob, "advantage": advantage(obs, action)}
  batch = Transition(obs, action, nothing, nothing, obs, nothing, extras)
  step = posterior.step(design)
  new, state, metrics = jax.jit(step.step)(params, step.init(params), batch, jax.random.key(1))
  assert state == {}
  return params["actor"], new["actor"], batch, metrics


def test_a_small_step_is_the_natural_gradients():
  """Against the Fisher matrix written out: its inverse times the gradient, of the length that uses up the KL."""
  max_kl, damping = 1e-5, 1e-3
  old, new, batch, metrics = natural_case(
    max_kl, lambda obs, action: obs @ jnp.float32([1.0, -2.0, 0.5]) * action, damping=damping, iterations=30
  )
  policy = np.asarray(jax.nn.softmax(old), np.float64)
  states = np.argmax(batch.obs, -1)
  share = np.bincount(states) / len(states)
  fisher = np.zeros((STATES * ACTIONS,) * 2)
  for s in range(STATES):
    rows = slice(ACTIONS * s, ACTIONS * (s + 1))
    fisher[rows, rows] = share[s] * (np.diag(policy[s]) - np.outer(policy[s], policy[s]))
  fisher += damping * np.eye(len(fisher))
  advantage = np.asarray(batch.extras["advantage"], np.float64)
  gradient = np.zeros((STATES, ACTIONS))
  for s, a, value in zip(states, np.asarray(batch.action), advantage, strict=True):
    gradient[s] += value * (np.eye(ACTIONS)[a] - policy[s]) / len(states)
  direction = np.linalg.solve(fisher, gradient.ravel())
  wanted = direction * np.sqrt(2 * max_kl / (direction @ fisher @ direction))
  np.testing.assert_allclose((new - old).ravel(), wanted, rtol=2e-2, atol=2e-5)
  assert metrics["policy_step"] == 1.0
  assert metrics["surrogate_gain"] > 0


@pytest.mark.parametrize("max_kl", [1e-3, 1e-2, 0.3])
def test_the_measured_kl_is_within_the_bound_and_the_surrogate_rises(max_kl):
  head = policies.gaussian(2)
  network = networks.mlp(3, head.size, hidden=(16,), activation="tanh")
  obs = jax.random.normal(jax.random.key(0), (256, 3))
  action = jax.random.normal(jax.random.key(1), (256, 2))
  old, new, batch, metrics = natural_case(
    max_kl, lambda obs, action: obs[:, 0] * action[:, 0] - action[:, 1] ** 2, head, network, obs, action
  )
  measured = float(jnp.mean(head.kl(network.apply(old, obs), network.apply(new, obs))))
  assert 0.2 * max_kl < measured <= max_kl
  np.testing.assert_allclose(metrics["policy_kl"], measured, rtol=1e-4)
  log_prob = head.log_prob(network.apply(new, obs), action)
  gain = jnp.mean((jnp.exp(log_prob - batch.extras["log_prob"]) - 1.0) * batch.extras["advantage"])
  np.testing.assert_allclose(metrics["surrogate_gain"], gain, rtol=1e-3, atol=1e-6)
  assert gain > 0


def test_without_a_gradient_nothing_moves():
  old, new, _, metrics = natural_case(0.01, lambda obs, action: jnp.zeros(len(obs)))
  np.testing.assert_array_equal(old, new)
  assert metrics["policy_step"] == 0
  assert metrics["policy_kl"] == 0


# What they refuse


def test_bad_arguments():
  policy = posteriors.enumerated(TABLE, HEAD, optax.sgd(1.0))
  with pytest.raises(ValueError, match="surrogate is one of score, ratio, clip"):
    posteriors.score(policy, optax.sgd(1.0), surrogate="trpo")
  with pytest.raises(ValueError, match="clip must be above 0"):
    posteriors.score(policy, optax.sgd(1.0), clip=0.0)
  with pytest.raises(ValueError, match="max_kl must be above 0"):
    posteriors.natural(policy, None, max_kl=0.0)
  with pytest.raises(ValueError, match="iterations is a whole number >= 1"):
    posteriors.natural(policy, None, iterations=0)
  with pytest.raises(ValueError, match="policy with a density"):
    posteriors.score(posteriors.softmax(HEAD), optax.sgd(1.0))
  for change in ({"gamma": 1.1}, {"lam": -0.1}):
    with pytest.raises(ValueError, match=f"{next(iter(change))} lies in"):
      values.lambda_value(BASELINE, optax.sgd(1.0), **change)


def test_an_on_policy_value_says_what_it_lacks():
  value = values.lambda_value(BASELINE, optax.sgd(1.0))
  with pytest.raises(ValueError, match="values states, not actions"):
    value.q({}, jnp.zeros((1, STATES)), jnp.zeros((1, 1)))
  posterior = posteriors.score(posteriors.enumerated(TABLE, HEAD, optax.sgd(1.0)), optax.sgd(1.0))
  design = Design(priors.uniform(HEAD), posterior, value, temperatures.fixed(0.0))
  obs = jnp.zeros((4, STATES))
  batch = Transition(obs, jnp.zeros(4, jnp.int32), jnp.zeros(4), jnp.ones(4), obs, jnp.zeros(4), {})
  params = {"actor": LOGITS, "value": BASELINE.init(None)}
  with pytest.raises(ValueError, match="no value_target"):
    value.step(design).step(params, value.step(design).init(params), batch, jax.random.key(0))
  with pytest.raises(ValueError, match="needs the advantages"):
    posterior.step(design).step(params, posterior.step(design).init(params), batch, jax.random.key(0))
  regularised = values.lambda_value(BASELINE, optax.sgd(1.0), regularised=True)
  with pytest.raises(ValueError, match="a posterior with a density"):
    regularised.step(design._replace(posterior=posteriors.softmax(HEAD)))


def test_advantages_bootstrap_on_true_next_states():
  """Episodes that end, are cut, or go on: V(s') is of the stored next observation wherever the row after differs."""
  rng = np.random.default_rng(4)
  value = values.lambda_value(BASELINE, optax.sgd(1.0), gamma=0.9, lam=0.7, reward_scale=2.0)
  params = {"value": jnp.float32([0.5, -1.0, 2.0])}
  for cuts in ([], [(1, 0), (3, 2)], [(4, 1)]):
    obs = np.float32(rng.normal(size=(6, 3, STATES)))
    next_obs = np.concatenate([obs[1:], np.float32(rng.normal(size=(1, 3, STATES)))])
    discount, truncated = np.ones((2, 6, 3), np.float32) * [[[1.0]], [[0.0]]]
    discount[2, 0] = 0.0
    next_obs[2, 0] = np.nan  # nobody may look at it
    for t, b in cuts:
      truncated[t, b] = 1.0
      next_obs[t, b] = rng.normal(size=STATES)
    reward = np.float32(rng.normal(size=(6, 3)))
    rows = Transition(obs, np.zeros((6, 3), np.int32), reward, discount, next_obs, truncated, {})
    got = value.prepare(None, params, jax.tree.map(jnp.float32, rows), jax.random.key(0))
    now, after = obs @ params["value"], next_obs @ params["value"]
    wanted = returns.gae(2 * reward, discount, truncated, now, after, gamma=0.9, lam=0.7)
    np.testing.assert_allclose(got["advantage"], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["value_target"], wanted + now, rtol=1e-4, atol=1e-5)


# The previous policy


def test_the_previous_policy_is_the_one_of_the_last_renewal():
  prior = priors.previous_policy(TABLE, HEAD)
  params = {"actor": LOGITS + 1.0 * jnp.eye(STATES, ACTIONS)} | prior.init(jax.random.key(0))
  obs, action = jnp.eye(STATES), jnp.int32([0, 1, 0])
  np.testing.assert_allclose(prior.log_prob(params, obs, action), HEAD.log_prob(LOGITS, action), rtol=1e-6)
  renewed = prior.renew(params)
  np.testing.assert_allclose(prior.log_prob(renewed, obs, action), HEAD.log_prob(params["actor"], action), rtol=1e-6)
  assert renewed["previous_actor"] is not renewed["actor"]
  np.testing.assert_array_equal(prior.mode(renewed, obs), jnp.argmax(params["actor"], -1))
  assert prior.proposal(renewed, obs, jax.random.key(0), 5).shape == (5, STATES)


def test_an_adapted_penalty_prices_the_divergence_from_it():
  temperature = temperatures.kl_budget(duals.dual(2.0, transform="softplus"), optax.sgd(1.0), 0.01)
  prior = priors.fixed(HEAD, PRIOR)
  policy = posteriors.enumerated(TABLE, HEAD, optax.sgd(1.0))
  design = Design(prior, policy, None, temperature)
  obs, nothing = jnp.eye(STATES), jnp.zeros(STATES)
  params = {"actor": LOGITS} | temperature.init(jax.random.key(0))
  batch = Transition(obs, nothing, nothing, nothing, obs, nothing, {})
  step = temperature.step(design)
  new, _, metrics = step.step(params, step.init(params), batch, jax.random.key(0))
  log_policy = jax.nn.log_softmax(LOGITS)
  kl = jnp.mean(jnp.sum(jnp.exp(log_policy) * (log_policy - PRIOR), axis=-1))
  np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-5)
  raw = params["temperature"]
  np.testing.assert_allclose(new["temperature"] - raw, -jax.nn.sigmoid(raw) * (0.01 - kl), rtol=1e-4)
