"""Recurrent networks: what is unrolled from replay and from rollouts is what acted; episodes do not see one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Steps

import varl
from varl import memory, models, networks, temperatures
from varl.agents import ppo, sac, sac_discrete
from varl.envs import spec as spec_of
from varl.envs import toys
from varl.loop import rollout
from varl.types import Spec, Transition

SPEC = Spec(3, 2)
UNITS = 5
ENV = toys.PointMass()


def made(length=4, burn_in=0, spec=SPEC):
  return memory.gru(spec, jnp.tanh, ("actor", "critic"), units=UNITS, length=length, burn_in=burn_in)


def network(of, spec=SPEC, group="critic"):
  return of.recurrent(networks.mlp(spec.observation_size + UNITS, 2, hidden=(8,)), group)


def episodes(seed, steps, count, of, params):
  """A rollout `[T, B]` acted by hand, with ends inside: transitions, and the network's outputs at each step's obs and
  next_obs."""
  rng = np.random.default_rng(seed)
  obs = jnp.asarray(rng.normal(size=(steps, count, 3)), jnp.float32)
  action = jnp.asarray(rng.normal(size=(steps, count, 2)), jnp.float32)
  ended = jnp.asarray(rng.uniform(size=(steps, count)) < 0.3)
  terminated = ended & jnp.asarray(rng.uniform(size=(steps, count)) < 0.5)
  following = jnp.where(ended[..., None], jnp.asarray(rng.normal(size=obs.shape), jnp.float32), jnp.roll(obs, -1, 0))
  carry, kept, outputs, nexts = of.carry(count), [], [], []
  for t in range(steps):
    kept.append(of.record(carry))
    outputs.append(network(of).apply(params["critic"], of.see(carry, obs[t])))
    carry = of.after(params, carry, obs[t], action[t])
    nexts.append(network(of).apply(params["critic"], of.see(carry, following[t])))
    carry = jax.tree.map(lambda x, end=ended[t]: jnp.where(end[:, None], 0.0, x), carry)
  batch = Transition(
    obs, action, jnp.zeros((steps, count)), 1.0 - terminated, following, (ended & ~terminated).astype(float),
    {memory.MEMORY: jnp.stack(kept), "log_prob": jnp.arange(steps * count).reshape(steps, count)},
  )  # fmt: skip
  return batch, jnp.stack(outputs), jnp.stack(nexts)


def parameters(of):
  return {name: network(of, group=name).init(jax.random.key(i)) for i, name in enumerate(of.groups)}


@pytest.mark.parametrize(("length", "burn_in"), [(6, 0), (1, 0), (4, 4), (5, 2)])
def test_a_sequence_unrolls_to_what_acted(length, burn_in):
  of = made(length, burn_in)
  params = parameters(of)
  batch, outputs, nexts = episodes(0, burn_in + length + 3, 7, of, params)
  assert (batch.discount == 0).any()
  assert (batch.truncated > 0).any()
  cut = jax.tree.map(lambda x: x[3:], batch)  # from the middle of episodes: with the memory that was stored
  rows = of.sequence_rows(cut)
  first = 3 + burn_in
  np.testing.assert_allclose(
    network(of).apply(params["critic"], rows.obs).reshape(length, 7, -1), outputs[first:], rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(
    network(of).apply(params["critic"], rows.next_obs).reshape(length, 7, -1), nexts[first:], rtol=1e-4, atol=1e-6
  )
  np.testing.assert_array_equal(rows.extras["log_prob"], batch.extras["log_prob"][first:].reshape(-1))
  assert memory.MEMORY not in rows.extras
  step = of.step_rows(params, batch)
  np.testing.assert_allclose(network(of).apply(params["critic"], step.obs), outputs, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(network(of).apply(params["critic"], step.next_obs), nexts, rtol=1e-4, atol=1e-6)


def test_gradients_pass_through_the_steps_that_are_learned_from_and_no_others():
  of = made(3, 2)
  params = parameters(of)
  batch, *_ = episodes(1, 5, 1, of, params)
  batch = batch._replace(discount=jnp.ones((5, 1)), truncated=jnp.zeros((5, 1)))

  def last(obs):
    rows = of.sequence_rows(batch._replace(obs=obs))
    return jnp.sum(network(of).apply(params["critic"], rows.obs)[-1])

  slope = np.abs(np.asarray(jax.grad(last)(batch.obs))).sum(axis=(1, 2))
  np.testing.assert_array_equal(slope > 0, [False, False, True, True, True])
  ended = batch._replace(discount=batch.discount.at[3].set(0.0))

  def across(obs):
    return jnp.sum(network(of).apply(params["critic"], of.sequence_rows(ended._replace(obs=obs)).obs)[-1])

  slope = np.abs(np.asarray(jax.grad(across)(batch.obs))).sum(axis=(1, 2))
  np.testing.assert_array_equal(slope > 0, [False, False, False, False, True])


def test_burn_in_is_by_the_parameters_of_now():
  """What was stored by other parameters fades: with a burn-in the memory is nearer to one that these have made."""
  short, long = made(4, 0), made(4, 4)
  old, new = parameters(short), {name: network(short, group=name).init(jax.random.key(7)) for name in short.groups}
  batch, *_ = episodes(2, 8, 50, short, old)
  whole, exact, _ = episodes(2, 8, 50, short, new)
  np.testing.assert_array_equal(whole.obs, batch.obs)
  stale = network(short).apply(new["critic"], short.sequence_rows(jax.tree.map(lambda x: x[4:], batch)).obs)
  warmed = network(long).apply(new["critic"], long.sequence_rows(batch).obs)
  exact = exact[4:].reshape(200, -1)
  assert np.abs(warmed - exact).mean() < 0.2 * np.abs(stale - exact).mean()


SETTINGS = {"num_envs": 4, "episode_length": 7, "eval_episodes": 2, "reset": "fresh"}
SMALL = {"hidden": (8,), "memory": 6, "memory_length": 4}
OFF = varl.Settings(num_timesteps=128, unroll_length=8, batch_size=16, warm_up=32, updates_per_env_step=0.25,
                    replay_capacity=256, eval_every=64, **SETTINGS)  # fmt: skip
ON = varl.Settings(num_timesteps=256, unroll_length=8, batch_size=16, epochs=2, eval_every=64, **SETTINGS)
CASES = {
  "sac": (sac, {"burn_in": 4}, ENV, OFF),
  "sac, separate value": (sac, {"separate_value": True}, ENV, OFF),
  "sac_discrete": (sac_discrete, {"burn_in": 2, "memory_length": 6}, toys.Chain(4), OFF),
  "ppo": (ppo, {}, ENV, ON),
  "ppo, discrete": (ppo, {}, toys.Chain(4), ON),
}


def agent_of(case):
  module, fields, env, settings = CASES[case]
  return module.make(spec_of(env), module.Config(**SMALL | fields)), env, settings


ALIKE = ("sac, separate value", "ppo, discrete")
"""Cases that differ from another one by their losses alone; they run with `-m slow`."""


@pytest.mark.parametrize(
  "case", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in CASES]
)
def test_it_runs_in_the_loop_and_over_seeds(case):
  agent, env, settings = agent_of(case)
  run = varl.make_trainer(env, agent, settings).run
  with jax.debug_nans(True):
    state, metrics = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 2))
  assert all(np.isfinite(values).all() for values in metrics.values())
  assert np.asarray(metrics["training/updates"])[:, -1].min() > 0
  cell = state.agent.params["actor"]["cell"]
  start = jax.vmap(agent.init)(jax.random.split(jax.random.key(0), 2)).params["actor"]["cell"]
  moved = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - np.asarray(y)).max(), cell, start)
  assert max(jax.tree.leaves(moved)) > 0


def test_the_ratio_is_one_before_any_update():
  config = ppo.Config(**SMALL, normalize_observations=False)
  env, settings = ENV, dataclasses.replace(ON, epochs=1, batch_size=32)
  _, metrics = jax.jit(varl.make_trainer(env, ppo.make(spec_of(env), config), settings).run)(jax.random.key(0))
  assert np.asarray(metrics["training/policy_ratio"]).max() < 1e-5


def test_the_memory_starts_anew_with_each_episode():
  """An environment that shows its step modulo 3: after its end the memory is that of a first step again."""
  env = Steps(done_at=4)
  agent = sac.make(spec_of(env), sac.Config(**SMALL, normalize_observations=False))
  batch = varl.envs.vectorize(env, 3, episode_length=10)
  params = agent.init(jax.random.key(0)).params
  state = rollout.init(batch, agent, jax.random.key(1))
  _, transitions, _, _ = rollout.unroll(batch, agent, params, state, jax.random.key(2), 9)
  kept = np.asarray(transitions.extras[memory.MEMORY])
  first = np.abs(kept).sum(axis=-1) == 0
  np.testing.assert_array_equal(first, np.tile((np.arange(9) % 4 == 0)[:, None], (1, 3)))
  np.testing.assert_allclose(kept[1, :, :1], np.tanh(transitions.action[0]), rtol=1e-5)


def test_random_actions_of_the_warm_up_are_remembered():
  agent, env, _ = agent_of("sac")
  batch = varl.envs.vectorize(env, 3, episode_length=10)
  params = agent.init(jax.random.key(0)).params
  state = rollout.init(batch, agent, jax.random.key(1))
  _, transitions, _, _ = rollout.unroll(batch, agent, params, state, jax.random.key(2), 3, warm_up=True)
  kept = np.asarray(transitions.extras[memory.MEMORY])
  np.testing.assert_allclose(kept[1:, :, :2], np.tanh(transitions.action[:-1]), rtol=1e-5)


def test_a_run_goes_on_bit_for_bit(tmp_path):
  shared = {"memory": 4, "memory_length": 4, "burn_in": 4, "hidden": (8,), "num_envs": 4, "unroll_length": 8}
  shared |= {"batch_size": 16, "warm_up": 32, "updates_per_env_step": 0.25, "eval_every": 64, "eval_episodes": 2}
  whole = varl.train("sac", "point_mass", num_timesteps=256, out=tmp_path / "whole", **shared)
  varl.train("sac", "point_mass", num_timesteps=128, out=tmp_path / "part", **shared)
  part = varl.resume(tmp_path / "part", num_timesteps=256)
  jax.tree.map(np.testing.assert_array_equal, whole.params, part.params)


def test_bad_input():
  with pytest.raises(ValueError, match="units is a whole number >= 1, got 0"):
    memory.gru(SPEC, jnp.tanh, ("actor",), units=0)
  with pytest.raises(ValueError, match=r"burn_in is a whole number in \[0, 5\), got 5"):
    sac.make(SPEC, sac.Config(memory=4, memory_length=4, burn_in=5))
  with pytest.raises(ValueError, match="needs no burn-in; got 2"):
    ppo.make(SPEC, ppo.Config(memory=4, burn_in=2))
  agent, env, settings = agent_of("ppo")
  with pytest.raises(ValueError, match="unroll_length=6 is not divisible by the length 4"):
    varl.make_trainer(env, agent, dataclasses.replace(settings, unroll_length=6, batch_size=24))
  with pytest.raises(ValueError, match="sequences of 4 steps of a rollout"):
    varl.make_trainer(env, agent, dataclasses.replace(settings, minibatches="trajectories"))
  agent, env, settings = agent_of("sac")
  with pytest.raises(ValueError, match="unroll_length=4 is not divisible by the length 8"):
    varl.make_trainer(env, agent, dataclasses.replace(settings, unroll_length=4))
  design, of = sac.design(SPEC, sac.Config(memory=4)), made()
  head = varl.components.policy_head(SPEC, sac.Config())
  for other in (
    design._replace(model=models.known(lambda params, obs, action, key: None)),
    design._replace(temperature=temperatures.fixed(0.1)._replace(side_batch=8)),
  ):
    with pytest.raises(ValueError, match="a memory is of a policy and its values"):
      varl.agent(other, SPEC, head, memory=of)
