"""Adversarial inverse reinforcement learning (Fu et al. 2018, 1710.11248).

Soft actor-critic or PPO, paid by the reward inside a discriminator that knows the policy's density.
"""

import dataclasses

from varl import components, rewards
from varl.types import Reward, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.ImitationConfig):
  """Hyper-parameters of adversarial inverse reinforcement learning, beside those of the config that it extends.

  The temperature stays at 1 nat per unit of reward, the reward's own unit, and the discriminator has no penalty.
  """

  adapt_temperature: bool = False
  penalty: float = 0.0


def reward(spec: Spec, config: Config) -> Reward:
  """The discriminator that a Config describes.

  Raises:
    ValueError: a hyper-parameter out of range, or no demonstrations of this environment.
  """
  seen = components.seen(spec, config, "airl")
  shaping = components.reward_network(config, spec.observation_size)
  entropy = "agent" if config.learner == "sac" else "reward"
  network = components.of_states(spec, config)
  return rewards.airl(spec, network, shaping, entropy=entropy, penalty=config.penalty, **seen)


design = components.designs(Config)(components.imitated(reward))
make = components.maker(Config, design, components.policy_head)
