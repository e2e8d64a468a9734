"""A learned prior that follows sequential Monte Carlo plans: MPO with a planner as its E-step (1806.06920; Piché et al.
2019).

prior learned, within a trust region × posterior particles over a learned model's futures, proposed by the prior × value
unregularised, of the prior × temperature by a KL budget. The planner acts.
"""

import dataclasses

from varl import components, posteriors
from varl.types import Design, Model, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.PlanConfig, components.ModelConfig, components.TrustRegionConfig, components.BudgetConfig):
  """Hyper-parameters of MPO by planning, beside those of the configs that it extends.

  Attributes:
    tau: how far the slow copies of policy and critic move when they do; 1 copies.
    critics: members of the critic ensemble.
    samples: actions of the prior a state in the value's target; of discrete actions all are used.
    particles: futures in each state, where it acts and in the E-step.
    horizon: steps that are planned.
  """

  tau: float = 1.0
  critics: int = 1
  samples: int = 20
  particles: int = 16
  horizon: int = 3


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None, model: Model | None = None) -> Design:
  """The design that it is.

  Args:
    spec: the environment's sizes.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.
    model: in place of the learned ensemble.

  Raises:
    ValueError: a hyper-parameter out of range, a budget that weights of so few particles cannot reach, or a policy that
      does not fit the action space.
  """
  components.check(config)
  components.check_budget(config, "particles")
  model = components.model(spec, config, model)
  proposal = posteriors.acting_by_prior(posteriors.boltzmann())
  posterior = components.planning(spec, config, proposal, infer=True)
  return components.following(spec, config, posterior, model=model)._replace(axis=axis)


make = components.maker(Config, design, components.policy_head)
