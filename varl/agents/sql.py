"""Soft Q-learning (Haarnoja et al. 2017, 1702.08165).

prior uniform × posterior Boltzmann (sampled by a Stein network, by importance, or by a Langevin chain) × value
regularised × temperature fixed.
"""

import dataclasses

from varl import components, policies, posteriors, priors, temperatures
from varl.checks import positive
from varl.types import Design, Spec

SAMPLERS = ("importance", "langevin", "stein")


@dataclasses.dataclass(frozen=True)
class Config(components.CriticConfig):
  """Hyper-parameters of soft Q-learning, beside those of the config that it extends.

  Attributes:
    sampler_learning_rate: Adam's step for the sampler network.
    tau: the rate at which the target critic follows; 1 copies it.
    target_every: updates between two movements of the target critic.
    temperature: α, in (scaled) reward per nat.
    critics: members of the critic ensemble; the paper has one.
    sampler: "stein", the paper's network; without a network "importance", proposals resampled by their weight, or
      "langevin", a Markov chain that each environment carries on.
    particles: of Stein's direction, in two sets of one half each.
    value_samples: proposals a state in the value's target.
    act_samples: proposals a state that the action is taken from ("importance"), and that its mode is climbed to from.
    start_updates: updates before the Stein sampler proposes the actions of the value's target, and not a fixed
      distribution.
    proposal_std: that fixed distribution is uniform on bounded actions; on the whole line a Gaussian of this
      deviation.
    chain_steps: moves of the chain in each state ("langevin").
    chain_step_size: ε of these moves at an episode's start.
    chain_adjusted: whether a move may be refused, so that the chain's density is the policy's (MALA), or none is.
    chain_adaptation: the rate at which log ε follows the share of adjusted moves that are taken; 0 holds it.
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
  chain_steps: int = 10
  chain_step_size: float = 0.05
  chain_adjusted: bool = True
  chain_adaptation: float = 0.05


@components.designs(Config)
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
  positive(config, "sampler_learning_rate", "temperature", "proposal_std", "chain_step_size")
  positive(config, "target_every", "critics", "particles", "value_samples", "act_samples", "chain_steps", whole=True)
  positive(config, "start_updates", "chain_adaptation", zero=True)
  if config.sampler not in SAMPLERS:
    raise ValueError(f"sampler is one of {list(SAMPLERS)}, got {config.sampler!r}")

  head = _head(spec, config)
  if spec.bounded:
    proposal = posteriors.uniform_proposal(head)
  else:
    proposal = posteriors.gaussian_proposal(spec.action_size, config.proposal_std)
  if config.sampler == "importance":
    posterior = posteriors.boltzmann(proposal, samples=config.value_samples, act_samples=config.act_samples)
  elif config.sampler == "langevin":
    posterior = posteriors.langevin(
      proposal,
      head,
      action_size=spec.action_size,
      steps=config.chain_steps,
      step_size=config.chain_step_size,
      adjusted=bool(config.chain_adjusted),
      adaptation=config.chain_adaptation,
      value_samples=config.value_samples,
      act_samples=config.act_samples,
    )
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
