"""Stochastic value gradients through a learned model (Heess et al. 2015, 1510.09142), of the maximum-entropy return.

prior uniform × posterior direct, its loss expanded over H steps of the model × value regularised × temperature by an
entropy target.
"""

import dataclasses

from varl import components, values
from varl.checks import positive
from varl.types import Design, Model, Spec

EXPANSIONS = {"none": None, "mve": values.mve, "steve": values.steve}


@dataclasses.dataclass(frozen=True)
class Config(components.ModelConfig, components.TemperatureConfig, components.PolicyConfig):
  """Hyper-parameters of stochastic value gradients, beside those of the configs that it extends.

  Attributes:
    look_ahead: H, steps of the model that the policy's loss is differentiated through.
    expansion: of the critic's targets: "none", "mve" (of the longest horizon) or "steve" (of all horizons, by their
      inverse variances).
    expand_over: H of that expansion.
    entropy_per_dimension: the entropy target is minus this times d, where entropy_target is None.
  """

  look_ahead: int = 3
  expansion: str = "none"
  expand_over: int = 3
  entropy_per_dimension: float = 1.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None, model: Model | None = None) -> Design:
  """The design that stochastic value gradients are.

  Args:
    spec: the environment's sizes; continuous actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.
    model: in place of the learned ensemble; its draws are differentiable in state and action.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a policy that does not fit the action space.
  """
  if spec.discrete:
    raise ValueError("svg differentiates through continuous actions, but the environment's are discrete; use smcp")
  components.check(config)
  positive(config, "look_ahead", "expand_over", whole=True)
  positive(config, "entropy_per_dimension")
  if config.expansion not in EXPANSIONS:
    raise ValueError(f"expansion is one of {', '.join(EXPANSIONS)}; got {config.expansion!r}")
  expand = EXPANSIONS[config.expansion]
  axes = components.actor_critic(
    spec,
    config,
    regularised=True,
    look_ahead=int(config.look_ahead),
    expansion=None if expand is None else expand(int(config.expand_over)),
  )
  model = components.model(spec, config, model)
  temperature = components.temperature(spec, config, -config.entropy_per_dimension * spec.action_size)
  return Design(*axes, temperature, axis, model=model)


make = components.maker(Config, design, components.policy_head)
