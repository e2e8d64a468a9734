"""Exact inference in finite Markov decision processes: as a graphical model, and variationally.

Every function takes one `MDP`, is pure, follows the dtype of its inputs (float64 under `jax.enable_x64(True)`), and
goes through `jit`, `vmap` (over processes and temperatures) and `grad`. Arguments are checked where they are concrete.
"""

from varl.exact.tabular.distral import Distral, distral
from varl.exact.tabular.em import EM, expectation_maximisation
from varl.exact.tabular.exploration import (
  Belief,
  Exploration,
  belief,
  drawn_process,
  expected_process,
  explore,
  learn,
)
from varl.exact.tabular.mdp import MDP, arrivals, at_successors, dense, expected, log_expected, mdp, transition_matrix
from varl.exact.tabular.messages import Messages, elbo, log_evidence, message_passing
from varl.exact.tabular.optimism import OptimisticModel, corrected_problem, optimistic_model
from varl.exact.tabular.planning import PlanningLimit, planning_limit
from varl.exact.tabular.problems import chain, grid_rows, gridworld, lottery, random_mdp
from varl.exact.tabular.values import (
  Evaluation,
  HardSolution,
  SoftSolution,
  greedy,
  hard_value_iteration,
  policy_evaluation,
  soft_value_iteration,
  visitation,
)

__all__ = [
  "EM",
  "MDP",
  "Belief",
  "Distral",
  "Evaluation",
  "Exploration",
  "HardSolution",
  "Messages",
  "OptimisticModel",
  "PlanningLimit",
  "SoftSolution",
  "arrivals",
  "at_successors",
  "belief",
  "chain",
  "corrected_problem",
  "dense",
  "distral",
  "drawn_process",
  "elbo",
  "expectation_maximisation",
  "expected",
  "expected_process",
  "explore",
  "greedy",
  "grid_rows",
  "gridworld",
  "hard_value_iteration",
  "learn",
  "log_evidence",
  "log_expected",
  "lottery",
  "mdp",
  "message_passing",
  "optimistic_model",
  "planning_limit",
  "policy_evaluation",
  "random_mdp",
  "soft_value_iteration",
  "transition_matrix",
  "visitation",
]
