"""Proximal policy optimisation (Schulman et al. 2017, 1707.06347), for comparison.

prior uniform × posterior direct, by the clipped ratio × value on-policy, λ-returns × temperature fixed: the weight of
an entropy bonus.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.MemoryConfig, components.GradientConfig):
  """Hyper-parameters of PPO, beside those of the config that it extends.

  Attributes:
    clip: c, how far from 1 the policy ratio is worth moving.
    temperature: α, the weight of the entropy bonus, in units of the surrogate (of standardised advantages).
  """

  clip: float = 0.2
  temperature: float = 1e-2


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that PPO is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "clip")
  positive(config, "temperature", zero=True)
  bonus = temperatures.fixed(config.temperature)
  return components.policy_gradient(spec, config, bonus, surrogate="clip", clip=config.clip, divergence=True, axis=axis)


make = components.maker(Config, design, components.policy_head)
