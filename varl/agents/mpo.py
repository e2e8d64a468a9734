"""Maximum a posteriori policy optimisation (Abdolmaleki et al. 2018, 1806.06920; its trust region of 1812.02256).

prior learned, within a trust region × posterior Boltzmann over the prior's samples (discrete: all actions) × value
unregularised, of the prior × temperature by a KL budget. The prior's slow copy is the policy that acts.
"""

import dataclasses

from varl import components, optimizers, policies, posteriors, priors, temperatures
from varl.duals import dual
from varl.settings import positive
from varl.types import Design, Prior, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.Config):
  """Hyper-parameters of MPO, beside those of the config that it extends.

  Attributes:
    tau: how far the slow copies of policy and critic move when they do; 1 copies.
    target_every: updates between two movements of them.
    critics: members of the critic ensemble; the papers have one.
    policy: for continuous actions, "tanh_gaussian" where they are bounded, "gaussian" on the whole line.
    samples: actions of the prior a state, in the E-step and in the value's target; of discrete actions all are used.
    epsilon: ε, the E-step's budget: nats between its weights and the prior.
    epsilon_mean: ε_μ, what the mean may move in the M-step, in nats a dimension.
    epsilon_covariance: ε_Σ, the same of the covariance.
    epsilon_policy: the same of a categorical policy.
    initial_temperature: η at the start, in (scaled) return per nat.
    initial_mean_multiplier, initial_covariance_multiplier, initial_policy_multiplier: α at the start.
    per_dimension: a multiplier and a budget for each action dimension, or one on their sum.
    dual_learning_rate: Adam's step for η and the multipliers, constant.
  """

  tau: float = 1.0
  target_every: int = 100
  critics: int = 1
  policy: str = "tanh_gaussian"
  samples: int = 20
  epsilon: float = 0.1
  epsilon_mean: float = 2.5e-3
  epsilon_covariance: float = 1e-6
  epsilon_policy: float = 1e-3
  initial_temperature: float = 10.0
  initial_mean_multiplier: float = 10.0
  initial_covariance_multiplier: float = 1000.0
  initial_policy_multiplier: float = 10.0
  per_dimension: bool = True
  dual_learning_rate: float = 1e-2


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
  positive(config, "target_every", "critics", "samples", whole=True)
  positive(config, "epsilon", "epsilon_mean", "epsilon_covariance", "epsilon_policy", "dual_learning_rate")
  positive(config, "initial_temperature", "initial_mean_multiplier", "initial_covariance_multiplier")
  positive(config, "initial_policy_multiplier")
  head = components.head(spec, config.policy)
  if spec.discrete:
    posterior, evaluates = posteriors.softmax(head), priors.every_action(head)
  else:
    posterior, evaluates = posteriors.boltzmann(samples=config.samples), priors.samples(config.samples)
  value = components.q_value(
    spec, config, head, regularised=False, target_every=config.target_every, evaluates=evaluates
  )
  temperature = temperatures.kl_budget(
    dual(config.initial_temperature, transform="softplus", floor=1e-8),
    optimizers.adam(config.dual_learning_rate),
    config.epsilon,
  )
  return Design(_prior(spec, config, head), posteriors.acting_by_prior(posterior), value, temperature, axis)


def _prior(spec: Spec, config: Config, head: policies.Head) -> Prior:
  shape = (spec.action_size,) if config.per_dimension else ()

  def bound(part: str, shape: tuple[int, ...]) -> priors.Bound:
    initial, budget = getattr(config, f"initial_{part}_multiplier"), getattr(config, f"epsilon_{part}")
    return priors.Bound(dual(initial, shape=shape, transform="softplus", floor=1e-8), budget)

  if spec.discrete:
    bounds = {"policy": bound("policy", ())}
  else:
    bounds = {part: bound(part, shape) for part in ("mean", "covariance")}
  return priors.learned(
    components.network(config, spec.observation_size, head.size),
    head,
    components.optimizer(config),
    bounds,
    optimizers.adam(config.dual_learning_rate),
    target_every=config.target_every,
    tau=config.tau,
  )


make = components.maker(Config, design, components.policy_head)
