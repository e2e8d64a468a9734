"""The door for environments: what it reports of good and of broken ones, and that episodes differ in their noise."""

import importlib
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl import cli
from varl.envs import toys, vectorize
from varl.envs.contract import BROKEN, CONTRACTS
from varl.envs.tabular import random_mdp


class Nothing(toys.PointMass):
  """Its first observation is no number."""

  def _state(self, position, velocity):
    state = super()._state(position, velocity)
    return state.replace(obs=state.obs.at[0].set(jnp.nan))


class Impure(toys.PointMass):
  """Its steps depend on what was called before."""

  calls = 0

  def step(self, state, action):
    type(self).calls += 1
    return super().step(state, action * (1.0 + self.calls))


class Noisy:
  """Its noise comes of a legacy key that the state keeps under any name."""

  observation_size = 1
  action_size = 1

  def reset(self, rng):
    return varl.envs.State(
      obs=jnp.zeros(1), reward=jnp.zeros(()), done=jnp.zeros(()), info={"stream": jax.random.split(rng)[0]}
    )

  def step(self, state, action):
    now, stream = jax.random.split(state.info["stream"])
    return state.replace(obs=jax.random.uniform(now, (1,)), done=jnp.ones(()), info={**state.info, "stream": stream})


GOOD = [toys.PointMass(), toys.LinearQuadratic(), toys.Chain(), random_mdp(), Noisy()]


@pytest.mark.parametrize("env", GOOD, ids=[type(env).__name__ for env in GOOD])
def test_a_good_environment_keeps_every_contract(env):
  report = varl.envs.check(env, seconds=0.5)
  assert report.kept, str(report)
  assert {finding.contract for finding in report.findings} == set(CONTRACTS)
  assert "all contracts kept" in str(report)
  report.raise_broken()


@pytest.mark.parametrize(
  ("env", "contract"),
  [
    (Nothing(), "first_states"),
    (Impure(), "pure"),
    (toys.PointMass, "object"),
    (object(), "object"),
    (3, "object"),
  ],
  ids=["first observation", "impure", "class", "object", "number"],
)
def test_a_broken_one_is_reported_with_the_contract_that_it_breaks(env, contract):
  report = varl.envs.check(env, seconds=0.5)
  assert contract in {finding.contract for finding in report.findings if finding.severity == BROKEN}, str(report)
  assert not report.kept
  first = next(finding.message for finding in report.findings if finding.severity == BROKEN)
  with pytest.raises(ValueError, match=re.escape(first)):
    report.raise_broken()


@pytest.mark.parametrize("reset", ["pool", "cached", "fresh"])
def test_thousands_of_episodes_have_noises_of_their_own(reset):
  """Of one step each, in eight environments; a pool of two first states, or one a row, must not repeat them."""
  batch = vectorize(Noisy(), 8, episode_length=5, reset=reset, **({"pool_size": 2} if reset == "pool" else {}))

  def step(state, _):
    state, seen = batch.step(state, jnp.zeros((8, 1)))
    return state, seen.next_obs[:, 0]

  _, noise = jax.jit(lambda key: jax.lax.scan(step, batch.reset(key), None, length=1000))(jax.random.key(0))
  assert len(np.unique(noise)) > 7990  # of 8000; 24 bits tell some two apart no more


def test_a_wrapper_of_brax_that_says_its_time_limit_is_bootstrapped():
  """A limit of 10 steps in the environment's own wrapper is a truncation, and no end."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Brax's own, and its dependencies', on import
    training = importlib.import_module("brax.envs.wrappers.training")
  wrapped = training.EpisodeWrapper(toys.PointMass(), episode_length=10, action_repeat=1)
  batch = vectorize(wrapped, 2, episode_length=1000)

  def step(state, _):
    state, seen = batch.step(state, jnp.zeros((2, 2)))
    return state, (seen.terminated, seen.truncated)

  _, (terminated, truncated) = jax.jit(lambda key: jax.lax.scan(step, batch.reset(key), None, length=10))(
    jax.random.key(0)
  )
  assert not terminated.any()
  assert truncated[-1].all()
  assert not truncated[:-1].any()


def test_the_command(capsys):
  assert cli.main(["check-env", "point_mass"]) == 0
  assert "point_mass: all contracts kept" in capsys.readouterr().out
  assert cli.main(["check-env", f"{__name__}:Nothing"]) == 1
  assert "first_states" in capsys.readouterr().out


def test_train_goes_through_the_same_door():
  with pytest.raises(ValueError, match=r"PointMass is a class and no environment: call it, PointMass\(...\)"):
    varl.train("sac", toys.PointMass, num_timesteps=100)
