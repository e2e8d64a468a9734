"""Models of the world and plans in them, as the Configs describe them."""

from typing import Any

import jax

from varl import models, networks, policies, posteriors, rewards
from varl.components.configs import CorrectionConfig, PlanConfig
from varl.components.parts import optimizer, policy_head
from varl.models.ensemble import inputs_of, outputs_of
from varl.types import Array, Design, Key, Model, Observation, Params, Posterior, Reward, Spec


def model(spec: Spec, config: Any, given: Model | None = None) -> Model:
  """The model that is given, or `models.ensemble` as a `ModelConfig` says, its activation SiLU.

  Raises:
    ValueError: a field out of range.
  """
  if given is not None:
    return given
  members, elites = int(config.members), int(config.elites)
  return models.ensemble(
    spec,
    networks.mlp(inputs_of(spec), outputs_of(spec), hidden=config.model_hidden, activation="silu"),
    optimizer(config, config.model_learning_rate, weight_decay=config.weight_decay),
    members=members,
    elites=elites or None,
    execute=policy_head(spec, config).execute,
    ends=config.model_ends,
  )


def correction(spec: Spec, config: CorrectionConfig) -> Reward | None:
  """`rewards.log_ratio` as a `CorrectionConfig` says; None without one."""
  own: Any = config
  if own.correction == "none":
    return None
  pair = spec.observation_size + spec.action_size

  def classifier(inputs: int) -> networks.Network:
    return networks.mlp(inputs, 1, hidden=own.correction_hidden)

  return rewards.log_ratio(
    spec,
    classifier(pair + spec.observation_size),
    classifier(pair),
    optimizer(own),
    execute=policy_head(spec, own).execute,
    form=own.correction,
    weight=own.correction_weight,
    reward_scale=own.reward_scale,
    clip=own.correction_clip,
    noise=own.correction_noise,
    warm_up=own.correction_warm_up,
  )


def planning(spec: Spec, config: PlanConfig, policy: Posterior, **options: Any) -> Posterior:
  """`posteriors.smc` as a `PlanConfig` says, proposing from `policy`; `options` are its remaining arguments.

  The value of a state under discrete actions is summed over all of them, α log Σ_a p(a|s) exp(Q(s, a)/α).
  """
  own: Any = config

  def every_action(design: Design, params: Params, obs: Observation, key: Key) -> Array:
    del key
    action = policies.every_action(spec.action_size, obs.shape[:-1])
    alpha = design.temperature.value(params)
    q = design.value.q(params, obs, action)
    return alpha * jax.nn.logsumexp(q / alpha + design.prior.log_prob(params, obs, action), axis=0)

  return posteriors.smc(
    policy,
    particles=int(config.particles),
    horizon=int(config.horizon),
    gamma=own.gamma,
    reward_scale=own.reward_scale,
    target=config.target,
    resample_below=config.resample_below,
    value_samples=int(config.value_samples),
    thompson=bool(config.thompson),
    value=every_action if spec.discrete else None,
    **options,
  )
