"""Tuned settings by algorithm and environment, shipped as TOML or added. Importing this imports neither JAX nor Brax.

`ALGORITHM.toml` has a table `[default]` for every environment, and a table for each environment that differs from it.
Keys are fields of the algorithm's `Config` or of `varl.Settings`.
"""

import copy
import functools
import importlib.resources
import tomllib
from collections.abc import Mapping
from typing import Any

DEFAULT = "default"

_ADDED: dict[str, dict[str, dict[str, Any]]] = {}


def algorithms() -> tuple[str, ...]:
  """The algorithms that have presets, in alphabetical order."""
  names = (entry.name for entry in importlib.resources.files(__name__).iterdir())
  return tuple(sorted({name.removesuffix(".toml") for name in names if name.endswith(".toml")} | _ADDED.keys()))


def add(algorithm: str, tables: Mapping[str, Mapping[str, Any]]) -> None:
  """Presets of an algorithm for this process, in place of those that it has.

  Args:
    algorithm: any name.
    tables: settings by environment, "default" for all; there may be none.

  Raises:
    ValueError: they are no table of tables.
  """
  if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
    raise ValueError(
      f"presets are tables of settings by environment, such as {{'default': {{'num_envs': 8}}}}; got {tables!r}"
    )
  _ADDED[algorithm] = {DEFAULT: {}, **{env: dict(table) for env, table in tables.items()}}


@functools.cache
def _text(algorithm: str) -> str:
  if algorithm not in algorithms():
    raise ValueError(f"no presets for algorithm {algorithm!r}; there are presets for {', '.join(algorithms())}")
  return (importlib.resources.files(__name__) / f"{algorithm}.toml").read_text(encoding="utf-8")


def load(algorithm: str) -> dict[str, dict[str, Any]]:
  """Everything that an algorithm's file says.

  Args:
    algorithm: one of `algorithms()`.

  Returns:
    Settings by environment, in the file's order: "default" first, then what each environment changes of it.

  Raises:
    ValueError: there are no presets for this algorithm.
  """
  return copy.deepcopy(_ADDED[algorithm]) if algorithm in _ADDED else tomllib.loads(_text(algorithm))


def preset(algorithm: str, env: str) -> dict[str, Any]:
  """The settings for one environment: the defaults, overridden by its own.

  Args:
    algorithm: one of `algorithms()`.
    env: any environment's name; one that the file does not know gets the defaults.

  Raises:
    ValueError: there are no presets for this algorithm.
  """
  tables = load(algorithm)
  return {**tables[DEFAULT], **tables.get(env, {})}
