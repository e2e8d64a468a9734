"""β-VIREL (Fellows et al. 2019, 1811.01132): the temperature is the critic's own Bellman error, and falls with it.

prior uniform × posterior direct (discrete: enumerated) × value unregularised × temperature by the Bellman residual.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive, unit_interval
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.PolicyConfig):
  """Hyper-parameters of β-VIREL, beside those of the configs that it extends.

  Attributes:
    reward_scale: multiplies the reward; the residual grows with its square.
    critics: members of the critic ensemble; the published code has one, two are recommended since.
    moment_penalty: weight of `losses.moment_penalty` in the policy's loss, for continuous actions; the published code's
      is 1e-3.
    residual_scale: c in ε = c δ², in 1/return; the published Walker2d run has .004 with reward_scale 3.
    residual_batch: transitions that δ² is measured on at each update; before the replay holds as many, δ² counts as 1.
    residual_average: κ, the share of the old δ² that each update keeps; the published code keeps none.
    ceiling: the largest ε (see `temperatures.bellman_residual`); infinity is the published code's.
  """

  tau: float = 0.001
  hidden: tuple[int, ...] = (300, 300)
  separate_value: bool = True
  moment_penalty: float = 1e-3
  residual_scale: float = 0.004
  residual_batch: int = 4096
  residual_average: float = 0.0
  ceiling: float = 1.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that β-VIREL is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "residual_scale", "residual_batch")
  unit_interval(config, "residual_average", upper_open=True)
  components.check(config)
  temperature = temperatures.bellman_residual(
    scale=config.residual_scale,
    rows=config.residual_batch,
    ceiling=config.ceiling,
    average=config.residual_average,
  )
  return Design(*components.actor_critic(spec, config, regularised=False), temperature, axis)


make = components.maker(Config, design, components.policy_head)
