"""What algorithms with a uniform prior share: head, networks, posterior and value, as their Configs describe them."""

from typing import Any

from varl import networks, optimizers, policies, posteriors, priors, values
from varl.settings import positive, unit_interval
from varl.types import Posterior, Prior, Spec, Value

_HEADS = {"tanh_gaussian": policies.tanh_gaussian, "gaussian": policies.gaussian}


def head(spec: Spec, policy: str) -> policies.Head:
  """The policy's head: `policy` for continuous actions, categorical for discrete ones.

  Raises:
    ValueError: an unknown policy, or a squashed one for an unbounded action space.
  """
  if policy not in _HEADS:
    raise ValueError(f"policy is one of {sorted(_HEADS)}, got {policy!r}")
  if spec.discrete:
    return policies.categorical(spec.action_size)
  if policy == "tanh_gaussian" and not spec.bounded:
    raise ValueError(
      "the environment's actions are unbounded: a tanh_gaussian policy cannot reach them; use policy='gaussian'"
    )
  return _HEADS[policy](spec.action_size)


def actor_critic(spec: Spec, config: Any, *, regularised: bool) -> tuple[Prior, Posterior, Value]:
  """A uniform prior, a policy network, and an ensemble of action values with or without a state value beside it.

  Continuous actions are sampled; of discrete ones all are particles, so that every expectation is exact.

  Args:
    spec: the environment's sizes.
    config: with the fields learning_rate, decay_updates, decay_to, max_grad_norm (of `optimizers.adam`); hidden,
      activation, layer_norm, critics (of the networks); gamma, tau, pessimism, reward_scale, separate_value (of
      the value); policy, samples, moment_penalty (of the policy).
    regularised: whether the value pays for divergence from the prior.

  Raises:
    ValueError: a field out of range, or a policy that does not fit the action space.
  """
  positive(config, "learning_rate", "reward_scale", "critics", "samples")
  positive(config, "decay_updates", "max_grad_norm", "moment_penalty", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to")
  unit_interval(config, "tau", lower_open=True)

  policy = head(spec, config.policy)
  optimizer = optimizers.adam(
    config.learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    max_grad_norm=config.max_grad_norm,
  )
  shape: dict[str, Any] = {"hidden": config.hidden, "activation": config.activation}
  actor = networks.mlp(spec.observation_size, policy.size, **shape)
  shape["layer_norm"] = config.layer_norm
  if spec.discrete:
    posterior = posteriors.enumerated(actor, policy, optimizer)
    network = networks.mlp(spec.observation_size, spec.action_size, **shape)
    critic = networks.action_out(networks.ensemble(network, config.critics))
  else:
    posterior = posteriors.direct(
      actor, policy, optimizer, samples=config.samples, moment_penalty=config.moment_penalty
    )
    network = networks.mlp(spec.observation_size + spec.action_size, 1, **shape)
    critic = networks.action_in(networks.ensemble(network, config.critics), policy.execute)
  options: dict[str, Any] = {
    "gamma": config.gamma,
    "tau": config.tau,
    "pessimism": config.pessimism,
    "reward_scale": config.reward_scale,
    "regularised": regularised,
  }
  if config.separate_value:
    state_network = networks.mlp(spec.observation_size, 1, **shape)
    value = values.state_value(critic, state_network, optimizer, **options)
  else:
    value = values.q_value(critic, optimizer, **options)
  return priors.uniform(policy), posterior, value
