"""Known models in the agent's own space, imagined rows, and both inside an agent and the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions

import varl
from varl import models, networks, normalize
from varl.agents import sac
from varl.design import agent
from varl.envs import spec, tabular, toys
from varl.models.ensemble import inputs_of, outputs_of
from varl.policies import tanh_gaussian
from varl.types import Outcome, Transition

SPEC = spec(toys.PointMass())
HEAD = tanh_gaussian(2)


def trainer(agent, env):
  settings = varl.Settings(
    num_timesteps=64, num_envs=4, episode_length=9, batch_size=8, replay_capacity=64, eval_every=32, eval_episodes=2,
    updates_per_env_step=0.25, warm_up=32,
  )  # fmt: skip
  return varl.make_trainer(env, agent, settings)


def design_with(model, **config):
  return sac.design(SPEC, sac.Config(hidden=(8,), **config))._replace(model=model)


def learned(**options):
  network = networks.mlp(inputs_of(SPEC), outputs_of(SPEC), hidden=(8,), activation="silu")
  return models.ensemble(SPEC, network, optax.adam(1e-3), members=3, execute=HEAD.execute, **options)


@pytest.mark.parametrize(
  "env", [toys.PointMass(), toys.MultiGoal(), toys.LinearQuadratic(noise=0.0), tabular.random_mdp(3)]
)
def test_what_environments_offer_is_what_they_do(env):
  state = env.reset(jax.random.key_data(jax.random.key(3)))
  for i in range(3):
    key = jax.random.key(i)
    if getattr(env, "discrete", False):
      action, draw = jnp.int32(i), jax.random.split(state.data[1])[0]
    else:
      action, draw = jax.random.uniform(key, (env.action_size,), minval=-1.0), key
    next_obs, reward, discount = env.outcome(state.obs, action, draw)
    state = env.step(state, action)
    np.testing.assert_allclose(next_obs, state.obs, atol=1e-6)
    np.testing.assert_allclose((reward, discount), (state.reward, 1.0 - state.done), atol=1e-6)


def test_a_known_model_speaks_in_scaled_observations():
  env = toys.PointMass()
  model = models.known(env.outcome, execute=HEAD.execute, draws=2)
  obs = jax.random.normal(jax.random.key(0), (5, 4)) * 3.0 + 1.0
  moments = normalize.update(normalize.init(4), obs, jnp.ones(5, bool))
  raw = jax.random.normal(jax.random.key(1), (5, 2))
  plain = model.sample({}, obs, raw, jax.random.key(2), None)
  scaled = model.sample({"normalizer": moments}, normalize.apply(moments, obs), raw, jax.random.key(2), None)
  np.testing.assert_allclose(scaled.next_obs, normalize.apply(moments, plain.next_obs), atol=1e-5)
  np.testing.assert_allclose(scaled.reward, plain.reward, atol=1e-5)
  assert model.draws({}, obs, raw, jax.random.key(0)).next_obs.shape == (2, 5, 4)
  with pytest.raises(ValueError, match="draws is a whole number >= 1, got 0"):
    models.known(env.outcome, draws=0)


def counting(ends_at):
  """obs counts steps, reward is the step's number; an end after `ends_at` steps."""

  def sample(params, obs, action, key, member=None):
    following = obs + 1.0
    return Outcome(following, obs[:, 0], (following[:, 0] < ends_at).astype(obs.dtype))

  return models.known(toys.PointMass().outcome)._replace(sample=sample)


def rows_of(model, batch, **options):
  made = models.imagined(model, **options)
  design = design_with(made)
  params = agent(design, SPEC, HEAD, normalize_observations=False).init(jax.random.key(0)).params
  return made.imagine(design, params, batch, jax.random.key(1))


def at_zero(rows):
  zeros = jnp.zeros(rows)
  return Transition(
    jnp.zeros((rows, 4)), jnp.zeros((rows, 2)), zeros - 5.0, zeros + 1.0, jnp.zeros((rows, 4)), zeros, {}
  )


def test_rollouts_branch_from_the_batch_and_never_pass_an_end():
  found, metrics = rows_of(counting(ends_at=3), at_zero(40), horizon=8, real_share=0.0)
  count = np.asarray(found.obs[:, 0]).reshape(8, 5)
  np.testing.assert_array_equal(count, np.tile(np.arange(8) % 3, (5, 1)).T)  # anew after each third step
  np.testing.assert_array_equal(found.discount, (found.next_obs[:, 0] < 3).astype(float))
  np.testing.assert_array_equal(found.reward, found.obs[:, 0])
  np.testing.assert_allclose(metrics["imagined_ended"], 10 / 40)
  assert metrics["imagined_length"] == 8.0


def test_an_end_is_drawn_with_its_probability():
  """A model that goes on with probability .7: rows hold zeros and ones, in that share."""
  known = counting(ends_at=99)
  model = known._replace(sample=lambda *args: known.sample(*args)._replace(discount=jnp.full(len(args[1]), 0.7)))
  found, metrics = rows_of(model, at_zero(4_000), horizon=2, real_share=0.0)
  assert set(np.unique(found.discount)) == {0.0, 1.0}
  np.testing.assert_allclose(np.mean(found.discount), 0.7, atol=0.03)
  np.testing.assert_allclose(metrics["imagined_ended"], 0.3, atol=0.03)


def test_a_share_of_the_rows_stays_real_and_may_be_traced():
  found, _ = rows_of(counting(ends_at=99), at_zero(40), horizon=2, real_share=0.25)
  assert int(jnp.sum(found.reward == -5.0)) == 10
  share = jax.vmap(lambda share: rows_of(counting(ends_at=99), at_zero(40), real_share=share)[0].reward)
  np.testing.assert_array_equal(jnp.sum(share(jnp.array([0.0, 0.5, 1.0])) == -5.0, axis=1), [0, 20, 40])


def test_the_length_follows_its_schedule():
  model = models.imagined(counting(ends_at=99), horizon=4, schedule=optax.linear_schedule(1.0, 4.0, 3))
  design, batch = design_with(model), at_zero(8)
  params = agent(design, SPEC, HEAD, normalize_observations=False).init(jax.random.key(0)).params
  for wanted in (1, 2, 3, 4, 4):
    found, metrics = model.imagine(design, params, batch, jax.random.key(1))
    assert metrics["imagined_length"] == wanted
    assert np.asarray(found.obs[:, 0]).max() <= wanted - 1
    params = model.observe(params, batch, jnp.ones(8, bool), None)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"horizon": 0}, "horizon is a whole number >= 1, got 0"),
    ({"horizon": 1.5}, "horizon is a whole number >= 1, got 1.5"),
    ({"real_share": 1.5}, r"real_share lies in \[0, 1\], got 1.5"),
  ],
)
def test_bad_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    models.imagined(counting(3), **options)


def test_the_model_learns_from_real_rows_and_the_others_from_imagined_ones():
  """Scrambled rewards of the real batch change the model's update; without a real share they change nothing else."""
  model = models.imagined(learned(bootstrap=False), horizon=2, real_share=0.0)
  made = agent(design_with(model), SPEC, HEAD)
  state = made.init(jax.random.key(0))
  batch = transitions(0, (8,), SPEC)
  state = made.observe(state, batch, jnp.ones(8, bool))
  update = jax.jit(made.update)
  one, metrics = update(state, batch, jax.random.key(1))
  two, _ = update(state, batch._replace(reward=batch.reward + 3.0), jax.random.key(1))
  equal = {group: jax.tree.map(np.array_equal, one.params[group], two.params[group]) for group in one.params}
  same = {group: all(jax.tree.leaves(found)) for group, found in equal.items()}
  assert not same["model"]
  assert same["critic"]
  assert same["actor"]
  assert {"model_error", "model_fresh_error", "model_spread", "model_variance", "imagined_ended"} <= metrics.keys()


def test_it_runs_in_the_loop_in_double_precision():
  """Learned model and imagined rows: finite, in one dtype, the same from the same key. The contract has the rest."""
  with jax.enable_x64(True), jax.debug_nans(True):
    design = design_with(models.imagined(learned(elites=2), horizon=2))
    run = jax.jit(trainer(agent(design, SPEC, HEAD), toys.PointMass()).run)
    state, metrics = run(jax.random.key(0))
    again, _ = run(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, state.agent.params, again.agent.params)
  floats = {x.dtype for x in jax.tree.leaves(state.agent) if jnp.issubdtype(x.dtype, jnp.floating)}
  assert floats == {np.dtype("float64")}
  assert all(np.isfinite(value).all() for value in metrics.values())
  assert "training/imagined_reward" in metrics
