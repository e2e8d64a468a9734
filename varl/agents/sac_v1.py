"""Soft actor-critic with a state value and a fixed temperature (Haarnoja et al. 2018, 1801.01290).

prior uniform × posterior direct (discrete: enumerated) × value regularised, V beside Q × temperature fixed.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.PolicyConfig):
  """Hyper-parameters of soft actor-critic, version 1, beside those of the configs that it extends.

  Attributes:
    reward_scale: multiplies the reward; at the temperature 1 its inverse is what a nat costs. The paper's is 5, of
      Humanoid 20.
    critics: members of the critic ensemble; the paper's 2.
    separate_value: whether V is learned beside Q and has the slow copy, as published; without it this is `sac` with a
      fixed temperature.
    moment_penalty: weight of `losses.moment_penalty` in the policy's loss, for continuous actions; the published code's
      is 1e-3.
    temperature: α, in scaled reward per nat.
  """

  reward_scale: float = 5.0
  separate_value: bool = True
  temperature: float = 1.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that soft actor-critic, version 1, is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "temperature")
  return Design(*components.actor_critic(spec, config, regularised=True), temperatures.fixed(config.temperature), axis)


make = components.maker(Config, design, components.policy_head)
