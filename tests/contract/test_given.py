"""What is given in another's place is refused in one line, by everything public that takes such a thing."""

import importlib
import inspect
import os
import pkgutil

import pytest
from conftest import small

import varl
from varl import agents, demonstrations, envs, policies, report, rewards
from varl.agents import sac
from varl.envs import toys
from varl.envs.base import Wrapper
from varl.loop.settings import Settings

NO_ENVIRONMENTS = {"name": "point_mass", "class": toys.PointMass, "none": None, "number": 3, "dict": {"env": 1}}
NO_PATHS = {"none": None, "number": 3, "dict": {"out": "x"}, "tuple": ("x",)}


def modules(package):
  return [
    importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
  ]


def takers(found, wanted):
  """Functions and classes whose first argument is one of those that `wanted` tells by its name and annotation."""
  for thing in found:
    arguments = list(inspect.signature(thing).parameters.values())
    if arguments and arguments[0].kind is not arguments[0].VAR_POSITIONAL and wanted(arguments[0]):
      yield thing, sum(x.default is x.empty and x.kind is x.POSITIONAL_OR_KEYWORD for x in arguments[1:])


def wrappers():
  own = {x for m in modules(envs) for x in vars(m).values() if isinstance(x, type) and issubclass(x, Wrapper)}
  return [*sorted((x for x in own if not x.__name__.startswith("_")), key=lambda x: x.__name__), envs.with_skill]


def doors():
  """The public functions of runs, reports and demonstrations."""
  of = [*modules(report), demonstrations]
  own = {x for m in of for x in vars(m).values() if inspect.isfunction(x) and x.__module__ == m.__name__}
  own |= {x for name in varl.__all__ if inspect.isfunction(x := getattr(varl, name))}
  return sorted((x for x in own if not x.__name__.startswith("_")), key=lambda x: (x.__module__, x.__name__))


ENVIRONMENTS = list(takers(wrappers(), lambda x: x.name in ("env", "envs")))
PATHS = list(takers(doors(), lambda x: str(x.annotation) == "str | os.PathLike[str]"))


@pytest.mark.parametrize("given", NO_ENVIRONMENTS)
@pytest.mark.parametrize(("wrapper", "others"), ENVIRONMENTS, ids=[x.__name__ for x, _ in ENVIRONMENTS])
def test_what_is_no_environment_is_not_wrapped(wrapper, others, given):
  wrong = NO_ENVIRONMENTS[given]
  with pytest.raises(ValueError, match=r"no environment|list of environments") as refused:
    wrapper([wrong, wrong] if wrapper is envs.Tasks else wrong, *[2] * others)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize("given", ["point_mass", None, 3])
def test_frozen_policies_are_policies(given, point_mass):
  for wrapper in (envs.Latent, envs.ChosenSkills):
    with pytest.raises(ValueError, match=r"what varl.load_policy reads, or the policy of a run; got "):
      wrapper(point_mass, given)


@pytest.mark.parametrize("given", [None, 3, "point_mass"])
def test_tasks_are_several_and_processes_are_processes(given):
  with pytest.raises(ValueError, match="several tasks are a list of environments"):
    envs.Tasks(given)
  with pytest.raises(ValueError, match="Tabular takes a process"):
    envs.Tabular(given)


@pytest.mark.parametrize("given", [None, 3, "obs"])
def test_entries_and_counts_are_lists(given, point_mass):
  with pytest.raises(ValueError, match="a part of an observation is a list of its entries"):
    envs.Partial(point_mass, given)
  with pytest.raises(ValueError, match="counts of actions are a list of whole numbers"):
    envs.MultiDiscrete(point_mass, given)


@pytest.mark.parametrize("given", NO_PATHS)
@pytest.mark.parametrize(("function", "others"), PATHS, ids=[f"{x.__module__}.{x.__name__}" for x, _ in PATHS])
def test_what_is_no_path_is_refused(function, others, given):
  with pytest.raises(ValueError, match=r"is text or an os.PathLike; got|is a path, got|takes a path, and") as refused:
    function(NO_PATHS[given], *["x.html"] * others)
  assert "\n" not in str(refused.value)


def test_many_take_a_path():
  assert len(ENVIRONMENTS) >= 7
  assert len(PATHS) >= 15


@pytest.mark.parametrize("name", agents.names())
def test_make_takes_a_spec_and_its_own_config(name, point_mass):
  algorithm = agents.load(name)
  with pytest.raises(ValueError, match=r"a Spec, as varl.envs.spec\(env\) gives it, is needed here; got a PointMass"):
    algorithm.make(point_mass)
  for make in (algorithm.make, algorithm.design):
    with pytest.raises(ValueError, match=r"a Config of varl\.agents\.\w+ is needed here; got a dict"):
      make(envs.spec(point_mass), {"gamma": 0.9})


@pytest.mark.parametrize("given", ["sac", None, 3])
def test_a_trainer_is_of_an_agent_and_settings(given, point_mass):
  agent = sac.make(envs.spec(point_mass), small(sac))
  with pytest.raises(ValueError, match="an Agent, as an algorithm's make"):
    varl.evaluator(point_mass, given, episodes=2)
  with pytest.raises(ValueError, match="an Agent, as an algorithm's make"):
    varl.make_trainer(point_mass, given, Settings())
  with pytest.raises(ValueError, match=r"a varl\.Settings, the loop's, is needed here"):
    varl.make_trainer(point_mass, agent, given)
  with pytest.raises(ValueError, match="no environment"):
    varl.make_trainer(given, agent, Settings())


@pytest.mark.parametrize("given", ["sac", 3, sac])
def test_an_agent_is_of_a_design_and_its_axes(given, point_mass):
  spec = envs.spec(point_mass)
  design, head = sac.design(spec, small(sac)), policies.tanh_gaussian(spec.action_size)
  for arguments in ((given, spec, head), (design, given, head), (design, spec, given)):
    with pytest.raises(ValueError, match=r"is needed here; got ('sac'|3|a module)$"):
      varl.agent(*arguments)
  for axis in ("prior", "posterior", "value", "temperature", "model", "reward"):
    with pytest.raises(ValueError, match=f"a varl.{axis.title()} as the design's {axis} is needed here"):
      varl.agent(design._replace(**{axis: given}), spec, head)
  for axis in ("prior", "posterior", "value", "temperature"):  # which no design is without
    with pytest.raises(ValueError, match=f"a varl.{axis.title()} as the design's {axis} is needed here; got None"):
      varl.agent(design._replace(**{axis: None}), spec, head)
  with pytest.raises(ValueError, match="a term joins an axis of a design"):
    varl.with_term(given, lambda params, batch, key: (0.0, {}), name="mine")
  with pytest.raises(ValueError, match="the term 'mine' is a function"):
    varl.with_term(design.posterior, 0.1, name="mine")
  with pytest.raises(ValueError, match="a part of a sum is a Reward, or a pair"):
    rewards.sum(mine=given)


@pytest.mark.parametrize(
  ("argument", "message"), [("callback", "callback is a function"), ("reward", "a varl.Reward, or")]
)
def test_nothing_is_touched_before_a_run_has_what_it_needs(argument, message, tmp_path):
  out = tmp_path / "run"
  with pytest.raises(ValueError, match=message):
    varl.train("sac", "point_mass", num_timesteps=8_000, out=out, **{argument: 3})
  assert not out.exists()


def test_a_run_stands_for_its_directory(tmp_path):
  kept = varl.Run(policy=None, params={}, metrics=[], out=tmp_path, finished=True)
  assert os.fspath(kept) == str(tmp_path)
  (tmp_path / "config.json").write_text('{"env": "point_mass"}')
  (tmp_path / "metrics.jsonl").write_text('{"env_steps": 8, "eval/episode_reward": 1.0}\n')
  assert report.records.read(kept) == report.records.read(tmp_path) != []
  assert report.compare.compare({"sac": [kept]})["groups"]["sac"]["runs"] == [str(tmp_path)]
  with pytest.raises(ValueError, match=r"this run left no directory: varl.train\(..., out=DIRECTORY\) keeps one"):
    report.records.read(kept._replace(out=None))
