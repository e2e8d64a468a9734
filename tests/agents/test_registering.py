"""Algorithms by name and by object: `register`, `load`, and what a mistake is answered with."""

import dataclasses
import functools
import types

import pytest

import varl
from varl import agents, policies, presets
from varl.agents import registry, sac
from varl.run import configure

SPEC = varl.Spec(4, 2)


@dataclasses.dataclass(frozen=True)
class Config:
  hidden: tuple[int, ...] = (8,)
  learning_rate: float = 1e-2


@dataclasses.dataclass(frozen=True)
class Other:
  depth: int = 3


def make(spec, config: Config, *, axis=None):
  """A small soft actor-critic.

  Not in listings.
  """
  return sac.make(spec, sac.Config(hidden=config.hidden, learning_rate=config.learning_rate), axis=axis)


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
  monkeypatch.setattr(registry, "_REGISTERED", {})
  monkeypatch.setattr(presets, "_ADDED", {})


def test_a_registered_name_is_a_name_everywhere(capsys):
  agents.register("mine", make, preset={"default": {"num_envs": 8, "hidden": [4]}, "reacher": {"hidden": [5]}})
  assert agents.names() == (*agents.AGENTS, "mine")
  assert agents.check_name("mine") == "mine"
  assert agents.load("mine").Config is Config
  run = configure.resolve("mine", "reacher", learning_rate=0.5)
  assert (run.algorithm, run.config, run.settings.num_envs) == ("mine", Config((5,), 0.5), 8)
  assert configure.resolve("mine", "ant").config.hidden == (4,)
  assert configure.resolve("mine", "ant", preset=False).config == Config()
  assert "mine" in presets.algorithms()
  varl_list = __import__("varl.cli", fromlist=["main"]).main
  assert varl_list(["list"]) == 0
  assert "  mine                       A small soft actor-critic.\n" in capsys.readouterr().out
  assert varl_list(["presets", "mine"]) == 0
  assert "[mine reacher]\n  hidden = [5]\n" in capsys.readouterr().out
  agents.register("plain", make, description="another")
  assert presets.preset("plain", "reacher") == {}
  assert agents.descriptions()["plain"] == "another"


def test_a_name_that_is_taken_is_refused():
  for name in ("sac", "mine"):
    if name == "mine":
      agents.register(name, make)
    with pytest.raises(ValueError, match=f"algorithm '{name}' exists already; pass overwrite=True"):
      agents.register(name, make)
    agents.register(name, make, overwrite=True)
    assert agents.load(name).Config is Config
  assert agents.names().count("sac") == 1


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("", {}, "non-empty string without a colon; got ''"),
    ("a:b", {}, "without a colon; got 'a:b'"),
    (3, {}, "got 3"),
    ("mine", {"algorithm": 3}, r"an algorithm is a name, a factory .*; got int"),
    ("mine", {"algorithm": "sacc"}, r"unknown algorithm 'sacc' \(did you mean 'sac'"),
    ("mine", {"preset": {"num_envs": 8}}, "tables of settings by environment.*got {'num_envs': 8}"),
    ("mine", {"algorithm": lambda spec: None, "Config": Config}, "takes no config, but one of the class Config"),
    ("mine", {"Config": dict}, "the Config of .* is a dataclass, got <class 'dict'>"),
  ],
)
def test_register_takes_a_name_and_an_algorithm(name, arguments, message):
  with pytest.raises(ValueError, match=message):
    agents.register(name, arguments.pop("algorithm", make), **arguments)
  assert agents.names() == tuple(agents.AGENTS)


def test_a_preset_with_a_field_that_nobody_has_is_refused():
  agents.register("mine", make, preset={"default": {"hiden": [4]}})
  with pytest.raises(ValueError, match="neither mine nor the loop has a setting 'hiden'"):
    configure.resolve("mine", "ant")


def own_module(**members):
  module = types.ModuleType("own_module")
  vars(module).update(members)
  return module


def by_default(spec, config=Config((3,))):
  return make(spec, config)


def by_keyword(spec, *, config: Config | None = None, axis=None):
  return make(spec, config, axis=axis)


def by_string(spec, config: "Other"):
  return make(spec, Config((config.depth,)))


def by_module(spec, config):  # of the class that this module calls Config
  return make(spec, config)


def of_its_own(spec, config=None):
  return make(spec, Config((7,)) if config is None else config)


def another_argument(spec, width=8):
  return make(spec, Config((width,)))


def pair(spec):
  return sac.design(spec, sac.Config(hidden=(8,))), policies.tanh_gaussian(spec.action_size)


HERE = f"{__name__}:"


@pytest.mark.parametrize(
  ("given", "name", "source", "config"),
  [
    ("sac", "sac", "", sac.Config()),
    (sac, "sac", "", sac.Config()),
    (sac.make, "sac", "", sac.Config()),
    ("varl.agents.sac:make", "sac", "", sac.Config()),
    (make, HERE + "make", HERE + "make", Config()),
    (HERE + "make", HERE + "make", HERE + "make", Config()),
    (by_default, HERE + "by_default", HERE + "by_default", Config((3,))),
    (by_keyword, HERE + "by_keyword", HERE + "by_keyword", Config()),
    (by_string, HERE + "by_string", HERE + "by_string", Other()),
    (by_module, HERE + "by_module", HERE + "by_module", Config()),
    (another_argument, HERE + "another_argument", HERE + "another_argument", agents.algorithm.NoConfig()),
    (functools.partial(make, config=Config((2,))), "partial", "", Config((2,))),
    (lambda spec: make(spec, Config()), "lambda", "", agents.algorithm.NoConfig()),
    (own_module(make=make, Config=Other), "own_module", "", Other()),
    (make(SPEC, Config()), "Agent", "", agents.algorithm.NoConfig()),
    (pair(SPEC), "Design", "", agents.algorithm.NoConfig()),
    (pair, HERE + "pair", HERE + "pair", agents.algorithm.NoConfig()),
  ],
)
def test_what_is_an_algorithm(given, name, source, config):
  found = agents.load(given)
  assert (found.source, found.config) == (source, config)
  assert found.name == name
  assert agents.load(found) is found
  assert agents.is_object(found) == (not source and name != "sac")
  if not isinstance(given, types.ModuleType) and found.Config is not sac.Config:
    made = found.make(SPEC, found.config)
    assert isinstance(made, varl.Agent)
    assert made.spec == SPEC


def test_a_config_that_nothing_says_the_class_of_is_the_factorys_own(monkeypatch):
  monkeypatch.delitem(globals(), "Config")
  assert agents.load(of_its_own).config == agents.algorithm.NoConfig()
  with pytest.raises(ValueError, match=r"takes a config, and nothing says of which class.*register\(name, factory"):
    agents.load(by_module)


class Needy:
  """A factory by `__call__`."""

  def __call__(self, spec, config: Config):
    return make(spec, config)


def test_an_object_that_is_called_is_a_factory():
  found = agents.load(Needy())
  assert (found.name, found.config, found.source) == ("Needy", Config(), "")


@dataclasses.dataclass
class WithoutDefault:
  depth: int


def design_alone(spec):
  return pair(spec)[0]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (3, "got int"),
    (None, "got NoneType"),
    ((1, 2), r"a pair \(design, head\); got a tuple \(int, int\)"),
    (pair(SPEC)[::-1], r"got a tuple \(Head, Design\)"),
    (pair(SPEC)[0], r"a Design does not say how actions are executed: give the pair \(design, head\)"),
    (lambda: None, r"lambda\(\) is no factory of agents: one takes \(spec\) or \(spec, config\)"),
    (lambda *, spec: None, r"lambda\(\*, spec\) is no factory"),
    (lambda spec, config, extra: None, r"lambda\(spec, config, extra\) is no factory"),
    ("no_such_module:make", r"cannot import algorithm 'no_such_module:make' \(package.module:factory\): No module"),
    (HERE + "nothing", "cannot import algorithm"),
    (own_module(), "the module own_module has no function `make`"),
    (own_module(make=lambda spec, config: None, Config=WithoutDefault), "every field of the Config .* needs a default"),
  ],
)
def test_what_is_none_says_what_is_missing(given, message):
  with pytest.raises(ValueError, match=message):
    agents.load(given)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (design_alone, "a Design does not say how actions are executed"),
    (lambda spec: None, r"makes an Agent or a pair \(design, head\), but returned NoneType"),
  ],
)
def test_a_factory_that_makes_something_else(given, message):
  with pytest.raises(ValueError, match=message):
    agents.load(given).make(SPEC)


def test_axis_reaches_whoever_takes_it():
  seen = []

  def taking(spec, *, axis):
    seen.append(axis)
    return make(spec, Config(), axis=axis)

  agents.load(taking).make(SPEC)
  agents.load(taking).make(SPEC, axis="devices")
  assert seen == [None, "devices"]
  agents.load(pair(SPEC)).make(SPEC, axis="devices")
  for given, who in ((make(SPEC, Config()), "an agent that is made already"), (another_argument, "another_argument")):
    with pytest.raises(ValueError, match=rf"{who} cannot learn on several devices: it takes no `axis`.*num_devices=1"):
      agents.load(given).make(SPEC, axis="devices")


def test_a_config_with_a_field_of_the_loop_is_refused():
  @dataclasses.dataclass(frozen=True)
  class Clashing:
    batch_size: int = 8
    seed: int = 0

  with pytest.raises(ValueError, match=r"or arguments of varl\.train: batch_size, seed; give them other names"):
    configure.resolve(own_module(make=make, Config=Clashing), "ant")


def test_an_unknown_setting_offers_the_configs_own():
  with pytest.raises(ValueError, match=r"nor the loop has a setting 'dept' \(did you mean 'depth'"):
    configure.resolve(by_string, "ant", dept=2)
  assert configure.resolve(by_string, "ant", depth=2).config == Other(2)


def test_the_arguments_of_train_are_known_by_name():
  import inspect

  parameters = [
    parameter for call in (varl.train, varl.population) for parameter in inspect.signature(call).parameters.values()
  ]
  assert {p.name for p in parameters if p.kind != p.VAR_KEYWORD} - {"num_timesteps"} == set(configure.KEYWORDS)
