"""Settings from a file: TOML, or the `config.json` of a run."""

import dataclasses
import json
import pathlib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

TOP = ("algorithm", "env", "seed", "backend")
TABLES = ("config", "settings")
ABOUT = ("schema", "source", "objects", "spec", "reward", "versions", "device", "devices")


def read(path: str) -> dict[str, Any]:
  """The settings that a file names: algorithm, env, seed and backend, and fields of the Config and of Settings.

  Fields are at the top, or in the tables `[config]` and `[settings]`; a run's `config.json` has them in both, and what
  it says of machine and versions is passed over.

  Raises:
    ValueError: it cannot be read, is neither TOML nor JSON, or names a field twice.
  """
  file = pathlib.Path(path)
  try:
    text = file.read_text()
    body = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
  except ValueError as error:
    raise ValueError(f"{path} is no {'JSON' if file.suffix == '.json' else 'TOML'}: {error}") from None
  if not isinstance(body, dict):
    raise ValueError(f"{path} holds no settings")
  found: dict[str, Any] = {}
  recorded = "schema" in body  # a run's own record
  if recorded and body.get("objects"):
    raise ValueError(f"{path} is of a run that was given objects, which no file holds: {', '.join(body['objects'])}")
  for name, value in body.items():
    if name in TABLES and isinstance(value, dict):
      fields = {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
    elif name in TOP or not recorded:
      fields = {name: tuple(value) if isinstance(value, list) else value}
    else:
      continue
    twice = sorted(found.keys() & fields.keys())
    if twice:
      raise ValueError(f"{path} names {', '.join(twice)} twice")
    found |= {key: each for key, each in fields.items() if each is not None or name in TABLES}
  return found


def same(out: str, wanted: Any) -> None:
  """Whether the run in `out` is the one that is wanted, but for its number of steps.

  Raises:
    ValueError: it is another one, or none.
  """
  from varl.run import configure

  _compare(f"the run in {out}", pathlib.Path(out), configure.read(out), wanted)


def same_members(out: pathlib.Path, wanted: Mapping[str, Any]) -> None:
  """Whether the population in `out` is the one that is wanted, but for its number of steps.

  Raises:
    ValueError: it is another one, or none.
  """
  from varl.run import members

  found, _ = members.read(out)
  if list(found) != list(wanted):
    raise ValueError(
      f"the population in {out} is another one: it has the members {_shown(found)}, and {_shown(wanted)} are wanted"
    )
  for name, run in found.items():
    _compare(f"{name} of the population in {out}", out / members.FOLDER / name, run, wanted[name])


def _shown(names: Iterable[str]) -> str:
  first = list(names)
  return ", ".join(first[:4]) + (f" and {len(first) - 4} more" if len(first) > 4 else "")


def _compare(what: str, out: pathlib.Path, found: Any, wanted: Any) -> None:
  from varl.run import attachments

  differing = [
    name for name in ("algorithm", "env", "backend", "seed") if getattr(found, name) != getattr(wanted, name)
  ]
  for one, two in ((found.config, wanted.config), (found.settings, wanted.settings)):
    for field in dataclasses.fields(two):
      if field.name in ("num_timesteps", "demonstrations"):  # the latter by what they hold
        continue
      values = [getattr(one, field.name, None), getattr(two, field.name)]
      values = [tuple(value) if isinstance(value, list) else value for value in values]
      if field.name == "episode_length" and not values[1]:  # left to the environment, and written down by the run
        continue
      if values[0] != values[1]:
        differing.append(f"{field.name}={values[0]!r} there, {values[1]!r} here")
  differing += [f"its {name}" for name in attachments.differing(out, wanted.config, wanted.reward or None)]
  if differing:
    raise ValueError(f"{what} is another one: {'; '.join(differing)}")
