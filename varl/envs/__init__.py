"""Environments: anything with Brax's interface, by name or as an object, in batches that reset themselves.

Importing this imports neither Brax nor JAX; what needs them is loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from varl.envs import catalog
from varl.envs.registry import make, names, register

if TYPE_CHECKING:
  from varl.envs import toys
  from varl.envs.base import Environment, State, Wrapper
  from varl.envs.door import Report, check
  from varl.envs.frozen import ChosenSkills, Latent
  from varl.envs.joint import MultiDiscrete
  from varl.envs.partial import Asymmetric, Partial
  from varl.envs.randomized import Randomized
  from varl.envs.tabular import Tabular
  from varl.envs.tasks import Tasks, with_skill
  from varl.envs.trace import spec
  from varl.envs.vector import TimeStep, VectorEnv, VectorState, observe, vectorize

__all__ = [
  "Asymmetric",
  "ChosenSkills",
  "Environment",
  "Latent",
  "MultiDiscrete",
  "Partial",
  "Randomized",
  "Report",
  "State",
  "Tabular",
  "Tasks",
  "TimeStep",
  "VectorEnv",
  "VectorState",
  "Wrapper",
  "catalog",
  "check",
  "make",
  "names",
  "observe",
  "register",
  "spec",
  "toys",
  "vectorize",
  "with_skill",
]

_LAZY = {
  "varl.envs.base": ("Environment", "State", "Wrapper"),
  "varl.envs.door": ("Report", "check"),
  "varl.envs.frozen": ("ChosenSkills", "Latent"),
  "varl.envs.joint": ("MultiDiscrete",),
  "varl.envs.partial": ("Asymmetric", "Partial"),
  "varl.envs.randomized": ("Randomized",),
  "varl.envs.tabular": ("Tabular",),
  "varl.envs.tasks": ("Tasks", "with_skill"),
  "varl.envs.trace": ("spec",),
  "varl.envs.vector": ("TimeStep", "VectorEnv", "VectorState", "observe", "vectorize"),
}


if not TYPE_CHECKING:  # a type checker finds the names above, and no others

  def __getattr__(name: str) -> Any:
    if name == "toys":
      return importlib.import_module("varl.envs.toys")
    for module, members in _LAZY.items():
      if name in members:
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
