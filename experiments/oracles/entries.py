"""What each algorithm is held against; a new one enters by one entry in `ORACLES`."""

import functools
from typing import Any

from experiments.oracles.finite import first_choices, tabular_policy
from experiments.oracles.imitation import ends, expert_policy, fixed_point, iq_fixed_point, recovered
from experiments.oracles.regulators import boltzmann, first_seen, hard, linear_gaussian
from experiments.oracles.rows import Oracle, Rollouts
from experiments.oracles.tasks import distilled, informed, told

FIXED = {"adapt_temperature": False, "initial_temperature": 0.3, "normalize_observations": False}

# The exact policy's actions are correlated, so that a diagonal family cannot be it (its covariance is a fifth off); and
# the smaller of two fitted critics lies below the exact value, by more the nearer the discount is to 1.
GAUSSIAN = {
  "learning_rate": 3e-3,
  "tau": 0.02,
  "hidden": (64, 64),
  "policy": "full_gaussian",
  "critics": 1,
  "normalize_observations": False,
}
# Tried with one critic, these hold fewer rows: they have no covariance to be held to, or infer it per state.
PAIR = {**GAUSSIAN, "policy": "gaussian", "critics": 2}
TABLE = {"learning_rate": 1e-2, "tau": 0.05, "hidden": (), "normalize_observations": False}

SOFT_Q = {
  "learning_rate": 1e-3,
  "tau": 0.02,
  "target_every": 1,
  "temperature": 0.3,
  "hidden": (64, 64),
  "proposal_std": 1.75,
  "normalize_observations": False,
}

# A first policy may drive an unstable problem far out; without a bound on its gradients the critic does not recover.
# The covariance must not shrink before the gain is found: actions that are all alike do not tell how Q depends on them.
IMPROVED = {
  **PAIR,
  "max_grad_norm": 1.0,
  "target_every": 1,
  "epsilon_mean": 0.05,
  "epsilon_covariance": 1e-5,
  "initial_mean_multiplier": 1.0,
  "initial_covariance_multiplier": 10.0,
  "dual_learning_rate": 2e-2,
}
ON_POLICY = {"learning_rate": 1e-3, "hidden": (64, 64), "policy": "gaussian", "normalize_observations": False}
ON_POLICY_TABLE = {"learning_rate": 1e-2, "hidden": (), "normalize_observations": False}
MODEL = {"model_hidden": (64, 64), "members": 3, "model_ends": "never"}
# Plans find what an untrained critic promises far out: without a bound its gradients do not recover.
PLAN = {"particles": 16, "horizon": 2, "value_samples": 8, "max_grad_norm": 1.0}
EACH = (0, 3, 7)
"""A problem of each shape, for algorithms with a model."""

HARD: dict[str, Any] = {"exact": hard, "covariance": None, "value": None}


def with_models(config: dict[str, Any], **options: Any) -> tuple[Oracle, Oracle]:
  """An algorithm with a model, which it is given or learns."""
  return (
    linear_gaussian(config, of=EACH, known=True, label=", known model", **options),
    linear_gaussian({**config, **MODEL}, of=EACH, label=", learned model", in_short=False, **options),
  )


def with_critics(
  make: Any, config: dict[str, Any], low: float, high: float, wide: float | None = None, **options: Any
) -> tuple[Oracle, ...]:
  """An algorithm with each of the critics that learn a distribution of the return, within [low, high].

  Beyond its bounds a histogram's mean is flat, and a policy that is there finds no way back: `wide` is its own lower
  bound, on a problem whose first policies pay far less than later ones.
  """
  bounds = {"return_low": low, "return_high": high, "atoms": 101}
  histogram = bounds if wide is None else {**bounds, "return_low": wide, "atoms": 201}
  kinds: dict[str, Any] = {"categorical": bounds, "hl_gauss": histogram, "quantile": {"atoms": 25, "kappa": 0.1}}
  return tuple(
    make({**config, "critic": kind, **own}, label=f", {kind}", in_short=False, **options) for kind, own in kinds.items()
  )


def partly(config: dict[str, Any], **options: Any) -> tuple[Oracle, ...]:
  """A problem whose prior sees the first entry of the state alone, at prices where hiding the other one shows."""
  shared = {**GAUSSIAN, "prior_tau": 0.02, "samples": 2, "withheld": 1}
  return tuple(
    linear_gaussian(
      {**shared, "temperature": price, **config}, temperature=price, exact=first_seen, fresh=True, updates=48_000,
      value=None, of=(2,), label=f", α = {price}", **options,
    )
    for price in (0.1, 0.06, 0.03)
  )  # fmt: skip


SHARED = {
  "learning_rate": 3e-3,
  "tau": 0.02,
  "prior_tau": 0.02,
  "hidden": (64, 64),
  "critics": 1,
  "normalize_observations": False,
}

IQ = {"regularisation": 2.0, "temperature": 1.0}

ORACLES: dict[str, tuple[Oracle, ...]] = {
  "sac": (
    linear_gaussian({**GAUSSIAN, **FIXED}),
    linear_gaussian({**GAUSSIAN, **FIXED, "policy": "flow"}, of=EACH, label=", flow", in_short=False),
    *with_critics(linear_gaussian, {**GAUSSIAN, **FIXED}, -40.0, 10.0, -160.0, of=EACH),
  ),
  "sac_discrete": (
    tabular_policy({**FIXED, **TABLE}),
    *with_critics(tabular_policy, {**FIXED, **TABLE}, -10.0, 60.0, count=3, updates=8_000),
  ),
  "sac_v1": (
    linear_gaussian({**GAUSSIAN, "temperature": 0.3, "reward_scale": 1.0}),
    tabular_policy({**TABLE, "critics": 1, "temperature": 0.3, "reward_scale": 1.0}),
  ),
  "virel": (linear_gaussian({**GAUSSIAN, "reward_scale": 1.0 / 0.3, "moment_penalty": 0.0}, exact=boltzmann),),
  "beta_virel": (
    linear_gaussian(
      {
        **PAIR,
        "moment_penalty": 0.0,
        "residual_scale": 1.0,
        "residual_batch": 512,
        "separate_value": False,
      },
      exact=hard,
      covariance=None,
      falls=0.1,
      forgets=False,
    ),
    first_choices({**TABLE, "residual_batch": 256}),
  ),
  "iterative_sac": (
    linear_gaussian(
      {
        **FIXED,
        "learning_rate": 1e-3,
        "tau": 0.02,
        "hidden": (64, 64),
        "policy": "gaussian",
        "inference_iterations": 2,
        "samples": 4,
        "gradient_norm": "rms",
        "pessimism": "min",
      },
      updates=8_000,
    ),
  ),
  "sql": (
    linear_gaussian(
      {
        **SOFT_Q,
        "sampler": "importance",
        "learning_rate": 3e-3,
        "proposal_std": 1.0,
        "value_samples": 32,
        "act_samples": 512,
      },
      label=", importance",
    ),
    linear_gaussian(
      {**SOFT_Q, "sampler": "stein", "sampler_learning_rate": 1e-3, "value_samples": 16, "start_updates": 1_000},
      gain=0.15,
      covariance=0.15,
      updates=8_000,
      label=", Stein",
      in_short=False,
    ),
    # A chain goes where an unfinished critic promises most; few short moves keep it near the proposals it starts from.
    linear_gaussian(
      {
        **SOFT_Q,
        "sampler": "langevin",
        "learning_rate": 3e-3,
        "max_grad_norm": 1.0,
        "proposal_std": 1.0,
        "value_samples": 32,
        "act_samples": 512,
        "chain_steps": 3,
        "chain_step_size": 0.02,
        "chain_adaptation": 0.0,
      },
      of=EACH,
      label=", Langevin",
      in_short=False,
    ),
  ),
  "sql_discrete": (tabular_policy({**TABLE, "target_every": 1, "temperature": 0.3}),),
  "mpo": (
    linear_gaussian(IMPROVED, **HARD, updates=4_000),
    linear_gaussian(
      {**IMPROVED, "inference": "parametric"}, **HARD, updates=4_000, label=", parametric", in_short=False
    ),
  ),
  "rerpi": (
    linear_gaussian({**IMPROVED, "per_dimension": False}, **HARD, updates=4_000, in_short=False),
    linear_gaussian({**IMPROVED, "per_dimension": False, "weights": "rank"}, **HARD, updates=4_000, label=", ranks"),
  ),
  "vmpo": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "epsilon_mean": 0.05, "epsilon_covariance": 3e-4},
      **HARD,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy(
      {**ON_POLICY_TABLE, "learning_rate": 3e-3, "epsilon_policy": 0.01},
      hard=True,
      rollouts=Rollouts(),
      updates=48_000,
      short_updates=24_000,
    ),
  ),
  "reinforce": (
    tabular_policy(
      {**ON_POLICY_TABLE, "learning_rate": 3e-2, "temperature": 0.01},
      hard=True,
      rollouts=Rollouts(16, 1, 1_024),
      updates=4_000,
    ),
  ),
  "maxent_pg": (
    linear_gaussian(
      {**ON_POLICY, "policy": "full_gaussian", "max_grad_norm": 1.0, "temperature": 0.3, "standardise": False},
      value=None,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.3, "standardise": False}, rollouts=Rollouts()),
  ),
  "erpg": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "temperature": 0.3, "standardise": False},
      **HARD,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.3, "standardise": False}, hard=True, rollouts=Rollouts()),
  ),
  "kl_pg": (tabular_policy({**ON_POLICY_TABLE, "epsilon": 0.001}, hard=True, rollouts=Rollouts()),),
  "trpo": (tabular_policy(ON_POLICY_TABLE, hard=True, rollouts=Rollouts(16, 1, 1_024), updates=2_000),),
  "mbpo": with_models({**GAUSSIAN, **FIXED, "rollout": 2}),
  "smcp": with_models({**GAUSSIAN, **FIXED, **PLAN}, updates=8_000),
  "svg": with_models({**GAUSSIAN, **FIXED, "max_grad_norm": 1.0}),
  "svg_mpo": with_models({**IMPROVED, "samples": 2, "look_ahead": 2}, **HARD, updates=4_000),
  # An E-step plans in every state of the batch: a small one keeps it within minutes.
  "smc_mpo": with_models({**IMPROVED, **PLAN, "value_samples": 4}, **HARD, updates=4_000, batch_size=32),
  "maxent_irl": (
    expert_policy({"reward_decay": 0.0, "reward_learning_rate": 3e-4}, updates=16_000),
    expert_policy(
      {"reward_decay": 0.0, "reward_learning_rate": 3e-4, "weights": "fusion"}, updates=16_000, label=", fusion"
    ),
  ),
  "gail": (fixed_point({}), fixed_point({"form": "softplus"}), ends(("softplus", "log", "log_odds"))),
  "airl": (recovered({"state_only": True}),),
  "iq_learn": (expert_policy(IQ, exact=functools.partial(iq_fixed_point, **IQ), branching=1),),
  "distral": (
    distilled(SHARED, divergence=0.2, entropy=0.1, updates=20_000),
    distilled({**SHARED, "form": "two_columns"}, divergence=0.2, entropy=0.1, updates=20_000, label=", two columns"),
  ),
  "diayn": (
    told(
      {
        "learning_rate": 3e-3,
        "skill_learning_rate": 1e-3,
        "tau": 0.02,
        "hidden": (64, 64),
        "skill_hidden": (),
        "critics": 1,
        "normalize_observations": False,
      },
      temperature=0.1,
      updates=40_000,
    ),
  ),
  "hdp": partly({"policy": "gaussian", "latent": 1, "initial_std": 0.1}, short_updates=12_000),
  # Where the bound is tight and largest, the options summed out act as the soft-optimal policy.
  "options": (
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.3, "standardise": False, "options": 2}, rollouts=Rollouts()),
  ),
  "iadp": (
    informed(SHARED, temperature=0.3, updates=20_000),
    *partly({}, in_short=False),
  ),
  # What is left of the gain is alike everywhere: the policy is soft actor-critic's, the value holds the gain as well.
  "vime": (tabular_policy({**FIXED, **TABLE, "dynamics_hidden": (), "gain_weight": 1e-2}, count=6, of_value=False),),
  "bc": (expert_policy({"entropy_bonus": 0.0}),),
  "ppo": (
    linear_gaussian(
      {**ON_POLICY, "max_grad_norm": 1.0, "temperature": 0.3, "standardise": False},
      **HARD,
      rollouts=Rollouts(10, 4, 160),
    ),
    tabular_policy({**ON_POLICY_TABLE, "temperature": 0.01}, hard=True, rollouts=Rollouts()),
  ),
}
"""What each registered algorithm is held against."""
