"""varl: variational reinforcement learning in JAX.

Every algorithm is a point in prior × posterior × value × temperature, each axis a few pure functions and one train-step
transform over its own parameter groups. The names below load on first use, so that `import varl` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MEMBERS = {
  "varl.types": (
    "Agent",
    "AgentState",
    "Batch",
    "Design",
    "Model",
    "Outcome",
    "Particles",
    "Posterior",
    "Prior",
    "Reward",
    "Spec",
    "Temperature",
    "Term",
    "TrainStep",
    "Transition",
    "Value",
  ),
  "varl.step": ("assign", "chain", "copy", "descend", "every", "joint", "repeat", "share", "track"),
  "varl.design": ("agent", "scaled", "with_term"),
  "varl.loop.settings": ("Settings",),
  "varl.loop.trainer": ("Trainer", "TrainerState", "make_trainer"),
  "varl.loop.evaluate": ("evaluator",),
  "varl.run.epochs": ("StopTraining",),
  "varl.run.training": ("Run", "resume", "train"),
  "varl.run.population": ("Population", "population", "resume_population"),
  "varl.run.inspect": ("evaluate", "render", "rollout"),
  "varl.run.safeguards": ("Diverged",),
  "varl.run.artifact": ("export",),
  "varl.run.export": ("Policy", "load_policy", "load_reward", "save_policy"),
}
_MODULES = (
  "agents",
  "demonstrations",
  "duals",
  "envs",
  "exact",
  "loop",
  "losses",
  "models",
  "networks",
  "normalize",
  "policies",
  "posteriors",
  "presets",
  "priors",
  "report",
  "returns",
  "rewards",
  "run",
  "temperatures",
  "values",
)
_HOME = {name: module for module, names in _MEMBERS.items() for name in names}

__all__ = [
  "Agent",
  "AgentState",
  "Batch",
  "Design",
  "Diverged",
  "Model",
  "Outcome",
  "Particles",
  "Policy",
  "Population",
  "Posterior",
  "Prior",
  "Reward",
  "Run",
  "Settings",
  "Spec",
  "StopTraining",
  "Temperature",
  "Term",
  "TrainStep",
  "Trainer",
  "TrainerState",
  "Transition",
  "Value",
  "agent",
  "agents",
  "assign",
  "chain",
  "copy",
  "demonstrations",
  "descend",
  "duals",
  "envs",
  "evaluate",
  "evaluator",
  "every",
  "exact",
  "export",
  "joint",
  "load_policy",
  "load_reward",
  "loop",
  "losses",
  "make_trainer",
  "models",
  "networks",
  "normalize",
  "policies",
  "population",
  "posteriors",
  "presets",
  "priors",
  "render",
  "repeat",
  "report",
  "resume",
  "resume_population",
  "returns",
  "rewards",
  "rollout",
  "run",
  "save_policy",
  "scaled",
  "share",
  "temperatures",
  "track",
  "train",
  "values",
  "with_term",
]

if TYPE_CHECKING:
  from varl import (
    agents,
    demonstrations,
    duals,
    envs,
    exact,
    loop,
    losses,
    models,
    networks,
    normalize,
    policies,
    posteriors,
    presets,
    priors,
    report,
    returns,
    rewards,
    run,
    temperatures,
    values,
  )
  from varl.design import agent, scaled, with_term
  from varl.loop.evaluate import evaluator
  from varl.loop.settings import Settings
  from varl.loop.trainer import Trainer, TrainerState, make_trainer
  from varl.run.artifact import export
  from varl.run.epochs import StopTraining
  from varl.run.export import Policy, load_policy, load_reward, save_policy
  from varl.run.inspect import evaluate, render, rollout
  from varl.run.population import Population, population, resume_population
  from varl.run.safeguards import Diverged
  from varl.run.training import Run, resume, train
  from varl.step import assign, chain, copy, descend, every, joint, repeat, share, track
  from varl.types import (
    Agent,
    AgentState,
    Batch,
    Design,
    Model,
    Outcome,
    Particles,
    Posterior,
    Prior,
    Reward,
    Spec,
    Temperature,
    Term,
    TrainStep,
    Transition,
    Value,
  )


if not TYPE_CHECKING:  # a type checker finds the names above, and no others

  def __getattr__(name: str) -> Any:
    if name in _HOME:
      return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
      return importlib.import_module(f"varl.{name}")
    raise AttributeError(f"module 'varl' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted(__all__)
