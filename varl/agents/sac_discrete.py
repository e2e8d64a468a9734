"""Soft actor-critic for discrete actions (Christodoulou 2019, 1910.07207): `sac` with expectations taken exactly.

prior uniform × posterior categorical, enumerated × value regularised × temperature by an entropy target.
"""

import dataclasses
import math
from typing import Any

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.design import agent
from varl.duals import dual
from varl.settings import positive, unit_interval
from varl.types import Agent, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config:
  """Hyper-parameters of discrete soft actor-critic; the numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for actor, critic and temperature.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step.
    tau: the rate at which the target critic follows.
    reward_scale: multiplies the reward.
    hidden: the widths of the hidden layers of actor and critics; none makes them linear, which on one-hot
      observations is a table.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation of the critics.
    critics: members of the critic ensemble.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    adapt_temperature: whether α follows the entropy target, or stays at its initial value.
    initial_temperature: α at the start, in reward per nat.
    entropy_target: H̄ in nats; None: entropy_share × log A.
    entropy_share: of the largest entropy, used where entropy_target is None. The paper's .98 keeps the policy near
      uniform at every return; .5 is a departure.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
    normalize_observations: running observation moments.
  """

  learning_rate: float = 3e-4
  decay_updates: int = 0
  decay_to: float = 0.0
  gamma: float = 0.99
  tau: float = 0.005
  reward_scale: float = 1.0
  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  layer_norm: bool = False
  critics: int = 2
  pessimism: float | str = "min"
  adapt_temperature: bool = True
  initial_temperature: float = 1.0
  entropy_target: float | None = None
  entropy_share: float = 0.5
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


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
  positive(config, "learning_rate", "reward_scale", "critics", "initial_temperature")
  positive(config, "decay_updates", "max_grad_norm", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to")
  unit_interval(config, "tau", "entropy_share", lower_open=True)

  head = _head(spec)
  optimizer = optimizers.adam(
    config.learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    max_grad_norm=config.max_grad_norm,
  )
  shape: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation}
  actor = networks.mlp(spec.observation_size, head.size, **shape)
  critic = networks.mlp(spec.observation_size, head.size, layer_norm=config.layer_norm, **shape)
  prior = priors.uniform(head)
  posterior = posteriors.enumerated(actor, head, optimizer)
  value = values.q_value(
    networks.action_out(networks.ensemble(critic, config.critics)),
    optimizer,
    gamma=config.gamma,
    tau=config.tau,
    pessimism=config.pessimism,
    reward_scale=config.reward_scale,
  )
  if not config.adapt_temperature:
    return Design(prior, posterior, value, temperatures.fixed(config.initial_temperature), axis)
  target = config.entropy_share * math.log(head.size) if config.entropy_target is None else config.entropy_target
  temperature = temperatures.entropy_target(dual(config.initial_temperature), optimizer, target)
  return Design(prior, posterior, value, temperature, axis)


def _head(spec: Spec) -> policies.Head:
  if not spec.discrete:
    raise ValueError("sac_discrete needs discrete actions, but the environment's are continuous; use sac")
  return policies.categorical(spec.action_size)
