"""Information-asymmetric default policies: divergence from a prior that sees a part (Galashov et al. 2019, 1905.01240).

prior distilled, kept from a part of the observation × posterior direct or enumerated × value regularised × temperature
fixed, or by a budget of divergence.
"""

import dataclasses

from varl import components
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.DivergenceConfig):
  """Hyper-parameters of information-asymmetric default policies: those of the config that it extends."""


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that information-asymmetric default policies are.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a default policy that would see all or nothing.
  """
  components.check(config)
  positive(config, "samples", whole=True)
  policy = components.policy_head(spec, config)
  _, posterior = components.parametric(spec, config, policy, samples=config.samples)
  prior = components.distilled(spec, config, policy)
  return Design(prior, posterior, components.q_value(spec, config, policy), components.divergence_price(config), axis)


make = components.maker(Config, design, components.policy_head)
