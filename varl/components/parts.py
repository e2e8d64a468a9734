"""Heads, networks, values, posteriors and designs, as the Configs describe them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import optax

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.checks import positive, unit_interval
from varl.components.configs import (
  CriticConfig,
  HeadConfig,
  OnPolicyConfig,
  PolicyConfig,
  SoftConfig,
  check,
)
from varl.components.memories import remembering
from varl.duals import dual
from varl.types import Array, Design, Posterior, Prior, Spec, Temperature, Value

_HEADS = {
  "tanh_gaussian": policies.tanh_gaussian,
  "gaussian": policies.gaussian,
  "full_gaussian": policies.full_gaussian,
}


def head(spec: Spec, policy: str, *, init_std: float | Array = 1.0) -> policies.Head:
  """The policy's head: `policy` for continuous actions, categorical for discrete ones.

  Raises:
    ValueError: an unknown policy, or a squashed one for an unbounded action space.
  """
  if policy != "flow" and policy not in _HEADS:
    raise ValueError(f"policy is one of {sorted([*_HEADS, 'flow'])}, got {policy!r}")
  if spec.discrete:
    return policies.categorical(spec.action_size)
  if policy == "flow":
    return policies.flow(spec.action_size, init_std=init_std, squashed=spec.bounded)
  if policy == "tanh_gaussian" and not spec.bounded:
    raise ValueError(
      "the environment's actions are unbounded: a tanh_gaussian policy cannot reach them; use policy='gaussian'"
    )
  return _HEADS[policy](spec.action_size, init_std=init_std)


def policy_head(spec: Spec, config: HeadConfig) -> policies.Head:
  """`head` of the family that the Config's `policy` names, with its `initial_std`.

  Raises:
    ValueError: as `head`, or `initial_std` out of range.
  """
  positive(config, "initial_std")
  return head(spec, config.policy, init_std=config.initial_std)


def optimizer(
  config: Any, learning_rate: Any = None, *, descents: int = 1, weight_decay: Any = 0.0
) -> optax.GradientTransformation:
  """Adam as the Config says, with its learning rate or another one, for so many descents on each update."""
  return optimizers.adam(
    config.learning_rate if learning_rate is None else learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    descents=descents,
    max_grad_norm=config.max_grad_norm,
    weight_decay=weight_decay,
  )


def network(config: Any, inputs: int, outputs: int, *, of_values: bool = False, zero_output: bool = False) -> Any:
  """A perceptron of the Config's shape; `layer_norm` is for those that give values."""
  return networks.mlp(
    inputs,
    outputs,
    hidden=config.hidden,
    activation=config.activation,
    layer_norm=of_values and config.layer_norm,
    zero_output=zero_output,
  )


def actor(spec: Spec, config: Any, policy: policies.Head) -> networks.Network:
  """A policy network. On an unbounded action space its last layer starts at zero: N(0, initial_std² I) in all states.

  A random last layer makes mean and deviation grow with the state. Where no bound clips the actions either, noise that
  grows with the state can drive a stable problem to infinity before anything is learned. So it starts for a flow, too,
  whose couplings a random layer would drive far apart. It does not see what is privileged.
  """
  plain = not spec.discrete and (not spec.bounded or getattr(config, "policy", "") == "flow")

  def made(inputs: int) -> networks.Network:
    of_policy: networks.Network = network(config, inputs - spec.privileged, policy.size, zero_output=plain)
    return networks.blind(spec, of_policy)

  return remembering(spec, config, policy, "actor", made)


def returns(config: CriticConfig) -> values.Returns | None:
  """What the Config's `critic` learns of the return; None: its mean alone.

  Raises:
    ValueError: bounds or a number of atoms that no distribution has, or a risk where there is no distribution.
  """
  if config.critic in ("scalar", "hl_gauss") and isinstance(config.risk, int | float) and config.risk != 1.0:
    raise ValueError(
      f"risk={config.risk} is of a distribution, and a {config.critic} critic has none: critic='categorical' or "
      "'quantile'"
    )
  low: Any = config.return_low
  high: Any = config.return_high
  if config.critic == "categorical":
    return values.categorical(low, high, config.atoms, risk=config.risk)
  if config.critic == "hl_gauss":
    return values.hl_gauss(low, high, config.atoms)
  if config.critic == "quantile":
    return values.quantile(config.atoms, kappa=config.kappa, risk=config.risk)
  return None


def critic(spec: Spec, config: Any, policy: policies.Head, *, outputs: int | None = None) -> networks.Critic:
  """An ensemble of action values: the action is an input where it is continuous, and one of the outputs else.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    policy: the head, which says what is executed.
    outputs: of each action, of a critic of distributions; None: one number.
  """
  each = 1 if outputs is None else outputs

  def made(inputs: int) -> networks.Critic:
    if spec.discrete:
      table = network(config, inputs, spec.action_size * each, of_values=True)
      return networks.action_out(networks.ensemble(table, config.critics), outputs=outputs)
    joined = network(config, inputs + spec.action_size, each, of_values=True)
    return networks.action_in(networks.ensemble(joined, config.critics), policy.execute, outputs=outputs)

  return remembering(spec, config, policy, "critic", made)


def q_value(spec: Spec, config: Any, policy: policies.Head, *, sees: Any = None, **options: Any) -> Value:
  """`values.q_value` as the Config says, of all of the observation or of `sees(obs)`; `options` are its remaining
  arguments.
  """
  found = returns(config)
  made = critic(spec, config, policy, outputs=None if found is None else found.size)
  if sees is not None:
    of_all = made.apply
    made = made._replace(apply=lambda params, obs, action: of_all(params, sees(obs), action))
  return values.q_value(made, optimizer(config), returns=found, **_value_options(config), **options)


def actor_critic(
  spec: Spec,
  config: PolicyConfig,
  *,
  regularised: bool,
  look_ahead: int = 0,
  expansion: values.Expansion | None = None,
) -> tuple[Prior, Posterior, Value]:
  """A uniform prior, a policy network, and an ensemble of action values with or without a state value beside it.

  Continuous actions are sampled; of discrete ones all are particles, so that every expectation is exact.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    regularised: whether the value pays for divergence from the prior.
    look_ahead: steps of the design's model that the policy's loss is differentiated through; of continuous actions.
    expansion: of the value's targets, through the design's model; of action values alone.

  Raises:
    ValueError: a field out of range, or a policy that does not fit the action space.
  """
  check(config)
  positive(config, "samples")
  positive(config, "moment_penalty", zero=True)
  policy = policy_head(spec, config)
  if config.policy == "flow" and (not isinstance(config.moment_penalty, int | float) or config.moment_penalty > 0):
    raise ValueError("moment_penalty is of a Gaussian's mean and deviation, and a flow has none: it must be 0")
  acting = actor(spec, config, policy)
  if spec.discrete:
    posterior = posteriors.enumerated(acting, policy, optimizer(config))
  else:
    posterior = posteriors.direct(
      acting,
      policy,
      optimizer(config),
      samples=config.samples,
      moment_penalty=config.moment_penalty,
      look_ahead=look_ahead,
      gamma=config.gamma,
      reward_scale=config.reward_scale,
    )
  if config.separate_value and expansion is not None:
    raise ValueError("targets are expanded of action values: an expansion needs separate_value=False")
  if config.separate_value and config.critic != "scalar":
    raise ValueError(f"a state value is of scalar critics: critic={config.critic!r} needs separate_value=False")
  if config.separate_value:
    value = values.state_value(
      critic(spec, config, policy),
      value_network(spec, config, policy),
      optimizer(config),
      regularised=regularised,
      **_value_options(config),
    )
  else:
    value = q_value(spec, config, policy, regularised=regularised, expansion=expansion)
  return priors.uniform(policy), posterior, value


def soft(spec: Spec, config: SoftConfig, *, look_ahead: int = 0) -> tuple[Prior, Posterior, Value, Temperature]:
  """The four axes of soft actor-critic, for continuous or discrete actions.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    look_ahead: as in `actor_critic`.

  Raises:
    ValueError: a field out of range, or a policy that does not fit the action space.
  """
  check(config)
  positive(config, "entropy_per_dimension")
  unit_interval(config, "entropy_share", lower_open=True)
  target = -config.entropy_per_dimension * spec.action_size
  if spec.discrete:
    target = config.entropy_share * math.log(spec.action_size)
  return (
    *actor_critic(spec, config, regularised=True, look_ahead=look_ahead),
    temperature(spec, config, target),
  )


def parametric(
  spec: Spec, config: Any, policy: policies.Head, *, samples: int = 1, look_ahead: int = 0, group: str = "actor"
) -> tuple[networks.Network, Posterior]:
  """A policy network, and the posterior that it is: sampled continuous actions, or all the discrete ones."""
  acting = actor(spec, config, policy)
  if spec.discrete:
    return acting, posteriors.enumerated(acting, policy, optimizer(config), group=group)
  own = {"gamma": config.gamma, "reward_scale": config.reward_scale} if look_ahead else {}
  return acting, posteriors.direct(
    acting, policy, optimizer(config), samples=samples, look_ahead=look_ahead, group=group, **own
  )


def value_network(spec: Spec, config: Any, policy: policies.Head, outputs: int = 1) -> networks.Network:
  """A perceptron of state values, of the Config's `value_hidden` where it has that."""
  hidden = getattr(config, "value_hidden", None)
  shaped = config if hidden is None else dataclasses.replace(config, hidden=hidden)

  def made(inputs: int) -> networks.Network:
    of_states: networks.Network = network(shaped, inputs, outputs, of_values=True)
    return of_states

  return remembering(spec, config, policy, "value", made)


def lambda_value(
  spec: Spec, config: OnPolicyConfig, policy: policies.Head, *, updates: int = 1, **options: Any
) -> Value:
  """`values.lambda_value` as the Config says, with its `updates`; `options` are its remaining arguments."""
  return values.lambda_value(
    value_network(spec, config, policy),
    optimizer(config, descents=updates),
    gamma=config.gamma,
    lam=config.lam,
    reward_scale=config.reward_scale,
    updates=updates,
    **options,
  )


def policy_gradient(
  spec: Spec,
  config: Any,
  temperature: Temperature,
  *,
  surrogate: str,
  clip: Any = 0.2,
  divergence: bool = False,
  regularised: bool = False,
  samples: int = 1,
  prior: Callable[[networks.Network, policies.Head], Prior] | None = None,
  axis: str | None = None,
) -> Design:
  """The design of a `GradientConfig`: a policy network that follows `posteriors.score`.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    temperature: the price of divergence from the prior.
    surrogate, clip, divergence: as `posteriors.score`.
    regularised: whether the return pays for the divergence.
    samples: actions a state by which the divergence of continuous policies is estimated.
    prior: makes it from the policy's network and head; None: uniform.
    axis: the mapped axis, on several devices.

  Raises:
    ValueError: a field out of range, or a policy that does not fit the action space.
  """
  check(config)
  policy = policy_head(spec, config)
  acting_network, acting = parametric(spec, config, policy, samples=samples)
  posterior = posteriors.score(
    acting,
    optimizer(config),
    surrogate=surrogate,
    clip=clip,
    divergence=divergence,
    standardise=config.standardise,
  )
  of_policy = priors.uniform(policy) if prior is None else prior(acting_network, policy)
  value = lambda_value(spec, config, policy, regularised=regularised)
  return Design(of_policy, posterior, value, temperature, axis)


def temperature(spec: Spec, config: Any, target: Any) -> Temperature:
  """The temperature of a `TemperatureConfig`, adapted to its own entropy target or, where that is None, to `target`.

  Raises:
    ValueError: an initial temperature out of range, or an entropy target that no policy exceeds: α would grow without
      end.
  """
  positive(config, "initial_temperature")
  if not config.adapt_temperature:
    return temperatures.fixed(config.initial_temperature)
  name = "the entropy target" if config.entropy_target is None else "entropy_target"
  target = target if config.entropy_target is None else config.entropy_target
  largest, of = largest_entropy(spec, config)
  if isinstance(target, int | float) and not target < largest:
    raise ValueError(f"{name} must be below {largest:.6g}, the entropy of {of}; got {target:.6g}")
  return temperatures.entropy_target(dual(config.initial_temperature), optimizer(config), target)


def largest_entropy(spec: Spec, config: Any) -> tuple[float, str]:
  """The supremum of the policy's entropy in nats, of the density on [-1, 1]^d where it is squashed, and whose it is."""
  if spec.discrete:
    return math.log(spec.action_size), f"equal probabilities of {spec.action_size} actions"
  if spec.bounded and getattr(config, "policy", "tanh_gaussian") in ("tanh_gaussian", "flow"):
    return spec.action_size * math.log(2.0), f"uniform actions on [-1, 1]^{spec.action_size}, d log 2"
  return math.inf, "no policy"


def _value_options(config: Any) -> dict[str, Any]:
  return {name: getattr(config, name) for name in ("gamma", "tau", "pessimism", "reward_scale")}
