"""Maximum a posteriori policy optimisation (Abdolmaleki et al. 2018, 1806.06920; its trust region of 1812.02256).

prior learned, within a trust region × posterior Boltzmann over the prior's samples (discrete: all actions), or
parametric × value unregularised, of the prior × temperature by a KL budget. The prior's slow copy is the policy that
acts.
"""

import dataclasses

from varl import components


@dataclasses.dataclass(frozen=True)
class Config(components.TrustRegionConfig, components.ImprovementConfig):
  """Hyper-parameters of MPO, beside those of the configs that it extends.

  Attributes:
    tau: how far the slow copies of policy and critic move when they do; 1 copies.
    critics: members of the critic ensemble; the papers have one.
  """

  tau: float = 1.0
  critics: int = 1


design = components.designs(Config)(components.improvement)
make = components.maker(Config, design, components.policy_head)
