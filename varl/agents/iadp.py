"""Information-asymmetric default policies: divergence from a prior that sees a part (Galashov et al. 2019, 1905.01240).

prior distilled, kept from a part of the observation × posterior direct or enumerated × value regularised × temperature
fixed, or by a budget of divergence.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.DistilledConfig):
  """Hyper-parameters of information-asymmetric default policies, beside those of the config that it extends.

  Attributes:
    temperature: α, what a nat of divergence from the default policy costs, in (scaled) reward; at the start, where
      there is a budget.
    epsilon: ε, the mean divergence in nats that α is adapted to; 0: α stays.
    dual_learning_rate: Adam's step for α.
  """

  temperature: float = 0.1
  epsilon: float = 0.0
  dual_learning_rate: float = 1e-3


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
  positive(config, "temperature", "dual_learning_rate")
  positive(config, "epsilon", zero=True)
  positive(config, "samples", whole=True)
  policy = components.policy_head(spec, config)
  _, posterior = components.parametric(spec, config, policy, samples=config.samples)
  if isinstance(config.epsilon, int | float) and config.epsilon == 0:
    temperature = temperatures.fixed(config.temperature)
  else:
    price = components.optimizer(config, config.dual_learning_rate)
    temperature = temperatures.kl_budget(components.multiplier(config.temperature), price, config.epsilon)
  prior = components.distilled(spec, config, policy)
  return Design(prior, posterior, components.q_value(spec, config, policy), temperature, axis)


make = components.maker(Config, design, components.policy_head)
