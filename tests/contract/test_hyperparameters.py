"""Every numeric field of every Config can be mapped over, or says that it shapes the program; none is out of reach."""

import dataclasses
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import build
from conftest import acted, problems, small, transitions

from varl import agents, components, optimizers
from varl.agents import mpo, ppo, sac, vmpo
from varl.envs import spec
from varl.types import Spec

EXEMPT = {
  "act_samples", "atoms", "backtracks", "belief_samples", "burn_in", "chain_steps", "conjugate_iterations", "critics",
  "elites", "episodes", "expand_over", "horizon", "inference_iterations", "latent", "look_ahead", "members", "memory",
  "memory_length", "options", "particles", "residual_batch", "rollout", "samples", "sequence", "subsample",
  "target_every", "value_samples", "value_updates", "window", "withheld",
}  # fmt: skip
"""Every whole number of a Config that cannot be mapped over, so that a new one is looked at."""


def numeric(config):
  """The fields whose default is a number, and those that may be one."""
  return {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(config)
    if not isinstance(getattr(config, field.name), bool)
    and (isinstance(getattr(config, field.name), numbers.Real) or "float | None" in str(field.type))
  }


def problem(module):
  try:
    module.make(spec(problems(module)[0]), small(module))
  except ValueError:
    return problems(module)[1]
  return problems(module)[0]


def free(config):
  return {name: value for name, value in numeric(config).items() if name not in components.structural(config)}


@pytest.mark.parametrize("name", agents.AGENTS)
def test_all_numeric_fields_are_mapped_over_at_once(name):
  """Construction, the first state, acting and an update, of two agents that differ in every number."""
  module, env = agents.load(name), problem(agents.load(name))
  plain = small(module)
  if hasattr(plain, "action_penalty"):  # which is of policies that are not squashed
    plain = dataclasses.replace(plain, policy="gaussian")
  values = {key: 0.5 if value is None else float(value) for key, value in free(plain).items()}

  def both(values):
    agent = module.make(spec(env), dataclasses.replace(plain, **values))
    state = agent.init(jax.random.key(0))
    batch = acted(agent, transitions(0, (8,), agent.spec))
    if agent.spec.discrete:
      batch = batch._replace(action=jnp.zeros(8, jnp.int32))
    _, _, extras = agent.act(state.params, agent.carry(8), batch.obs, jax.random.key(1))
    batch = batch._replace(extras=extras)
    if agent.on_policy:
      rows = agent.prepare(state, jax.tree.map(lambda x: x[:, None], batch), jax.random.key(2))
      batch = jax.tree.map(lambda x: x[:, 0], rows)
    elif agent.sequence:
      return state
    return agent.update(state, batch, jax.random.key(3))

  pair = {key: jax.ShapeDtypeStruct((2,), jnp.float32) for key in values}
  jax.eval_shape(jax.vmap(both), pair)


@pytest.mark.parametrize("name", agents.AGENTS)
def test_a_field_that_shapes_the_program_says_so(name):
  module, env = agents.load(name), problem(agents.load(name))
  plain = small(module)
  for field in components.structural(plain):

    def build_one(value, field=field):
      return module.make(spec(env), dataclasses.replace(plain, **{field: value})).init(jax.random.key(0))

    with pytest.raises(ValueError, match=rf"{field} shapes the program"):  # noqa: PT012
      jax.eval_shape(build_one, jax.ShapeDtypeStruct((), jnp.int32))
      pytest.fail(f"{name} takes a traced {field}")


WRONG = (None, "x", {}, [None], object(), True, 0.5, math.nan)
"""What some fields are, and most are not."""


def may_be(annotation, value):
  """Whether a field with this annotation may have the value, as far as its kind goes."""
  allowed = {part.strip().partition("[")[0] for part in annotation.split("|")}
  if not allowed <= {"int", "float", "bool", "str", "tuple", "None"} or allowed == {"str", "None"}:
    return True  # a file's name, or an object, which is for whoever reads it
  if isinstance(value, float):
    return "float" in allowed and not math.isnan(value)
  return {type(None): "None", str: "str", bool: "bool"}.get(type(value)) in allowed


@pytest.mark.parametrize("name", agents.AGENTS)
def test_a_field_is_what_its_annotation_says(name):
  module, env = agents.load(name), problem(agents.load(name))
  plain = small(module)
  for field in dataclasses.fields(plain):
    annotation = (
      getattr(field.type, "__name__", str(field.type)) if not hasattr(field.type, "__args__") else str(field.type)
    )
    for wrong in WRONG:
      config = dataclasses.replace(plain, **{field.name: wrong})
      refused = None
      try:
        module.make(spec(env), config)
      except ValueError as error:
        refused = str(error)
      assert refused or may_be(annotation, wrong), f"{name} takes {field.name}={wrong!r}"
      assert "\n" not in (refused or "")


def test_what_is_exempt_is_a_size_a_length_or_a_period():
  every = set().union(*(components.structural(agents.load(name).Config()) for name in agents.AGENTS))
  assert every == EXEMPT


@pytest.mark.parametrize(
  ("module", "field", "values"),
  [
    (sac, "max_grad_norm", (0.0, 0.1)),
    (mpo, "action_penalty", (0.0, 0.5)),
    (vmpo, "share", (0.25, 0.5)),
  ],
)
def test_a_member_of_a_population_is_the_run_alone(module, field, values):
  env_spec = Spec(4, 2)
  fields = {"hidden": (8,)} | ({"policy": "gaussian"} if field == "action_penalty" else {})
  batch = transitions(0, (16,), env_spec)

  def run(value):
    agent = module.make(env_spec, module.Config(**fields, **{field: value}))
    state = agent.init(jax.random.key(0))
    rows = batch
    if agent.on_policy:
      log_prob = agent.act(state.params, (), batch.obs, jax.random.key(0))[2]["log_prob"]
      rows = jax.tree.map(lambda x: x[:, None], batch._replace(extras={"log_prob": log_prob}))
      rows = jax.tree.map(lambda x: x[:, 0], agent.prepare(state, rows, jax.random.key(0)))
    for key in jax.random.split(jax.random.key(1), 2):
      state, _ = agent.update(state, rows, key)
    return state.params

  together = jax.jit(jax.vmap(run))(jnp.asarray(values, jnp.float32))
  index = int(field == "max_grad_norm")  # of the others the one where nothing is added
  alone = jax.jit(lambda: run(values[index]))()
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x[index], y, rtol=2e-4, atol=2e-6), together, alone)


def test_a_decay_of_traced_length_is_optax():
  counts = jnp.arange(12)
  for length in (1, 5, 50):
    wanted = optax.cosine_decay_schedule(3e-4, length, 0.1)(counts)
    got = jax.jit(jax.vmap(lambda count, length: optimizers.cosine(3e-4, length, 0.1)(count), (0, None)))(
      counts, length
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
  np.testing.assert_allclose(jax.vmap(optimizers.cosine(3e-4, jnp.int32(0), 0.1))(counts), 3e-4, rtol=1e-6)


# What cannot be met


@pytest.mark.parametrize(
  ("name", "given", "message"),
  [
    (
      "sac",
      {"entropy_target": 1.4},
      r"entropy_target must be below 1.38629, the entropy of uniform actions .*got 1.4",
    ),
    ("sac", {"entropy_target": 2 * np.log(2)}, "entropy_target must be below 1.38629"),
    ("iterative_sac", {"entropy_target": 5.0}, "entropy_target must be below 1.38629"),
    (
      "sac_discrete",
      {"entropy_target": 0.7},
      "must be below 0.693147, the entropy of equal probabilities of 2",
    ),
    ("sac_discrete", {"entropy_share": 1.0}, "the entropy target must be below 0.693147"),
    ("mpo", {"samples": 4, "epsilon": 1.4}, "epsilon must be below log samples = 1.38629"),
    ("rerpi", {"samples": 4, "epsilon": 2.0, "weights": "boltzmann"}, "epsilon must be below log samples"),
  ],
)
def test_a_target_that_cannot_be_met_is_refused_with_the_largest(name, given, message):
  module = agents.load(name)
  env = problem(module)
  with pytest.raises(ValueError, match=message):
    module.make(Spec(4, 2, discrete=spec(env).discrete), small(module, **given))


def test_the_largest_targets_are_taken():
  spec_of = Spec(4, 2)
  sac.make(spec_of, sac.Config(hidden=(8,), entropy_target=1.38))
  sac.make(spec_of, sac.Config(hidden=(8,), policy="gaussian", entropy_target=50.0))  # a Gaussian has no largest
  mpo.make(spec_of, mpo.Config(hidden=(8,), samples=4, epsilon=1.38))


@pytest.mark.parametrize("name", agents.AGENTS)
def test_a_discount_of_one_is_for_rollouts_alone(name):
  module = agents.load(name)
  env = problem(module)
  config = small(module, gamma=1.0)
  if build(name)[0].on_policy:
    module.make(spec(env), config)
  else:
    with pytest.raises(ValueError, match=r"gamma lies in \[0, 1\), got 1.0"):
      module.make(spec(env), config)


def test_an_undiscounted_return_is_the_sum_of_the_rewards():
  agent = ppo.make(Spec(4, 2), ppo.Config(hidden=(8,), gamma=1.0, lam=1.0, normalize_observations=False))
  state = agent.init(jax.random.key(0))
  rows = transitions(0, (5, 3), agent.spec)
  rows = rows._replace(discount=jnp.ones((5, 3)).at[-1].set(0.0), truncated=jnp.zeros((5, 3)))
  rows = rows._replace(extras={"log_prob": jnp.zeros((5, 3))})
  target = agent.prepare(state, rows, jax.random.key(0)).extras["value_target"]
  np.testing.assert_allclose(target[0], rows.reward.sum(axis=0), rtol=1e-5)
