"""From an algorithm's name, an environment's name and overrides to a complete configuration, and back from disk."""

import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

from varl import agents, presets
from varl.checks import nearest
from varl.envs import catalog
from varl.loop.settings import Settings, check_given

SCHEMA = 1
FILE = "config.json"


class RunConfig(NamedTuple):
  """Everything that decides a run.

  Attributes:
    algorithm: a name of `varl.agents.AGENTS`.
    env: an environment's name, or the type of one that was passed as an object.
    backend: the physics backend; None for the environment's default.
    seed: of the run's key.
    config: the algorithm's hyper-parameters.
    settings: the loop's.
  """

  algorithm: str
  env: str
  backend: str | None
  seed: int
  config: Any
  settings: Settings


def resolve(
  algorithm: str, env: str, *, backend: str | None = None, seed: int = 0, preset: bool = True, **overrides: Any
) -> RunConfig:
  """Preset values for this environment, then overrides, then defaults.

  Args:
    algorithm: a name of `varl.agents.AGENTS`.
    env: an environment's name.
    backend: its backend.
    seed: a whole number >= 0.
    preset: whether to start from the tuned preset (`varl presets`) and not from the bare defaults.
    **overrides: fields of the algorithm's Config or of Settings.

  Raises:
    ValueError: an unknown algorithm or field (the nearest names are offered), or a value out of range.
  """
  module = agents.load(algorithm)
  if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
    raise ValueError(f"seed is a whole number in [0, 2^32), got {seed!r}")
  hyper = {field.name for field in dataclasses.fields(module.Config)}
  loop = {field.name for field in dataclasses.fields(Settings)}
  for name in overrides:
    if name not in hyper | loop:
      raise ValueError(f"neither {algorithm} nor the loop has a setting {name!r}{nearest(name, hyper | loop)}")
  values = {**(presets.preset(algorithm, catalog.short_name(env)) if preset else {}), **overrides}
  config = agents.config_from(module, {k: v for k, v in values.items() if k in hyper})
  settings = Settings(**{k: v for k, v in values.items() if k in loop})
  check_given([name for name in overrides if name in loop and overrides[name] != getattr(settings, name)], settings)
  return RunConfig(algorithm, env, backend, seed, config, settings)


def write(out: str | os.PathLike[str], run: RunConfig, machine: dict[str, Any]) -> None:
  """Writes `config.json`: the configuration, fully resolved, and the versions and devices it runs with."""
  from varl import files

  body = {
    "schema": SCHEMA,
    **run._asdict(),
    "config": dataclasses.asdict(run.config),
    "settings": dataclasses.asdict(run.settings),
    **machine,
  }
  files.write_atomically(pathlib.Path(out) / FILE, (json.dumps(body, indent=2) + "\n").encode())


def read(out: str | os.PathLike[str]) -> RunConfig:
  """Reads `config.json` of a run's directory.

  Raises:
    ValueError: the directory is no run, or its configuration is damaged, of another or a newer schema.
  """
  path = pathlib.Path(out) / FILE
  try:
    body = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise ValueError(f"{out} is no run: it has no {FILE}") from None
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"{path} is damaged: {error}") from None
  if not isinstance(body, dict) or body.get("schema") != SCHEMA:
    found = body.get("schema") if isinstance(body, dict) else None
    raise ValueError(f"{path} has schema {found!r}, and this varl reads {SCHEMA}")
  try:
    config = agents.config_from(agents.load(body["algorithm"]), body["config"])
    settings = Settings(**body["settings"])
    return RunConfig(body["algorithm"], body["env"], body["backend"], body["seed"], config, settings)
  except (KeyError, TypeError) as error:
    raise ValueError(f"{path} is damaged: {error}") from None
