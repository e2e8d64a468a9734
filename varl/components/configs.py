"""The hyper-parameters that named algorithms share, and their checks."""

import dataclasses
import math
import numbers
from typing import Any

from varl.checks import plain, positive, unit_interval, whole


@dataclasses.dataclass(frozen=True)
class Config:
  """The hyper-parameters that every algorithm has, some with defaults of its own; numeric ones may be traced arrays.

  Attributes:
    learning_rate: Adam's step for all that is learned, unless another one is named for it.
    decay_updates: length in updates of a cosine decay of the learning rates; 0 keeps them constant.
    decay_to: the share of the learning rates that remains after it.
    gamma: the discount a step, below 1; 1 is allowed on-policy, for tasks whose episodes end.
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
class HeadConfig:
  """The distribution that a policy network parametrises.

  Attributes:
    policy: for continuous actions, "tanh_gaussian" where they are bounded; "gaussian", or with a full covariance
      "full_gaussian", on the whole line (bounded environments clip those); "flow", an invertible map of noise with
      several modes (`policies.flow`), which no trust region holds.
    initial_std: σ of a continuous policy at the start, before squashing.
  """

  policy: str = "tanh_gaussian"
  initial_std: float = 1.0


@dataclasses.dataclass(frozen=True)
class CriticConfig(Config):
  """`Config` of an algorithm that learns action values from replay.

  Attributes:
    tau: the rate at which the slow copies follow; 1 copies.
    critics: members of the critic ensemble.
    pessimism: "min" over the ensemble, or κ for mean - κ·std.
    critic: what it learns: "scalar" (the mean return, by its squared error), "categorical" (probabilities on a grid),
      "hl_gauss" (the mean, as that of a histogram) or "quantile" (quantiles).
    atoms: of a distribution: points of the grid, bins, or quantiles.
    return_low, return_high: the smallest and the largest (scaled) return, for "categorical" and "hl_gauss".
    kappa: of "quantile": errors within it, in (scaled) return, count by their square.
    risk: of "categorical" and "quantile": the policy improves the mean of this worst share of the returns; 1: of all.
  """

  tau: float = 0.005
  critics: int = 2
  pessimism: float | str = "min"
  critic: str = "scalar"
  atoms: int = 51
  return_low: float | None = None
  return_high: float | None = None
  kappa: float = 1.0
  risk: float = 1.0


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
  """Networks that remember the episode: policy and values each have a gated recurrent unit (`memory.gru`).

  Attributes:
    memory: units of each; 0: networks see the present observation alone.
    memory_length: steps that gradients pass through, in sequences from replay or of a rollout.
    burn_in: steps before these which only warm the memory up, in sequences from replay; `unroll_length` and
      `batch_size` are multiples of both together.
  """

  memory: int = 0
  memory_length: int = 16
  burn_in: int = 0


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig(HeadConfig, Config):
  """`Config` of an algorithm that learns from its own rollouts, with a state value.

  Attributes:
    lam: λ of the returns and advantages.
    value_hidden: the widths of the value's hidden layers; None: those of `hidden`.
  """

  lam: float = 0.95
  value_hidden: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class GradientConfig(OnPolicyConfig):
  """`OnPolicyConfig` of a policy gradient.

  Attributes:
    standardise: whether advantages are centred and divided by their deviation, in each batch.
  """

  standardise: bool = True


@dataclasses.dataclass(frozen=True)
class PolicyConfig(HeadConfig, CriticConfig):
  """`CriticConfig` of an algorithm with a policy network, and optionally a state value.

  Attributes:
    separate_value: whether a state value V is learned beside Q and has the slow copy, or Q itself has it.
    samples: actions drawn a state, in targets and losses; of discrete actions all are used.
    moment_penalty: weight of `losses.moment_penalty` in the policy's loss, for continuous actions.
  """

  separate_value: bool = False
  samples: int = 1
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
class SoftConfig(TemperatureConfig, PolicyConfig):
  """Soft actor-critic's hyper-parameters, of continuous or discrete actions.

  Attributes:
    entropy_per_dimension: of d continuous actions: the entropy target is minus this times d, where entropy_target is
      None.
    entropy_share: of A discrete actions: the entropy target as a share of log A, where entropy_target is None.
  """

  entropy_per_dimension: float = 1.0
  entropy_share: float = 0.5


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A learned model of the world: `models.ensemble`.

  Attributes:
    members: Gaussian networks in the ensemble.
    elites: how many of them, those of lowest error on fresh rollouts, are used; 0: all.
    model_hidden: the widths of their hidden layers.
    model_learning_rate: AdamW's step for them.
    weight_decay: its weight decay.
    model_ends: "learned", or "never" where episodes end by the time limit alone.
  """

  members: int = 5
  elites: int = 0
  model_hidden: tuple[int, ...] = (200, 200)
  model_learning_rate: float = 1e-3
  weight_decay: float = 5e-5
  model_ends: str = "learned"


@dataclasses.dataclass(frozen=True)
class CorrectionConfig:
  """What an error of the model costs on imagined rows: `rewards.log_ratio`.

  Attributes:
    correction: "none", "sample" (log p/q of each imagined row) or "divergence" (KL(q ‖ p), over the model's draws).
    correction_weight: its weight in reward per nat; None: the temperature, as the bound has it.
    correction_clip: log p/q is held within ± this.
    correction_noise: deviation of the noise on the classifiers' inputs while they learn, at unit scale.
    correction_warm_up: iterations of the loop before anything is paid for.
    correction_hidden: the widths of the classifiers' hidden layers.
  """

  correction: str = "none"
  correction_weight: float | None = None
  correction_clip: float = 10.0
  correction_noise: float = 1.0
  correction_warm_up: int = 100
  correction_hidden: tuple[int, ...] = (32,)


@dataclasses.dataclass(frozen=True)
class PlanConfig:
  """Sequential Monte Carlo planning: `posteriors.smc`.

  Attributes:
    particles: N, futures in each state.
    horizon: h, steps that are planned.
    target: "variational" (SAC's posterior) or "optimistic" (exact inference's).
    resample_below: particles are resampled where the effective number falls below this share of N.
    value_samples: proposals by which the value of each state that a particle reaches is estimated; discrete actions
      are all used.
    thompson: whether an episode is acted through by one member of the model, drawn at its start.
  """

  particles: int = 32
  horizon: int = 4
  target: str = "variational"
  resample_below: float = 0.5
  value_samples: int = 8
  thompson: bool = False


@dataclasses.dataclass(frozen=True)
class BudgetConfig(HeadConfig, CriticConfig):
  """`CriticConfig` of an algorithm that improves a policy within a budget of divergence from it.

  Attributes:
    samples: actions of the prior a state, in the E-step and in the value's target; of discrete actions all are used.
    epsilon: ε, the E-step's budget: nats between its policy and the prior.
    initial_temperature: η at the start, in (scaled) return per nat.
  """

  samples: int = 20
  epsilon: float = 0.1
  initial_temperature: float = 10.0


@dataclasses.dataclass(frozen=True)
class ImprovementConfig(BudgetConfig):
  """`BudgetConfig` of an algorithm that improves a policy by its own actions, reweighed: MPO and its kin.

  Attributes:
    inference: the E-step: "sampled" (the prior's own actions, weighed by Q) or "parametric" (a second policy network
      that maximises E[Q] - η KL(π_q ‖ π)).
    weights: of sampled actions: "boltzmann" (within ε) or "rank" (`losses.rank_weights`; there is no η then).
    action_penalty: weight of `values.out_of_bounds_penalty` in the E-step; for policies that are not squashed.
    correction: of the value's targets: "none" (one step), "retrace" or "n_step" (`values.retrace`, `values.n_step`).
    sequence: transitions a sequence, for a correction; `unroll_length` and `batch_size` are its multiples.
    lam: λ of "retrace".
  """

  inference: str = "sampled"
  weights: str = "boltzmann"
  action_penalty: float = 0.0
  correction: str = "none"
  sequence: int = 8
  lam: float = 1.0


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


CRITICS = ("scalar", "categorical", "hl_gauss", "quantile")

FREE = ("correction_warm_up", "decay_updates", "grow_over", "start_updates")
"""Whole numbers that are compared with counters, and shape nothing."""


def structural(config: Any) -> tuple[str, ...]:
  """The fields that shape the program (sizes, lengths of loops, periods): the whole numbers that are not in `FREE`."""
  return tuple(
    field.name for field in dataclasses.fields(config) if field.type in (int, "int") and field.name not in FREE
  )


def check(config: Any) -> None:
  """Checks the fields of `Config`, and those of the other configs here that it extends.

  Raises:
    ValueError: one is out of range.
  """
  for name in structural(config):
    value = getattr(config, name)
    if hasattr(value, "dtype") and not isinstance(value, numbers.Real):
      raise ValueError(f"{name} shapes the program, so it is a number of Python's or NumPy's and no array; got {value}")
  for name in (field.name for field in dataclasses.fields(config) if field.name.endswith("hidden")):
    widths = getattr(config, name, ())
    if widths is not None and not (isinstance(widths, tuple | list) and all(_is_width(width) for width in widths)):
      raise ValueError(f"{name} is a tuple of the layers' widths, such as (256, 256), got {widths!r}")
    for width in widths or ():
      whole(f"each width of {name}", width)
  positive(config, "learning_rate", "reward_scale")
  positive(config, "decay_updates", "max_grad_norm", zero=True)
  # On-policy returns end with the rollout or the episode. A fixed point of values needs a contraction.
  unit_interval(config, "gamma", upper_open=not isinstance(config, OnPolicyConfig))
  unit_interval(config, "decay_to")
  kappa = plain(getattr(config, "pessimism", "min"))
  if kappa != "min" and not hasattr(kappa, "dtype") and not _is_finite(kappa):
    raise ValueError(f"pessimism is 'min', or a finite number of standard deviations, got {kappa!r}")
  if isinstance(config, CriticConfig):
    positive(config, "critics", whole=True)
    unit_interval(config, "tau", lower_open=True)
    if config.critic not in CRITICS:
      raise ValueError(f"critic is one of {list(CRITICS)}, got {config.critic!r}")
    positive(config, "atoms", whole=True)
    positive(config, "kappa", zero=True)
    unit_interval(config, "risk", lower_open=True)
    if config.critic in ("categorical", "hl_gauss") and None in (config.return_low, config.return_high):
      raise ValueError(
        f"a {config.critic} critic needs the smallest and the largest return: return_low and return_high, in scaled "
        f"reward; got {config.return_low} and {config.return_high}"
      )
  if isinstance(config, OnPolicyConfig):
    unit_interval(config, "lam")
  if isinstance(config, MemoryConfig):
    positive(config, "memory", "burn_in", whole=True, zero=True)
    positive(config, "memory_length", whole=True)
  if isinstance(config, ImprovementConfig):
    positive(config, "sequence", whole=True)
    unit_interval(config, "lam")
  if isinstance(config, ModelConfig):
    if config.model_ends not in ("learned", "never"):
      raise ValueError(f"model_ends is learned or never, got {config.model_ends!r}")
    if isinstance(config.elites, int) and isinstance(config.members, int) and config.elites > config.members:
      raise ValueError(f"elites are at most all {config.members} members, got elites={config.elites}")
    positive(config, "members", whole=True)
    positive(config, "elites", whole=True, zero=True)
    positive(config, "model_learning_rate")
    positive(config, "weight_decay", zero=True)
  if isinstance(config, CorrectionConfig):
    if config.correction not in ("none", "sample", "divergence"):
      raise ValueError(f"correction is none, sample or divergence, got {config.correction!r}")
    positive(config, "correction_clip", "correction_weight")
    positive(config, "correction_noise", "correction_warm_up", zero=True)
  if isinstance(config, PlanConfig):
    positive(config, "particles", "horizon", "value_samples", whole=True)
    unit_interval(config, "resample_below")
  if isinstance(config, BudgetConfig):
    positive(config, "samples", whole=True)
    positive(config, "epsilon", "initial_temperature")
  if isinstance(config, TrustRegionConfig):
    positive(config, "target_every", whole=True)
    positive(config, "epsilon_mean", "epsilon_covariance", "epsilon_policy", "dual_learning_rate")
    positive(config, "initial_mean_multiplier", "initial_covariance_multiplier", "initial_policy_multiplier")


def _is_width(width: Any) -> bool:
  return isinstance(width, numbers.Integral) and not isinstance(width, bool)


def _is_finite(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
