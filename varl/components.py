"""What named algorithms share: settings, head, networks, values and posteriors, as their Configs describe them."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import optax

from varl import networks, optimizers, policies, posteriors, priors, temperatures, values
from varl.design import agent
from varl.duals import Dual, dual
from varl.settings import positive, unit_interval
from varl.types import Agent, Design, Posterior, Prior, Spec, Temperature, Value

_HEADS = {"tanh_gaussian": policies.tanh_gaussian, "gaussian": policies.gaussian}


@dataclasses.dataclass(frozen=True)
class Config:
  """The hyper-parameters that every algorithm has, some with defaults of its own; numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for all that is learned, unless another one is named for it.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step.
    reward_scale: multiplies the reward.
    hidden: the widths of the hidden layers of all networks; none makes them linear, which on one-hot observations is a
      table.
    activation: relu, silu, elu, gelu or tanh.
    layer_norm: LayerNorm before each activation of the values.
    max_grad_norm: gradients are scaled down to this global norm; 0 leaves them.
    normalize_observations: running observation moments.
  """

  learning_rate: float = 3e-4
  decay_updates: int = 0
  decay_to: float = 0.0
  gamma: float = 0.99
  reward_scale: float = 1.0
  hidden: tuple[int, ...] = (256, 256)
  activation: str = "relu"
  layer_norm: bool = False
  max_grad_norm: float = 0.0
  normalize_observations: bool = True


@dataclasses.dataclass(frozen=True)
class CriticConfig(Config):
  """`Config` of an algorithm that learns action values from replay.

  Attributes:
    tau: the rate at which the slow copies follow; 1 copies.
    critics: members of the critic ensemble.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
  """

  tau: float = 0.005
  critics: int = 2
  pessimism: float | str = "min"


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig(Config):
  """`Config` of an algorithm that learns from its own rollouts, with a state value.

  Attributes:
    lam: λ of the returns and advantages.
    value_hidden: the widths of the value's hidden layers; None: those of `hidden`.
    policy: for continuous actions, "tanh_gaussian" where they are bounded, "gaussian" on the whole line.
  """

  lam: float = 0.95
  value_hidden: tuple[int, ...] | None = None
  policy: str = "tanh_gaussian"


@dataclasses.dataclass(frozen=True)
class GradientConfig(OnPolicyConfig):
  """`OnPolicyConfig` of a policy gradient.

  Attributes:
    standardise: whether advantages are centred and divided by their deviation, in each batch.
  """

  standardise: bool = True


@dataclasses.dataclass(frozen=True)
class PolicyConfig(CriticConfig):
  """`CriticConfig` of an algorithm with a policy network, and optionally a state value.

  Attributes:
    separate_value: whether a state value V is learned beside Q and has the slow copy, or Q itself has it.
    samples: actions drawn a state, in targets and losses; of discrete actions all are used.
    policy: for continuous actions, "tanh_gaussian" where they are bounded, "gaussian" on the whole line.
    moment_penalty: weight of `losses.moment_penalty` in the policy's loss, for continuous actions.
  """

  separate_value: bool = False
  samples: int = 1
  policy: str = "tanh_gaussian"
  moment_penalty: float = 0.0


@dataclasses.dataclass(frozen=True)
class TemperatureConfig:
  """How a temperature is adapted to an entropy target, or held.

  Attributes:
    adapt_temperature: whether α follows the entropy target, or stays at its initial value.
    initial_temperature: α at the start, in reward per nat.
    entropy_target: H̄ in nats; None takes the algorithm's own rule.
  """

  adapt_temperature: bool = True
  initial_temperature: float = 1.0
  entropy_target: float | None = None


@dataclasses.dataclass(frozen=True)
class TrustRegionConfig:
  """How a learned prior follows its posterior, and how far from its slow copy.

  Attributes:
    target_every: updates between two movements of the slow copy.
    epsilon_mean: ε_μ, what the mean may move between them, in nats a dimension.
    epsilon_covariance: ε_Σ, the same of the covariance.
    epsilon_policy: the same of a categorical policy.
    initial_mean_multiplier, initial_covariance_multiplier, initial_policy_multiplier: α at the start.
    per_dimension: a multiplier and a budget for each action dimension, or one on their sum.
    dual_learning_rate: Adam's step for all dual variables, constant.
  """

  target_every: int = 100
  epsilon_mean: float = 2.5e-3
  epsilon_covariance: float = 1e-6
  epsilon_policy: float = 1e-3
  initial_mean_multiplier: float = 10.0
  initial_covariance_multiplier: float = 1000.0
  initial_policy_multiplier: float = 10.0
  per_dimension: bool = True
  dual_learning_rate: float = 1e-2


def check(config: Any) -> None:
  """Checks the fields of `Config`, and those of the other configs here that it extends.

  Raises:
    ValueError: one is out of range.
  """
  positive(config, "learning_rate", "reward_scale")
  positive(config, "decay_updates", "max_grad_norm", zero=True)
  unit_interval(config, "gamma", upper_open=True)
  unit_interval(config, "decay_to")
  if isinstance(config, CriticConfig):
    positive(config, "critics", whole=True)
    unit_interval(config, "tau", lower_open=True)
  if isinstance(config, OnPolicyConfig):
    unit_interval(config, "lam")
  if isinstance(config, TrustRegionConfig):
    positive(config, "target_every", whole=True)
    positive(config, "epsilon_mean", "epsilon_covariance", "epsilon_policy", "dual_learning_rate")
    positive(config, "initial_mean_multiplier", "initial_covariance_multiplier", "initial_policy_multiplier")


def head(spec: Spec, policy: str, *, init_std: float = 1.0) -> policies.Head:
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


def policy_head(spec: Spec, config: Any) -> policies.Head:
  """`head` of the family that the Config's `policy` names."""
  return head(spec, config.policy)


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

  return make


def optimizer(config: Any, learning_rate: Any = None) -> optax.GradientTransformation:
  """Adam as the Config says, with its learning rate or another one."""
  return optimizers.adam(
    config.learning_rate if learning_rate is None else learning_rate,
    decay_updates=config.decay_updates,
    decay_to=config.decay_to,
    max_grad_norm=config.max_grad_norm,
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


def actor_critic(spec: Spec, config: PolicyConfig, *, regularised: bool) -> tuple[Prior, Posterior, Value]:
  """A uniform prior, a policy network, and an ensemble of action values with or without a state value beside it.

  Continuous actions are sampled; of discrete ones all are particles, so that every expectation is exact.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    regularised: whether the value pays for divergence from the prior.

  Raises:
    ValueError: a field out of range, or a policy that does not fit the action space.
  """
  check(config)
  positive(config, "samples")
  positive(config, "moment_penalty", zero=True)
  policy = head(spec, config.policy)
  actor = network(config, spec.observation_size, policy.size)
  if spec.discrete:
    posterior = posteriors.enumerated(actor, policy, optimizer(config))
  else:
    posterior = posteriors.direct(
      actor, policy, optimizer(config), samples=config.samples, moment_penalty=config.moment_penalty
    )
  if config.separate_value:
    value = values.state_value(
      critic(spec, config, policy),
      network(config, spec.observation_size, 1, of_values=True),
      optimizer(config),
      regularised=regularised,
      **_value_options(config),
    )
  else:
    value = q_value(spec, config, policy, regularised=regularised)
  return priors.uniform(policy), posterior, value


def parametric(
  spec: Spec, config: Any, policy: policies.Head, *, samples: int = 1
) -> tuple[networks.Network, Posterior]:
  """A policy network, and the posterior that it is: sampled continuous actions, or all the discrete ones."""
  actor = network(config, spec.observation_size, policy.size)
  if spec.discrete:
    return actor, posteriors.enumerated(actor, policy, optimizer(config))
  return actor, posteriors.direct(actor, policy, optimizer(config), samples=samples)


def learned_prior(spec: Spec, config: Any, policy: policies.Head, **options: Any) -> Prior:
  """`priors.learned` within the trust region of a `TrustRegionConfig`; `options` are its remaining arguments."""
  shape = (spec.action_size,) if config.per_dimension else ()

  def bound(part: str, shape: tuple[int, ...]) -> priors.Bound:
    initial, budget = getattr(config, f"initial_{part}_multiplier"), getattr(config, f"epsilon_{part}")
    return priors.Bound(multiplier(initial, shape), budget)

  if spec.discrete:
    bounds = {"policy": bound("policy", ())}
  else:
    bounds = {part: bound(part, shape) for part in ("mean", "covariance")}
  return priors.learned(
    network(config, spec.observation_size, policy.size),
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


def lambda_value(spec: Spec, config: OnPolicyConfig, **options: Any) -> Value:
  """`values.lambda_value` as the Config says; `options` are its remaining arguments."""
  hidden = config.hidden if config.value_hidden is None else config.value_hidden
  of_states = network(dataclasses.replace(config, hidden=hidden), spec.observation_size, 1, of_values=True)
  return values.lambda_value(
    of_states, optimizer(config), gamma=config.gamma, lam=config.lam, reward_scale=config.reward_scale, **options
  )


def temperature(config: Any, target: Any) -> Temperature:
  """The temperature of a `TemperatureConfig`, adapted to its own entropy target or, where that is None, to `target`.

  Raises:
    ValueError: an initial temperature out of range.
  """
  positive(config, "initial_temperature")
  if not config.adapt_temperature:
    return temperatures.fixed(config.initial_temperature)
  target = target if config.entropy_target is None else config.entropy_target
  return temperatures.entropy_target(dual(config.initial_temperature), optimizer(config), target)


def _value_options(config: Any) -> dict[str, Any]:
  return {name: getattr(config, name) for name in ("gamma", "tau", "pessimism", "reward_scale")}
