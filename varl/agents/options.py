"""Options as auxiliary variables: a policy over options, and a reverse model that a trajectory's options are told by.

prior uniform × posterior options, by clipped ratios × value of options, λ-returns that pay for divergence × temperature
fixed. The reward holds the reverse model.
"""

import dataclasses
from typing import Any

from varl import components, networks, policies, posteriors, priors, rewards, temperatures, values
from varl.checks import positive, unit_interval
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.GradientConfig):
  """Hyper-parameters of options, beside those of the config that it extends.

  Attributes:
    options: n, how many there are.
    choice: "learned", or "uniform": options are drawn alike, and learn only what to do.
    continuation: the probability of going on with an option where it is not chosen anew.
    reverse: "backward" or "forward", the reverse model; "none": none, and the choice of options costs nothing.
    window: K, steps of the trajectory that it sees beside the present one.
    reverse_hidden: the widths of its hidden layers.
    reverse_learning_rate: Adam's step for it.
    information_weight: b, of the options' price and of what is told of them: 1 is the bound, more pays for options that
      differ.
    clip: c, how far from 1 a ratio is worth moving.
    temperature: α, the price of a nat, in scaled reward.
  """

  options: int = 4
  choice: str = "learned"
  continuation: float = 0.0
  reverse: str = "backward"
  window: int = 2
  reverse_hidden: tuple[int, ...] = (64, 64)
  reverse_learning_rate: float = 1e-3
  information_weight: float = 1.0
  clip: float = 0.2
  temperature: float = 1e-2


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that options are.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, fewer than two options, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "clip")
  positive(config, "reverse_learning_rate")
  positive(config, "temperature", zero=True)
  positive(config, "information_weight", zero=True)
  positive(config, "window", zero=True)
  unit_interval(config, "continuation")
  if config.choice not in ("learned", "uniform"):
    raise ValueError(f"choice is learned or uniform; got {config.choice!r}")
  if config.reverse not in (*rewards.DIRECTIONS, "none"):
    raise ValueError(f"reverse is one of {', '.join((*rewards.DIRECTIONS, 'none'))}; got {config.reverse!r}")
  positive(config, "options", whole=True)
  n = config.options
  if n < 2:
    raise ValueError(f"options are at least two, got options={n}")
  policy, told = components.policy_head(spec, config), config.reverse != "none"
  inputs = spec._replace(observation_size=spec.observation_size + n)
  chooser = components.network(config, inputs.observation_size, n) if config.choice == "learned" else None
  choosing = policies.choice(chooser, n, continuation=config.continuation)
  posterior = posteriors.options(
    components.actor(inputs, config, policy),
    policy,
    choosing,
    components.optimizer(config),
    clip=config.clip,
    standardise=config.standardise,
  )
  value = values.option_value(
    components.value_network(inputs, config, policy, n),
    components.optimizer(config),
    choosing,
    gamma=config.gamma,
    lam=config.lam,
    choice_weight=config.information_weight if told else 0.0,
    reward_scale=config.reward_scale,
  )
  made = Design(priors.uniform(policy), posterior, value, temperatures.fixed(config.temperature), axis)
  if not told:
    return made
  size = rewards.window_size(spec, n, config.window, config.reverse)
  network = networks.mlp(size, n, hidden=config.reverse_hidden, activation=config.activation)
  shared: dict[str, Any] = {
    "gamma": config.gamma,
    "reward_scale": config.reward_scale,
    "weight": config.information_weight,
  }
  optimizer = components.optimizer(config, config.reverse_learning_rate)
  return made._replace(
    reward=rewards.reverse_options(
      spec, policy, network, optimizer, count=n, window=config.window, direction=config.reverse, **shared
    )
  )


make = components.maker(Config, design, components.policy_head)
