"""Relative entropy regularised policy iteration (Abdolmaleki et al. 2018, 1812.02256).

MPO's design with the later paper's choices: budgets on the sum over dimensions, mean and covariance far apart, one-step
targets; the E-step weighs by exp(Q/η) or by rank.
"""

import dataclasses

from varl import components


@dataclasses.dataclass(frozen=True)
class Config(components.TrustRegionConfig, components.ImprovementConfig):
  """Hyper-parameters of RERPI, beside those of the configs that it extends; the budgets are the paper's.

  Attributes:
    tau: how far the slow copies of policy and critic move when they do; 1 copies.
    critics: members of the critic ensemble; the paper has one.
  """

  tau: float = 1.0
  critics: int = 1
  epsilon_mean: float = 0.1
  epsilon_covariance: float = 1e-4
  per_dimension: bool = False


design = components.designs(Config)(components.improvement)
make = components.maker(Config, design, components.policy_head)
