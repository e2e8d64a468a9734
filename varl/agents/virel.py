"""VIREL with a constant temperature (Fellows et al. 2019, 1811.01132): entropy in the policy's loss, none in the value.

prior uniform × posterior direct (discrete: enumerated) × value unregularised × temperature fixed at ε = 1.
"""

import dataclasses

from varl import components, temperatures
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.PolicyConfig):
  """Hyper-parameters of VIREL at ε = 1, beside those of the configs that it extends.

  Attributes:
    reward_scale: multiplies the reward; with ε = 1 its inverse is the temperature, in reward per nat.
    critics: members of the critic ensemble; the published code has one, two are recommended since.
    moment_penalty: weight of `losses.moment_penalty` in the policy's loss, for continuous actions; the published code's
      is 1e-3.
  """

  tau: float = 0.001
  hidden: tuple[int, ...] = (300, 300)
  separate_value: bool = True
  moment_penalty: float = 1e-3


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that VIREL at ε = 1 is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  return Design(*components.actor_critic(spec, config, regularised=False), temperatures.fixed(1.0), axis)


make = components.maker(Config, design, components.policy_head)
