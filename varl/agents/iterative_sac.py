"""Soft actor-critic with iterative amortised inference (Marino et al. 2019; Marino et al. 2020, 2010.10670).

prior uniform or a fixed tanh-Gaussian × posterior iterative × value regularised × temperature by an entropy target.
"""

import dataclasses

import jax.numpy as jnp

from varl import components, policies, posteriors, priors
from varl.checks import positive
from varl.types import Design, Prior, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.TemperatureConfig, components.CriticConfig):
  """Hyper-parameters of iterative amortised soft actor-critic, beside those of the configs that it extends.

  Attributes:
    samples: M, actions a state in each estimate of the objective, in the target and in the temperature's loss.
    pessimism: κ for mean - κ·std over the ensemble, or "min"; 2.5 is the paper's for iterative inference.
    inference_iterations: K, inference iterations; 5 is the paper's, 2 the workshop paper's.
    initial_std: σ from which inference starts, before squashing; μ starts at 0.
    gradient_norm: "layer" or "rms", how the gradients fed to the network are normalised.
    infer_with_target: whether inference climbs the target critic (the paper's) or the learning one.
    policy: "tanh_gaussian" for bounded actions, "gaussian" for the whole line.
    prior: "uniform", or "fixed": the policy's family at μ = 0 and σ = prior_std in every state (the workshop paper's).
    prior_std: σ of the fixed prior, before squashing.
    entropy_per_dimension: used where entropy_target is None.
  """

  pessimism: float | str = 2.5
  inference_iterations: int = 5
  samples: int = 10
  initial_std: float = 0.5
  gradient_norm: str = "layer"
  infer_with_target: bool = True
  policy: str = "tanh_gaussian"
  prior: str = "uniform"
  prior_std: float = 1.0
  entropy_per_dimension: float = 1.0


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that it is.

  Args:
    spec: the environment's sizes; continuous actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "inference_iterations", "samples", "prior_std", "initial_std", "entropy_per_dimension")
  head = _head(spec, config)
  inputs = posteriors.iterative_inputs(spec.observation_size, head)
  posterior = posteriors.iterative(
    components.network(config, inputs, 2 * head.size, zero_output=True),
    head,
    components.optimizer(config),
    iterations=config.inference_iterations,
    samples=config.samples,
    gradient_norm=config.gradient_norm,
    target=config.infer_with_target,
  )
  return Design(
    _prior(spec, config, head),
    posterior,
    components.q_value(spec, config, head),
    components.temperature(spec, config, -config.entropy_per_dimension * spec.action_size),
    axis,
  )


def _prior(spec: Spec, config: Config, head: policies.Head) -> Prior:
  if config.prior == "uniform":
    return priors.uniform(head)
  if config.prior != "fixed":
    raise ValueError(f"prior is 'fixed' or 'uniform', got {config.prior!r}")
  family = components.head(spec, config.policy, init_std=config.prior_std)
  return priors.fixed(family, jnp.zeros(family.size))


def _head(spec: Spec, config: Config) -> policies.Head:
  """The policy's head, whose zeros are where inference starts."""
  if spec.discrete:
    raise ValueError("iterative_sac needs continuous actions, but the environment's are discrete; use sac_discrete")
  return components.head(spec, config.policy, init_std=config.initial_std)


make = components.maker(Config, design, _head)
