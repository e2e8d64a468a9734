"""Counts and seeds are whole numbers, of whatever library: everything public refuses others in one line."""

import importlib
import inspect
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import expert, small

import varl
from varl import (
  demonstrations,
  envs,
  exact,
  losses,
  memory,
  models,
  networks,
  policies,
  posteriors,
  priors,
  report,
  returns,
  rewards,
  step,
  temperatures,
  values,
)
from varl.agents import sac_discrete
from varl.envs import tasks, toys
from varl.exact import linear_quadratic
from varl.exact.tabular import chain, random_mdp, soft_value_iteration
from varl.loop import replay
from varl.report import compare, film, maps
from varl.run import configure, members
from varl.run.watch import watch

PUBLIC = (
  varl, envs, toys, tasks, losses, models, networks, policies, posteriors, priors, rewards, temperatures,
  values, returns, memory, step, demonstrations, linear_quadratic,
  *[importlib.import_module(f"varl.{of.__name__.removeprefix('varl.')}.{found.name}") for of in (report, exact)
    for found in pkgutil.iter_modules(of.__path__)],
)  # fmt: skip

PASSED_ON = {
  "varl.demonstrations.sampled.n": "to Demonstrations.sample",
  "varl.envs.tasks.OneTask.task": "by Tasks.only, of its own",
  "varl.envs.tasks.point_mass_skills.skills": "to with_skill",
  "varl.exact.counterexamples.maxent_room.actions": "may follow from a traced number; looked at beside it",
  "varl.exact.counterexamples.verdicts.iterations": "to expectation_maximisation",
  "varl.exact.inverse.counts.horizon": "to visitation",
  "varl.exact.inverse.feature_expectations.horizon": "to visitation",
  "varl.exact.inverse.fit.horizon": "to soft_value_iteration",
  "varl.exact.inverse.occupancy.horizon": "to visitation",
  "varl.exact.tabular.elbo.horizon": "to what looks at all arguments of messages",
  "varl.exact.tabular.log_evidence.horizon": "to what looks at all arguments of messages",
  "varl.exact.tabular.message_passing.horizon": "to what looks at all arguments of messages",
  "varl.exact.virel.expectation_maximisation.horizon": "to soft_value_iteration",
  "varl.loop.evaluate.evaluator.episode_length": "to vectorize",
  "varl.networks.MLP.outputs": "by mlp, of its own",
  "varl.networks.action_in.outputs": "of a critic's distribution, which has it checked",
  "varl.networks.action_out.outputs": "of a critic's distribution, which has it checked",
  "varl.policies.every_action.actions": "of a Spec",
  "varl.posteriors.gaussian_proposal.action_size": "of a Spec",
  "varl.posteriors.iterative_inputs.observation_size": "of a Spec",
  "varl.posteriors.prior_proposal.n": "by the posterior, of its own",
  "varl.report.records.truncate_after.env_steps": "of a row, which has it checked",
  "varl.rewards.delayed.steps": "by reverse_options, of its own",
  "varl.rewards.empowerment.steps": "to the head",
  "varl.rewards.empowerment_outputs.steps": "to the head",
  "varl.rewards.window_size.count": "of reverse_options",
  "varl.rewards.window_size.window": "of reverse_options",
  "varl.report.compare.estimate.resamples": "with all numbers of an interval",
  "varl.report.compare.probability_of_improvement.resamples": "with all numbers of an interval",
  "varl.run.artifact.export.batch": "to function",
  "varl.run.inspect.render.width": "to film.check",
  "varl.run.population.population.draws": "to members.settings",
  "varl.run.population.population.num_timesteps": "to Settings",
  "varl.run.population.population.search_seed": "to members.settings",
  "varl.run.population.resume_population.num_timesteps": "to Settings",
  "varl.run.training.resume.num_timesteps": "to Settings",
  "varl.run.training.train.num_timesteps": "to Settings",
  "varl.run.training.train.seed": "to resolve",
}
"""Whole numbers that a function does not look at itself, and who does."""


def whole_arguments():
  """`("module.function.argument", source)` of every argument of the public functions that is annotated as an int."""
  for of in PUBLIC:
    names = varl.__all__ if of is varl else [name for name in vars(of) if not name.startswith("_")]
    for name in names:
      thing = getattr(of, name)
      made = inspect.isclass(thing) and "__init__" in vars(thing) and not hasattr(thing, "_fields")
      if not (inspect.isfunction(thing) or made) or not thing.__module__.startswith("varl.") or thing is varl.Settings:
        continue
      home = thing.__module__ if of is varl else of.__name__
      for argument in inspect.signature(thing).parameters.values():
        if str(argument.annotation) in ("<class 'int'>", "int", "int | None"):
          yield f"{home}.{name}.{argument.name}", inspect.getsource(thing)


def test_every_whole_number_is_looked_at():
  found = dict(whole_arguments())
  assert len(found) > 80
  seen = {
    place
    for place, source in found.items()
    if re.search(rf'checks\.whole\(\s*"{place.rpartition(".")[2]}"', source)
    or (place.endswith("seed") and "checks.seed(" in source)
    or (place.endswith(".count") and "_count(count" in source)
    or (place.endswith(".horizon") and "check_horizon(m, horizon)" in source)
  }
  assert sorted(found.keys() - seen - PASSED_ON.keys()) == []
  assert sorted(PASSED_ON.keys() - (found.keys() - seen)) == []


WRONG = ["3", 2.5, -1, True, float("nan"), [[3]], {}, np.ones((9, 9))]
RIGHT = [np.int64(4), np.array(4), jnp.int32(4), 4.0]
SPEC = envs.spec(toys.PointMass())
NETWORK = networks.mlp(4, 2, hidden=(4,))
STEP = step.assign("a", lambda params, batch, key: (params["a"], {}))
AGENT = sac_discrete.make(envs.spec(toys.Chain(3)), small(sac_discrete))
RUN = configure.resolve("sac", "point_mass")
PROCESS = chain(3)

COUNTS = {
  "n": lambda x: step.every(x, STEP),
  "iterations": lambda x: networks.spectral(NETWORK, iterations=x),
  "inputs": lambda x: networks.mlp(x, 2).init(jax.random.key(0)),
  "each width of hidden": lambda x: networks.mlp(2, 2, hidden=(4, x)).init(jax.random.key(0)),
  "size": lambda x: networks.ensemble(NETWORK, x).init(jax.random.key(0)),
  "actions": lambda x: policies.categorical(x).size,
  "action_size": lambda x: policies.tanh_gaussian(x).noise(jax.random.key(0), 2, (3,)),
  "layers": lambda x: policies.flow(2, layers=x).size,
  "count": lambda x: values.categorical(0.0, 1.0, x),
  "sequence": values.n_step,
  "horizon": values.mve,
  "draws": lambda x: models.known(lambda *_: None, draws=x),
  "capacity": lambda x: replay.ring(x, {"a": jnp.zeros(2)}).init(),
  "units": lambda x: memory.gru(SPEC, lambda a: a, ("actor",), units=x),
  "length": chain,
  "states": lambda x: random_mdp(jax.random.key(0), x, 2),
  "max_iterations": lambda x: soft_value_iteration(PROCESS, temperature=1.0, max_iterations=x),
  "skills": lambda x: envs.with_skill(toys.Chain(3), x),
  "num_envs": lambda x: envs.vectorize(toys.Chain(3), x).num_envs,
  "episode_length": lambda x: envs.vectorize(toys.Chain(3), 2, episode_length=x).episode_length,
  "episodes": lambda x: varl.evaluator(toys.Chain(3), AGENT, episodes=x),
  "seeds": lambda x: members.runs(RUN, [{}], 2.5 if isinstance(x, dict) or np.ndim(x) else x),
  "search_seed": lambda x: members.settings(RUN.config, {}, {"gamma": (0.1, 0.9)}, 1, x),
  "seed": lambda x: compare.estimate([1.0, 2.0], resamples=3, seed=x),
  "resamples": lambda x: compare.estimate([1.0, 2.0], resamples=x),
  "resolution": lambda x: maps.plane(lambda points: points[:, 0], (0, 0), (1, 1), resolution=x),
  "every": lambda x: expert(SPEC).subsample(x),
}
"""A function for each, by the argument's name."""

NUMBERS = {
  "stop_at": lambda x: watch(None, stop_at=x),
  "a time": lambda x: watch(None, stop_after=x),
  "gamma": lambda x: members.settings(RUN.config, {"gamma": x}, {}, 0, 0),
  "tau": lambda x: members.settings(RUN.config, {}, {"tau": (0.0, x)}, 1, 0),
  "confidence": lambda x: compare.estimate([1.0, 2.0], resamples=3, confidence=x),
  "fps": lambda x: film.check("a.gif", fps=x),
  "rate": lambda x: step.track("a", into="b", rate=x),
  "lam": lambda x: values.retrace(4, x),
  "risk": lambda x: values.quantile(4, risk=x),
  "clip": lambda x: rewards.log_ratio(SPEC, NETWORK, NETWORK, optax.sgd(0.1), execute=lambda a: a, clip=x),
}
"""Numbers that are no counts, likewise."""


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_numbers_of_any_library(name):
  for value in WRONG:
    with pytest.raises(ValueError, match=rf"{name} is a whole number (>= |in \[)") as refused:
      COUNTS[name](value)
    assert "\n" not in str(refused.value)
  for value in RIGHT:
    COUNTS[name](value)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_of_any_library(name):
  for value in ("x", float("nan"), True, {}):
    with pytest.raises(ValueError, match=f"{name} (is|must be|lies|takes)") as refused:
      NUMBERS[name](value)
    assert "\n" not in str(refused.value)
  for value in (0.5, np.float32(0.5), jnp.float32(0.5)):
    NUMBERS[name](value)


@pytest.mark.parametrize("kind", [float, np.int64, jnp.int32])
def test_what_is_looked_at_is_what_is_used(kind):
  assert expert(SPEC).take(kind(1)).episodes == 1
  assert tasks.gridworlds(kind(3)).tasks == 4


def test_fields_are_numbers_of_any_library():
  spec = envs.spec(toys.Chain(3))
  for number in (np.float32, np.array, jnp.float32, float):
    sac_discrete.make(spec, small(sac_discrete, gamma=number(0.5), learning_rate=number(0.5)))
    for field, message in (("gamma", "gamma lies in"), ("learning_rate", "learning_rate is a finite number > 0")):
      with pytest.raises(ValueError, match=message):
        sac_discrete.make(spec, small(sac_discrete, **{field: number(-1.5)}))


@pytest.mark.parametrize("given", [[0.5], 3, None, {1: [0.5]}])
def test_a_grid_is_a_dict_by_names(given):
  for name, arguments in (("grid", (given, {})), ("ranges", ({}, given))):
    with pytest.raises(ValueError, match=f"{name} is a dict by the names of fields"):
      members.settings(RUN.config, *arguments, 0, 0)


def test_a_grid_of_arrays():
  found = members.settings(RUN.config, {"tau": np.array([0.1, 0.2])}, {"gamma": np.array([0.1, 0.9])}, np.int64(2), 0)
  assert [sorted(one) for one in found] == [["gamma", "tau"]] * 4
  assert [run.seed for run in members.runs(RUN, [{}], jnp.arange(3)).values()] == [0, 1, 2]
  assert len(members.runs(RUN, [{}], np.int64(3))) == 3
