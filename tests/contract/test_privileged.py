"""What is privileged: critics see it, no policy does, and an exported policy does not ask for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PROBLEMS, of_module, small, transitions

import varl
from varl import agents, envs
from varl.agents import catalog, sac
from varl.envs import Asymmetric, Partial, State, Tasks, toys, with_skill
from varl.run import artifact
from varl.run.export import Policy, load_policy, save_policy


class Told:
  """An environment whose observations are a dict: the first entries of its own, and all of them."""

  def __init__(self, env, seen):
    self.env, self.seen = env, seen
    self.observation_size = {"state": (seen,), "privileged_state": (env.observation_size,)}
    self.action_size = env.action_size
    self.discrete = getattr(env, "discrete", False)

  def reset(self, rng):
    return self.told(self.env.reset(rng))

  def step(self, state, action):
    return self.told(self.env.step(state.data, action))

  def told(self, own):
    obs = {"state": own.obs[: self.seen], "privileged_state": own.obs}
    return State(obs, own.reward, own.done, metrics=own.metrics, info=own.info, data=own)


def asymmetric(env=None):
  return Asymmetric(Told(toys.PointMass() if env is None else env, 2))


BLIND = {
  "airl", "bc", "beta_virel", "diayn", "distral", "erpg", "gail", "iadp", "iq_learn", "kl_pg", "maxent_irl",
  "maxent_pg", "mbpo", "mpo", "ppo", "reinforce", "rerpi", "sac", "sac_discrete", "sac_v1", "svg", "svg_mpo", "trpo",
  "vime", "virel", "vmpo",
}  # fmt: skip
"""Those whose policy is a network of its own; the others ask values or models when they act, or say what they see."""


@pytest.mark.parametrize("name", catalog.AGENTS)
def test_no_policy_sees_it(name):
  module = agents.load(name)
  plain = next(env for env in PROBLEMS if _takes(module, env))
  env = of_module(module, asymmetric(plain))
  spec = envs.spec(env)
  config = small(module, spec)
  if name not in BLIND:
    with pytest.raises(ValueError, match="privileged"):
      module.make(spec, config)
    return
  agent = module.make(spec, config)
  obs = transitions(0, (3,), spec).obs
  other = obs.copy()
  before = spec.observation_size - spec.context
  hidden = slice(before - spec.privileged, before)
  other[:, hidden] += 3.0
  params = agent.init(jax.random.key(0)).params
  carry = agent.carry(3)
  for choose in (agent.act, agent.mode):
    chosen = [
      choose(params, carry, jnp.asarray(x), jax.random.key(1))[0]
      for x in (obs, other, np.delete(obs, np.arange(hidden.start, hidden.stop), axis=1))
    ]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    np.testing.assert_array_equal(chosen[0], chosen[2])


def _takes(module, env):
  env = of_module(module, env)
  try:
    module.make(envs.spec(env), small(module, envs.spec(env)))
  except ValueError:
    return False
  return True


@pytest.fixture(scope="module")
def trained():
  """A soft actor-critic that has seen some rows, so that its moments scale; its environment and a batch."""
  env = asymmetric()
  spec = envs.spec(env)
  agent = sac.make(spec, sac.Config(hidden=(8,)))
  batch = transitions(1, (16,), spec)
  state = agent.observe(agent.init(jax.random.key(0)), jax.tree.map(lambda x: x[None], batch), jnp.ones((1, 16), bool))
  return env, agent, agent.update(state, batch, jax.random.key(1))[0], batch


def test_the_environment_keeps_every_contract():
  env = asymmetric()
  assert envs.check(env).kept
  assert envs.spec(env) == (6, 2, False, True, 0, 4)
  key = jax.random.key_data(jax.random.key(0))
  state = env.reset(key)
  own = toys.PointMass().reset(key)
  np.testing.assert_array_equal(state.obs, np.concatenate([own.obs[:2], own.obs]))
  state, own = env.step(state, jnp.ones(2)), toys.PointMass().step(own, jnp.ones(2))
  np.testing.assert_array_equal(state.obs, np.concatenate([own.obs[:2], own.obs]))


def test_values_see_it(trained):
  _, agent, state, batch = trained
  blinder = batch._replace(obs=batch.obs.copy())
  blinder.obs[:, 2:] = 0.0
  losses = [agent.update(state, x, jax.random.key(2))[1]["critic_loss"] for x in (batch, blinder)]
  assert abs(losses[0] - losses[1]) > 1e-4


def test_a_policy_is_saved_and_exported_without_it(trained, tmp_path):
  _, agent, state, batch = trained
  policy = Policy(agent, state.params, None)
  assert "observations [2]" in repr(policy)
  save_policy(tmp_path, policy, algorithm="sac", config=sac.Config(hidden=(8,)))
  again = load_policy(tmp_path)
  assert again.agent.spec.privileged == 4
  whole = policy(batch.obs)
  np.testing.assert_array_equal(again(batch.obs[:, :2]), whole)
  with pytest.raises(ValueError, match=r"observations \[2\] or \[B, 2\], or with the 4 privileged entries, got shape"):
    policy(batch.obs[:, :3])
  artifact.export(policy, tmp_path / "policy.jax", platforms=("cpu",))
  program = jax.export.deserialize(bytearray((tmp_path / "policy.jax").read_bytes()))
  np.testing.assert_allclose(program.call(batch.obs[:, :2]), whole, rtol=1e-5, atol=1e-6)


def test_it_trains(tmp_path):
  run = varl.train(
    "sac", asymmetric(), num_timesteps=64, num_envs=4, warm_up=32, batch_size=8, hidden=(8,), replay_capacity=64,
    eval_every=32, eval_episodes=2, out=tmp_path / "run",
  )  # fmt: skip
  assert run.policy(jnp.zeros(2)).shape == (2,)


def test_skills_and_tasks_pass_it_on():
  skills = envs.spec(with_skill(asymmetric(), 3))
  assert (skills.observation_size, skills.privileged, skills.context) == (9, 4, 3)
  assert envs.spec(Tasks([asymmetric(), asymmetric(toys.PointMass((1.0, 0.0)))]).only(0)).privileged == 4
  with pytest.raises(ValueError, match="between what is privileged and the task's number"):
    with_skill(_both(), 2)


def _both():
  env = asymmetric()
  env.context = 1
  return env


def test_what_is_refused():
  with pytest.raises(ValueError, match=r"obs.*dict with keys privileged_state, state.*varl.envs.Asymmetric"):
    envs.spec(Told(toys.PointMass(), 2))
  with pytest.raises(ValueError, match="no dict of entries"):
    Asymmetric(toys.PointMass())
  with pytest.raises(
    ValueError, match=r"'pixels' is no vector among .* which are .*privileged_state \[4\], state \[2\]"
  ):
    Asymmetric(Told(toys.PointMass(), 2), policy="pixels")
  with pytest.raises(ValueError, match="says itself which part"):
    Partial(asymmetric(), (0,))
  with pytest.raises(ValueError, match="4 entries of this environment's are privileged: memory=0"):
    sac.make(envs.spec(asymmetric()), sac.Config(hidden=(8,), memory=4))
  for wrong in (-1, 4, True, 1.5):
    env = toys.PointMass()
    env.privileged = wrong
    with pytest.raises(ValueError, match=r"privileged is a whole number in \[0, 4\)"):
      envs.spec(env)
