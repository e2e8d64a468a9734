"""Maximum a posteriori policy optimisation (Abdolmaleki et al. 2018, 1806.06920; its trust region of 1812.02256).

prior learned, within a trust region × posterior Boltzmann over the prior's samples (discrete: all actions) × value
unregularised, of the prior × temperature by a KL budget. The prior's slow copy is the policy that acts.
"""

import dataclasses

from varl import components, posteriors, priors
from varl.settings import positive
from varl.types import Design, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.TrustRegionConfig, components.CriticConfig):
  """Hyper-parameters of MPO, beside those of the configs that it extends.

  Attributes:
    tau: how far the slow copies of policy and critic move when they do; 1 copies.
    critics: members of the critic ensemble; the papers have one.
    policy: for continuous actions, "tanh_gaussian" where they are bounded, "gaussian" on the whole line.
    samples: actions of the prior a state, in the E-step and in the value's target; of discrete actions all are used.
    epsilon: ε, the E-step's budget: nats between its weights and the prior.
    initial_temperature: η at the start, in (scaled) return per nat.
  """

  tau: float = 1.0
  critics: int = 1
  policy: str = "tanh_gaussian"
  samples: int = 20
  epsilon: float = 0.1
  initial_temperature: float = 10.0


def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that MPO is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  components.check(config)
  positive(config, "samples", whole=True)
  positive(config, "epsilon", "initial_temperature")
  head = components.head(spec, config.policy)
  if spec.discrete:
    posterior, evaluates = posteriors.softmax(head), priors.every_action(head)
  else:
    posterior, evaluates = posteriors.boltzmann(samples=config.samples), priors.samples(config.samples)
  value = components.q_value(
    spec, config, head, regularised=False, target_every=config.target_every, evaluates=evaluates
  )
  prior = components.learned_prior(spec, config, head, tau=config.tau)
  return Design(prior, posteriors.acting_by_prior(posterior), value, components.kl_temperature(config), axis)


make = components.maker(Config, design, components.policy_head)
