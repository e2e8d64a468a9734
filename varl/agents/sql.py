"""Soft Q-learning (Haarnoja et al. 2017, 1702.08165).

prior uniform × posterior Boltzmann (sampled by a Stein network, or by importance) × value regularised × temperature
fixed.
"""

import dataclasses
from typing import Any

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.design import agent
from varl.settings import positive, unit_interval
from varl.types import Agent, Design, Spec

SAMPLERS = ("importance", "stein")


@dataclasses.dataclass(frozen=True)
class Config:
  """Hyper-parameters of soft Q-learning; the numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for the critic.
    sampler_learning_rate: Adam's step for the sampler network.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step.
    tau: the rate at which the target critic follows; 1 copies it.
    target_every: updates between two movements of the target critic.
    reward_scale: multiplies the reward.
    temperature: α, in (scaled) reward per nat.
    hidden: the widths of the hidden layers of critic and sampler.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation of the critic.
    critics: members of the critic ensemble; the paper has one.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    sampler: "stein", the paper's network; "importance", proposals resampled by their weight, without a network.
    particles: of Stein's direction, in two sets of one half each.
    value_samples: proposals a state in the value's target.
    act_samples: proposals a state that the action is taken from ("importance") or its mode chosen from.
    start_updates: updates before the Stein sampler proposes the actions of the value's target, and not a fixed
      distribution.
    proposal_std: that fixed distribution is uniform on bounded actions; on the whole line a Gaussian of this
      deviation.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
    normalize_observations: running observation moments.
  """

  learning_rate: float = 1e-3
  sampler_learning_rate: float = 1e-4
  decay_updates: int = 0
  decay_to: float = 0.0
  gamma: float = 0.99
  tau: float = 1.0
  target_every: int = 1000
  reward_scale: float = 1.0
  temperature: float = 1.0
  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  layer_norm: bool = False
  critics: int = 1
  pessimism: float | str = "min"
  sampler: str = "stein"
  particles: int = 32
  value_samples: int = 50
  act_samples: int = 64
  start_updates: int = 10_000
  proposal_std: float = 3.0
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


def make(spec: Spec, config: Config | None = None, *, axis: str | None = None) -> Agent:
  """Soft Q-learning for an environment.

  Args:
    spec: the environment's sizes; continuous actions.
    config: by default `Config()`.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or discrete actions.
  """
  config = Config() if config is None else config
  head = _head(spec)
  return agent(design(spec, config, axis=axis), spec, head, normalize_observations=config.normalize_observations)


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that soft Q-learning is; Args and Raises as `make`."""
  positive(config, "learning_rate", "sampler_learning_rate", "reward_scale", "temperature", "proposal_std")
  positive(config, "target_every", "critics", "particles", "value_samples", "act_samples", whole=True)
  positive(config, "decay_updates", "start_updates", "max_grad_norm", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to")
  unit_interval(config, "tau", lower_open=True)
  if config.sampler not in SAMPLERS:
    raise ValueError(f"sampler is one of {list(SAMPLERS)}, got {config.sampler!r}")

  head = _head(spec)
  schedule: dict[str, Any] = {
    "decay_updates": config.decay_updates,
    "decay_to": config.decay_to,
    "max_grad_norm": config.max_grad_norm,
  }
  shape: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation}
  critic = networks.mlp(spec.observation_size + spec.action_size, 1, layer_norm=config.layer_norm, **shape)
  value = values.q_value(
    networks.action_in(networks.ensemble(critic, config.critics), head.execute),
    optimizers.adam(config.learning_rate, **schedule),
    gamma=config.gamma,
    tau=config.tau,
    target_every=config.target_every,
    pessimism=config.pessimism,
    reward_scale=config.reward_scale,
  )
  if spec.bounded:
    proposal = posteriors.uniform_proposal(head)
  else:
    proposal = posteriors.gaussian_proposal(spec.action_size, config.proposal_std)
  if config.sampler == "importance":
    posterior = posteriors.boltzmann(proposal, samples=config.value_samples, act_samples=config.act_samples)
  else:
    posterior = posteriors.stein(
      networks.mlp(spec.observation_size + spec.action_size, spec.action_size, **shape),
      head,
      optimizers.adam(config.sampler_learning_rate, **schedule),
      proposal,
      action_size=spec.action_size,
      particles=config.particles,
      value_samples=config.value_samples,
      act_samples=config.act_samples,
      start_updates=config.start_updates,
    )
  return Design(priors.uniform(head), posterior, value, temperatures.fixed(config.temperature), axis)


def _head(spec: Spec) -> policies.Head:
  """The action space; no network's outputs are read as parameters of its distribution."""
  if spec.discrete:
    raise ValueError("sql needs continuous actions, but the environment's are discrete; use sql_discrete")
  return policies.tanh_gaussian(spec.action_size) if spec.bounded else policies.gaussian(spec.action_size)
