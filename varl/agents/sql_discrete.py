"""Soft Q-learning for discrete actions (1702.08165), and Munchausen's form of it (Vieillard et al. 2020, 2007.14430).

prior uniform × posterior Boltzmann, enumerated × value regularised × temperature fixed. There is no policy network.
"""

import dataclasses
from typing import Any

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.design import agent
from varl.settings import positive, unit_interval
from varl.types import Agent, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config:
  """Hyper-parameters of discrete soft Q-learning; the numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for the critic.
    decay_updates: length in updates of a cosine decay of the learning rate; 0 keeps it constant.
    decay_to: the share of the learning rate that remains after it.
    gamma: the discount a step.
    tau: the rate at which the target critic follows; 1 copies it.
    target_every: updates between two movements of the target critic.
    reward_scale: multiplies the reward.
    temperature: α, in (scaled) reward per nat.
    munchausen: share of α log π(a|s) that is added to the reward; 0 is soft Q-learning, .9 the paper's.
    munchausen_floor: the lowest α log π(a|s) that is added, in (scaled) reward.
    hidden: the widths of the hidden layers; none makes the critic linear, which on one-hot observations is a table.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation.
    critics: members of the critic ensemble.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
    normalize_observations: running observation moments.
  """

  learning_rate: float = 1e-3
  decay_updates: int = 0
  decay_to: float = 0.0
  gamma: float = 0.99
  tau: float = 1.0
  target_every: int = 1000
  reward_scale: float = 1.0
  temperature: float = 1.0
  munchausen: float = 0.0
  munchausen_floor: float = -1.0
  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  layer_norm: bool = False
  critics: int = 1
  pessimism: float | str = "min"
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


def make(spec: Spec, config: Config | None = None, *, axis: str | None = None) -> Agent:
  """Discrete soft Q-learning for an environment.

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
  """The design that discrete soft Q-learning is; Args and Raises as `make`."""
  positive(config, "learning_rate", "reward_scale", "temperature")
  positive(config, "target_every", "critics", whole=True)
  positive(config, "decay_updates", "max_grad_norm", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to", "munchausen")
  unit_interval(config, "tau", lower_open=True)

  head = _head(spec)
  shape: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation, "layer_norm": config.layer_norm}
  critic = networks.mlp(spec.observation_size, head.size, **shape)
  optimizer = optimizers.adam(
    config.learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    max_grad_norm=config.max_grad_norm,
  )
  value = values.q_value(
    networks.action_out(networks.ensemble(critic, config.critics)),
    optimizer,
    gamma=config.gamma,
    tau=config.tau,
    target_every=config.target_every,
    pessimism=config.pessimism,
    reward_scale=config.reward_scale,
  )
  if not isinstance(config.munchausen, int | float) or config.munchausen:
    value = values.munchausen(
      value, scale=config.munchausen, floor=config.munchausen_floor, reward_scale=config.reward_scale
    )
  return Design(priors.uniform(head), posteriors.softmax(head), value, temperatures.fixed(config.temperature), axis)


def _head(spec: Spec) -> policies.Head:
  if not spec.discrete:
    raise ValueError("sql_discrete needs discrete actions, but the environment's are continuous; use sql")
  return policies.categorical(spec.action_size)
