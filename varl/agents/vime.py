"""Variational information maximising exploration (Houthooft et al. 2016, 1605.09674).

Soft actor-critic or PPO, paid by the environment and for what each transition tells of the dynamics.
"""

import dataclasses

from varl import components, networks, rewards
from varl.checks import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.LearnerConfig):
  """Hyper-parameters of exploration by information gain, beside those of the config that it extends.

  Attributes:
    gain_weight: η, reward for a transition of typical gain, in the environment's units.
    gain: the step whose divergence is paid: "second_order" (the paper's) or "natural".
    dynamics_hidden: the widths of the hidden layers of the network of the dynamics.
    dynamics_learning_rate: Adam's step for it.
    prior_std: deviation of its weights under the prior, and at the start.
    noise_std: deviation of what it predicts, at unit scale.
    belief_samples: networks drawn for each update's loss.
  """

  gain_weight: float = 1e-4
  gain: str = "second_order"
  dynamics_hidden: tuple[int, ...] = (32,)
  dynamics_learning_rate: float = 1e-3
  prior_std: float = 0.5
  noise_std: float = 0.5
  belief_samples: int = 8


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that exploration by information gain is.

  Args:
    spec: the environment's sizes.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "dynamics_learning_rate", "prior_std", "noise_std")
  positive(config, "gain_weight", zero=True)
  positive(config, "belief_samples", whole=True)
  if config.gain not in rewards.GAINS:
    raise ValueError(f"gain is {' or '.join(rewards.GAINS)}, got {config.gain!r}")
  gain = rewards.information_gain(
    spec,
    networks.mlp(
      spec.observation_size + spec.action_size,
      spec.observation_size,
      hidden=config.dynamics_hidden,
      activation=config.activation,
    ),
    components.optimizer(config, config.dynamics_learning_rate),
    execute=components.policy_head(spec, config).execute,
    form=config.gain,
    prior_std=config.prior_std,
    noise_std=config.noise_std,
    samples=config.belief_samples,
  )
  paid = rewards.sum(environment=1.0, information=(gain, config.gain_weight))
  return components.inner(spec, config, axis=axis)._replace(reward=paid)


make = components.maker(Config, design, components.policy_head)
