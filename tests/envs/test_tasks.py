"""Several tasks as one environment: each episode is one of them, and all that is told of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import envs, normalize
from varl.agents import sac
from varl.envs import Tabular, Tasks, tasks, toys
from varl.exact import tabular
from varl.loop.evaluate import evaluator
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer


def three():
  return Tasks([toys.PointMass(goal) for goal in ((1.0, 0.0), (0.0, 1.0), (-1.0, -1.0))])


def test_it_keeps_every_contract_and_says_its_context():
  for env in (three(), tasks.gridworlds(3), envs.make("point_mass_tasks"), envs.make("gridworld_tasks")):
    envs.check(env)
    assert envs.spec(env).context == env.tasks == env.context
  spec = envs.spec(three())
  assert (spec.observation_size, spec.action_size, spec.context) == (7, 2, 3)


@pytest.mark.parametrize("make", [three, lambda: tasks.gridworlds(3)])
def test_an_episode_is_one_task_and_steps_as_it_alone(make):
  env, n = make(), 600
  keys = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(0), n))
  first = jax.jit(jax.vmap(env.reset))(keys)
  which = np.asarray(first.obs[:, -env.tasks :])
  assert (which.sum(axis=1) == 1).all()
  assert (np.abs(which.mean(axis=0) - 1 / env.tasks) < 5 * np.sqrt(0.25 / n)).all()
  action = jnp.zeros(n, int) + 1 if env.discrete else jnp.full((n, 2), 0.5)
  second = jax.jit(jax.vmap(env.step))(first, action)
  np.testing.assert_array_equal(second.obs[:, -env.tasks :], which)
  for k in range(env.tasks):
    own = which[:, k] == 1
    state, after = jax.tree.map(lambda x, own=own: x[own], (first.data[1], second))
    alone = jax.vmap(env.envs[k].step)(state, action[own])
    np.testing.assert_allclose(after.reward, alone.reward, rtol=1e-5)
    np.testing.assert_allclose(after.obs[:, : -env.tasks], alone.obs, rtol=1e-5)


def test_an_evaluation_reports_each_task():
  """Actions of 0: a mass at rest stays, and its return says where the goal is."""
  env = three()
  agent = sac.make(envs.spec(env), sac.Config(hidden=(8,)))
  agent = agent._replace(mode=lambda params, carry, obs, key: (jnp.zeros((len(obs), 2)), carry, {}))
  metrics = jax.jit(evaluator(env, agent, episodes=300, episode_length=4))(
    agent.init(jax.random.key(0)).params, jax.random.key(1)
  )
  each = np.array([metrics[f"eval/task_{k}_reward"] for k in range(3)])
  np.testing.assert_allclose(metrics["eval/episode_reward"], each.mean(), rtol=1e-6)
  points = np.random.default_rng(0).uniform(-1, 1, (200_000, 2))
  for got, goal in zip(each, ((1.0, 0.0), (0.0, 1.0), (-1.0, -1.0)), strict=True):
    distance = np.minimum(np.linalg.norm(points - goal, axis=1), 2.0) / 2.0
    assert abs(got + 4 * distance.mean()) < 4 * 4 * distance.std() / 10
  assert metrics["eval/avg_episode_length"] == 4


def test_moments_leave_the_context_alone():
  env = three()
  agent = sac.make(envs.spec(env), sac.Config(hidden=(8,)))
  settings = Settings(num_timesteps=64, num_envs=8, episode_length=4, warm_up=32, batch_size=8, eval_every=64)
  trained = make_trainer(env, agent, settings)
  state, _ = trained.epoch(trained.init(jax.random.key(0)), jnp.int32(4))
  moments = state.agent.params["normalizer"]
  assert (np.asarray(moments.variance[:4]) != 1).all()
  np.testing.assert_array_equal(moments.variance[4:], 1.0)
  np.testing.assert_array_equal(moments.mean[4:] + moments.origin[4:], 0.0)
  obs = jnp.concatenate([jnp.ones(4), jnp.array([0.0, 1.0, 0.0])])
  np.testing.assert_array_equal(normalize.apply(moments, obs)[4:], obs[4:])


class Unlike(toys.PointMass):
  def reset(self, rng):
    return super().reset(rng).replace(data=jnp.zeros(3))


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: Tasks([toys.PointMass()]), "at least two, got 1"),
    (lambda: Tasks([toys.PointMass(), toys.MultiGoal()]), "differ in their observation: 4 of task 0, 2 of task 1"),
    (lambda: Tasks([toys.Chain(4), toys.Chain(6)]), "differ in their observation: 4 of task 0, 6 of task 1"),
    (
      lambda: Tasks([Tabular(tabular.random_mdp(jax.random.key(0), 4, n)) for n in (2, 3)]),
      "differ in their actions: 2 of task 0, 3 of task 1",
    ),
    (lambda: Tasks([toys.PointMass(), Unlike()]), "states of task 0 and task 1 hold different things"),
    (lambda: tasks.gridworlds(4), "odd number of cells, at least 3; got 4"),
  ],
)
def test_tasks_of_different_shapes_are_refused(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_a_context_that_is_none_is_refused():
  class All(toys.PointMass):
    context = 4

  with pytest.raises(ValueError, match=r"context is a whole number in \[0, 4\), got 4"):
    envs.spec(All())
