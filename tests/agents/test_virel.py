"""VIREL and β-VIREL: the residual temperature by hand, its feedback, its batch from replay, and what it ends at."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions
from jax.sharding import PartitionSpec as P

from experiments.oracles.entries import TABLE
from experiments.oracles.finite import misleading
from experiments.oracles.regulators import boltzmann
from varl import losses, networks, temperatures, values
from varl.agents import beta_virel, virel
from varl.envs import Tabular, toys
from varl.envs import spec as spec_of
from varl.exact import linear_quadratic
from varl.loop.settings import Settings
from varl.loop.trainer import AXIS, make_trainer
from varl.networks import Network
from varl.step import SIDE
from varl.types import Agent, AgentState, Design, Particles, Posterior, SideBatch, Spec, Value

SETTINGS = Settings(
  num_timesteps=96,
  num_envs=4,
  episode_length=10,
  unroll_length=2,
  updates_per_env_step=0.5,
  batch_size=16,
  replay_capacity=64,
  warm_up=32,
  eval_every=32,
  eval_episodes=2,
)

# Its mathematics


def test_the_residual_by_hand():
  prediction, target = jnp.float32([[1.0, 3.0], [2.0, 5.0]]), jnp.float32([2.0, 3.0])
  np.testing.assert_allclose(losses.bellman_residual(prediction, target), [(1 + 0) / 2, (0 + 4) / 2])
  got = losses.residual_temperature(jnp.float32([0.5, 2.0, jnp.inf]), 0.5, 0.75)
  np.testing.assert_allclose(got, [0.25, 0.75, 0.75])


def residual_of(**options):
  """A residual temperature of a value with Q_1 = a, Q_2 = a + 1 and y = r."""

  def backup(design, params, batch, key):
    q = batch.action[:, 0]
    return jnp.stack([q, q + 1.0]), batch.reward

  temperature = temperatures.bellman_residual(**options)
  return temperature, temperature.step(Design(None, None, Value(None, None, None, None, backup), temperature))


def rows(action, reward=0.0, spec=None):
  batch = transitions(0, (len(action),), spec or Spec(2, 1))
  return batch._replace(action=np.float32(action)[:, None], reward=np.full(len(action), reward, np.float32))


def with_side(stored):
  """Own batch: δ² = ½ (0 + 1). Side batch: a = 1, 3: δ² = ½ (½ (1 + 4) + ½ (9 + 16)) = 7.5."""
  return rows([0.0, 0.0, 0.0])._replace(extras={SIDE: SideBatch(rows([1.0, 3.0]), jnp.int32(stored))})


@pytest.mark.parametrize(
  ("options", "batch", "expected", "at_ceiling"),
  [
    ({}, with_side(2), 0.1 * 7.5, 0.0),
    ({}, with_side(1), 0.1 * 1.0, 0.0),  # warm
    ({"initial": 4.0}, with_side(1), 0.1 * 4.0, 0.0),
    ({"ceiling": 0.7}, with_side(2), 0.7, 1.0),
    ({"ceiling": 0.05}, with_side(1), 0.05, 1.0),
    ({"ceiling": float("inf")}, with_side(2), 0.75, 0.0),
    ({"average": 0.75}, with_side(2), 0.1 * (0.75 * 1.0 + 0.25 * 7.5), 0.0),
    ({}, rows([0.0, 0.0, 0.0]), 0.1 * 0.5, 0.0),  # no side batch: its own
  ],
)
def test_the_temperature_by_hand(options, batch, expected, at_ceiling):
  temperature, step = residual_of(scale=0.1, **options)
  params = temperature.init(jax.random.key(0))
  new, _, metrics = step.step(params, step.init(params), batch, jax.random.key(0))
  np.testing.assert_allclose(temperature.value(new), expected, rtol=1e-6)
  assert metrics["at_ceiling"] == at_ceiling
  np.testing.assert_allclose(metrics["residual_scale"], 0.1)
  np.testing.assert_allclose(metrics["residual"], 7.5 if SIDE in batch.extras else 0.5)
  assert new["temperature"].dtype == jnp.float32


def test_over_several_devices_it_is_one_temperature(mesh):
  """Eight devices with one row each, a = 0 .. 7; they wait until each holds its row."""
  temperature, _ = residual_of(scale=0.1)
  design = Design(None, None, Value(None, None, None, None, lambda d, p, b, k: (b.action.T, b.reward)), temperature)
  step = temperature.step(design._replace(axis="devices"))
  params = temperature.init(jax.random.key(0))

  def local(batch, stored):
    batch = batch._replace(extras={SIDE: SideBatch(batch, stored[0])})
    return step.step(params, {}, batch, jax.random.key(0))[0]["temperature"][None]

  batch = jax.tree.map(jnp.asarray, rows(np.arange(8)))
  split = jax.shard_map(local, mesh=mesh, in_specs=(P("devices"), P("devices")), out_specs=P("devices"))
  np.testing.assert_allclose(split(batch, jnp.ones(8, jnp.int32)), np.full(8, np.mean(np.arange(8) ** 2)))
  np.testing.assert_allclose(split(batch, jnp.ones(8, jnp.int32).at[3].set(0)), np.ones(8))


def test_the_backup_of_a_q_value_is_without_entropy():
  """Q_i = s_1 + s_2 + a and Q̄ = Q at s = s' = (0, 1), a' in {0, 2}: y = 3 + ½ (1 + 3)/2 whatever α is."""

  def particles(design, params, batch, key):
    action = jnp.float32([0.0, 2.0]).reshape(2, 1, 1)
    return Particles(action, jnp.full((2, 1), -jnp.log(2.0)), jnp.float32([[4.0], [3.0]]))

  network = Network(lambda key: jnp.ones((2, 3)), lambda params, x: jnp.einsum("ei,...i->e...", params, x)[..., None])
  for regularised in (True, False):
    value = values.q_value(
      networks.action_in(network, lambda a: a), optax.sgd(1.0), gamma=0.5, regularised=regularised, reward_scale=3.0
    )
    design = Design(None, Posterior(None, particles, None, None, None, None), value, temperatures.fixed(0.5))
    obs, one = np.float32([[0.0, 1.0]]), np.ones(1, np.float32)
    batch = transitions(0, (1,), Spec(2, 1))._replace(
      obs=obs, next_obs=obs, action=np.float32([[5.0]]), reward=one, discount=one
    )
    prediction, y = value.backup(design, value.init(jax.random.key(0)), batch, jax.random.key(0))
    np.testing.assert_allclose(prediction, [[6.0], [6.0]])
    np.testing.assert_allclose(y, [4.0])


# The batch of its own


def spy(side_batch, seen):
  """An agent that learns nothing and reports what its updates were given."""

  def act(params, carry, obs, key):
    return jax.random.normal(key, (*obs.shape[:-1], 2)), carry, {}

  def update(state, batch, key):
    metrics = {"batch": jnp.sum(batch.obs), "noise": jax.random.uniform(key)}
    if side_batch:
      side = batch.extras[SIDE]
      seen.append(side.rows.obs.shape)
      metrics |= {"side": jnp.sum(side.rows.obs), "stored": side.stored.astype(jnp.float32)}
    else:
      assert SIDE not in batch.extras
    return state, metrics

  start = AgentState({"none": jnp.zeros(())}, {})
  return Agent(spec_of(toys.PointMass()), lambda key: start, act, act, update, side_batch=side_batch)


def test_an_agent_that_asks_gets_a_second_draw_and_all_else_stays():
  env = toys.PointMass()
  metrics, seen = {}, []
  for side_batch in (0, 24, 1000):
    run = jax.jit(make_trainer(env, spy(side_batch, seen), SETTINGS).run)
    _, metrics[side_batch] = run(jax.random.key(0))
    # Of a replay of 64 rows no more than 64 are drawn.
    assert all(shape == (min(side_batch, 64), 4) for shape in seen)
    seen.clear()
  for name in ("training/batch", "training/noise"):
    np.testing.assert_array_equal(metrics[24][name], metrics[0][name])
  # After 40, 48, 56 and 64 steps, and then the ring is full; nothing before the warm-up's end.
  np.testing.assert_allclose(metrics[24]["training/stored"][1:], [(40 + 48 + 56 + 64) / 4, 64.0])
  assert np.isfinite(metrics[24]["training/side"][1:]).all()
  assert not np.allclose(metrics[24]["training/side"][1:] / 24, metrics[24]["training/batch"][1:] / 16)


def test_one_side_batch_is_held_at_a_time():
  """A block of updates has its batches together, 8 × 16 rows here, but never 8 × 24."""
  settings = dataclasses.replace(SETTINGS, updates_per_env_step=1.0)
  trainer = make_trainer(toys.PointMass(), spy(24, []), settings)
  text = trainer.epoch.lower(trainer.shapes, jax.ShapeDtypeStruct((), jnp.int32)).as_text()
  assert "<128x4xf32>" in text
  assert "<24x4xf32>" in text
  assert "<192x4xf32>" not in text
  assert "8x24x4" not in text


def test_it_resumes_bit_for_bit_and_maps_over_seeds():
  env = toys.PointMass()
  config = beta_virel.Config(hidden=(8,), residual_batch=40)
  trainer = make_trainer(env, beta_virel.make(spec_of(env), config), SETTINGS)
  whole, metrics = trainer.epoch(trainer.init(jax.random.key(0)), 8)
  halves, _ = trainer.epoch(trainer.init(jax.random.key(0)), 5)
  halves, _ = trainer.epoch(halves, 3)
  jax.tree.map(np.testing.assert_array_equal, whole.agent, halves.agent)
  assert metrics["training/at_ceiling"] == 0
  mapped, _ = jax.jit(jax.vmap(trainer.run))(jax.random.split(jax.random.key(0), 2))
  assert mapped.agent.params["temperature"].shape == (2,)
  assert np.diff(mapped.agent.params["temperature"]) != 0


def test_eight_devices_share_it():
  env = toys.PointMass()
  settings = dataclasses.replace(
    SETTINGS, num_devices=8, num_envs=16, num_timesteps=192, warm_up=64, eval_every=192, batch_size=64, eval_episodes=8
  )
  config = beta_virel.Config(hidden=(8,), residual_batch=64)
  trainer = make_trainer(env, beta_virel.make(spec_of(env), config, axis=AXIS), settings)
  state, metrics = trainer.epoch(trainer.init(jax.random.key(0)), 4)
  for leaf in jax.tree.leaves(state.agent):
    for shard in leaf.addressable_shards:
      np.testing.assert_array_equal(shard.data, leaf.addressable_shards[0].data)
  assert np.isfinite(metrics["training/residual"])
  assert state.agent.params["temperature"] != 1.0
  odd = dataclasses.replace(config, residual_batch=60)
  with pytest.raises(ValueError, match="60 is not divisible by num_devices=8"):
    make_trainer(env, beta_virel.make(spec_of(env), odd, axis=AXIS), settings)


def test_the_side_batch_is_normalised_like_the_batch():
  """Moments of another mean change what the critic sees of the side batch, and so its residual."""
  spec = Spec(4, 2)
  agent = beta_virel.make(spec, beta_virel.Config(hidden=(8,)))
  batch = transitions(0, (8,), spec)
  side = SideBatch(transitions(1, (8,), spec), jnp.int32(8))
  state, key = jax.jit(agent.init)(jax.random.key(0)), jax.random.key(1)
  fresh = agent.observe(state, jax.tree.map(lambda x: 5.0 + 3.0 * x, side.rows), jnp.ones(8, bool))
  moments = fresh.params["normalizer"]

  def scale(x):
    return (x - moments.origin - moments.mean) / jnp.sqrt(moments.variance)

  update = jax.jit(agent.update)
  scaled = side._replace(rows=side.rows._replace(obs=scale(side.rows.obs), next_obs=scale(side.rows.next_obs)))
  got = update(fresh, batch._replace(extras={SIDE: side}), key)[1]["residual"]
  expected = update(state, batch._replace(extras={SIDE: scaled}), key)[1]["residual"]
  plain = update(state, batch._replace(extras={SIDE: side}), key)[1]["residual"]
  np.testing.assert_allclose(got, expected, rtol=1e-4)
  assert abs(got / plain - 1) > 0.01


# The feedback between temperature and policy


@pytest.fixture(scope="module")
def feedback():
  """Metrics by run of an unsquashed policy on a linear-quadratic problem; scale, ceiling: (1, ∞), (1, 1), (.01, 1)."""
  problem = linear_quadratic.random(jax.random.key(100), 2, 1, discount=0.9)
  env = toys.LinearQuadratic(problem.A, problem.B, problem.Q, problem.R, noise=0.05)
  settings = Settings(
    num_timesteps=16 * 250,
    num_envs=16,
    episode_length=10,
    updates_per_env_step=0.25,
    batch_size=64,
    replay_capacity=16 * 250,
    warm_up=400,
    eval_every=16 * 50,
    eval_episodes=1,
  )

  def run(scale, ceiling):
    config = beta_virel.Config(
      gamma=0.9,
      learning_rate=1e-3,
      tau=0.005,
      hidden=(32, 32),
      policy="gaussian",
      critics=1,
      moment_penalty=0.0,
      residual_batch=256,
      residual_scale=scale,
      ceiling=ceiling,
      normalize_observations=False,
    )
    return make_trainer(env, beta_virel.make(spec_of(env), config), settings).run(jax.random.key(0))[1]

  return jax.device_get(jax.jit(jax.vmap(run))(jnp.float32([1.0, 1.0, 0.01]), jnp.float32([jnp.inf, 1.0, 1.0])))


def test_unbounded_with_scale_one_it_diverges(feedback):
  alpha = feedback["training/alpha"][0]
  assert not alpha.max() < 1e6, alpha  # NaN included
  assert (feedback["training/at_ceiling"][0] == 0).all()


def test_the_ceiling_holds_the_same_run(feedback):
  alpha, residual = feedback["training/alpha"][1], feedback["training/residual"][1]
  assert (alpha <= 1.0).all()
  assert (feedback["training/at_ceiling"][1] > 0.9).all()
  assert residual[-1] < 0.5 * residual[0], residual
  assert (feedback["training/entropy"][1] < 5).all()


def test_with_a_small_scale_it_settles_below_the_ceiling(feedback):
  alpha, entropy = feedback["training/alpha"][2], feedback["training/entropy"][2]
  assert (feedback["training/at_ceiling"][2] == 0).all()
  np.testing.assert_allclose(alpha, 0.01 * feedback["training/residual"][2], rtol=1e-3)
  assert alpha[-1] < 0.3 * alpha[0], alpha
  assert entropy[-1] < entropy[0] - 0.5, entropy


# What it ends at


def test_the_fixed_point_of_virel_on_a_linear_quadratic_problem():
  """π = N(-Ks, Σ) is ∝ exp(Q^π/ε): Q^π peaks at -Ks, its curvature in a is -ε Σ⁻¹, and it is the return's value."""
  epsilon = 0.3
  problem = jax.jit(lambda key: linear_quadratic.random(key, 3, 2, discount=0.9))(jax.random.key(3))
  solution = jax.jit(lambda problem: boltzmann(problem, temperature=epsilon))(problem)
  evaluation = jax.jit(linear_quadratic.evaluate)(problem, solution.gain, solution.covariance)
  np.testing.assert_allclose(solution.P, evaluation.P, rtol=1e-4)
  np.testing.assert_allclose(solution.constant, evaluation.constant, rtol=1e-4)
  state = jnp.float32([0.3, -1.0, 0.5])

  def q(action):
    return linear_quadratic.q(problem, evaluation, state, action)

  best = -solution.gain @ state
  np.testing.assert_allclose(jax.jit(jax.grad(q))(best), np.zeros(2), atol=1e-4)
  np.testing.assert_allclose(jax.jit(jax.hessian(q))(best), -epsilon * np.linalg.inv(solution.covariance), rtol=1e-3)
  soft = jax.jit(lambda problem: linear_quadratic.soft(problem, temperature=epsilon))(problem)
  assert abs(solution.constant - soft.constant) > 0.01  # the entropy's worth


def test_in_rooms_where_maxent_errs_it_ends_greedy_and_right():
  """On every such problem of the grid the policy takes the second room, almost surely, and ε is almost 0."""
  problems, c = misleading(0.9, 2)["rooms"]
  assert len(c) == 8
  settings = Settings(
    num_timesteps=4_000,
    num_envs=32,
    episode_length=2,
    updates_per_env_step=0.25,
    batch_size=64,
    replay_capacity=4_000,
    warm_up=480,
    eval_every=4_000,
    eval_episodes=1,
  )

  def train(m, c):
    config = beta_virel.Config(**TABLE, gamma=0.9, residual_batch=256, residual_scale=c)
    env = Tabular(m)
    design = beta_virel.design(spec_of(env), config)
    params = make_trainer(env, beta_virel.make(spec_of(env), config), settings).run(jax.random.key(0))[0].agent.params
    batch = transitions(0, (1,), spec_of(env))._replace(obs=jnp.eye(4)[:1])
    return design.posterior.particles(design, params, batch, None).log_weight[:, 0], design.temperature.value(params)

  log_policy, epsilon = jax.jit(jax.vmap(train))(problems, c)
  assert (jnp.exp(log_policy[:, 1]) > 0.95).all()
  assert (epsilon < 0.01).all()


# The agents


def test_the_temperature_of_each():
  spec = Spec(3, 2)
  assert virel.design(spec, virel.Config()).temperature.value({}) == 1.0
  assert virel.make(spec).side_batch == 0
  temperature = beta_virel.design(spec, beta_virel.Config(residual_scale=0.01)).temperature
  np.testing.assert_allclose(temperature.value(temperature.init(jax.random.key(0))), 0.01)
  assert beta_virel.make(spec).side_batch == 4096
  for module in (virel, beta_virel):
    for separate in (True, False):
      value = module.design(spec, module.Config(hidden=(8,), separate_value=separate)).value
      assert ("target_value" in jax.eval_shape(value.init, jax.random.key(0))) == separate


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"residual_scale": 0.0}, "residual_scale is a finite number > 0"),
    ({"residual_batch": 0}, "residual_batch"),
    ({"residual_average": 1.0}, r"residual_average lies in \[0, 1\), got 1.0"),
    ({"ceiling": 0.0}, "ceiling must be above 0, got 0.0"),
    ({"ceiling": float("nan")}, "ceiling must be above 0, got nan"),
    ({"gamma": 1.0}, "gamma"),
    ({"policy": "gaussain"}, "policy is one of"),
  ],
)
def test_a_bad_config_is_an_error(change, message):
  with pytest.raises(ValueError, match=message):
    beta_virel.make(Spec(3, 2), beta_virel.Config(**change))


def test_a_bad_residual_is_an_error():
  for options, message in (
    ({"scale": -1.0}, "scale must be above 0, got -1.0"),
    ({"scale": 1.0, "initial": -0.5}, "initial must be at least 0, got -0.5"),
    ({"scale": 1.0, "average": 1.0}, r"average lies in \[0, 1\), got 1.0"),
    ({"scale": 1.0, "rows": 0}, "rows is a whole number >= 1, got 0"),
  ):
    with pytest.raises(ValueError, match=message):
      temperatures.bellman_residual(**options)
  temperature = temperatures.bellman_residual(scale=1.0)
  with pytest.raises(ValueError, match="needs a value with a `backup`"):
    temperature.step(Design(None, None, Value(None, None, None, None), temperature))
