"""Distral: several tasks, and a prior distilled from all of them (Teh et al. 2017, 1707.04175).

prior distilled, kept from the task × posterior softmax of Q, or direct; or both as two columns × value regularised ×
temperature fixed.
"""

import dataclasses

from varl import components, posteriors, priors, temperatures
from varl.checks import positive
from varl.types import Design, Spec

FORMS = ("separate", "two_columns")


@dataclasses.dataclass(frozen=True)
class Config(components.DistilledConfig):
  """Hyper-parameters of Distral, beside those of the config that it extends.

  Attributes:
    divergence_cost: c_KL, what a nat of divergence from the prior costs, in (scaled) reward.
    entropy_cost: c_Ent, what a nat of negative entropy costs. At 0 the prior and the policies narrow down together.
    form: of discrete actions: "separate" (the policy is the softmax of Q under the prior) or "two_columns" (a policy
      network of which the prior is one part).
  """

  divergence_cost: float = 0.05
  entropy_cost: float = 0.05
  form: str = "separate"


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None) -> Design:
  """The design that Distral is.

  Args:
    spec: the environment's sizes; continuous or discrete actions.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.

  Raises:
    ValueError: a hyper-parameter out of range, an environment without tasks where nothing else is withheld from the
      prior, or two columns of continuous actions.
  """
  components.check(config)
  positive(config, "divergence_cost")
  positive(config, "entropy_cost", zero=True)
  positive(config, "samples", whole=True)
  if config.form not in FORMS:
    raise ValueError(f"form is one of {', '.join(FORMS)}; got {config.form!r}")
  cost = config.divergence_cost + config.entropy_cost
  share = config.divergence_cost / cost
  policy = components.policy_head(spec, config)
  if config.form == "two_columns":
    if not spec.discrete:
      raise ValueError("two_columns are of discrete actions: with continuous ones form is separate")
    sees, shared = components.prior_network(spec, config, policy)
    own = components.network(config, spec.observation_size, policy.size)
    both = priors.two_columns(shared, own, sees=sees, share=share, beta=1.0 / cost)
    prior = priors.column(shared, policy, sees=sees, share=share)
    posterior = posteriors.enumerated(both, policy, components.optimizer(config))
  else:
    prior = components.distilled(spec, config, policy, share=share)
    if spec.discrete:
      posterior = posteriors.softmax(policy)
    else:
      _, posterior = components.parametric(spec, config, policy, samples=config.samples)
  posterior = posteriors.discounting(posterior, config.gamma)
  return Design(prior, posterior, components.q_value(spec, config, policy), temperatures.fixed(cost), axis)


make = components.maker(Config, design, components.policy_head)
