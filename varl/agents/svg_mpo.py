"""A learned prior that follows stochastic value gradients: the parametric E-step of MPO, expanded over a learned model
(1806.06920, 1510.09142).

prior learned, within a trust region × posterior parametric, its loss expanded over H steps of the model × value
unregularised, of the prior × temperature by a KL budget. The prior's slow copy is the policy that acts.
"""

import dataclasses

from varl import components, posteriors
from varl.checks import positive
from varl.types import Design, Model, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.ModelConfig, components.TrustRegionConfig, components.BudgetConfig):
  """Hyper-parameters of MPO by stochastic value gradients, beside those of the configs that it extends.

  Attributes:
    look_ahead: H, steps of the model that the E-step's loss is differentiated through.
    tau: how far the slow copies of policy and critic move when they do; 1 copies.
    critics: members of the critic ensemble.
    samples: actions of the prior a state in the value's target, and of the E-step's policy in its loss.
  """

  look_ahead: int = 3
  tau: float = 1.0
  critics: int = 1
  samples: int = 4


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None, model: Model | None = None) -> Design:
  """The design that it is.

  Args:
    spec: the environment's sizes; continuous actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.
    model: in place of the learned ensemble; its draws are differentiable in state and action.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a policy that does not fit the action space.
  """
  if spec.discrete:
    raise ValueError(
      "svg_mpo differentiates through continuous actions, but the environment's are discrete; use smc_mpo"
    )
  components.check(config)
  positive(config, "look_ahead", whole=True)
  head = components.policy_head(spec, config)
  _, posterior = components.parametric(
    spec, config, head, samples=config.samples, look_ahead=int(config.look_ahead), group="improved"
  )
  model = components.model(spec, config, model)
  made = components.following(spec, config, posteriors.acting_by_prior(posterior), model=model)
  return made._replace(axis=axis)


make = components.maker(Config, design, components.policy_head)
