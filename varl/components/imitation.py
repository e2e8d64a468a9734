"""Demonstrations and what is learned from them, as the Configs describe it."""

import dataclasses
from collections.abc import Callable
from typing import Any

from varl import demonstrations as demos
from varl import networks, policies, temperatures
from varl.checks import positive, unit_interval
from varl.components.configs import SoftConfig
from varl.components.making import Make, maker
from varl.components.parts import optimizer, policy_gradient, policy_head, soft
from varl.demonstrations import Demonstrations
from varl.types import Agent, Design, Reward, Spec


@dataclasses.dataclass(frozen=True)
class DemonstrationConfig:
  """What an expert did: `varl.demonstrations`.

  Attributes:
    demonstrations: a file that `varl rollout` wrote; in Python, an object of `varl.demonstrations`, too.
    episodes: how many of its episodes are used, the first ones; 0: all.
    subsample: every so many rows of each episode are kept.
  """

  demonstrations: str | None = None
  episodes: int = 0
  subsample: int = 1


@dataclasses.dataclass(frozen=True)
class LearnerConfig(SoftConfig):
  """The agent that is paid by a reward of its own: soft actor-critic, or PPO.

  Attributes:
    learner: "sac", or "ppo", which needs the loop's settings of an on-policy algorithm.
    lam: λ of PPO's returns and advantages.
    value_hidden: the widths of the hidden layers of PPO's value; None: those of `hidden`.
    standardise: whether PPO's advantages are centred and divided by their deviation.
    ppo_clip: how far from 1 PPO's policy ratio is worth moving.
    entropy_bonus: weight of PPO's entropy bonus.
  """

  learner: str = "sac"
  lam: float = 0.95
  value_hidden: tuple[int, ...] | None = None
  standardise: bool = True
  ppo_clip: float = 0.2
  entropy_bonus: float = 1e-2


@dataclasses.dataclass(frozen=True)
class ImitationConfig(DemonstrationConfig, LearnerConfig):
  """A reward that is learned from demonstrations, and the agent that it pays.

  Attributes:
    reward_hidden: the widths of the hidden layers of the reward's networks, whose activation is tanh.
    reward_learning_rate: Adam's step for them.
    reward_clip: a reward is paid within ± this.
    penalty: weight of the penalty on the gradient of the discriminator's logit; 0: none.
    spectral: whether the weight matrices of the reward's networks are divided by their largest singular values, which
      holds the slope below 1 everywhere; with `penalty=0`, in its place.
    absorbing: whether ends are states that one stays in and is paid in.
    state_only: whether the reward sees no action.
  """

  reward_hidden: tuple[int, ...] = (100, 100)
  reward_learning_rate: float = 3e-4
  reward_clip: float = 10.0
  penalty: float = 10.0
  spectral: bool = False
  absorbing: bool = True
  state_only: bool = False


def demonstrations(spec: Spec, config: DemonstrationConfig, *, name: str) -> Demonstrations:
  """Those that a `DemonstrationConfig` names, for an environment, as many of them as it says.

  Args:
    spec: the environment's sizes.
    config: the algorithm's.
    name: the algorithm's, for the message.

  Raises:
    ValueError: none are given, or they are not of this environment; or a field out of range.
  """
  positive(config, "episodes", whole=True, zero=True)
  positive(config, "subsample", whole=True)
  given: Any = config.demonstrations
  if given is None:
    raise ValueError(
      f"{name} learns from demonstrations: demonstrations=FILE.npz (`varl rollout RUN --out FILE.npz` makes one), or "
      "an object of varl.demonstrations"
    )
  found = demos.checked(given, spec) if isinstance(given, Demonstrations) else demos.load(given, spec)
  if config.episodes:
    found = found.take(int(config.episodes))
  return found.subsample(int(config.subsample)) if config.subsample > 1 else found


def squashes(spec: Spec, config: Any) -> bool:
  """Whether the policy squashes its raw actions."""
  return bool(not spec.discrete and spec.bounded and config.policy in ("tanh_gaussian", "flow"))


def seen(spec: Spec, config: ImitationConfig, name: str) -> dict[str, Any]:
  """The arguments of a learned reward that an `ImitationConfig` describes, its networks and sizes aside."""
  positive(config, "reward_learning_rate", "reward_clip")
  positive(config, "penalty", zero=True)
  return {
    "demonstrations": demonstrations(spec, config, name=name),
    "optimizer": optimizer(config, config.reward_learning_rate),
    "execute": policy_head(spec, config).execute,
    "squashed": squashes(spec, config),
    "gamma": config.gamma,
    "absorbing": bool(config.absorbing),
    "state_only": bool(config.state_only),
    "clip": config.reward_clip,
  }


def of_states(spec: Spec, config: ImitationConfig) -> networks.Network:
  """The network of a learned reward: of states and, unless the Config says otherwise, actions, and the end's mark."""
  inputs = spec.observation_size + (0 if config.state_only else spec.action_size)
  return reward_network(config, inputs + 1)


def reward_network(config: ImitationConfig, inputs: int, outputs: int = 1) -> networks.Network:
  """A network `[..., inputs] -> [..., outputs]` of those that an `ImitationConfig` has a reward made of."""
  network = networks.mlp(inputs, outputs, hidden=config.reward_hidden, activation="tanh")
  return networks.spectral(network) if config.spectral else network


def inner(spec: Spec, config: LearnerConfig, *, axis: str | None = None) -> Design:
  """The agent that a learned reward pays: soft actor-critic, or PPO.

  Raises:
    ValueError: another learner, or a field out of range.
  """
  if config.learner not in ("sac", "ppo"):
    raise ValueError(f"learner is sac or ppo, got {config.learner!r}")
  positive(config, "ppo_clip")
  positive(config, "entropy_bonus", zero=True)
  unit_interval(config, "lam")
  if config.learner == "sac":
    return Design(*soft(spec, config), axis)
  bonus = temperatures.fixed(config.entropy_bonus)
  own: Any = config
  return policy_gradient(spec, own, bonus, surrogate="clip", clip=config.ppo_clip, divergence=True, axis=axis)


def imitated(reward: Callable[..., Reward]) -> Callable[..., Design]:
  """A `design` of an `ImitationConfig` whose reward is `reward(spec, config)`, and whose agent is `inner`."""

  def design(spec: Spec, config: Any, *, axis: str | None = None) -> Design:
    return inner(spec, config, axis=axis)._replace(reward=reward(spec, config))

  return design


def offline_maker(
  config_type: Callable[[], Any],
  design: Callable[..., Design],
  make_head: Callable[[Spec, Any], policies.Head],
  name: str,
) -> Make:
  """As `maker`, of an algorithm that learns from demonstrations alone."""
  online = maker(config_type, design, make_head)

  def make(spec: Spec, config: Any = None, *, axis: str | None = None, reward: Reward | None = None) -> Agent:
    config = config_type() if config is None else config
    if reward is not None:
      raise ValueError(f"{name} learns from demonstrations alone: no reward is paid")
    made = online(spec, config, axis=axis)
    rows = demonstrations(spec, config, name=name)
    return demos.learner(made, rows, squashed=squashes(spec, config), rewarded=False, axis=axis)

  make.__annotations__["config"] = config_type
  return make
