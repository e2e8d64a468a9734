"""Maximum-entropy inverse reinforcement learning with a network's reward (Wulfmeier et al. 2015, 1507.04888; Finn et
al. 2016, 1603.00448).

Soft actor-critic or PPO, paid by the reward under which an expert's demonstrations are most likely.
"""

import dataclasses

from varl import components, networks, rewards
from varl.checks import positive
from varl.types import Reward, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.ImitationConfig):
  """Hyper-parameters of maximum-entropy inverse reinforcement learning, beside those of the config that it extends.

  The temperature stays at 1 nat per unit of reward, at which the expert is taken to act; `penalty` is not used.

  Attributes:
    weights: of the policy's rows, which replay has from older policies: "none", "importance" or "fusion", which
      draws on the demonstrations, too.
    reward_decay: weight of the mean of the squared reward in the reward's loss.
  """

  adapt_temperature: bool = False
  weights: str = "none"
  reward_decay: float = 1e-3


def reward(spec: Spec, config: Config) -> Reward:
  """The reward that a Config describes.

  Raises:
    ValueError: a hyper-parameter out of range, or no demonstrations of this environment.
  """
  positive(config, "reward_decay", zero=True)
  seen = components.seen(spec, config, "maxent_irl")
  behaviour = None
  if config.weights == "fusion":
    head = components.policy_head(spec, config)
    behaviour = head, networks.mlp(spec.observation_size, head.size, hidden=config.reward_hidden, activation="tanh")
  return rewards.maxent_irl(
    spec,
    components.of_states(spec, config),
    weights=config.weights,
    behaviour=behaviour,
    decay=config.reward_decay,
    **seen,
  )


design = components.designs(Config)(components.imitated(reward))
make = components.maker(Config, design, components.policy_head)
