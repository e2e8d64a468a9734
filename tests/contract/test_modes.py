"""JAX's own modes: every algorithm in float64, and the loop without compilation and with keys of other generators."""

import contextlib
import importlib
import pathlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CONTINUOUS, DISCRETE, build, trainer
from conftest import acted, transitions

import varl
from varl import agents
from varl.agents import sac, sql_discrete
from varl.envs import keys as keys_of
from varl.envs import spec as spec_of
from varl.envs import toys, vectorize


def floats(tree):
  """The floating dtypes among a tree's leaves."""
  return {leaf.dtype.name for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


RUN = ("sac", "mpo", "trpo")
"""Algorithms that run under x64 as well; of the others the dtypes are looked at, which compiles nothing."""


@pytest.mark.parametrize("name", agents.AGENTS)
def test_under_x64_every_float_is_float64_in_the_agent_and_in_the_loop(name):
  """The loop's scans refuse a step that changes a dtype; here all that they carry is one of two."""
  with jax.enable_x64(True), jax.debug_nans(True):
    agent, env = build(name)
    made = trainer(agent, env)
    state, metrics = jax.eval_shape(made.run, jax.random.key(0))
    assert floats(state) == {"float64"}
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, made.shapes)
    assert floats(metrics) == {"float64"}
    assert (state.loop.iteration.dtype, metrics["training/updates"].dtype) == (np.int32, np.int32)
    if name in RUN:
      _, metrics = jax.jit(made.run)(jax.random.key(0))
      assert floats(metrics) == {"float64"}
      assert all(np.isfinite(values).all() for values in metrics.values())


def test_an_environment_in_float32_is_kept_so_under_x64():
  """What the environment gives keeps its dtype; what varl makes of it is JAX's default float."""

  class Narrow(toys.PointMass):
    def reset(self, rng):
      return narrow(super().reset(rng))

    def step(self, state, action):
      assert action.dtype == jnp.result_type(float)
      return narrow(super().step(state, action))

  def narrow(state):
    return jax.tree.map(lambda x: x.astype(jnp.float32), state)

  with jax.enable_x64(True):
    env = Narrow()
    shapes = jax.eval_shape(trainer(sac.make(spec_of(env), sac.Config(hidden=(8,))), env).run, jax.random.key(0))[0]
  rows = shapes.loop.replay.data
  assert floats((rows.obs, rows.next_obs)) == {"float32"}
  assert floats((rows.action, rows.reward, rows.discount, rows.truncated, rows.extras)) == {"float64"}
  assert floats(shapes.agent) == {"float64"}


def test_the_loop_without_compilation_is_the_loop():
  """`jax.disable_jit` runs everything operation by operation, `debug_nans` looks at each."""
  settings = {"num_timesteps": 12, "warm_up": 8, "eval_every": 8, "eval_episodes": 1, "pool_size": 1, "batch_size": 4}
  made = trainer(sql_discrete.make(spec_of(DISCRETE), sql_discrete.Config(hidden=(4,))), DISCRETE, **settings)
  compiled, metrics = jax.jit(made.run)(jax.random.key(0))
  with jax.disable_jit(), jax.debug_nans(True):
    state, eager = made.run(jax.random.key(0))
  for got, wanted in ((state.agent, compiled.agent), (eager, metrics)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, wanted)


@contextlib.contextmanager
def default_generator(name):
  before = jax.config.jax_default_prng_impl
  jax.config.update("jax_default_prng_impl", name)
  try:
    yield
  finally:
    jax.config.update("jax_default_prng_impl", before)


@pytest.mark.parametrize(("default", "impl"), [("threefry2x32", "rbg"), ("rbg", "rbg"), ("unsafe_rbg", "threefry2x32")])
def test_the_loop_takes_a_key_of_any_generator(default, impl):
  """Whatever the environment's legacy keys are; a stream in its state stays of its own generator."""
  with default_generator(default):
    env = toys.LinearQuadratic()
    agent = sac.make(spec_of(env), sac.Config(hidden=(4,), policy="gaussian"))
    made = trainer(agent, env, num_timesteps=48, pool_size=4)
    key = jax.random.key(0, impl=impl)
    state, metrics = jax.jit(made.run)(key)
  assert state.loop.key.dtype == key.dtype
  assert jax.random.key_impl(state.loop.rollout.env.env.data) == default
  assert all(np.isfinite(values).all() for values in metrics.values())


def test_keys_of_one_generator_become_different_keys_of_another():
  """All environments start apart, and differ from those of another key; keys of the default one are not redrawn."""
  vector = vectorize(CONTINUOUS, 64, pool_size=1)
  starts = [np.asarray(vector.reset(jax.random.key(seed, impl="rbg")).env.obs) for seed in (0, 1)]
  assert len(np.unique(np.concatenate(starts)[:, 0])) == 128
  keys = jax.random.split(jax.random.key(0), 3)
  np.testing.assert_array_equal(keys_of.legacy(keys), jax.random.key_data(keys))
  drawn = keys_of.of_implementation(keys.reshape(3, 1), "rbg")
  assert (drawn.shape, str(jax.random.key_impl(drawn))) == ((3, 1), "rbg")


@pytest.mark.parametrize(
  ("key", "message"),
  [
    (7, r"made by jax\.random\.key\(seed\), got"),
    (jax.random.PRNGKey, r"got uint32\[2\]; jax\.random\.wrap_key_data makes a legacy key a typed one"),
    (lambda seed: jax.random.split(jax.random.key(seed), 2), r"one random key is needed, got key<fry>\[2\]"),
  ],
)
def test_what_is_no_typed_key_is_refused_at_every_door(agent, agent_init, batch, key, message):
  key = key(0) if callable(key) else key
  state = agent_init(jax.random.key(0))
  made = trainer(agent, CONTINUOUS)
  whole = jax.eval_shape(made.init, jax.random.key(0))
  doors = {
    "agent.init": lambda: agent.init(key),
    "agent.act": lambda: agent.act(state.params, (), batch.obs, key),
    "agent.warm_up": lambda: agent.warm_up(state.params, (), batch.obs, key),
    "agent.update": lambda: agent.update(state, batch, key),
    "trainer.init": lambda: made.init(key),
    "trainer.run": lambda: made.run(key),
    "trainer.evaluate": lambda: jax.eval_shape(made.evaluate, whole, key),
    "vectorize.reset": lambda: vectorize(CONTINUOUS, 2).reset(key),
  }
  for door, enter in doors.items():
    with pytest.raises(ValueError, match=message):  # noqa: PT012 - says which door took it
      enter()
      pytest.fail(f"{door} takes it")


def test_no_module_holds_an_array_of_jax():
  """An array that is made on import has the dtype and the device of that moment, whatever mode is entered later."""
  found = []
  for module in pkgutil.walk_packages(varl.__path__, "varl."):
    if module.name != "varl.__main__":
      values = vars(importlib.import_module(module.name))
      found += [
        f"{module.name}.{name}"
        for name, value in values.items()
        if any(
          isinstance(leaf, jax.Array)
          for leaf in jax.tree.leaves(list(value.values()) if type(value) is dict else value)
        )
      ]
  assert not found


def test_float32_is_named_where_it_is_meant_and_nowhere_else():
  """A dtype that is spelt out is not JAX's default. `float` is: float32, or float64 under x64."""
  meant = {
    "envs/base.py": 3,  # action bounds, which NumPy holds
    "envs/gymnasium.py": 1,  # what its boxes hold
    "envs/toys.py": 2,
    "envs/vector.py": 1,  # what integers become, at the least
    "run/artifact.py": 1,  # an ONNX graph's input
  }
  root = pathlib.Path(varl.__path__[0])
  counts = {str(path.relative_to(root)): path.read_text().count("np.float32") for path in root.rglob("*.py")}
  assert {path: count for path, count in counts.items() if count} == meant


def test_a_batch_in_float32_trains_an_agent_in_float64():
  """What users bring is cast by promotion: parameters stay as they are."""
  with jax.enable_x64(True):
    agent, _ = build("sac")
    batch = acted(agent, transitions(0, (4,), agent.spec))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    after = jax.eval_shape(agent.update, state, batch, jax.random.key(1))[0]
  assert batch.obs.dtype == np.float32
  assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
