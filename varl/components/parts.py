"""Heads, networks, values, posteriors and designs, as the Configs describe them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import optax

from varl import models, networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.checks import positive, unit_interval
from varl.components.configs import (
  HeadConfig,
  ModelConfig,
  OnPolicyConfig,
  PlanConfig,
  PolicyConfig,
  SoftConfig,
  check,
)
from varl.design import agent
from varl.duals import Dual, dual
from varl.models.ensemble import inputs_of, outputs_of
from varl.types import Agent, Array, Design, Key, Model, Observation, Params, Posterior, Prior, Spec, Temperature, Value

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
  if policy not in _HEADS:
    raise ValueError(f"policy is one of {sorted(_HEADS)}, got {policy!r}")
  if spec.discrete:
    return policies.categorical(spec.action_size)
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


class Make(Protocol):
  """`(spec, config=None, *, axis=None) -> Agent`: an algorithm for an environment, by default with its `Config()`.

  Args and Raises are those of the algorithm's `design`.
  """

  def __call__(self, spec: Spec, config: Any = None, *, axis: str | None = None) -> Agent: ...


def maker(
  config_type: Callable[[], Any], design: Callable[..., Design], make_head: Callable[[Spec, Any], policies.Head]
) -> Make:
  """An algorithm's `make`, of its Config, its design and its policy's head."""

  def make(spec: Spec, config: Any = None, *, axis: str | None = None) -> Agent:
    config = config_type() if config is None else config
    family = make_head(spec, config)
    return agent(design(spec, config, axis=axis), spec, family, normalize_observations=config.normalize_observations)

  make.__annotations__["config"] = config_type  # for whoever asks what its hyper-parameters are
  return make


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
  grows with the state can drive a stable problem to infinity before anything is learned.
  """
  return network(config, spec.observation_size, policy.size, zero_output=not spec.discrete and not spec.bounded)


def critic(spec: Spec, config: Any, policy: policies.Head) -> networks.Critic:
  """An ensemble of action values: the action is an input where it is continuous, and one of the outputs else."""
  if spec.discrete:
    table = network(config, spec.observation_size, spec.action_size, of_values=True)
    return networks.action_out(networks.ensemble(table, config.critics))
  joined = network(config, spec.observation_size + spec.action_size, 1, of_values=True)
  return networks.action_in(networks.ensemble(joined, config.critics), policy.execute)


def q_value(spec: Spec, config: Any, policy: policies.Head, **options: Any) -> Value:
  """`values.q_value` as the Config says; `options` are its remaining arguments."""
  return values.q_value(critic(spec, config, policy), optimizer(config), **_value_options(config), **options)


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
  if config.separate_value:
    value = values.state_value(
      critic(spec, config, policy),
      network(config, spec.observation_size, 1, of_values=True),
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


def model(spec: Spec, config: ModelConfig, policy: policies.Head) -> Model:
  """`models.ensemble` as a `ModelConfig` says, its activation SiLU.

  Raises:
    ValueError: a field out of range.
  """
  members, elites = int(config.members), int(config.elites)
  return models.ensemble(
    spec,
    networks.mlp(inputs_of(spec), outputs_of(spec), hidden=config.model_hidden, activation="silu"),
    optimizer(config, config.model_learning_rate, weight_decay=config.weight_decay),
    members=members,
    elites=elites or None,
    execute=policy.execute,
    ends=config.model_ends,
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
    value=every_action if spec.discrete else None,
    **options,
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


def learned_prior(spec: Spec, config: Any, policy: policies.Head, **options: Any) -> Prior:
  """`priors.learned` within the trust region of a `TrustRegionConfig`; `options` are its remaining arguments."""
  if config.per_dimension and config.policy == "full_gaussian" and not spec.discrete:
    raise ValueError("a full covariance has no budget a dimension: full_gaussian needs per_dimension=False")
  shape = (spec.action_size,) if config.per_dimension else ()

  def bound(part: str, shape: tuple[int, ...]) -> priors.Bound:
    initial, budget = getattr(config, f"initial_{part}_multiplier"), getattr(config, f"epsilon_{part}")
    return priors.Bound(multiplier(initial, shape), budget)

  if spec.discrete:
    bounds = {"policy": bound("policy", ())}
  else:
    bounds = {part: bound(part, shape) for part in ("mean", "covariance")}
  return priors.learned(
    actor(spec, config, policy),
    policy,
    optimizer(config),
    bounds,
    optimizers.adam(config.dual_learning_rate),
    target_every=config.target_every,
    **options,
  )


def kl_temperature(config: Any) -> Temperature:
  """`temperatures.kl_budget` of the Config's `epsilon`, `initial_temperature` and `dual_learning_rate`."""
  return temperatures.kl_budget(
    multiplier(config.initial_temperature), optimizers.adam(config.dual_learning_rate), config.epsilon
  )


def multiplier(initial: Any, shape: tuple[int, ...] = ()) -> Dual:
  """A dual variable as MPO's papers have it: softplus, and never quite zero."""
  return dual(initial, shape=shape, transform="softplus", floor=1e-8)


def lambda_value(spec: Spec, config: OnPolicyConfig, *, updates: int = 1, **options: Any) -> Value:
  """`values.lambda_value` as the Config says, with its `updates`; `options` are its remaining arguments."""
  hidden = config.hidden if config.value_hidden is None else config.value_hidden
  of_states = network(dataclasses.replace(config, hidden=hidden), spec.observation_size, 1, of_values=True)
  return values.lambda_value(
    of_states,
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
  return Design(of_policy, posterior, lambda_value(spec, config, regularised=regularised), temperature, axis)


def improvement(spec: Spec, config: Any, *, axis: str | None = None) -> Design:
  """The design of an `ImprovementConfig` and `TrustRegionConfig`: a learned prior that follows its own improvement.

  Raises:
    ValueError: a field out of range, choices that do not go together, or a policy that does not fit the action space.
  """
  check(config)
  positive(config, "action_penalty", zero=True)
  unit_interval(config, "lam")
  for name, allowed in (
    ("inference", ("sampled", "parametric")),
    ("weights", ("boltzmann", "rank")),
    ("correction", ("none", "retrace", "n_step")),
  ):
    if getattr(config, name) not in allowed:
      raise ValueError(f"{name} is one of {', '.join(allowed)}; got {getattr(config, name)!r}")
  policy = policy_head(spec, config)
  if config.weights == "boltzmann" and config.inference == "sampled" and not spec.discrete:
    check_budget(config, "samples")
  if config.weights == "rank" and (spec.discrete or config.inference == "parametric"):
    raise ValueError("ranks weigh sampled, continuous actions: weights='rank' needs inference='sampled'")
  penalised = not isinstance(config.action_penalty, int | float) or config.action_penalty > 0
  if penalised and (spec.discrete or config.policy == "tanh_gaussian"):
    raise ValueError("actions of this policy are never out of bounds: action_penalty must be 0")
  if config.inference == "parametric":
    posterior = parametric(spec, config, policy, samples=config.samples, group="improved")[1]
  elif spec.discrete:
    posterior = posteriors.softmax(policy)
  elif config.weights == "rank":
    posterior = posteriors.ranked(samples=config.samples)
  else:
    posterior = posteriors.boltzmann(samples=config.samples)
  correction = None
  if config.correction == "retrace":
    correction = values.retrace(config.sequence, config.lam)
  elif config.correction == "n_step":
    correction = values.n_step(config.sequence)
  made = following(spec, config, posteriors.acting_by_prior(posterior), correction=correction)
  if penalised:
    made = made._replace(value=values.out_of_bounds_penalty(made.value, config.action_penalty))
  if config.weights == "rank":
    made = made._replace(temperature=temperatures.fixed(0.0))
  return made._replace(axis=axis)


def following(
  spec: Spec, config: Any, posterior: Posterior, *, correction: Any = None, model: Model | None = None
) -> Design:
  """The design of a `BudgetConfig` and `TrustRegionConfig` in which a learned prior follows that posterior.

  The value is the prior's, without the price of divergence; the temperature is the multiplier of the E-step's budget.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    posterior: the E-step, which also acts.
    correction: of the value's targets, as in `values.q_value`.
    model: of the world, where the posterior reads it.
  """
  policy = policy_head(spec, config)
  value = q_value(
    spec,
    config,
    policy,
    regularised=False,
    target_every=config.target_every,
    evaluates=priors.every_action(policy) if spec.discrete else priors.samples(config.samples),
    correction=correction,
  )
  prior = learned_prior(spec, config, policy, tau=config.tau)
  return Design(prior, posterior, value, kl_temperature(config), model=model)


def check_budget(config: Any, count: str) -> None:
  """Raises ValueError where weights of so many samples, the Config's field `count`, cannot diverge by its `epsilon`."""
  samples = getattr(config, count)
  if isinstance(config.epsilon, int | float) and config.epsilon >= math.log(samples):
    raise ValueError(
      f"epsilon must be below log {count} = {math.log(samples):.6g}, the largest divergence that weights of "
      f"{samples} samples can have; got {config.epsilon}"
    )


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
  if getattr(config, "policy", "tanh_gaussian") == "tanh_gaussian":
    return spec.action_size * math.log(2.0), f"uniform actions on [-1, 1]^{spec.action_size}, d log 2"
  return math.inf, "no policy"


def _value_options(config: Any) -> dict[str, Any]:
  return {name: getattr(config, name) for name in ("gamma", "tau", "pessimism", "reward_scale")}
