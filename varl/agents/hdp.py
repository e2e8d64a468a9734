"""Hierarchical divergence: a policy with two levels, whose prior sees less (Tirumala et al. 2019, 1903.07438).

prior with two levels, the lower one shared or distilled × posterior with two levels, direct × value regularised ×
temperature fixed, or by a budget of divergence.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from varl import components, policies, posteriors, priors
from varl.checks import positive, unit_interval
from varl.memory import Memory, latent
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.DivergenceConfig):
  """Hyper-parameters of a policy with two levels, beside those of the config that it extends.

  What is withheld, the prior and a lower level that it shares do not see.

  Attributes:
    latent: k, entries of the latent.
    upper_prior: "ar1", a latent that goes on from the one before, or "learned", of what the prior sees as well.
    correlation: ρ in (-1, 1), of "ar1".
    shared_lower: whether policy and prior have one lower level, which costs nothing; or the policy's sees all, and
      pays for divergence from one that is distilled from it.
  """

  latent: int = 4
  upper_prior: str = "ar1"
  correlation: float = 0.0
  shared_lower: bool = True


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that a policy with two levels is.

  Args:
    spec: the environment's sizes; continuous actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, discrete actions, or a prior that would see all or nothing.
  """
  components.check(config)
  positive(config, "latent", "samples", whole=True)
  unit_interval(config, "prior_tau", lower_open=True)
  if config.upper_prior not in ("ar1", "learned"):
    raise ValueError(f"upper_prior is ar1 or learned; got {config.upper_prior!r}")
  policy = _head(spec, config)
  k, of_latent = config.latent, policies.gaussian(config.latent)
  part = priors.all_but_last(spec, config.withheld)
  seen = spec.observation_size - (config.withheld or spec.context)

  def sees(obs: Any) -> Any:
    return part(obs[..., :-k])

  lower_sees, lower_size = (sees, seen) if config.shared_lower else (_all_but_latent(k), spec.observation_size)
  posterior = posteriors.hierarchical(
    # At first the latent says nothing and does nothing: the policy is as wide as it is told, in every state.
    components.network(config, spec.observation_size + k, of_latent.size, zero_output=True),
    of_latent,
    components.network(config, lower_size + k, policy.size, zero_output=True),
    policy,
    components.optimizer(config),
    size=k,
    sees=lower_sees,
    shared=config.shared_lower,
    samples=config.samples,
  )
  learned = config.upper_prior == "learned"
  prior = priors.hierarchical(
    of_latent,
    size=k,
    sees=sees,
    correlation=config.correlation,
    upper=components.network(config, seen + k, of_latent.size) if learned else None,
    lower=None if config.shared_lower else components.network(config, seen + k, policy.size),
    head=policy,
    optimizer=components.optimizer(config),
    tau=config.prior_tau,
  )
  # What follows depends on the latent where the next one goes on from it. Else the value is of the action alone: in
  # replay the one tells the other, and what a latent seems to be worth would be taken for the action's worth.
  goes_on = learned or not isinstance(config.correlation, int | float) or config.correlation != 0
  acted = spec._replace(action_size=spec.action_size + k) if goes_on else spec
  executed = policy._replace(execute=lambda u: _executed(policy, u, k) if goes_on else policy.execute(u[..., k:]))
  value = components.q_value(acted, config, executed, sees=_all_but_latent(k))
  return Design(prior, posterior, value, components.divergence_price(config), axis)


def _all_but_latent(k: int) -> Any:
  return lambda obs: obs[..., :-k]


def _executed(policy: policies.Head, u: Any, k: int) -> Any:
  return jnp.concatenate([u[..., :k], policy.execute(u[..., k:])], axis=-1)


def _head(spec: Spec, config: Config) -> policies.Head:
  if spec.discrete:
    raise ValueError("hdp needs continuous actions, but the environment's are discrete; iadp takes them")
  return components.policy_head(spec, config)


def _acting(spec: Spec, config: Config) -> policies.Head:
  """The head of actions [z, a], of which the environment gets a; random ones have a latent of N(0, I)."""
  policy, k = _head(spec, config), config.latent
  uniform = policy.uniform

  def both(key: Any, shape: tuple[int, ...]) -> Any:
    latent_key, action_key = jax.random.split(key)
    z = jax.random.normal(latent_key, (*shape, k))
    return z if uniform is None else jnp.concatenate([z, uniform(action_key, shape)], axis=-1)

  return policy._replace(
    execute=lambda u: policy.execute(u[..., k:]), uniform=None if uniform is None else both, uniform_log_prob=None
  )


def _memory(spec: Spec, config: Config, policy: policies.Head) -> Memory:
  return latent(spec, config.latent)


make = components.maker(Config, design, _acting, _memory)
