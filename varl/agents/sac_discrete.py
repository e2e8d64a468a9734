"""Soft actor-critic for discrete actions (Christodoulou 2019, 1910.07207): `sac` with expectations taken exactly.

prior uniform × posterior categorical, enumerated × value regularised × temperature by an entropy target.
"""

import dataclasses
import math

from varl import components, policies, posteriors, priors
from varl.checks import unit_interval
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.MemoryConfig, components.TemperatureConfig, components.CriticConfig):
  """Hyper-parameters of discrete soft actor-critic, beside those of the configs that it extends.

  Attributes:
    entropy_share: the entropy target as a share of the largest entropy, log A, where entropy_target is None. The
      paper's .98 keeps the policy near uniform at every return; .5 is a departure.
  """

  entropy_share: float = 0.5


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that discrete soft actor-critic is.

  Args:
    spec: the environment's sizes; discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or continuous actions.
  """
  components.check(config)
  unit_interval(config, "entropy_share", lower_open=True)
  head = _head(spec, config)
  actor = components.actor(spec, config, head)
  return Design(
    priors.uniform(head),
    posteriors.enumerated(actor, head, components.optimizer(config)),
    components.q_value(spec, config, head),
    components.temperature(spec, config, config.entropy_share * math.log(head.size)),
    axis,
  )


def _head(spec: Spec, config: Config) -> policies.Head:
  if not spec.discrete:
    raise ValueError("sac_discrete needs discrete actions, but the environment's are continuous; use sac")
  return policies.categorical(spec.action_size)


make = components.maker(Config, design, _head)
