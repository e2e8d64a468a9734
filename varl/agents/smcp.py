"""Sequential Monte Carlo planning beside soft actor-critic (Piché et al. 2019).

prior uniform × posterior particles over a learned model's futures, proposed by a policy network × value regularised ×
temperature by an entropy target.
"""

import dataclasses

from varl import components
from varl.types import Design, Model, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.PlanConfig, components.ModelConfig, components.SoftConfig):
  """Hyper-parameters of sequential Monte Carlo planning: those of the configs that it extends."""


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None, model: Model | None = None) -> Design:
  """The design that sequential Monte Carlo planning is.

  Args:
    spec: the environment's sizes.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.
    model: in place of the learned ensemble.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  prior, policy, value, temperature = components.soft(spec, config)
  model = components.model(spec, config, model)
  return Design(prior, components.planning(spec, config, policy), value, temperature, axis, model=model)


make = components.maker(Config, design, components.policy_head)
