"""VIREL with a constant temperature (Fellows et al. 2019, 1811.01132): entropy in the policy's loss, none in the value.

prior uniform × posterior direct (discrete: enumerated) × value unregularised × temperature fixed at ε = 1.
"""

import dataclasses

from varl import components, temperatures
from varl.design import agent
from varl.types import Agent, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config:
  """Hyper-parameters of VIREL at ε = 1; the numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for all networks.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step.
    tau: the rate at which the target V (or Q) follows.
    reward_scale: multiplies the reward; with ε = 1 its inverse is the temperature, in reward per nat.
    hidden: the widths of the hidden layers of all networks.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation of the values.
    critics: members of the critic ensemble; the published code has one, two are recommended since.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    separate_value: whether a state value V is learned beside Q and has the slow copy, as published, or Q itself has it.
    samples: actions drawn a state; of discrete actions all are used.
    policy: for continuous actions, "tanh_gaussian" where they are bounded, "gaussian" on the whole line.
    moment_penalty: weight of `losses.moment_penalty` in the policy's loss, for continuous actions; the published code's
      is 1e-3.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
    normalize_observations: running observation moments.
  """

  learning_rate: float = 3e-4
  decay_updates: int = 0
  decay_to: float = 0.0
  gamma: float = 0.99
  tau: float = 0.001
  reward_scale: float = 1.0
  hidden: tuple[int, ...] = (300, 300)
  activation: str = "relu"
  layer_norm: bool = False
  critics: int = 2
  pessimism: float | str = "min"
  separate_value: bool = True
  samples: int = 1
  policy: str = "tanh_gaussian"
  moment_penalty: float = 1e-3
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


def make(spec: Spec, config: Config | None = None, *, axis: str | None = None) -> Agent:
  """VIREL at ε = 1 for an environment.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: by default `Config()`.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  config = Config() if config is None else config
  head = components.head(spec, config.policy)
  return agent(design(spec, config, axis=axis), spec, head, normalize_observations=config.normalize_observations)


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that VIREL at ε = 1 is; Args and Raises as `make`."""
  return Design(*components.actor_critic(spec, config, regularised=False), temperatures.fixed(1.0), axis)
