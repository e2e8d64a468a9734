"""Maximum-entropy inverse reinforcement learning on a tabular MDP, exactly: which reward explains these actions?

The expert is taken to act by the soft-optimal policy of a reward r_ψ with the dynamics as they are (causal entropy):

  π_t(a|s) = p(a|s) e^{(Q_t(s,a) - V_t(s)) / c},   Q_t = r_ψ + γ E[V_{t+1}],   V_t = c log Σ_a p(a|s) e^{Q_t / c}

and ψ maximises the likelihood of what it did. An expert enters by its weights n_t(s, a) alone: its discounted
`occupancy` where its policy is known, the mean `counts` of its demonstrations where they are not:

  L(ψ) = Σ_t Σ_{s,a} n_t(s, a) log π_t(a|s)

**Gradient.** ∇Q_t = ∇r + γ E[∇V_{t+1}] and ∇V_t = Σ_a π_t ∇Q_t, so that L telescopes. With w_t(s) = Σ_a n_t(s, a),

  c ∇L = Σ_t Σ_{s,a} (n_t(s, a) - d_t(s, a)) ∇r(s, a),     d_t(s, a) = ρ_t(s) π_t(a|s),
  ρ_0 = w_0,    ρ_{t+1}(s') = γ Σ_{s,a} P(s'|s,a) d_t(s, a) + [w_{t+1}(s') - γ Σ_{s,a} P(s'|s,a) n_t(s, a)]

The bracket is what the dynamics brought the expert beyond their expectation. It vanishes for an expert's true
occupancy, and for counts weighted by γ^t of whole demonstrations under deterministic dynamics; d is then the
soft-optimal occupancy and the gradient expert minus soft-optimal feature expectations. For finitely many
demonstrations under stochastic dynamics it does not vanish: the gradient of their likelihood and the mismatch of their
feature expectations are two estimates of the same quantity, and both are offered.

Reference: Ziebart et al. 2008 (Maximum Entropy Inverse Reinforcement Learning), Eq. 4 (the distribution over
  trajectories) and Eq. 6 (the gradient); Ziebart 2010 (Modeling Purposeful Adaptive Behavior with the Principle of
  Maximum Causal Entropy), chapter 9 (the backward and the forward pass). The general prior, the temperature
  and the finite-sample gradient are additions.
"""

from varl.exact.inverse.expert import (
  Demonstrations,
  counts,
  demonstrations,
  empirical_feature_expectations,
  feature_expectations,
  occupancy,
  sample_demonstrations,
)
from varl.exact.inverse.fitting import Fit, fit
from varl.exact.inverse.imitation import (
  Imitation,
  absorbing,
  adversarial_fixed_point,
  iq_learn,
  optimal_logit,
)
from varl.exact.inverse.likelihood import (
  expected_log_likelihood,
  gradient,
  log_likelihood,
  reward_gradient,
  trajectory_log_likelihood,
)

__all__ = [
  "Demonstrations",
  "Fit",
  "Imitation",
  "absorbing",
  "adversarial_fixed_point",
  "counts",
  "demonstrations",
  "empirical_feature_expectations",
  "expected_log_likelihood",
  "feature_expectations",
  "fit",
  "gradient",
  "iq_learn",
  "log_likelihood",
  "occupancy",
  "optimal_logit",
  "reward_gradient",
  "sample_demonstrations",
  "trajectory_log_likelihood",
]
