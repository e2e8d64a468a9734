"""Soft actor-critic with an adapted temperature (Haarnoja et al. 2018, 1812.05905).

prior uniform × posterior direct × value regularised × temperature by an entropy target.
"""

import dataclasses
from typing import Any

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.design import agent
from varl.duals import dual
from varl.settings import positive, unit_interval
from varl.types import Agent, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config:
  """Hyper-parameters of soft actor-critic; the numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for actor, critic and temperature.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step.
    tau: the rate at which the target critic follows.
    reward_scale: multiplies the reward.
    hidden: the widths of the hidden layers of actor and critics.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation of the critics.
    critics: members of the critic ensemble.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    samples: actions drawn a state, in both the target and the policy's loss.
    policy: "tanh_gaussian" for bounded actions, "gaussian" for the whole line.
    adapt_temperature: whether α follows the entropy target, or stays at its initial value.
    initial_temperature: α at the start, in reward per nat.
    entropy_target: H̄ in nats; None: -entropy_per_dimension × d.
    entropy_per_dimension: used where entropy_target is None; 1 is the paper's, ½ Brax's.
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
  samples: int = 1
  policy: str = "tanh_gaussian"
  adapt_temperature: bool = True
  initial_temperature: float = 1.0
  entropy_target: float | None = None
  entropy_per_dimension: float = 1.0
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


def make(spec: Spec, config: Config | None = None, *, axis: str | None = None) -> Agent:
  """Soft actor-critic for an environment.

  Args:
    spec: the environment's sizes; continuous actions.
    config: by default `Config()`.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a policy that does not fit the action space.
  """
  config = Config() if config is None else config
  head = _head(spec, config)
  return agent(design(spec, config, axis=axis), spec, head, normalize_observations=config.normalize_observations)


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that soft actor-critic is; Args and Raises as `make`."""
  positive(
    config, "learning_rate", "reward_scale", "critics", "samples", "initial_temperature", "entropy_per_dimension"
  )
  positive(config, "decay_updates", "max_grad_norm", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to")
  unit_interval(config, "tau", lower_open=True)

  head = _head(spec, config)
  optimizer = optimizers.adam(
    config.learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    max_grad_norm=config.max_grad_norm,
  )
  shape: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation}
  actor = networks.mlp(spec.observation_size, head.size, **shape)
  critic = networks.mlp(spec.observation_size + spec.action_size, 1, layer_norm=config.layer_norm, **shape)
  prior = priors.uniform(head)
  posterior = posteriors.direct(actor, head, optimizer, samples=config.samples)
  value = values.q_value(
    networks.action_in(networks.ensemble(critic, config.critics), head.execute),
    optimizer,
    gamma=config.gamma,
    tau=config.tau,
    pessimism=config.pessimism,
    reward_scale=config.reward_scale,
  )
  if not config.adapt_temperature:
    return Design(prior, posterior, value, temperatures.fixed(config.initial_temperature), axis)
  target = config.entropy_target
  if target is None:
    target = -config.entropy_per_dimension * spec.action_size
  temperature = temperatures.entropy_target(dual(config.initial_temperature), optimizer, target)
  return Design(prior, posterior, value, temperature, axis)


def _head(spec: Spec, config: Config) -> policies.Head:
  heads = {"tanh_gaussian": policies.tanh_gaussian, "gaussian": policies.gaussian}
  if spec.discrete:
    raise ValueError("sac needs continuous actions, but the environment's are discrete; use sac_discrete")
  if config.policy not in heads:
    raise ValueError(f"policy is one of {sorted(heads)}, got {config.policy!r}")
  if config.policy == "tanh_gaussian" and not spec.bounded:
    raise ValueError(
      "the environment's actions are unbounded: a tanh_gaussian policy cannot reach them; use policy='gaussian'"
    )
  return heads[config.policy](spec.action_size)
