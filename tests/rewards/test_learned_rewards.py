"""Learned rewards against what is known: a likelihood's gradient, D*, what ends are worth, what AIRL recovers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import expert, small, transitions

from experiments.oracles import imitation as oracle
from experiments.oracles.rows import Scale
from varl import (
  agents,
  components,
  demonstrations,
  losses,
  networks,
  normalize,
  policies,
  posteriors,
  rewards,
  temperatures,
  values,
)
from varl.agents import airl, gail, maxent_irl
from varl.envs import spec as spec_of
from varl.envs import toys
from varl.exact import inverse, tabular
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer
from varl.types import Design, Reward, Spec

SPEC = spec_of(toys.PointMass())


def network(inputs, hidden=(16,)):
  return networks.mlp(inputs, 1, hidden=hidden, activation="tanh")


def alone(reward, **axes):
  return Design(**({"prior": None, "posterior": None, "value": None, "temperature": None} | axes), reward=reward)


def every_pair(m):
  """A row for each state and action of a process, its next state left out."""
  states, actions = m.reward.shape
  state, action = np.divmod(np.arange(states * actions), actions)
  one_hot = np.eye(states)[state]
  zeros = np.zeros(len(state))
  row = transitions(0, (len(state),), Spec(states, actions, discrete=True))
  row = row._replace(obs=one_hot, action=action.astype(np.int32), next_obs=one_hot, discount=zeros + 1, reward=zeros)
  return jax.tree.map(jnp.asarray, row)


def test_the_gradient_is_that_of_the_enumerated_likelihood():
  """Descending by 1 shows the gradient of one row of each kind; weighted by occupancies these make up the whole."""
  with jax.enable_x64(True):
    of = oracle.random_problem(0)
    m = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, of.process)
    states, actions = m.reward.shape
    sizes = Spec(states, actions, discrete=True)
    rows = every_pair(m)
    net = network(states + actions + 1)
    fixed = of.demonstrations._rows(np.arange(len(of.demonstrations.obs)) == 0)
    reward = rewards.maxent_irl(sizes, net, optax.sgd(1.0), fixed, decay=0.0, absorbing=False)
    params = reward.init(jax.random.key(0))
    step = reward.step(alone(reward))

    def row_gradient(row):
      batch = jax.tree.map(lambda x: x[None], row)
      moved, _, _ = step.step(params, step.init(params), batch, jax.random.key(1))
      return jax.tree.map(lambda new, old: new - old, moved, params)  # -∇(r(s, a) - r(a demonstration))

    each = jax.vmap(row_gradient)(jax.tree.map(jnp.asarray, rows))

    def table(params):
      return reward.value(alone(reward), params, rows, jax.random.key(0)).reshape(states, actions)

    occupied = inverse.occupancy(m, of.log_expert)

    def likelihood(params):
      soft = tabular.soft_value_iteration(m._replace(reward=table(params)), temperature=1.0, log_prior=0.0)
      return inverse.expected_log_likelihood(soft.log_policy, occupied), soft.log_policy

    difference = (inverse.occupancy(m, likelihood(params)[1]) - occupied).ravel()
    gradient = jax.tree.map(lambda x: jnp.tensordot(difference, x, 1), each)
    for seed in range(4):
      leaves, tree = jax.tree.flatten(params)
      keys = jax.random.split(jax.random.key(seed), len(leaves))
      along = jax.tree.unflatten(tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])
      ahead, behind = (
        likelihood(jax.tree.map(lambda x, d, s=sign: x + s * 1e-5 * d, params, along))[0] for sign in (1, -1)
      )
      slope = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True))
      np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-4)


def test_the_discriminator_comes_to_the_share_of_the_experts_occupancy():
  of = oracle.random_problem(2)
  m = of.process
  policy = jax.nn.log_softmax(jax.random.normal(jax.random.key(5), m.reward.shape))
  states, actions = m.reward.shape
  sizes = Spec(states, actions, discrete=True)
  net = network(states + actions + 1, (64,))
  reward = rewards.gail(sizes, net, optax.adam(optax.cosine_decay_schedule(1e-2, 800)), of.demonstrations, penalty=0.0)
  step = reward.step(alone(reward))

  def update(carry, key):
    rows_key, key = jax.random.split(key)
    params, state, _ = step.step(*carry, oracle.draw(m, policy, rows_key, 4_096), key)
    return (params, state), None

  params = reward.init(jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 800)
  (params, _), _ = jax.jit(lambda carry: jax.lax.scan(update, carry, keys))((params, step.init(params)))
  logit = reward.value(alone(reward), params, every_pair(m), jax.random.key(0)).reshape(states, actions)
  exact = inverse.optimal_logit(inverse.occupancy(m, of.log_expert), inverse.occupancy(m, policy))
  np.testing.assert_allclose(jax.nn.sigmoid(logit), jax.nn.sigmoid(exact), atol=1e-2)


@pytest.mark.parametrize("make", [rewards.gail, rewards.maxent_irl])
def test_an_end_is_paid_what_its_absorbing_state_is_worth(make):
  net = network(SPEC.observation_size + SPEC.action_size + 1)
  batch = transitions(0, (16,), SPEC)
  options = {"gamma": 0.8, "squashed": True}
  with_ends = make(SPEC, net, optax.sgd(0.1), expert(SPEC), **options)
  without = make(SPEC, net, optax.sgd(0.1), expert(SPEC), absorbing=False, **options)
  params = with_ends.init(jax.random.key(0))
  own = next(iter(params.values()))
  end = net.apply(own.get("reward", own), jnp.zeros(7).at[-1].set(1.0))[0]
  one, two = (reward.value(alone(reward), params, batch, jax.random.key(0)) for reward in (with_ends, without))
  assert {0.0, 1.0} == set(batch.discount.tolist())
  np.testing.assert_allclose(one - two, np.where(batch.discount > 0, 0.0, 4.0 * end), rtol=1e-4, atol=1e-6)


def test_a_spectral_discriminator_is_nowhere_steeper_than_1():
  agent = gail.make(SPEC, small(gail, SPEC, spectral=True, penalty=0.0, reward_learning_rate=0.03))
  state, batch = agent.init(jax.random.key(0)), transitions(0, (64,), SPEC)
  keys = jax.random.split(jax.random.key(1), 300)
  state, _ = jax.jit(lambda state: jax.lax.scan(lambda s, k: agent.update(s, batch, k), state, keys))(state)
  config = small(gail, SPEC, spectral=True, penalty=0.0)
  x = jax.random.normal(jax.random.key(2), (512, 7))

  def steepest(**changed):
    of = components.of_states(SPEC, dataclasses.replace(config, **changed))
    slopes = jax.vmap(jax.grad(lambda x: of.apply(state.params["discriminator"], x)[0]))(x)
    return float(jnp.linalg.norm(slopes, axis=-1).max())

  assert steepest() < 1.001 < 2.0 < steepest(spectral=False)


def test_what_a_form_pays():
  logit = jnp.array([-2.0, 0.0, 3.0])
  share = jax.nn.sigmoid(logit)
  for form, wanted in (
    ("softplus", -jnp.log(1 - share)),
    ("log", jnp.log(share)),
    ("log_odds", logit),
    ("forward", -logit * jnp.exp(logit)),
  ):
    np.testing.assert_allclose(losses.payoff(logit, form), wanted, rtol=1e-5)
  with pytest.raises(ValueError, match="form is one of softplus, log, log_odds, forward; got 'gail'"):
    losses.payoff(logit, "gail")


def test_entropy_is_counted_once():
  """AIRL's reward is f where the agent adds the entropy, and f - log π where it does not."""
  spec, batch = SPEC, transitions(0, (8,), SPEC)
  module = agents.load("airl")
  design = airl.design(spec, small(module, spec))
  params = design.reward.init(jax.random.key(0)) | design.posterior.init(jax.random.key(1))
  found = {}
  for entropy in ("agent", "reward"):
    nets = network(7, (8,)), network(4, (8,))
    reward = rewards.airl(spec, *nets, optax.sgd(0.1), expert(spec), entropy=entropy, execute=jnp.tanh, clip=1e3)
    found[entropy] = reward.value(design, params, batch, jax.random.key(0))
  log_prob = design.posterior.log_prob(params, batch.obs, batch.action[None])[0]
  np.testing.assert_allclose(found["agent"] - found["reward"], log_prob, rtol=1e-4, atol=1e-5)


def test_what_airl_leaves_for_another_agent_is_its_reward_without_the_shaping():
  design = airl.design(SPEC, small(agents.load("airl"), SPEC, state_only=True))
  params = design.reward.init(jax.random.key(0)) | design.posterior.init(jax.random.key(1))
  batch = transitions(0, (8,), SPEC)
  own = design.reward.transfer(design, params, batch, jax.random.key(0))
  other = batch._replace(next_obs=batch.next_obs + 1.0, action=batch.action + 1.0)
  np.testing.assert_array_equal(own, design.reward.transfer(design, params, other, jax.random.key(0)))
  total = rewards.sum(environment=2.0, imitated=(design.reward, 0.5), other=constant(3.0))
  left = total.transfer(design, params, batch, jax.random.key(0))
  np.testing.assert_allclose(left, 2.0 * batch.reward + 0.5 * own + 3.0, rtol=1e-5)
  kept = rewards.learned(total, params)
  paid = kept.value(design, kept.init(jax.random.key(0)), batch, jax.random.key(0))
  np.testing.assert_allclose(paid, left, rtol=1e-6)
  assert rewards.sum(other=constant(3.0)).transfer is None
  assert not np.allclose(
    *(design.reward.value(design, params, rows, jax.random.key(0)) for rows in (batch, other)), atol=1e-3
  )


@pytest.mark.slow
@pytest.mark.parametrize(("branching", "recovers"), [(1, True), (None, False)])
def test_airl_recovers_a_reward_under_deterministic_dynamics_alone(branching, recovers):
  of = oracle.of_states(2, branching=branching)
  errors, _ = oracle.recovery("airl", of, {"state_only": True}, Scale((0,), short=False), 8_000)
  print(branching, 1.0 - errors[0])
  assert (errors[0] < 0.01) == recovers


def table_critic(states, actions):
  """Q as a table `[S, A]` of one member."""

  def apply(params, obs, action):
    of_all = obs @ params
    picked = jnp.take_along_axis(jnp.broadcast_to(of_all, (*action.shape, actions)), action[..., None], -1)[..., 0]
    return picked[None]

  return networks.Critic(lambda key: jnp.zeros((states, actions)), apply)


def test_inverse_soft_q_is_stationary_at_its_exact_end():
  from varl import policies, priors

  alpha, cost = 2.0, 0.7
  with jax.enable_x64(True):
    of = oracle.random_problem(0, branching=1)
    m = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, of.process)
    states, actions = m.reward.shape
    occupied = inverse.occupancy(m, of.log_expert)
    exact = inverse.iq_learn(m, occupied, regularisation=alpha, temperature=cost)
    soft = tabular.soft_value_iteration(m._replace(reward=exact.reward), temperature=cost, log_prior=0.0)
    value = values.inverse_soft_q(
      table_critic(states, actions), optax.sgd(1.0), regularisation=alpha, gamma=float(m.discount)
    )
    head = policies.categorical(actions)
    design = Design(priors.uniform(head), posteriors.softmax(head), value, temperatures.fixed(cost))
    step = value.step(design)
    rows = every_pair(m)
    following = m.successor.reshape(-1)
    rows = rows._replace(next_obs=np.eye(states)[following])

    def row_gradient(q, row):
      moved, _, metrics = step.step(
        {"critic": q}, step.init({"critic": q}), jax.tree.map(lambda x: x[None], row), jax.random.key(0)
      )
      return q - moved["critic"], metrics["implied_reward"]

    each, implied = jax.vmap(functools.partial(row_gradient, soft.q))(jax.tree.map(jnp.asarray, rows))
    np.testing.assert_allclose(implied.reshape(states, actions), exact.reward, atol=1e-6)
    gradient = jnp.tensordot(occupied.ravel(), each, 1)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    away, _ = jax.vmap(functools.partial(row_gradient, 1.1 * soft.q))(jax.tree.map(jnp.asarray, rows))
    assert np.abs(jnp.tensordot(occupied.ravel(), away, 1)).max() > 1e-2


def test_of_tables_cloning_gives_the_frequency_of_each_action():
  of = oracle.problem(*oracle.random_problem(0)[:2], "frequencies", seed=3)
  found, design = oracle.trained("bc", of, {"entropy_bonus": 0.0}, (0,), updates=2_000)
  policy = oracle.policy_of(design, found[0], of.process)
  assert oracle.distance(of.process, policy, of.log_expert) < 0.02


@pytest.mark.parametrize("module", [gail, airl, maxent_irl])
def test_ppo_in_its_place_by_one_field(module):
  """The reward is paid before advantages are made of it: another environment's reward changes nothing."""
  found = agents.load(module)
  agent = module.make(SPEC, small(found, SPEC, learner="ppo"))
  assert agent.on_policy
  settings = Settings(num_timesteps=64, num_envs=4, unroll_length=4, batch_size=8, epochs=1, eval_every=32)
  metrics = jax.eval_shape(make_trainer(toys.PointMass(), agent, settings).run, jax.random.key(0))[1]
  assert {"training/discriminator_paid", "training/reward_paid"} & metrics.keys()
  rows = transitions(0, (4, 2), SPEC)
  rows = rows._replace(extras={"log_prob": rows.reward})
  state = agent.init(jax.random.key(0))
  one, two = (
    agent.prepare(state, rows._replace(reward=reward), jax.random.key(1)).extras["advantage"]
    for reward in (rows.reward, 0.0 * rows.reward)
  )
  np.testing.assert_array_equal(one, two)
  assert np.abs(one).max() > 0


def constant(level, group=None):
  """A reward that pays a constant, and the batch's own on top."""
  return Reward(
    lambda key: {} if group is None else {group: jnp.zeros(())},
    lambda design, params, batch, key: batch.reward + level,
  )


def test_a_sum_weighs_its_parts_and_the_environment():
  batch = transitions(0, (8,), SPEC)
  total = rewards.sum(environment=2.0, one=constant(3.0), other=(constant(5.0), 0.1))
  found = total.value(alone(total), {}, batch, jax.random.key(0))
  np.testing.assert_allclose(found, 2.0 * batch.reward + 3.0 + 0.5, rtol=1e-6)
  assert total.step is None
  for call, message in (
    (rewards.sum, "at least one part"),
    (lambda: rewards.sum(one=(constant(1.0), float("nan"))), "weight of one must be finite, got nan"),
    (lambda: rewards.sum(environment=float("inf"), one=constant(1.0)), "weight of environment must be finite"),
    (
      lambda: rewards.sum(one=constant(1.0, "g"), two=constant(1.0, "g")).init(jax.random.key(0)),
      r"'two' names the parameter groups \['g'\]",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      call()


@pytest.mark.parametrize(
  ("name", "why"), [("mbpo", "the model that it learned beside"), ("options", "the policy that it learned beside")]
)
def test_a_reward_for_its_own_agent_alone_pays_no_other(name, why):
  module = agents.load(name)
  own = module.design(SPEC, small(module, SPEC)).reward
  for reward in (own, rewards.sum(environment=1.0, own=own, other=constant(3.0))):
    with pytest.raises(ValueError, match=f"no other agent can be paid by this reward: .*{why}"):
      rewards.learned(reward, reward.init(jax.random.key(0)))


def test_a_learned_sum_learns_every_part():
  spec, given = SPEC, expert(SPEC)
  parts = {
    name: rewards.gail(spec, network(7, (8,)), optax.sgd(0.1), given, group=name, execute=jnp.tanh)
    for name in ("first", "second")
  }
  total = rewards.sum(first=parts["first"], second=(parts["second"], 0.5))
  params = total.init(jax.random.key(0))
  step = total.step(alone(total))
  moved, _, metrics = step.step(params, step.init(params), transitions(0, (8,), spec), jax.random.key(1))
  assert {"first_loss", "second_loss"} <= metrics.keys()
  for name in parts:
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (moved[name], params[name])), strict=True))


def test_a_learned_reward_says_the_same_whatever_scales_the_new_agents_observations():
  spec, batch = SPEC, transitions(0, (8,), SPEC)
  reward = rewards.gail(spec, network(7, (8,)), optax.sgd(0.1), expert(spec), execute=jnp.tanh)
  old, new = (normalize.update(normalize.init(4), jnp.asarray(scale * batch.obs + scale)) for scale in (1.0, 3.0))
  params = reward.init(jax.random.key(0)) | {normalize.NORMALIZER: old}
  kept = rewards.learned(reward, params)
  assert kept.step is None
  outer = kept.init(jax.random.key(1)) | {normalize.NORMALIZER: new}

  def seen(moments):
    return batch._replace(obs=normalize.apply(moments, batch.obs), next_obs=normalize.apply(moments, batch.next_obs))

  one = reward.value(alone(reward), params, seen(old), jax.random.key(0))
  two = kept.value(alone(kept), outer, seen(new), jax.random.key(0))
  np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match=r"lack the reward's groups \['discriminator'\]; they have \['normalizer'\]"):
    rewards.learned(reward, {normalize.NORMALIZER: old})


def test_importance_weights_bring_old_rows_to_the_present_policy():
  module = agents.load("maxent_irl")
  agent = module.make(SPEC, small(module, SPEC, weights="importance"))
  state, batch = agent.init(jax.random.key(0)), transitions(0, (64,), SPEC)
  action, _, extras = agent.act(state.params, (), batch.obs, jax.random.key(1))
  fresh = batch._replace(action=action, extras=extras)
  old = fresh._replace(extras={"log_prob": extras["log_prob"] - jnp.linspace(-2, 2, 64)})
  one, two = (jax.jit(agent.update)(state, rows, jax.random.key(2))[1]["reward_effective"] for rows in (fresh, old))
  np.testing.assert_allclose(one, 1.0, rtol=1e-4)
  ratio = np.exp(np.linspace(-2, 2, 64))
  np.testing.assert_allclose(two, ratio.mean() ** 2 / (ratio**2).mean(), rtol=1e-3)


def test_fusion_weighs_rows_of_both_kinds_to_the_present_policy():
  """One state: the weighed mean of a reward over old rows and the expert's is that of the policy, near enough."""
  spec, n = Spec(1, 4, discrete=True), 50_000
  policy, old, own = (
    np.asarray(p, np.float32) for p in ([0.5, 0.3, 0.15, 0.05], [0.05, 0.05, 0.1, 0.8], [0.1, 0.1, 0.7, 0.1])
  )
  rng = np.random.default_rng(0)
  shown = demonstrations.of_arrays(
    spec,
    np.ones((n, 1)),
    rng.choice(4, n, p=own / own.sum(dtype=float)),
    np.ones((n, 1)),
    terminated=np.zeros(n),
    episode=np.arange(n),
  )
  head = policies.categorical(4)
  reward = rewards.maxent_irl(
    spec,
    network(6),
    optax.sgd(1.0),
    shown,
    weights="fusion",
    behaviour=(head, networks.mlp(1, 4, hidden=())),
    decay=0.0,
  )
  taken = rng.choice(4, n, p=old / old.sum(dtype=float)).astype(np.int32)
  batch = transitions(0, (n,), spec)._replace(
    obs=jnp.ones((n, 1)), action=taken, discount=jnp.ones(n), extras={"log_prob": jnp.log(jnp.asarray(old))[taken]}
  )
  posterior = posteriors.softmax(head)._replace(log_prob=lambda params, obs, action: jnp.log(policy)[action])
  params = reward.init(jax.random.key(0))
  # The behaviour is exact: the logits are its probabilities' logarithms.
  params["reward"]["behaviour"] = {"params": {"Dense_0": {"kernel": jnp.zeros((1, 4)), "bias": jnp.log(own)}}}
  step = reward.step(alone(reward, posterior=posterior))
  _, _, metrics = step.step(params, step.init(params), jax.tree.map(jnp.asarray, batch), jax.random.key(0))
  paid = reward.value(alone(reward), params, batch._replace(action=np.arange(n) % 4), jax.random.key(0))[:4]
  expected = metrics["reward_loss"] + metrics["reward_expert"] + metrics["reward_behaviour"]
  assert abs(float(metrics["reward_policy"]) - float(policy @ paid)) > 0.1
  np.testing.assert_allclose(expected, policy @ paid, atol=0.01)
  np.testing.assert_allclose(metrics["reward_behaviour"], own @ np.log(own), atol=0.02)


@pytest.mark.parametrize(
  ("make", "options", "message"),
  [
    (rewards.gail, {"form": "gail"}, "form is one of"),
    (rewards.gail, {"penalty": -1.0}, "penalty must be at least 0"),
    (rewards.gail, {"clip": 0.0}, "clip must be above 0"),
    (rewards.gail, {"gamma": 1.0}, r"gamma lies in \[0, 1\), got 1.0"),
    (rewards.maxent_irl, {"weights": "gcl"}, "weights is one of none, importance, fusion; got 'gcl'"),
    (rewards.maxent_irl, {"weights": "fusion"}, 'a behaviour is given with weights="fusion", and with no other'),
    (rewards.maxent_irl, {"decay": -1.0}, "decay must be at least 0"),
    (rewards.maxent_irl, {"clip": -1.0}, "clip must be above 0"),
    (functools.partial(rewards.airl, shaping=network(4)), {"entropy": "both"}, "entropy is agent or reward"),
  ],
)
def test_bad_choices_are_refused(make, options, message):
  with pytest.raises(ValueError, match=message):
    make(SPEC, network(7), optimizer=optax.sgd(0.1), demonstrations=expert(SPEC), **options)


def test_a_policy_without_a_density_is_refused_where_one_is_needed():
  spec = Spec(4, 3, discrete=True)
  without = posteriors.softmax(policies.categorical(3))
  reward = rewards.airl(spec, network(8), network(4), optax.sgd(0.1), expert(spec))
  with pytest.raises(ValueError, match="airl needs a policy with a density"):
    reward.step(alone(reward, posterior=without))
  reward = rewards.maxent_irl(spec, network(8), optax.sgd(0.1), expert(spec), weights="importance")
  with pytest.raises(ValueError, match="importance weights need a policy with a density"):
    reward.step(alone(reward, posterior=without))
  with pytest.raises(ValueError, match="cloning needs a policy with a density"):
    posteriors.cloned(without, optax.sgd(0.1))
