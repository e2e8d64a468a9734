"""What the tests share: eight CPU devices, a compilation cache, and a tiny soft actor-critic compiled once."""

import dataclasses
import importlib.metadata
import os
import pathlib

# All are read when JAX is first imported. Compiling is most of what the tests do: the least optimised code takes it
# half the time, and the older emitters of fusions half of that (jaxlib ends at a flag that it does not know, as later
# releases do at this one). What is given outside comes later on the line and wins.
os.environ["XLA_FLAGS"] = " ".join(
  [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false" if importlib.metadata.version("jaxlib").startswith("0.10.") else "",
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
  ]
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from varl import components, demonstrations
from varl.agents import sac
from varl.envs import State, toys, with_skill
from varl.envs import spec as spec_of
from varl.types import Transition

# The same examples at every run: a failure stays one.
hypothesis.settings.register_profile("varl", derandomize=True, database=None, deadline=None, max_examples=40)
hypothesis.settings.load_profile("varl")


class Steps:
  """Pays 1 a step. Observation: the step of the episode modulo 3, one-hot.

  Args:
    done_at: the step at which the episode ends by itself; 0 for never. May be traced.
    nan_at: the step at which observation and reward turn NaN; 0 for never.
  """

  observation_size, action_size = 3, 1

  def __init__(self, done_at=0, nan_at=0):
    self.done_at, self.nan_at = done_at, nan_at

  def reset(self, rng):
    return State(jax.nn.one_hot(0, 3), jnp.zeros(()), jnp.zeros(()), data=jnp.int32(0))

  def step(self, state, action):
    count = state.data + 1
    poison = jnp.where((self.nan_at > 0) & (count == self.nan_at), jnp.nan, 0.0)
    done = (self.done_at > 0) & (count >= self.done_at)
    return State(jax.nn.one_hot(count % 3, 3) + poison, 1.0 + poison, done.astype(jnp.float32), data=count)


PROBLEMS = (toys.PointMass(), toys.Chain(4))
"""A toy problem of continuous actions, and one of discrete ones."""


def of_module(module, env):
  """The environment, with skills where the algorithm is one that learns them."""
  return with_skill(env, 2) if hasattr(module.Config, "skill_hidden") else env


def problems(module):
  """`PROBLEMS`, as the algorithm needs them."""
  return tuple(of_module(module, env) for env in PROBLEMS)


def expert(spec, rows=12):
  """Demonstrations of two episodes, random; one ends by itself."""
  drawn = transitions(7, (rows,), spec)
  executed = drawn.action if spec.discrete else np.tanh(drawn.action)
  return demonstrations.of_arrays(
    spec, drawn.obs, executed, drawn.next_obs, terminated=np.arange(rows) == rows // 2, reward=drawn.reward,
    raw_action=drawn.action,
  )  # fmt: skip


def small(module, spec=None, **fields):
  """The algorithm's Config with networks, ensembles, plans and inner loops as small as they come, and these fields.

  Demonstrations are of the environment `spec`; by default of the point mass.
  """
  sizes = {"hidden": (8,), "model_hidden": (8,), "members": 2, "conjugate_iterations": 3}
  sizes |= {"dynamics_hidden": (4,), "belief_samples": 2, "skill_hidden": (8,), "reverse_hidden": (8,)}
  if issubclass(module.Config, components.PlanConfig):
    sizes |= {"particles": 4, "horizon": 2, "value_samples": 2, "thompson": True}
  if issubclass(module.Config, components.CorrectionConfig):
    sizes |= {"correction": "sample", "correction_hidden": (8,), "correction_warm_up": 0}
  if issubclass(module.Config, components.DemonstrationConfig):
    sizes |= {"demonstrations": expert(spec_of(toys.PointMass()) if spec is None else spec), "reward_hidden": (8,)}
  if issubclass(module.Config, components.DistilledConfig):
    sizes |= {"withheld": 1}
  known = {field.name for field in dataclasses.fields(module.Config)}
  return module.Config(**{name: value for name, value in sizes.items() if name in known} | fields)


def transitions(seed, shape, spec):
  """Random transitions with leading axes `shape`, as NumPy arrays; some end, and the extras are empty."""
  rng = np.random.default_rng(seed)

  def normal(*more):
    return rng.normal(size=(*shape, *more)).astype(np.float32)

  def action():
    if spec.discrete:
      return rng.integers(0, spec.action_size, shape, np.int32)
    return normal(spec.action_size)

  return Transition(
    obs=normal(spec.observation_size),
    action=action(),
    reward=normal(),
    discount=(rng.uniform(size=shape) > 0.2).astype(np.float32),
    next_obs=normal(spec.observation_size),
    truncated=np.zeros(shape, np.float32),
    extras={},
  )


def acted(agent, batch):
  """The batch `[B]`, with actions of the agent's where they hold more than what the environment gets."""

  def action():
    params = agent.init(jax.random.key(7)).params
    return agent.act(params, agent.carry(len(batch.obs)), batch.obs, jax.random.key(8))[0]

  return batch if jax.eval_shape(action).shape == batch.action.shape else batch._replace(action=action())


def prepared(agent, state, batch):
  """The batch as a rollout of one environment, with what an on-policy agent's updates read."""
  extras = agent.act(state.params, agent.carry(len(batch.obs)), batch.obs, jax.random.key(0))[2]
  rollout = jax.tree.map(lambda x: x[:, None], batch._replace(extras=extras))
  return jax.tree.map(lambda x: x[:, 0], agent.prepare(state, rollout, jax.random.key(0)))


@pytest.fixture(scope="session")
def mesh():
  """All eight devices on one axis."""
  return Mesh(np.asarray(jax.devices()), ("devices",), axis_types=(AxisType.Auto,))


@pytest.fixture(scope="session")
def point_mass():
  return toys.PointMass()


@pytest.fixture(scope="session")
def spec(point_mass):
  """Sizes of the point mass: 4 observations, 2 actions."""
  return spec_of(point_mass)


@pytest.fixture(scope="session")
def config():
  return sac.Config(hidden=(32, 32))


@pytest.fixture(scope="session")
def agent(spec, config):
  """A tiny soft actor-critic for the point mass."""
  return sac.make(spec, config)


@pytest.fixture(scope="session")
def agent_init(agent):
  return jax.jit(agent.init)


@pytest.fixture(scope="session")
def agent_update(agent):
  return jax.jit(agent.update)


@pytest.fixture(scope="session")
def batch(spec):
  return transitions(0, (16,), spec)
