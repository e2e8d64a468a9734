"""Skills without a reward: diversity is all you need (Eysenbach et al. 2018, 1802.06070).

Soft actor-critic or PPO, paid for how well the states that it reaches tell which skill it was given.
"""

import dataclasses

from varl import components, networks, rewards
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.LearnerConfig):
  """Hyper-parameters of learning skills, beside those of the config that it extends.

  The temperature is the paper's scale of the entropy, and stays.

  Attributes:
    environment_weight: of the environment's own reward, beside that of skills.
    skill_hidden: the widths of the hidden layers of the network that tells skills apart.
    skill_learning_rate: Adam's step for it.
  """

  adapt_temperature: bool = False
  initial_temperature: float = 0.1
  environment_weight: float = 0.0
  skill_hidden: tuple[int, ...] = (256, 256)
  skill_learning_rate: float = 3e-4


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that learning skills is.

  Args:
    spec: the environment's sizes; its context is the skill (`envs.with_skill`).
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or an environment without skills.
  """
  components.check(config)
  positive(config, "skill_learning_rate")
  positive(config, "environment_weight", zero=True)
  n = rewards.skill_count(spec)
  network = networks.mlp(spec.observation_size - n, n, hidden=config.skill_hidden, activation=config.activation)
  told = rewards.skills(spec, network, components.optimizer(config, config.skill_learning_rate))
  paid = rewards.sum(environment=config.environment_weight, skills=told)
  return components.inner(spec, config, axis=axis)._replace(reward=paid)


make = components.maker(Config, design, components.policy_head)
