"""Maximum-entropy policy gradient: the return itself pays -α log π (Levine 2018, 1805.00909, section 4.1).

prior uniform × posterior direct, by the score function or the ratio × value on-policy, regularised λ-returns ×
temperature fixed.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.GradientConfig):
  """Hyper-parameters of the maximum-entropy policy gradient, beside those of the config that it extends.

  Attributes:
    temperature: α, in (scaled) reward per nat.
    surrogate: "score", "ratio" or "clip", as `posteriors.score`; the score function is the gradient of the first
      update on a rollout, the others also serve further ones.
    clip: c of "clip".
  """

  temperature: float = 0.01
  surrogate: str = "clip"
  clip: float = 0.2


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that the maximum-entropy policy gradient is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "temperature", "clip")
  alpha = temperatures.fixed(config.temperature)
  return components.policy_gradient(
    spec, config, alpha, surrogate=config.surrogate, clip=config.clip, regularised=True, axis=axis
  )


make = components.maker(Config, design, components.policy_head)
