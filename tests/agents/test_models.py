"""Algorithms with a model: what they are made of, and what they refuse."""

import jax
import numpy as np
import pytest
from conftest import small, transitions

import varl
from varl import components, models
from varl.agents import mbpo, smc_mpo, smcp, svg, svg_mpo
from varl.envs import spec, toys
from varl.types import Spec

POINTS = toys.PointMass()


@pytest.mark.parametrize(
  ("module", "given", "message"),
  [
    (smcp, {"horizon": 0}, "horizon is a whole number > 0, got 0"),
    (smcp, {"particles": 0}, "particles is a whole number > 0, got 0"),
    (smcp, {"value_samples": 2.5}, "value_samples is a whole number > 0, got 2.5"),
    (smcp, {"target": "best"}, "target is one of variational, optimistic; got 'best'"),
    (smcp, {"resample_below": 1.5}, r"resample_below lies in \[0, 1\], got 1.5"),
    (mbpo, {"members": 2, "elites": 3}, "elites are at most all 2 members, got elites=3"),
    (mbpo, {"rollout": 0}, "rollout is a whole number > 0, got 0"),
    (mbpo, {"real_share": -0.1}, r"real_share lies in \[0, 1\], got -0.1"),
    (mbpo, {"grow_over": -1}, "grow_over is a finite number >= 0, got -1"),
    (mbpo, {"model_hidden": 32}, r"model_hidden is a tuple .* got 32"),
    (mbpo, {"model_ends": "often"}, "model_ends is learned or never, got 'often'"),
    (svg, {"look_ahead": 0}, "look_ahead is a whole number > 0, got 0"),
    (svg_mpo, {"weight_decay": -1.0}, "weight_decay is a finite number >= 0, got -1.0"),
    (smc_mpo, {"particles": 4, "epsilon": 1.4}, "epsilon must be below log particles = 1.38629"),
  ],
)
def test_what_is_out_of_range_is_named(module, given, message):
  with pytest.raises(ValueError, match=message):
    module.make(spec(POINTS), small(module, **given))


@pytest.mark.parametrize("module", [svg, svg_mpo])
def test_what_differentiates_through_actions_refuses_discrete_ones(module):
  with pytest.raises(ValueError, match=r"differentiates through continuous actions.*use smc"):
    module.make(Spec(4, 2, discrete=True))


def test_actions_of_the_other_kind_are_refused_by_the_model():
  """A discrete design beside a model of continuous actions, and the other way round."""
  discrete, continuous = spec(toys.Chain(4)), spec(POINTS)
  for own, other in ((discrete, continuous), (continuous, discrete)):
    wrong = mbpo.design(other, small(mbpo)).model
    design = mbpo.design(own, small(mbpo))._replace(model=wrong)
    agent = varl.agent(design, own, mbpo_head(own))
    with pytest.raises(ValueError, match=r"the model is of (discrete|continuous) actions, got (continuous|discrete)"):
      jax.eval_shape(lambda agent=agent: step(agent))


def mbpo_head(own):
  return components.policy_head(own, small(mbpo))


def step(agent):
  state = agent.init(jax.random.key(0))
  return agent.update(state, transitions(0, (8,), agent.spec), jax.random.key(1))


def test_a_known_model_stands_in_for_the_learned_one():
  """Nothing of it is learned, and plans in it differ from those of the learned one."""
  known = models.known(POINTS.outcome, draws=1)
  for module in (mbpo, smcp, svg, svg_mpo, smc_mpo):
    design = module.design(spec(POINTS), small(module), model=known)
    agent = varl.agent(design, spec(POINTS), components.policy_head(spec(POINTS), small(module)))
    shapes, metrics = jax.eval_shape(lambda agent=agent: step(agent))
    assert not [group for group in shapes.params if group.startswith("model")]
    assert not [name for name in metrics if name.startswith("model_")]


def test_a_planner_needs_a_model_and_says_how_to_give_one():
  design = smcp.design(spec(POINTS), small(smcp))._replace(model=None)
  agent = varl.agent(design, spec(POINTS), components.policy_head(spec(POINTS), small(smcp)))
  with pytest.raises(ValueError, match=r"planning needs a model: design._replace\(model=models"):
    jax.eval_shape(
      lambda: agent.act(agent.init(jax.random.key(0)).params, agent.carry(2), np.zeros((2, 4)), jax.random.key(0))
    )
