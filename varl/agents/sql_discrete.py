"""Soft Q-learning for discrete actions (1702.08165), and Munchausen's form of it (Vieillard et al. 2020, 2007.14430).

prior uniform × posterior Boltzmann, enumerated × value regularised × temperature fixed. There is no policy network.
"""

import dataclasses

from varl import components, policies, posteriors, priors, temperatures, values
from varl.checks import positive, unit_interval
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.CriticConfig):
  """Hyper-parameters of discrete soft Q-learning, beside those of the config that it extends.

  Attributes:
    tau: the rate at which the target critic follows; 1 copies it.
    target_every: updates between two movements of the target critic.
    temperature: α, in (scaled) reward per nat.
    munchausen: share of α log π(a|s) that is added to the reward; 0 is soft Q-learning, .9 the paper's.
    munchausen_floor: the lowest α log π(a|s) that is added, in (scaled) reward.
    critics: members of the critic ensemble.
  """

  learning_rate: float = 1e-3
  tau: float = 1.0
  target_every: int = 1000
  temperature: float = 1.0
  munchausen: float = 0.0
  munchausen_floor: float = -1.0
  critics: int = 1


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that discrete soft Q-learning is.

  Args:
    spec: the environment's sizes; discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or continuous actions.
  """
  components.check(config)
  positive(config, "temperature")
  positive(config, "target_every", "critics", whole=True)
  unit_interval(config, "munchausen")
  if isinstance(config.munchausen_floor, int | float) and config.munchausen_floor > 0:
    raise ValueError(f"munchausen_floor is at most 0, got {config.munchausen_floor}")

  head = _head(spec, config)
  value = components.q_value(spec, config, head, target_every=config.target_every)
  if not isinstance(config.munchausen, int | float) or config.munchausen:
    value = values.munchausen(
      value, scale=config.munchausen, floor=config.munchausen_floor, reward_scale=config.reward_scale
    )
  return Design(priors.uniform(head), posteriors.softmax(head), value, temperatures.fixed(config.temperature), axis)


def _head(spec: Spec, config: Config) -> policies.Head:
  if not spec.discrete:
    raise ValueError("sql_discrete needs discrete actions, but the environment's are continuous; use sql")
  return policies.categorical(spec.action_size)


make = components.maker(Config, design, _head)
