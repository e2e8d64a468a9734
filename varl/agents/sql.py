"""Soft Q-learning (Haarnoja et al. 2017, 1702.08165).

prior uniform × posterior Boltzmann (sampled by a Stein network, or by importance) × value regularised × temperature
fixed.
"""

import dataclasses

from varl import components, policies, posteriors, priors, temperatures
from varl.checks import positive
from varl.types import Design, Spec

SAMPLERS = ("importance", "stein")


@dataclasses.dataclass(frozen=True)
class Config(components.CriticConfig):
  """Hyper-parameters of soft Q-learning, beside those of the config that it extends.

  Attributes:
    sampler_learning_rate: Adam's step for the sampler network.
    tau: the rate at which the target critic follows; 1 copies it.
    target_every: updates between two movements of the target critic.
    temperature: α, in (scaled) reward per nat.
    critics: members of the critic ensemble; the paper has one.
    sampler: "stein", the paper's network; "importance", proposals resampled by their weight, without a network.
    particles: of Stein's direction, in two sets of one half each.
    value_samples: proposals a state in the value's target.
    act_samples: proposals a state that the action is taken from ("importance"), and that its mode is climbed to from.
    start_updates: updates before the Stein sampler proposes the actions of the value's target, and not a fixed
      distribution.
    proposal_std: that fixed distribution is uniform on bounded actions; on the whole line a Gaussian of this
      deviation.
  """

  learning_rate: float = 1e-3
  sampler_learning_rate: float = 1e-4
  tau: float = 1.0
  target_every: int = 1000
  temperature: float = 1.0
  critics: int = 1
  sampler: str = "stein"
  particles: int = 32
  value_samples: int = 50
  act_samples: int = 64
  start_updates: int = 10_000
  proposal_std: float = 3.0


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that soft Q-learning is.

  Args:
    spec: the environment's sizes; continuous actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or discrete actions.
  """
  components.check(config)
  positive(config, "sampler_learning_rate", "temperature", "proposal_std")
  positive(config, "target_every", "critics", "particles", "value_samples", "act_samples", whole=True)
  positive(config, "start_updates", zero=True)
  if config.sampler not in SAMPLERS:
    raise ValueError(f"sampler is one of {list(SAMPLERS)}, got {config.sampler!r}")

  head = _head(spec, config)
  if spec.bounded:
    proposal = posteriors.uniform_proposal(head)
  else:
    proposal = posteriors.gaussian_proposal(spec.action_size, config.proposal_std)
  if config.sampler == "importance":
    posterior = posteriors.boltzmann(proposal, samples=config.value_samples, act_samples=config.act_samples)
  else:
    posterior = posteriors.stein(
      components.network(
        config, spec.observation_size + spec.action_size, spec.action_size, zero_output=not spec.bounded
      ),
      head,
      components.optimizer(config, config.sampler_learning_rate),
      proposal,
      action_size=spec.action_size,
      particles=config.particles,
      value_samples=config.value_samples,
      act_samples=config.act_samples,
      start_updates=config.start_updates,
    )
  value = components.q_value(spec, config, head, target_every=config.target_every)
  return Design(priors.uniform(head), posterior, value, temperatures.fixed(config.temperature), axis)


def _head(spec: Spec, config: Config) -> policies.Head:
  """The action space; no network's outputs are read as parameters of its distribution."""
  if spec.discrete:
    raise ValueError("sql needs continuous actions, but the environment's are discrete; use sql_discrete")
  return policies.tanh_gaussian(spec.action_size) if spec.bounded else policies.gaussian(spec.action_size)


make = components.maker(Config, design, _head)
