"""Generative adversarial imitation learning (Ho and Ermon 2016, 1606.03476; off-policy: Kostrikov et al. 2019,
1809.02925).

Soft actor-critic or PPO, paid by a discriminator that tells its rows from an expert's.
"""

import dataclasses

from varl import components, rewards
from varl.types import Reward, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.ImitationConfig):
  """Hyper-parameters of adversarial imitation, beside those of the config that it extends.

  Attributes:
    form: what the discriminator's logit l pays: "log_odds" (l), "softplus" (-log(1 - D)), "log" (log D) or "forward"
      (-l e^l, FAIRL).
  """

  form: str = "log_odds"


def reward(spec: Spec, config: Config) -> Reward:
  """The discriminator that a Config describes.

  Raises:
    ValueError: a hyper-parameter out of range, or no demonstrations of this environment.
  """
  seen = components.seen(spec, config, "gail")
  return rewards.gail(spec, components.of_states(spec, config), form=config.form, penalty=config.penalty, **seen)


design = components.designs(Config)(components.imitated(reward))
make = components.maker(Config, design, components.policy_head)
