"""V-MPO: on-policy maximum a posteriori policy optimisation (Song et al. 2019, 1909.12238).

prior learned, within a trust region × posterior Boltzmann over the better half of the actions taken × value on-policy,
λ-returns × temperature by a KL budget. The prior's slow copy is the policy that acts.
"""

import dataclasses

from varl import components, posteriors
from varl.checks import positive, unit_interval
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.TrustRegionConfig, components.OnPolicyConfig):
  """Hyper-parameters of V-MPO, beside those of the configs that it extends.

  Attributes:
    share: of each batch's rows that are followed: those with the largest advantages.
    epsilon: ε_η, the E-step's budget: nats between its weights and equal ones. (The paper has .01 to .1.)
    initial_temperature: η at the start, in (scaled) return per nat.
    epsilon_mean, epsilon_covariance: on the sum over dimensions; by task from .005-.05 and 5e-6-5e-4 are in use.
    decoupled: whether the likelihood is taken of mean and covariance apart, as MPO does; the paper takes it whole.
  """

  share: float = 0.5
  epsilon: float = 0.1
  initial_temperature: float = 1.0
  epsilon_mean: float = 0.01
  epsilon_covariance: float = 1e-4
  epsilon_policy: float = 0.01
  initial_mean_multiplier: float = 5.0
  initial_covariance_multiplier: float = 5.0
  initial_policy_multiplier: float = 5.0
  per_dimension: bool = False
  decoupled: bool = False


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that V-MPO is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices; the better half is of all of them.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  components.check(config)
  unit_interval(config, "share", lower_open=True)
  positive(config, "epsilon", "initial_temperature")
  head = components.policy_head(spec, config)
  return Design(
    components.learned_prior(spec, config, head, decoupled=config.decoupled),
    posteriors.acting_by_prior(posteriors.taken(share=config.share, budget=config.epsilon)),
    components.lambda_value(spec, config, head),
    components.kl_temperature(config),
    axis,
  )


make = components.maker(Config, design, components.policy_head)
