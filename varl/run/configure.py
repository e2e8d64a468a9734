"""From an algorithm, an environment and overrides to a complete configuration, and back from disk."""

import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

from varl import agents, checks, envs, files, presets
from varl.agents import Algorithm
from varl.checks import nearest, plain
from varl.envs import catalog
from varl.loop.settings import Settings, check_given
from varl.report import records

SCHEMA = 1
FILE = records.CONFIG
KEYWORDS = (
  "algorithm", "env", "seed", "backend", "out", "overwrite", "callback", "preset", "report", "compile_cache", "reward",
  "seeds", "grid", "ranges", "draws", "search_seed", "chunk",
  "log", "save_best", "stop_at", "stop_after", "profile",
)  # fmt: skip
"""The arguments of `varl.train` and `varl.population` beside fields of the Config and of Settings."""


class RunConfig(NamedTuple):
  """Everything that decides a run.

  Attributes:
    algorithm: the name of the algorithm (`varl.agents.Algorithm`).
    env: an environment's name, or the type of one that was passed as an object.
    backend: the physics backend; None for the environment's default.
    seed: of the run's key.
    config: the algorithm's hyper-parameters.
    settings: the loop's.
    source: what makes the algorithm's agent, as "package.module:factory", where importing that gives it; else "".
    objects: which of "algorithm" and "env" were passed as objects that no name brings back.
    spec: the environment's sizes (`varl.Spec`), where it has been made.
    reward: the directory of the run, or of its policy, whose learned reward is paid; "" where it was passed as an
      object; None: the environment's reward, or the algorithm's own.
  """

  algorithm: str
  env: str
  backend: str | None
  seed: int
  config: Any
  settings: Settings
  source: str = ""
  objects: tuple[str, ...] = ()
  spec: dict[str, Any] | None = None
  reward: str | None = None


def resolve(
  algorithm: Any,
  env: Any,
  *,
  backend: str | None = None,
  seed: int = 0,
  preset: bool = True,
  reward: Any = None,
  **overrides: Any,
) -> RunConfig:
  """Preset values for this environment, then overrides, then defaults.

  Args:
    algorithm: what `varl.agents.load` takes.
    env: an environment's name, or the environment.
    backend: its backend.
    seed: a whole number >= 0.
    preset: whether to start from the tuned preset (`varl presets`), where the algorithm has any, and not from the bare
      defaults.
    reward: the directory of a run that learned one, or a `varl.types.Reward`.
    **overrides: fields of the algorithm's Config or of Settings.

  Raises:
    ValueError: an unknown algorithm or field (the nearest names are offered), a Config that has a field of the loop's,
      or a value out of range.
  """
  found = agents.load(algorithm)
  seed = checks.seed(seed)
  hyper = {field.name for field in dataclasses.fields(found.config)}
  loop = {field.name for field in dataclasses.fields(Settings)}
  _check_fields(found, hyper, loop)
  name = env if isinstance(env, str) else type(env).__name__
  tuned = presets.preset(found.name, catalog.short_name(name)) if preset and found.name in presets.algorithms() else {}
  overrides = {name: plain(value) for name, value in overrides.items()}
  values = {**tuned, **overrides}
  for setting in values:
    if setting not in hyper | loop:
      raise ValueError(f"neither {found.name} nor the loop has a setting {setting!r}{nearest(setting, hyper | loop)}")
  config = agents.config_from(found, {k: v for k, v in values.items() if k in hyper})
  settings = Settings(**{k: v for k, v in values.items() if k in loop})
  check_given([k for k in overrides if k in loop and overrides[k] != getattr(settings, k)], settings)
  path = None if reward is None else os.fspath(reward) if isinstance(reward, str | os.PathLike) else ""
  is_object = {"algorithm": agents.is_object(found), "env": name is not env, "reward": path == ""}
  objects = tuple(part for part, holds in is_object.items() if holds)
  return RunConfig(found.name, name, backend, seed, config, settings, found.source, objects, reward=path)


def algorithm_of(run: RunConfig, given: Any = None) -> Algorithm:
  """The algorithm of a run that was read from disk.

  Args:
    run: what was read of it.
    given: what `varl.agents.load` takes, the algorithm once more; None: what the run's own names say.

  Raises:
    ValueError: nothing is given where a name is not known in this process, or says nothing; or another name.
  """
  return agents.of_record(run.algorithm, run.source, is_object="algorithm" in run.objects, given=given)


def environment_of(run: RunConfig, given: Any = None) -> Any:
  """The environment of a run that was read from disk, made and checked; Args as `algorithm_of`.

  Raises:
    ValueError: the run's was passed as an object and none is given, or this is another one.
  """
  if given is None and "env" in run.objects:
    raise ValueError(f"the environment, {run.env!r}, was passed as an object, which no file holds: pass it as env=...")
  made = envs.make(run.env, run.backend) if given is None else envs.make(given)
  found = envs.spec(made)._asdict()
  if run.spec is not None and run.spec != found:
    raise ValueError(f"the run's environment is {run.spec}, but this one is {found}")
  return made


def reward_of(run: RunConfig, spec: Any, given: Any = None) -> Any:
  """The reward that a run is paid by, if not the environment's or the algorithm's own; Args as `algorithm_of`.

  Raises:
    ValueError: what is given is none; none can be read, it is of another environment, or the run's was passed as an
      object and none is given.
  """
  if given is not None and not isinstance(given, str | os.PathLike):
    from varl.types import Reward

    checks.instance(given, Reward, "a varl.Reward, or the directory of a run that learned one,")
    return given
  if run.reward is None:
    return None
  if "reward" in run.objects:
    raise ValueError("the reward was passed as an object, which no file holds: pass it as reward=...")
  from varl.run import export

  return export.load_reward(run.reward, spec)


def _check_fields(algorithm: Algorithm, hyper: set[str], loop: set[str]) -> None:
  """Raises ValueError where a keyword of `varl.train` would mean two things."""
  taken = sorted(hyper & (loop | set(KEYWORDS)))
  if taken:
    raise ValueError(
      f"the Config of {algorithm.name} has fields that are settings of the loop or arguments of varl.train: "
      f"{', '.join(taken)}; give them other names"
    )


def check_goes_on(run: RunConfig, done: int, path: pathlib.Path) -> None:
  """Raises ValueError where the settings end before the environment steps that were done."""
  if run.settings.iterations * run.settings.steps_per_iteration < done:
    raise ValueError(
      f"num_timesteps={run.settings.num_timesteps:,} is less than the {done:,} environment steps that the run in "
      f"{path} has done"
    )


def write(out: str | os.PathLike[str], run: RunConfig, machine: dict[str, Any]) -> None:
  """Writes `config.json`: the configuration, fully resolved, and the versions and devices it runs with."""
  from varl.run import attachments

  config, reward = attachments.keep(pathlib.Path(out), run.config, run.reward or None)
  body = {
    "schema": SCHEMA,
    **run._asdict(),
    "config": config,
    "settings": dataclasses.asdict(run.settings),
    "reward": reward if run.reward else run.reward,
    **machine,
  }
  files.write_atomically(pathlib.Path(out) / FILE, (json.dumps(body, indent=2) + "\n").encode())


def read(out: str | os.PathLike[str], algorithm: Any = None) -> RunConfig:
  """Reads `config.json` of a run's directory.

  Args:
    out: the directory.
    algorithm: as `algorithm_of` takes it, for a run whose algorithm no name brings back.

  Raises:
    ValueError: the directory is no run, or its configuration is damaged, of another or a newer schema; or as
      `algorithm_of`.
  """
  path = files.as_path(out) / FILE
  try:
    body = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise ValueError(records.no_run(out)) from None
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"{path} is damaged: {error}") from None
  if not isinstance(body, dict) or body.get("schema") != SCHEMA:
    found = body.get("schema") if isinstance(body, dict) else None
    raise ValueError(f"{path} has schema {found!r}, and this varl reads {SCHEMA}")
  try:
    from varl.run import attachments

    given, reward = attachments.found(path.parent, body["config"], body.get("reward") or None)
    run = RunConfig(
      body["algorithm"],
      body["env"],
      body["backend"],
      body["seed"],
      None,
      Settings(**body["settings"]),
      body.get("source", ""),
      tuple(body.get("objects", ())),
      body.get("spec"),
      reward or body.get("reward"),
    )
    return run._replace(config=agents.config_from(algorithm_of(run, algorithm), given))
  except (KeyError, TypeError) as error:
    raise ValueError(f"{path} is damaged: {error}") from None
