"""Soft actor-critic with iterative amortised inference (Marino et al. 2019; Marino et al. 2020, 2010.10670).

prior uniform or a fixed tanh-Gaussian × posterior iterative × value regularised × temperature by an entropy target.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.design import agent
from varl.duals import dual
from varl.settings import positive, unit_interval
from varl.types import Agent, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config:
  """Hyper-parameters of iterative amortised soft actor-critic; the numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for inference network, critic and temperature.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step.
    tau: the rate at which the target critic follows.
    reward_scale: multiplies the reward.
    hidden: the widths of the hidden layers of inference network and critics.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation of the critics.
    critics: members of the critic ensemble.
    pessimism: κ for mean - κ·std over the ensemble, or "min"; 2.5 is the paper's for iterative inference.
    inference_iterations: K, inference iterations; 5 is the paper's, 2 the workshop paper's.
    samples: M, actions a state in each estimate of the objective, in the target and in the temperature's loss.
    initial_std: σ from which inference starts, before squashing; μ starts at 0.
    gradient_norm: "layer" or "rms", how the gradients fed to the network are normalised.
    infer_with_target: whether inference climbs the target critic (the paper's) or the learning one.
    policy: "tanh_gaussian" for bounded actions, "gaussian" for the whole line.
    prior: "uniform", or "fixed": the policy's family at μ = 0 and σ = prior_std in every state (the workshop paper's).
    prior_std: σ of the fixed prior, before squashing.
    adapt_temperature: whether α follows the entropy target, or stays at its initial value.
    initial_temperature: α at the start, in reward per nat.
    entropy_target: H̄ in nats; None: -entropy_per_dimension × d.
    entropy_per_dimension: used where entropy_target is None.
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
  pessimism: float | str = 2.5
  inference_iterations: int = 5
  samples: int = 10
  initial_std: float = 0.5
  gradient_norm: str = "layer"
  infer_with_target: bool = True
  policy: str = "tanh_gaussian"
  prior: str = "uniform"
  prior_std: float = 1.0
  adapt_temperature: bool = True
  initial_temperature: float = 1.0
  entropy_target: float | None = None
  entropy_per_dimension: float = 1.0
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


def make(spec: Spec, config: Config | None = None, *, axis: str | None = None) -> Agent:
  """Soft actor-critic with iterative inference for an environment.

  Args:
    spec: the environment's sizes; continuous actions.
    config: by default `Config()`.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a policy that does not fit the action space.
  """
  config = Config() if config is None else config
  head = policy_head(spec, config)
  return agent(design(spec, config, axis=axis), spec, head, normalize_observations=config.normalize_observations)


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that it is; Args and Raises as `make`."""
  positive(config, "learning_rate", "reward_scale", "critics", "inference_iterations", "samples", "prior_std")
  positive(config, "initial_temperature", "entropy_per_dimension")
  positive(config, "decay_updates", "max_grad_norm", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to")
  unit_interval(config, "tau", lower_open=True)

  head = policy_head(spec, config)
  optimizer = optimizers.adam(
    config.learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    max_grad_norm=config.max_grad_norm,
  )
  shape: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation}
  inputs = posteriors.iterative_inputs(spec.observation_size, head)
  network = networks.mlp(inputs, 2 * head.size, zero_output=True, **shape)
  critic = networks.mlp(spec.observation_size + spec.action_size, 1, layer_norm=config.layer_norm, **shape)
  posterior = posteriors.iterative(
    network,
    head,
    optimizer,
    iterations=config.inference_iterations,
    samples=config.samples,
    gradient_norm=config.gradient_norm,
    target=config.infer_with_target,
  )
  value = values.q_value(
    networks.action_in(networks.ensemble(critic, config.critics), head.execute),
    optimizer,
    gamma=config.gamma,
    tau=config.tau,
    pessimism=config.pessimism,
    reward_scale=config.reward_scale,
  )
  if config.prior == "uniform":
    prior = priors.uniform(head)
  elif config.prior == "fixed":
    family = _FAMILIES[config.policy](spec.action_size, init_std=config.prior_std)
    prior = priors.fixed(family, jnp.zeros(family.size))
  else:
    raise ValueError(f"prior is 'fixed' or 'uniform', got {config.prior!r}")
  if not config.adapt_temperature:
    return Design(prior, posterior, value, temperatures.fixed(config.initial_temperature), axis)
  target = config.entropy_target
  if target is None:
    target = -config.entropy_per_dimension * spec.action_size
  temperature = temperatures.entropy_target(dual(config.initial_temperature), optimizer, target)
  return Design(prior, posterior, value, temperature, axis)


_FAMILIES = {"tanh_gaussian": policies.tanh_gaussian, "gaussian": policies.gaussian}


def policy_head(spec: Spec, config: Config) -> policies.Head:
  """The policy's head, whose zeros are where inference starts.

  Raises:
    ValueError: discrete actions, or a policy that is unknown or does not fit the action space.
  """
  if spec.discrete:
    raise ValueError("iterative_sac needs continuous actions, but the environment's are discrete; use sac_discrete")
  if config.policy not in _FAMILIES:
    raise ValueError(f"policy is one of {sorted(_FAMILIES)}, got {config.policy!r}")
  if config.policy == "tanh_gaussian" and not spec.bounded:
    raise ValueError(
      "the environment's actions are unbounded: a tanh_gaussian policy cannot reach them; use policy='gaussian'"
    )
  return _FAMILIES[config.policy](spec.action_size, init_std=config.initial_std)
