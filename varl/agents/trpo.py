"""Trust-region policy optimisation (Schulman et al. 2015, 1502.05477): the stable iterative algorithm, its KL a bound.

prior uniform × posterior direct, by natural-gradient steps within a trust region × value on-policy, λ-returns ×
temperature zero.
"""

import dataclasses

import jax
import jax.numpy as jnp

from varl import components, posteriors, priors, temperatures
from varl.checks import positive
from varl.types import Array, ArrayTree, Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.GradientConfig):
  """Hyper-parameters of TRPO, beside those of the config that it extends.

  The trust region is of one update: `epochs=1` and a `batch_size` of the whole rollout make it one of the policy that
  acted. The change of the observation moments between two rollouts is not in it.

  Attributes:
    max_kl: δ, what the policy may move in an update: mean KL over the batch's states, in nats.
    damping: added to the Fisher matrix's diagonal.
    conjugate_iterations: of conjugate gradients.
    backtracks: halvings of a step that breaks the bound or gains nothing, at most.
    value_updates: descents of the value on each batch, at `learning_rate`.
  """

  max_kl: float = 0.01
  damping: float = 0.1
  conjugate_iterations: int = 10
  backtracks: int = 10
  value_updates: int = 10


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that TRPO is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "max_kl")
  positive(config, "damping", zero=True)
  positive(config, "conjugate_iterations", "value_updates", whole=True)
  positive(config, "backtracks", zero=True, whole=True)
  head = components.policy_head(spec, config)
  jax.eval_shape(head.kl, jnp.zeros(head.size), jnp.zeros(head.size))  # a head without one says so
  network, policy = components.parametric(spec, config, head)

  def divergence(old: ArrayTree, new: ArrayTree, obs: Array) -> Array:
    return head.kl(network.apply(old, obs), network.apply(new, obs))

  posterior = posteriors.natural(
    policy,
    divergence,
    max_kl=config.max_kl,
    damping=config.damping,
    iterations=config.conjugate_iterations,
    backtracks=config.backtracks,
    standardise=config.standardise,
  )
  value = components.lambda_value(spec, config, head, updates=config.value_updates)
  return Design(priors.uniform(head), posterior, value, temperatures.fixed(0.0), axis)


make = components.maker(Config, design, components.policy_head)
