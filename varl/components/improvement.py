"""Designs whose learned prior follows its own improvement, as the Configs describe them: MPO and its kin."""

from typing import Any

from varl import optimizers, policies, posteriors, priors, temperatures, values
from varl.checks import positive, reachable, unit_interval
from varl.components.configs import check
from varl.components.parts import actor, optimizer, parametric, policy_head, q_value
from varl.duals import Dual, dual
from varl.types import Design, Model, Posterior, Prior, Spec, Temperature


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
  if penalised and (spec.discrete or config.policy in ("tanh_gaussian", "flow")):
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
  reachable(config.epsilon, samples, name=count, of=f"{samples} samples")


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
