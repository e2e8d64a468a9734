"""Soft actor-critic for discrete actions (Christodoulou 2019, 1910.07207): `sac` with expectations taken exactly.

prior uniform × posterior categorical, enumerated × value regularised × temperature by an entropy target.
"""

import dataclasses
import math

from varl import components, policies, posteriors, priors
from varl.design import agent
from varl.settings import unit_interval
from varl.types import Agent, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.TemperatureConfig, components.Config):
  """Hyper-parameters of discrete soft actor-critic, beside those of the configs that it extends.

  Attributes:
    entropy_share: the entropy target as a share of the largest entropy, log A, where entropy_target is None. The
      paper's .98 keeps the policy near uniform at every return; .5 is a departure.
  """

  entropy_share: float = 0.5


def make(spec: Spec, config: Config | None = None, *, axis: str | None = None) -> Agent:
  """Discrete soft actor-critic for an environment.

  Args:
    spec: the environment's sizes; discrete actions.
    config: by default `Config()`.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or continuous actions.
  """
  config = Config() if config is None else config
  head = _head(spec)
  return agent(design(spec, config, axis=axis), spec, head, normalize_observations=config.normalize_observations)


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that discrete soft actor-critic is; Args and Raises as `make`."""
  components.check(config)
  unit_interval(config, "entropy_share", lower_open=True)
  head = _head(spec)
  actor = components.network(config, spec.observation_size, head.size)
  return Design(
    priors.uniform(head),
    posteriors.enumerated(actor, head, components.optimizer(config)),
    components.q_value(spec, config, head),
    components.temperature(config, config.entropy_share * math.log(head.size)),
    axis,
  )


def _head(spec: Spec) -> policies.Head:
  if not spec.discrete:
    raise ValueError("sac_discrete needs discrete actions, but the environment's are continuous; use sac")
  return policies.categorical(spec.action_size)
