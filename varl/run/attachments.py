"""What a run takes beside numbers and names, kept in its directory: demonstrations, and a reward that was learned.

A run's `config.json` names these by their place in the directory, so that a run can be moved, and goes on where the
original is gone.
"""

import dataclasses
import pathlib
import shutil
from typing import Any

from varl import demonstrations, files
from varl.run import export

DEMONSTRATIONS, REWARD = "demonstrations.npz", "reward"


def keep(out: pathlib.Path, config: Any, reward: str | None) -> tuple[dict[str, Any], str | None]:
  """Copies what a run takes into its directory; returns the Config as plain values, and the reward's place.

  Args:
    out: the directory.
    config: the algorithm's Config; its demonstrations are a file's path, an object, or None.
    reward: the directory of the run, or of the policy, that learned it.

  Raises:
    OSError: it could not be copied.
  """
  given: Any = getattr(config, "demonstrations", None)
  place = out / DEMONSTRATIONS
  if given is not None:
    config = dataclasses.replace(config, demonstrations=DEMONSTRATIONS)
    if isinstance(given, demonstrations.Demonstrations):
      demonstrations.save(place, given)
    elif not place.exists() or not place.samefile(given):
      files.write_atomically(place, pathlib.Path(given).read_bytes())
  if reward is not None:
    source = export.policy_directory(reward)
    target = out / REWARD
    if not target.exists() or not target.samefile(source):
      shutil.copytree(source, target, dirs_exist_ok=True)
    reward = REWARD
  return dataclasses.asdict(config), reward


def found(out: pathlib.Path, config: dict[str, Any], reward: str | None) -> tuple[dict[str, Any], str | None]:
  """What `keep` left, as paths."""
  if dict(config).get("demonstrations") is not None:
    config = {**config, "demonstrations": str(out / config["demonstrations"])}
  return config, None if reward is None else str(out / reward)


def differing(out: pathlib.Path, config: Any, reward: str | None) -> list[str]:
  """Which of a Config's demonstrations (a file's path, or None) and a reward hold something else than what `keep` left.

  Where the file is gone there is nothing to compare.
  """
  given: Any = getattr(config, "demonstrations", None)
  place, target = out / DEMONSTRATIONS, out / REWARD
  alike = {"demonstrations": (given is not None) == place.exists(), "reward": (reward is not None) == target.exists()}
  if given is not None and place.exists():
    original = pathlib.Path(given)
    alike["demonstrations"] = not original.exists() or original.read_bytes() == place.read_bytes()
  if reward is not None and target.exists():
    alike["reward"] = _contents(export.policy_directory(reward)) == _contents(target)
  return [name for name, same in alike.items() if not same]


def _contents(directory: pathlib.Path) -> dict[str, bytes]:
  files_ = (path for path in directory.rglob("*") if path.is_file())
  return {str(path.relative_to(directory)): path.read_bytes() for path in files_}
