"""Networks that remember, as the Configs describe them."""

from collections.abc import Callable
from typing import Any, TypeVar

from varl import networks, policies
from varl.components.configs import OnPolicyConfig
from varl.memory import Memory, gru
from varl.types import Spec

Remembering = TypeVar("Remembering", networks.Network, networks.Critic)


def memory_of(spec: Spec, config: Any, policy: policies.Head) -> Memory | None:
  """The memory that a `MemoryConfig` asks for; None where it asks for none.

  Raises:
    ValueError: no step to learn from, a burn-in out of range, or observations that a policy sees a part of.
  """
  units = getattr(config, "memory", 0)
  if not units:
    return None
  if spec.privileged:
    raise ValueError(
      f"networks with a memory={units} remember whole observations, and {spec.privileged} entries of this "
      "environment's are privileged: memory=0"
    )
  groups: tuple[str, ...] = ("actor", "value") if isinstance(config, OnPolicyConfig) else ("actor", "critic")
  if getattr(config, "separate_value", False):
    groups = (*groups, "value")
  return gru(spec, policy.execute, groups, units=units, length=config.memory_length, burn_in=config.burn_in)


def remembering(
  spec: Spec, config: Any, policy: policies.Head, group: str, make_network: Callable[[int], Remembering]
) -> Remembering:
  """The network of that group, of so many inputs, with the Config's memory if it has one."""
  memory = memory_of(spec, config, policy)
  if memory is None:
    return make_network(spec.observation_size)
  made: Remembering = memory.recurrent(make_network(spec.observation_size + config.memory), group)
  return made
