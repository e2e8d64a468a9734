"""What `varl.train` trains: an agent for any environment with its hyper-parameters, made of one's own object."""

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from varl.checks import source_of

if TYPE_CHECKING:
  from varl.types import Agent, Design, Spec

ALLOWED = (
  "an algorithm is a name, a factory (spec, config) -> Agent, a module with one as `make`, an Agent, or a pair "
  "(design, head)"
)


class Algorithm(NamedTuple):
  """An agent for any environment, and its hyper-parameters.

  Attributes:
    name: of `varl.agents.names()`, "package.module:factory", or what an object calls itself.
    make: `(spec, config=None, *, axis=None) -> Agent`; by default with `config`.
    config: the hyper-parameters with their defaults, an instance of a dataclass; one without fields where there are
      none.
    design: `(spec, config, *, axis=None) -> Design`; None where only `make` is known.
    description: one line.
    source: "package.module:factory", where importing that gives what makes the agent; "" where nothing does, or it
      comes with varl.
  """

  name: str
  make: "Callable[..., Agent]"
  config: Any
  design: "Callable[..., Design] | None" = None
  description: str = ""
  source: str = ""

  @property
  def Config(self) -> Any:
    """The class of the hyper-parameters."""
    return type(self.config)


@dataclasses.dataclass(frozen=True)
class NoConfig:
  """The hyper-parameters of an agent that has none to set."""


def of_agent(agent: "Agent") -> Algorithm:
  """An agent that is made already: for its own environment, on one device."""

  def make(spec: "Spec", config: Any = None, *, axis: str | None = None) -> "Agent":
    _check_axis("an agent that is made already", axis)
    return agent

  return Algorithm("Agent", make, NoConfig())


def of_pair(pair: Any) -> Algorithm:
  """A pair `(design, head)`, the head being the policy's.

  Raises:
    ValueError: a design without its head, or a tuple of anything else.
  """
  _check_pair(pair)

  def make(spec: "Spec", config: Any = None, *, axis: str | None = None) -> "Agent":
    return _glued(pair, spec, axis)

  return Algorithm("Design", make, NoConfig())


def of_module(module: Any) -> Algorithm:
  """A module with a factory `make` and, where that takes one, the class `Config` of its config.

  Raises:
    ValueError: it has no `make`, or one that is no factory.
  """
  make, Config = getattr(module, "make", None), getattr(module, "Config", None)
  if not callable(make):
    raise ValueError(f"the module {module.__name__} has no function `make`: {ALLOWED}")
  name = module.__name__
  source = "" if name == "__main__" or sys.modules.get(name) is not module else f"{name}:make"
  found = of_factory(make, Config=Config if isinstance(Config, type) else None, source=source)
  return found._replace(name=source or name, design=getattr(module, "design", None))


def of_factory(factory: Any, *, Config: Any = None, source: str = "") -> Algorithm:
  """A function that makes agents: `(spec)` or `(spec, config)`, and perhaps `axis` by keyword.

  Args:
    factory: returns an `Agent`, or a pair `(design, head)`.
    Config: the class of its config. None: what the argument's annotation or default says, or else the class that the
      factory's module calls `Config`.
    source: "package.module:factory"; "": found, unless a Config is given, which the factory alone does not bring back.

  Raises:
    ValueError: it cannot be called so, or its config is of no known dataclass with defaults.
  """
  if not callable(factory):
    raise ValueError(f"{ALLOWED}; got {type(factory).__name__}")
  source = source or ("" if Config is not None else source_of(factory))
  name = source or getattr(factory, "__name__", type(factory).__name__).strip("<>")
  parameters = _parameters(factory, name)
  takes_axis = any(p.name == "axis" for p in parameters)
  second = _second(parameters)
  config = None if second is None else _defaults(factory, second, Config, name, source)
  if config is None and Config is not None:
    raise ValueError(f"the factory {name} takes no config, but one of the class {Config.__name__} is given for it")

  def make(spec: "Spec", config: Any = config, *, axis: str | None = None) -> "Agent":
    if not takes_axis:
      _check_axis(f"the factory {name}", axis)
    named = {"axis": axis} if takes_axis else {}
    if second is None or config is None or isinstance(config, NoConfig):
      made = factory(spec, **named)
    elif second.kind == second.KEYWORD_ONLY:
      made = factory(spec, **{second.name: config}, **named)
    else:
      made = factory(spec, config, **named)
    return _finished(made, spec, name, axis)

  described = (inspect.getdoc(factory) or "").partition("\n")[0] if inspect.isroutine(factory) else ""
  return Algorithm(name, make, NoConfig() if config is None else config, description=described, source=source)


def _parameters(factory: Any, name: str) -> list[inspect.Parameter]:
  """The factory's parameters, after a check that an environment's spec, a config and an axis are all that it needs."""
  try:
    signature = inspect.signature(factory)
  except (TypeError, ValueError) as error:
    raise ValueError(f"the arguments of {name} cannot be read ({error}); wrap it in a function of (spec)") from None
  parameters = list(signature.parameters.values())
  second = _second(parameters)
  given = {p.name for p in parameters[:1]} | {"axis", second.name if second else ""}
  variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  missing = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic and p.name not in given]
  if missing or not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, variadic[1]):
    raise ValueError(
      f"{name}{signature} is no factory of agents: one takes (spec) or (spec, config), and perhaps axis=None"
    )
  return parameters


def _second(parameters: list[inspect.Parameter]) -> inspect.Parameter | None:
  """The parameter that is the config: the one of this name, or else the second without a default."""
  rest = [p for p in parameters[1:] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
  named = [p for p in rest if p.name == "config"]
  needed = [p for p in rest[:1] if p.default is p.empty and p.name != "axis" and p.kind != p.KEYWORD_ONLY]
  return next(iter(named or needed), None)


def _defaults(factory: Any, parameter: inspect.Parameter, Config: Any, name: str, source: str) -> Any:
  """The config that a factory is called with by default; None where it has its own and nothing says of which class."""
  if Config is None and _is_config(parameter.default):
    return parameter.default
  if Config is None:
    Config = _annotated(factory, parameter)
  if Config is None:
    home = source.partition(":")[0] or getattr(factory, "__module__", "")
    Config = getattr(sys.modules.get(home), "Config", None)
  if Config is None and parameter.default is not parameter.empty:
    return None
  if Config is None:
    raise ValueError(
      f"the factory {name} takes a {parameter.name}, and nothing says of which class: annotate it with its dataclass, "
      "or give that to varl.agents.register(name, factory, Config=...)"
    )
  if not isinstance(Config, type) or not dataclasses.is_dataclass(Config):
    raise ValueError(f"the Config of {name} is a dataclass, got {Config!r}")
  try:
    return Config()
  except TypeError as error:
    raise ValueError(f"every field of the Config of {name} needs a default: {error}") from None


def _is_config(value: Any) -> bool:
  return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _annotated(factory: Any, parameter: inspect.Parameter) -> Any:
  """The dataclass that a parameter is annotated with, plainly or as `Config | None`."""
  function = inspect.unwrap(getattr(factory, "func", factory))
  hints = types.SimpleNamespace(__annotations__={"config": parameter.annotation})
  try:
    hint = typing.get_type_hints(hints, getattr(function, "__globals__", {}))["config"]
  except (NameError, TypeError):  # an annotation that cannot be evaluated here
    return None
  found = [part for part in (hint, *typing.get_args(hint)) if isinstance(part, type) and dataclasses.is_dataclass(part)]
  return found[0] if found else None


def _finished(made: Any, spec: "Spec", name: str, axis: str | None) -> "Agent":
  """What a factory made, as an agent."""
  from varl.types import Agent

  if isinstance(made, Agent):
    return made
  if isinstance(made, tuple):
    _check_pair(made)
    return _glued(made, spec, axis)
  raise ValueError(f"the factory {name} makes an Agent or a pair (design, head), but returned {type(made).__name__}")


def _glued(pair: Any, spec: "Spec", axis: str | None) -> "Agent":
  from varl.design import agent

  design, head = pair
  return agent(design if axis is None else design._replace(axis=axis), spec, head)


def _check_pair(pair: Any) -> None:
  from varl.policies import Head
  from varl.types import Design

  if isinstance(pair, Design):
    raise ValueError(
      "a Design does not say how actions are executed: give the pair (design, head), the head being the policy's, or "
      "varl.agent(design, spec, head)"
    )
  if len(pair) != 2 or not isinstance(pair[0], Design) or not isinstance(pair[1], Head):
    raise ValueError(f"{ALLOWED}; got a tuple ({', '.join(type(part).__name__ for part in pair)})")


def _check_axis(who: str, axis: str | None) -> None:
  if axis is not None:
    raise ValueError(
      f"{who} cannot learn on several devices: it takes no `axis`, the mapped axis over which gradients are averaged; "
      "give a factory (spec, *, axis) -> Agent or a pair (design, head), or num_devices=1"
    )
