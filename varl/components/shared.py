"""Priors that several tasks share or that see a part of the observation, as the Configs describe them."""

import dataclasses
from typing import Any

from varl import networks, policies, priors, temperatures
from varl.checks import positive
from varl.components.configs import CriticConfig, HeadConfig, check
from varl.components.improvement import multiplier
from varl.components.parts import network, optimizer
from varl.types import Prior, Spec, Temperature


@dataclasses.dataclass(frozen=True)
class DistilledConfig(HeadConfig, CriticConfig):
  """A policy that pays for divergence from a prior which is kept from a part of the observation (`priors.distilled`).

  Attributes:
    withheld: how many of the observation's last entries the prior does not see; 0: the context, which says the task.
    prior_tau: the rate at which the prior's slow copy follows, which is what is paid for divergence from.
    samples: actions a state, in targets and losses; of discrete actions all are used.
  """

  withheld: int = 0
  prior_tau: float = 0.005
  samples: int = 1


@dataclasses.dataclass(frozen=True)
class DivergenceConfig(DistilledConfig):
  """`DistilledConfig` of an algorithm with one task, which pays for divergence alone.

  Attributes:
    temperature: α, what a nat of divergence from the prior costs, in (scaled) reward; at the start, where there is a
      budget.
    epsilon: ε, the mean divergence in nats that α is adapted to; 0: α stays.
    dual_learning_rate: Adam's step for α.
  """

  temperature: float = 0.1
  epsilon: float = 0.0
  dual_learning_rate: float = 1e-3


def divergence_price(config: DivergenceConfig) -> Temperature:
  """The temperature of a `DivergenceConfig`.

  Raises:
    ValueError: a field out of range.
  """
  positive(config, "temperature", "dual_learning_rate")
  positive(config, "epsilon", zero=True)
  if isinstance(config.epsilon, int | float) and config.epsilon == 0:
    return temperatures.fixed(config.temperature)
  price = optimizer(config, config.dual_learning_rate)
  return temperatures.kl_budget(multiplier(config.temperature), price, config.epsilon)


def prior_network(spec: Spec, config: DistilledConfig, policy: policies.Head) -> tuple[Any, networks.Network]:
  """What the prior sees of an observation, as a function, and a network of the policy's outputs for it.

  Raises:
    ValueError: nothing is withheld from it, or everything.
  """
  check(config)
  sees = priors.all_but_last(spec, config.withheld)
  return sees, network(config, spec.observation_size - (config.withheld or spec.context), policy.size)


def distilled(spec: Spec, config: DistilledConfig, policy: policies.Head, *, share: Any = 1.0) -> Prior:
  """`priors.distilled` as a `DistilledConfig` says, with its share.

  Raises:
    ValueError: a field out of range, or a prior that would see all or nothing.
  """
  sees, seeing = prior_network(spec, config, policy)
  return priors.distilled(seeing, policy, optimizer(config), sees=sees, share=share, tau=config.prior_tau)
