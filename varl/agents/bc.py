"""Behaviour cloning: the policy under which an expert's demonstrations are most likely (Pomerleau 1991).

prior uniform × posterior direct or enumerated, by likelihood × value none × temperature fixed: nothing is paid.
"""

import dataclasses

from varl import components, posteriors, priors, temperatures, values
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.DemonstrationConfig, components.HeadConfig, components.Config):
  """Hyper-parameters of behaviour cloning, beside those of the configs that it extends.

  `gamma`, `reward_scale` and `layer_norm` have no effect: nothing is valued.

  Attributes:
    entropy_bonus: weight of the policy's entropy, in nats per nat of likelihood.
    weight_decay: AdamW's, of the policy's network.
  """

  entropy_bonus: float = 1e-3
  weight_decay: float = 0.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that behaviour cloning is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "entropy_bonus", "weight_decay", zero=True)
  head = components.policy_head(spec, config)
  _, policy = components.parametric(spec, config, head)
  optimizer = components.optimizer(config, weight_decay=config.weight_decay)
  posterior = posteriors.cloned(policy, optimizer, entropy=config.entropy_bonus)
  return Design(priors.uniform(head), posterior, values.none(), temperatures.fixed(0.0), axis)


make = components.offline_maker(Config, design, components.policy_head, "bc")
