"""Entropy-regularised policy gradient: the return pays for divergence from a learned prior (1704.06440).

prior learned, within a trust region × posterior direct, by the score function or the ratio × value on-policy,
regularised λ-returns × temperature fixed. The prior is fitted to the policy's own actions and so follows it.
"""

import dataclasses

from varl import components, temperatures
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.TrustRegionConfig, components.GradientConfig):
  """Hyper-parameters of ERPG, beside those of the configs that it extends.

  Attributes:
    temperature: α, in (scaled) reward per nat.
    surrogate: "score", "ratio" or "clip", as `posteriors.score`.
    clip: c of "clip".
    target_every: updates after which the prior that is paid for becomes the one that was fitted.
  """

  temperature: float = 0.1
  surrogate: str = "clip"
  clip: float = 0.2
  epsilon_mean: float = 0.01
  epsilon_covariance: float = 1e-3
  epsilon_policy: float = 0.01
  initial_mean_multiplier: float = 1.0
  initial_covariance_multiplier: float = 1.0
  initial_policy_multiplier: float = 1.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that ERPG is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  positive(config, "temperature", "clip")
  return components.policy_gradient(
    spec,
    config,
    temperatures.fixed(config.temperature),
    surrogate=config.surrogate,
    clip=config.clip,
    regularised=True,
    prior=lambda actor, head: components.learned_prior(spec, config, head, group="prior"),
    axis=axis,
  )


make = components.maker(Config, design, components.policy_head)
