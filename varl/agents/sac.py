"""Soft actor-critic with an adapted temperature (Haarnoja et al. 2018, 1812.05905).

prior uniform × posterior direct × value regularised × temperature by an entropy target.
"""

import dataclasses

from varl import components, policies
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.MemoryConfig, components.TemperatureConfig, components.PolicyConfig):
  """Hyper-parameters of soft actor-critic, beside those of the configs that it extends.

  Attributes:
    entropy_per_dimension: the entropy target is minus this times d, where entropy_target is None; 1 is the paper's, ½
      Brax's.
  """

  entropy_per_dimension: float = 1.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that soft actor-critic is.

  Args:
    spec: the environment's sizes; continuous actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a policy that does not fit the action space.
  """
  _head(spec, config)
  positive(config, "entropy_per_dimension")
  return Design(
    *components.actor_critic(spec, config, regularised=True),
    components.temperature(spec, config, -config.entropy_per_dimension * spec.action_size),
    axis,
  )


def _head(spec: Spec, config: Config) -> policies.Head:
  if spec.discrete:
    raise ValueError("sac needs continuous actions, but the environment's are discrete; use sac_discrete")
  return components.policy_head(spec, config)


make = components.maker(Config, design, _head)
