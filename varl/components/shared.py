"""Priors that several tasks share or that see a part of the observation, as the Configs describe them."""

import dataclasses
from typing import Any

from varl import networks, policies, priors
from varl.components.configs import CriticConfig, HeadConfig, check
from varl.components.parts import network, optimizer
from varl.types import Prior, Spec


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


def prior_network(spec: Spec, config: DistilledConfig, policy: policies.Head) -> tuple[Any, networks.Network]:
  """What the prior sees of an observation, as a function, and a network of the policy's outputs for it.

  Raises:
    ValueError: nothing is withheld from it, or everything.
  """
  check(config)
  withheld = int(config.withheld)
  sees = priors.all_but_last(spec, withheld)
  return sees, network(config, spec.observation_size - (withheld or spec.context), policy.size)


def distilled(spec: Spec, config: DistilledConfig, policy: policies.Head, *, share: Any = 1.0) -> Prior:
  """`priors.distilled` as a `DistilledConfig` says, with its share.

  Raises:
    ValueError: a field out of range, or a prior that would see all or nothing.
  """
  sees, seeing = prior_network(spec, config, policy)
  return priors.distilled(seeing, policy, optimizer(config), sees=sees, share=share, tau=config.prior_tau)
