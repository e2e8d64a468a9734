"""Environments of MuJoCo Playground; needs the extra `varl[playground]`."""

import importlib
from collections.abc import Mapping
from typing import Any

from varl.checks import nearest
from varl.envs.partial import Asymmetric
from varl.envs.randomized import Randomized

IMPLEMENTATIONS = ("jax", "warp")


def make(name: str, backend: str | None = None, *, variations: int = 0, **kwargs: Any) -> Any:
  """Playground's environment of that name, such as "CartpoleBalance"; its `episode_length` is `time_limit`.

  Where its observations are dicts, the policy sees their "state", and values the "privileged_state" beside it.

  Physics run by MuJoCo's JAX implementation, on any device. Its Warp implementation, Playground's own default, shares
  leaves of a state between all worlds, which resets of single ones cannot be made of.

  Args:
    name: as Playground has it; those of the DM Control suite need nothing from elsewhere.
    backend: "jax", or "warp"; None: "jax".
    variations: of its physics, as Playground randomises them (`envs.Randomized`); 0: none.
    **kwargs: values of the environment's configuration that differ from its default ones.

  Raises:
    ValueError: Playground is not installed, has no such environment or no randomisation of it, or it cannot be made.
  """
  try:
    registry = importlib.import_module("mujoco_playground").registry
  except ImportError as error:
    raise ValueError(
      f'environment "playground:{name}" needs MuJoCo Playground (pip install "varl[playground]"): {error}'
    ) from error
  if backend is not None and backend not in IMPLEMENTATIONS:
    raise ValueError(f"Playground's physics run by {' or '.join(IMPLEMENTATIONS)}; got backend {backend!r}")
  suite = tuple(registry.dm_control_suite.ALL_ENVS)
  if name not in registry.ALL_ENVS:
    near = nearest(name, registry.ALL_ENVS)
    raise ValueError(f"Playground has no environment {name!r}{near}; its DM Control suite is {', '.join(suite)}")
  try:
    config = registry.get_default_config(name)
    unknown = sorted(set(kwargs) - set(config))
    if unknown:
      raise ValueError(f"{name} has no configuration {', '.join(unknown)}; it has {', '.join(sorted(config))}")
    made = registry.load(name, config_overrides={**kwargs, "impl": backend or "jax"})
  except (RuntimeError, OSError, KeyError, TypeError) as error:
    raise ValueError(f"Playground's {name!r} cannot be made: {' '.join(str(error).split())[:300]}") from error
  if variations:
    randomize = registry.get_domain_randomizer(name)
    if randomize is None:
      raise ValueError(
        f"Playground has no randomisation of {name}: variations=0, or envs.Randomized with one of your own"
      )
    made = Randomized(made, randomize, variations)
  made.time_limit = int(kwargs.get("episode_length", config.episode_length))
  entries = made.observation_size
  if isinstance(entries, Mapping):
    return Asymmetric(made, values="privileged_state" if "privileged_state" in entries else None)
  return made
