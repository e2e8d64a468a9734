"""REINFORCE: the policy gradient as stochastic expectation maximisation (Williams 1992; Levine 2018, 1805.00909).

prior uniform × posterior direct, by the score function × value on-policy, the reward to come less a baseline ×
temperature fixed: the weight of the entropy's gradient.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.GradientConfig):
  """Hyper-parameters of REINFORCE, beside those of the config that it extends.

  Attributes:
    lam: λ of the returns; at 1 they are the rewards to come, bootstrapped only where a time limit cuts them.
    temperature: α, the weight of the entropy's gradient at the states met, in units of the surrogate; 0 leaves it out.
  """

  lam: float = 1.0
  temperature: float = 1e-2


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that REINFORCE is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "temperature", zero=True)
  bonus = temperatures.fixed(config.temperature)
  return components.policy_gradient(spec, config, bonus, surrogate="score", divergence=True, axis=axis)


make = components.maker(Config, design, components.policy_head)
