"""One contract for every algorithm that learns from its own rollouts: what acted is what is improved and evaluated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl import agents, components
from varl.agents import trpo
from varl.envs import spec, toys
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer

ENV = toys.PointMass()
SPEC = spec(ENV)
NAMES = [name for name in agents.AGENTS if issubclass(agents.load(name).Config, components.OnPolicyConfig)]
VIEWS = {"plain": (0.0, 1.0), "shifted": (10.0, 1.0), "scaled": (0.0, 100.0)}
"""What is added to the observations, and what they are then multiplied by."""
# One update a rollout: each is the first one after acting.
SETTINGS = Settings(
  num_timesteps=5 * 512, num_envs=16, unroll_length=32, episode_length=20, batch_size=512, epochs=1,
  minibatches="trajectories", eval_every=512, eval_episodes=1,
)  # fmt: skip


class Seen:
  """An environment whose observations are shifted and scaled; both may be traced."""

  observation_size, action_size = ENV.observation_size, ENV.action_size

  def __init__(self, shift, scale):
    self.shift, self.scale = shift, scale

  def reset(self, rng):
    return self.view(ENV.reset(rng))

  def step(self, state, action):
    return self.view(ENV.step(state.replace(obs=state.obs / self.scale - self.shift), action))

  def view(self, state):
    return state.replace(obs=(state.obs + self.shift) * self.scale)


def runs(agent, settings=SETTINGS):
  """The metrics of a run under each of the views, `[views, iterations]`."""

  def run(shift, scale):
    return make_trainer(Seen(shift, scale), agent, settings).run(jax.random.key(0))[1]

  return jax.jit(jax.vmap(run))(*jnp.float32(list(VIEWS.values())).T)


def watched(name, **fields):
  """The algorithm's agent, whose updates also report |ρ - 1|, its mean and maximum: of the density that they see in the
  actions taken to the one that acting recorded."""
  module = agents.load(name)
  config = module.Config(hidden=(32,), **fields)
  design = module.design(SPEC, config)
  value, posterior = design.value, design.posterior

  def density(params, batch, key):
    if posterior.log_prob is None and posterior.evaluate is not None:  # of options, given the one that acted
      return posterior.evaluate(design, params, batch, key)[1]
    return (posterior.log_prob or design.prior.log_prob)(params, batch.obs, batch.action)

  def step(design):
    inner = value.step(design)

    def run(params, state, batch, key):
      off = jnp.abs(jnp.exp(density(params, batch, key) - batch.extras["log_prob"]) - 1.0)
      params, state, metrics = inner.step(params, state, batch, key)
      return params, state, {**metrics, "off": jnp.mean(off), "most_off": jnp.max(off)}

    return inner._replace(step=run)

  design = design._replace(value=value._replace(step=step))
  head = components.policy_head(SPEC, config)
  return varl.agent(design, SPEC, head, normalize_observations=config.normalize_observations)


def assert_on_policy(metrics):
  """From the second rollout on; the first one is learned from by none of these."""
  off, most = (np.asarray(metrics[f"training/{name}"][:, 1:]) for name in ("off", "most_off"))
  assert (off < 1e-5).all(), dict(zip(VIEWS, off, strict=True))
  assert (most < 1e-4).all(), dict(zip(VIEWS, most, strict=True))  # float32, of a policy whose least σ is .03


@pytest.mark.parametrize("name", NAMES)
def test_the_ratio_is_one_before_any_update(name):
  """In the first rollout that is learned from and in later ones, however observations look."""
  metrics = runs(watched(name))
  np.testing.assert_array_equal(metrics["training/updates"], np.tile([0, 1, 1, 1, 1], (len(VIEWS), 1)))
  assert_on_policy(metrics)


def test_updates_that_prepare_their_batch_see_what_acted():
  assert_on_policy(runs(watched("ppo"), dataclasses.replace(SETTINGS, prepare_every="minibatch")))


def test_the_realised_divergence_of_a_trust_region_is_within_its_bound():
  """TRPO's KL(what acted ‖ the policy after the update), of the networks' outputs at the rollout's raw observations."""
  config = trpo.Config(hidden=(32,))
  design, head = trpo.design(SPEC, config), components.policy_head(SPEC, config)
  network, _ = components.parametric(SPEC, config, head)

  def act(design, params, carry, obs, key):
    outputs = network.apply(params["actor"], obs)
    action, log_prob = head.sample_and_log_prob(outputs, key, 1)
    return action[0], carry, {"log_prob": log_prob[0], "outputs": outputs}

  agent = varl.agent(design._replace(posterior=design.posterior._replace(act=act)), SPEC, head)

  def update(state, batch, key):
    state, metrics = agent.update(state, batch, key)
    after = agent.act(state.params, (), batch.obs, key)[2]["outputs"]
    realised = jnp.mean(head.kl(batch.extras["outputs"], after))
    return state, {**metrics, "realised": realised}

  metrics = runs(agent._replace(update=update), dataclasses.replace(SETTINGS, minibatches="rows"))
  realised, measured = (np.asarray(metrics[f"training/{name}"][:, 1:]) for name in ("realised", "policy_kl"))
  assert (realised < 1.5 * config.max_kl).all(), realised
  assert (realised > 0.1 * config.max_kl).any(axis=1).all(), realised
  np.testing.assert_allclose(realised, measured, rtol=0.02, atol=1e-5)


def test_moments_count_from_the_next_rollout_on():
  """By hand: `observe` changes nothing that scales, `renew` does; and the agent says that it needs a first rollout."""
  agent = watched("ppo")
  state = jax.jit(agent.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  obs = jnp.float32(rng.normal(5.0, 3.0, (16, 4, SPEC.observation_size)))
  nothing = jnp.zeros((16, 4))
  rollout = varl.types.Transition(obs, obs[..., :2], nothing, nothing, obs, nothing, {})
  seen = agent.observe(state, rollout, jnp.ones((16, 4), bool))
  for choose in (agent.act, agent.mode):
    before, after = (choose(s.params, (), obs[0], jax.random.key(1))[0] for s in (state, seen))
    np.testing.assert_array_equal(before, after)
  moments = agent.renew(seen).params["normalizer"]
  np.testing.assert_allclose(moments.origin + moments.mean, obs.reshape(-1, 4).mean(0), rtol=1e-5)
  assert agent.seeding
  assert not watched("ppo", normalize_observations=False).seeding


def test_without_moments_the_first_rollout_is_learned_from():
  metrics = runs(watched("ppo", normalize_observations=False))
  np.testing.assert_array_equal(metrics["training/updates"], np.ones((len(VIEWS), 5)))
