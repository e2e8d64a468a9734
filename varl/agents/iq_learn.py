"""Inverse soft Q-learning from demonstrations alone (Garg et al. 2021, 2106.12142).

prior uniform × posterior direct (discrete: Boltzmann) × value by the expert's rows × temperature fixed.
"""

import dataclasses

from varl import components, policies, posteriors, priors, temperatures, values
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.DemonstrationConfig, components.HeadConfig, components.Config):
  """Hyper-parameters of inverse soft Q-learning, beside those of the configs that it extends.

  Attributes:
    temperature: the price of a nat of entropy, in units of reward.
    regularisation: α of the χ² regulariser; larger: nearer to the expert, less held.
    critics: members of the critic ensemble.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    samples: actions drawn a state, of continuous ones; of discrete actions all are used.
  """

  temperature: float = 0.1
  regularisation: float = 0.5
  critics: int = 1
  pessimism: float | str = "min"
  samples: int = 1


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that inverse soft Q-learning is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "temperature", "regularisation")
  positive(config, "critics", "samples", whole=True)
  head = components.policy_head(spec, config)
  if spec.discrete:
    posterior = posteriors.softmax(policies.categorical(spec.action_size))
  else:
    _, posterior = components.parametric(spec, config, head, samples=config.samples)
  value = values.inverse_soft_q(
    components.critic(spec, config, head),
    components.optimizer(config),
    regularisation=config.regularisation,
    gamma=config.gamma,
    pessimism=config.pessimism,
    reward_scale=config.reward_scale,
  )
  return Design(priors.uniform(head), posterior, value, temperatures.fixed(config.temperature), axis)


make = components.offline_maker(Config, design, components.policy_head, "iq_learn")
