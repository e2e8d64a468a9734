"""Named algorithms: each file is one algorithm's `Config` and the `Design` that it is."""

import dataclasses
import importlib
from typing import Any

from varl.settings import nearest

AGENTS = {
  "sac": "soft actor-critic with an adapted temperature (1812.05905)",
  "sac_discrete": "soft actor-critic for discrete actions, expectations exact (1910.07207)",
}
"""Names and what they are. This module imports nothing heavy, so that listing them is quick."""


def check_name(name: str) -> str:
  """Returns the name, if it is an algorithm's.

  Raises:
    ValueError: otherwise, offering the nearest names.
  """
  if name not in AGENTS:
    raise ValueError(f"unknown algorithm {name!r}{nearest(name, AGENTS)}; allowed: {', '.join(AGENTS)}")
  return name


def load(name: str) -> Any:
  """The module of an algorithm: `Config`, `make(spec, config, *, axis)`, `design(spec, config, *, axis)`.

  Raises:
    ValueError: an unknown name.
  """
  return importlib.import_module(f"varl.agents.{check_name(name)}")


def config_from(module: Any, values: dict[str, Any]) -> Any:
  """An algorithm's Config from plain values, as they come from JSON or TOML; lists become tuples.

  Raises:
    ValueError: a name that the Config lacks.
  """
  known = {field.name for field in dataclasses.fields(module.Config)}
  for name in values:
    if name not in known:
      raise ValueError(f"{module.__name__.rpartition('.')[2]} has no setting {name!r}{nearest(name, known)}")
  return module.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
