"""Exported policies: the same action from files as from the run, and errors that name what is wrong."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.run.export import Policy, load_policy, save_policy

OBS = np.random.default_rng(0).normal(3.0, 2.0, (5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def policy(agent, agent_init, batch):
  """A policy with bounds of its own and a normaliser that has seen frames."""
  state = agent_init(jax.random.key(0))
  state = agent.observe(state, jax.tree.map(lambda x: 3.0 + 2.0 * jnp.asarray(x), batch), jnp.ones(16, bool))
  return Policy(agent, state.params, (np.float32([-1.0, 0.0]), np.float32([3.0, 10.0])))


@pytest.fixture
def saved(tmp_path, policy, config):
  save_policy(
    tmp_path / "policy", policy, algorithm="sac", config=dataclasses.asdict(config), env={"name": "point_mass"}
  )
  return tmp_path


def test_an_action_is_in_the_environments_units(policy):
  key = jax.random.key(0)
  raw = policy.agent.mode(policy.params, (), OBS, key)[0]
  np.testing.assert_allclose(policy(OBS, key), np.float32([1, 5]) + np.float32([2, 5]) * np.tanh(raw), rtol=1e-5)
  assert policy(OBS[0], key).shape == (2,)
  np.testing.assert_allclose(policy(OBS[0], key), policy(OBS, key)[0], rtol=1e-5)
  np.testing.assert_array_equal(policy(OBS, key), policy(OBS, jax.random.key(1)))
  unbounded = dataclasses.replace(policy, bounds=None)
  np.testing.assert_allclose(unbounded(OBS, key), np.tanh(raw), rtol=1e-5)


def test_a_stochastic_policy_explores(policy):
  explore = dataclasses.replace(policy, stochastic=True)
  assert not np.allclose(explore(OBS, jax.random.key(0)), explore(OBS, jax.random.key(1)))
  raw = policy.agent.act(policy.params, (), OBS, jax.random.key(0))[0]
  np.testing.assert_allclose(explore(OBS, jax.random.key(0)), [1, 5] + np.float32([2, 5]) * np.tanh(raw), rtol=1e-5)


@pytest.mark.parametrize("below", ["", "policy"])
def test_a_policy_comes_back_as_it_was(saved, policy, below):
  loaded = load_policy(saved / below)
  assert loaded.agent.spec == policy.agent.spec
  assert not loaded.stochastic
  assert jax.tree.structure(loaded.params) == jax.tree.structure(policy.params)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, policy.params)
  np.testing.assert_array_equal(loaded(OBS, jax.random.key(0)), policy(OBS, jax.random.key(0)))
  assert load_policy(saved / below, stochastic=True).stochastic


def test_a_policy_compiles(saved, policy):
  loaded = load_policy(saved)
  np.testing.assert_allclose(jax.jit(loaded)(OBS, jax.random.key(0)), policy(OBS, jax.random.key(0)), rtol=1e-5)


def test_observations_of_another_shape(policy):
  for shape in ((3,), (5, 3), (), (2, 5, 4)):
    with pytest.raises(ValueError, match=r"takes observations \[4\] or \[B, 4\], got shape"):
      policy(np.zeros(shape, np.float32), jax.random.key(0))


def test_a_policy_with_memory_is_stepped(policy):
  def mode(params, carry, obs, key):
    action, _, extras = policy.agent.mode(params, (), obs, key)
    return action + carry[:, None], carry + 1, extras

  remembering = dataclasses.replace(policy, agent=policy.agent._replace(mode=mode, carry=lambda n: jnp.zeros(n)))
  with pytest.raises(ValueError, match=r"memory between steps; use policy\.step"):
    remembering(OBS, jax.random.key(0))
  action, carry = remembering.step(remembering.agent.carry(5), OBS, jax.random.key(0))
  np.testing.assert_array_equal(carry, np.ones(5))
  np.testing.assert_allclose(action, policy(OBS, jax.random.key(0)), rtol=1e-6)


def edit(saved, **changes):
  path = saved / "policy" / "policy.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_missing_damaged_or_of_another_kind_is_named(saved, tmp_path):
  with pytest.raises(ValueError, match=r"holds no policy: .*policy.json is missing"):
    load_policy(tmp_path / "nowhere")
  arrays = saved / "policy" / "params.msgpack"
  whole = arrays.read_bytes()
  arrays.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match="damaged or of another agent"):
    load_policy(saved)
  arrays.unlink()
  with pytest.raises(ValueError, match=r"params.msgpack is missing"):
    load_policy(saved)
  arrays.write_bytes(whole)
  config = json.loads((saved / "policy" / "policy.json").read_text())["config"]
  edit(saved, config={**config, "hidden": [16, 16]})
  with pytest.raises(ValueError, match="other shapes than its config describes"):
    load_policy(saved)
  edit(saved, config={**config, "hiden": [16, 16]})
  with pytest.raises(ValueError, match=r"sac has no setting 'hiden' \(did you mean 'hidden'"):
    load_policy(saved)
  edit(saved, algorithm="sacc")
  with pytest.raises(ValueError, match=r"unknown algorithm 'sacc' \(did you mean 'sac'"):
    load_policy(saved)
  edit(saved, schema=99)
  with pytest.raises(ValueError, match="schema 99, this varl reads 1"):
    load_policy(saved)
  (saved / "policy" / "policy.json").write_text("{")
  with pytest.raises(ValueError, match=r"policy\.json is damaged"):
    load_policy(saved)
