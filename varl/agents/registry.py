"""Algorithms by name: those that come with varl, those that are registered, and "package.module:factory"."""

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import Any

from varl import presets
from varl.agents import algorithm as algorithms
from varl.agents.algorithm import Algorithm
from varl.agents.catalog import AGENTS
from varl.checks import imported, nearest, plain

_REGISTERED: dict[str, Algorithm] = {}


def descriptions() -> dict[str, str]:
  """Every name that `load` knows and what it is: the catalog's, then the registered ones."""
  return {**AGENTS, **{name: registered.description for name, registered in _REGISTERED.items()}}


def names() -> tuple[str, ...]:
  """Every name that `load` knows."""
  return tuple(descriptions())


def register(
  name: str,
  algorithm: Any,
  *,
  Config: Any = None,
  description: str = "",
  preset: Mapping[str, Mapping[str, Any]] | None = None,
  overwrite: bool = False,
) -> None:
  """Makes `name` an algorithm's in this process: for `varl.train`, `varl.load_policy`, presets and listings.

  Args:
    name: any name without a colon.
    algorithm: what `load` takes; most often a factory `(spec, config, *, axis) -> Agent`, or a module with such a
      factory as `make`.
    Config: the dataclass of a factory's hyper-parameters, where nothing in the factory says.
    description: one line, for listings; by default the factory's docstring's.
    preset: tuned settings by environment, as the TOML files of `varl.presets` have them: "default" for all, and what
      others change of it. None: there are none.
    overwrite: whether `name` may replace a name that is known already.

  Raises:
    ValueError: the name is taken or malformed, the algorithm is none, or the preset is no table of tables.
  """
  if not isinstance(name, str) or not name or ":" in name:
    raise ValueError(f"an algorithm's name is a non-empty string without a colon; got {name!r}")
  if name in names() and not overwrite:
    raise ValueError(f"algorithm {name!r} exists already; pass overwrite=True to replace it")
  made = load(algorithm) if Config is None else algorithms.of_factory(algorithm, Config=Config)
  presets.add(name, {} if preset is None else preset)
  _REGISTERED[name] = made._replace(name=name, description=description or made.description)


def check_name(name: str) -> str:
  """Returns the name, if it is an algorithm's or of the form "package.module:factory"; imports nothing.

  Raises:
    ValueError: otherwise, offering the nearest names.
  """
  if ":" in name or name in names():
    return name
  raise ValueError(
    f"unknown algorithm {name!r}{nearest(name, names())}; allowed: {', '.join(names())}; and one's own, registered in "
    "this process or as package.module:factory"
  )


def load(algorithm: Any) -> Algorithm:
  """The algorithm that is meant.

  Args:
    algorithm: one of

      - a name of `names()`, or "package.module:factory";
      - a factory, `(spec) -> Agent` or `(spec, config) -> Agent`. It may take `axis` by keyword: the mapped axis over
        which gradients are averaged, on several devices. (`algorithm.of_factory` says where its Config is found.)
      - a module with such a factory as `make`;
      - an `Agent`: for its own environment, on one device;
      - a pair `(design, head)`, as `varl.agent` takes it. A factory may return one, too.

  Raises:
    ValueError: an unknown name, or an object that is none of these; the message says what is missing.
  """
  if isinstance(algorithm, Algorithm):
    return algorithm
  if isinstance(algorithm, str):
    return _by_name(check_name(algorithm))
  if isinstance(algorithm, types.ModuleType):
    package, _, name = algorithm.__name__.rpartition(".")
    return _by_name(name) if package == __package__ and name in AGENTS else algorithms.of_module(algorithm)
  from varl.types import Agent

  if isinstance(algorithm, Agent):
    return algorithms.of_agent(algorithm)
  return algorithms.of_pair(algorithm) if isinstance(algorithm, tuple) else _of_factory(algorithm)


def _of_factory(factory: Any, source: str = "") -> Algorithm:
  for name in AGENTS:
    if factory is getattr(sys.modules.get(f"{__package__}.{name}"), "make", ...):
      return _by_name(name)
  return algorithms.of_factory(factory, source=source)


def _by_name(name: str) -> Algorithm:
  if name in _REGISTERED:
    return _REGISTERED[name]
  if name not in AGENTS:
    return _of_factory(imported(name, "algorithm"), source=name)
  module: Any = imported(f"{__package__}.{name}", "algorithm")
  return Algorithm(name, module.make, module.Config(), module.design, AGENTS[name])


def config_from(algorithm: Algorithm, values: Mapping[str, Any]) -> Any:
  """An algorithm's Config from plain values, as they come from JSON or TOML; lists become tuples, `1e5` a count.

  Raises:
    ValueError: a name that the Config lacks.
  """
  known = {field.name: field.type in (int, "int") for field in dataclasses.fields(algorithm.config)}
  for name in values:
    if name not in known:
      raise ValueError(f"{algorithm.name} has no setting {name!r}{nearest(name, known)}")
  given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
  return dataclasses.replace(
    algorithm.config, **{name: plain(value, whole=known[name]) for name, value in given.items()}
  )


def is_object(algorithm: Algorithm) -> bool:
  """Whether no name brings the algorithm back in another process: none is known, and nothing can be imported."""
  return algorithm.name not in names() and not algorithm.source


def of_record(name: str, source: str, *, is_object: bool, given: Any = None) -> Algorithm:
  """The algorithm that files speak of.

  Args:
    name, source: as the `Algorithm` had them.
    is_object: what `is_object` said of it.
    given: what `load` takes, the algorithm once more; None: what name and source say.

  Raises:
    ValueError: nothing is given where name and source bring nothing back; another name is given than that of an
      algorithm which comes with varl.
  """
  if given is not None:
    found = load(given)
    if name in AGENTS and not is_object and found.name in AGENTS and found.name != name:
      raise ValueError(f"this is of the algorithm {name!r}, not of {found.name!r}")
    return found
  if is_object:
    raise ValueError(f"the algorithm, {name!r}, was passed as an object, which no file holds: pass it as algorithm=...")
  if name in names() or ":" in name:
    return load(name)
  if source:
    return load(source)
  raise ValueError(
    f"unknown algorithm {name!r}{nearest(name, names())}: register it in this process (varl.agents.register), or pass "
    "it as algorithm=..."
  )
