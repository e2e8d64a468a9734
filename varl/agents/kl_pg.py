"""Policy gradient against the previous policy: the stable iterative algorithm, its KL a penalty that adapts.

prior the previous policy × posterior direct, by the ratio and a penalty on KL(π ‖ π_{j-1}) × value on-policy, λ-returns
× temperature by a KL budget. (Schulman et al. 2017, 1707.06347, section 4, has the same objective with the KL the other
way round and a coefficient that doubles and halves.)
"""

import dataclasses

from varl import components, priors
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.GradientConfig):
  """Hyper-parameters of the KL-penalised policy gradient, beside those of the config that it extends.

  Attributes:
    epsilon: ε, the budget: nats between the policy and the one that made the rollout, a state.
    initial_temperature: α at the start, the penalty's weight in units of the surrogate.
    dual_learning_rate: Adam's step for the raw α, constant.
    samples: actions a state by which the KL of continuous policies is estimated.
  """

  epsilon: float = 0.01
  initial_temperature: float = 1.0
  dual_learning_rate: float = 1e-2
  samples: int = 4


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that the KL-penalised policy gradient is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "epsilon", "initial_temperature", "dual_learning_rate")
  positive(config, "samples", whole=True)
  return components.policy_gradient(
    spec,
    config,
    components.kl_temperature(config),
    surrogate="ratio",
    divergence=True,
    samples=config.samples,
    prior=priors.previous_policy,
    axis=axis,
  )


make = components.maker(Config, design, components.policy_head)
