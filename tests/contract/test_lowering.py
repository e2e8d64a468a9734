"""Every agent for devices that are not here: its epoch lowered for CUDA and TPU, its policy as a program for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import SOME, build, trainer

from varl import agents
from varl.run import artifact
from varl.run.export import Policy


@pytest.mark.parametrize("name", agents.AGENTS)
def test_it_is_lowered_for_devices_that_are_not_here(name):
  agent, env = build(name)
  traces = []

  def update(*args):
    traces.append(1)
    return agent.update(*args)

  made = trainer(agent._replace(update=update), env)
  lowered = made.epoch.trace(made.shapes, jax.ShapeDtypeStruct((), np.int32))
  # Both at once: what differs between them is a branch of the program.
  assert "stablehlo.while" in lowered.lower(lowering_platforms=("cuda", "tpu")).as_text()
  assert len(traces) == 1  # tracing is seconds of a start


@pytest.mark.parametrize("name", SOME)
def test_its_policy_is_a_program(name):
  agent, _ = build(name)
  params = agent.init(jax.random.key(0)).params
  policy = Policy(agent, params, None if agent.spec.discrete else (jnp.array([-2.0, 0.0]), jnp.array([2.0, 1.0])))
  planner = name in ("smcp", "smc_mpo")  # which draws for each row
  act, shapes = artifact.function(policy, 3 if planner else None)
  exported = jax.export.export(jax.jit(act), platforms=artifact.PLATFORMS)(*shapes)
  called = jax.export.deserialize(bytearray(exported.serialize())).call
  for batch in (3,) if planner else (1, 3):
    rng = np.random.default_rng(batch)
    obs = rng.normal(size=(batch, agent.spec.observation_size)).astype(np.float32)
    carry = agent.carry(batch)
    wanted, following = policy.step(carry, obs)
    if len(shapes) == 1:
      np.testing.assert_allclose(called(obs), wanted, rtol=1e-5, atol=1e-5)
      continue
    zeros = tuple(jnp.zeros((batch, *leaf.shape[1:]), leaf.dtype) for leaf in jax.tree.leaves(carry))
    action, kept = called(obs, jnp.ones(batch), zeros)
    np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-5)
    again, _ = called(obs, jnp.zeros(batch), kept)
    np.testing.assert_allclose(again, policy.step(following, obs)[0], rtol=1e-5, atol=1e-5)
