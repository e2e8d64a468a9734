"""Exact inference in finite Markov decision processes: as a graphical model, and variationally.

Every function takes one `MDP`, is pure, follows the dtype of its inputs (float64 under `jax.enable_x64(True)`), and
goes through `jit`, `vmap` (over processes and temperatures) and `grad`. Arguments are checked where they are concrete.
"""

from varl.exact.tabular.em import EM, expectation_maximisation
from varl.exact.tabular.mdp import MDP, arrivals, at_successors, dense, expected, log_expected, mdp, transition_matrix
from varl.exact.tabular.messages import Messages, elbo, log_evidence, message_passing
from varl.exact.tabular.planning import PlanningLimit, planning_limit
from varl.exact.tabular.problems import chain, gridworld, lottery, random_mdp
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
  "Evaluation",
  "HardSolution",
  "Messages",
  "PlanningLimit",
  "SoftSolution",
  "arrivals",
  "at_successors",
  "chain",
  "dense",
  "elbo",
  "expectation_maximisation",
  "expected",
  "greedy",
  "gridworld",
  "hard_value_iteration",
  "log_evidence",
  "log_expected",
  "lottery",
  "mdp",
  "message_passing",
  "planning_limit",
  "policy_evaluation",
  "random_mdp",
  "soft_value_iteration",
  "transition_matrix",
  "visitation",
]
