"""Linear-quadratic control as inference: the optimal policy, its value and its constant, in closed form.

    s' = A s + B a + w,   w ~ N(0, W),      r = -(sᵀQs + aᵀRa),      maximise E Σ_t γ^t (r_t - α log(π/p))

Every policy is a ~ N(-K s, Σ) and every value V(s) = -sᵀPs - c. What is learned by samples can be held against it.
"""

from varl.exact.linear_quadratic.asymmetric import Asymmetric, asymmetric
from varl.exact.linear_quadratic.horizon import finite_horizon
from varl.exact.linear_quadratic.levels import Level, Levels, two_levels
from varl.exact.linear_quadratic.problem import LinearQuadratic, check_matrices, linear_quadratic, random
from varl.exact.linear_quadratic.solve import (
  Evaluation,
  Solution,
  evaluate,
  hard,
  kl_regularised,
  log_prob,
  q,
  soft,
  value,
)

__all__ = [
  "Asymmetric",
  "Evaluation",
  "Level",
  "Levels",
  "LinearQuadratic",
  "Solution",
  "asymmetric",
  "check_matrices",
  "evaluate",
  "finite_horizon",
  "hard",
  "kl_regularised",
  "linear_quadratic",
  "log_prob",
  "q",
  "random",
  "soft",
  "two_levels",
  "value",
]
