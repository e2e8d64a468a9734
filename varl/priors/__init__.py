"""Priors p(a|s): what the policy is held to."""

from varl.priors.distilled import all_but_last, column, distilled, two_columns
from varl.priors.evaluation import every_action, samples
from varl.priors.fixed import fixed, previous_policy, uniform
from varl.priors.hierarchical import hierarchical
from varl.priors.learned import Bound, learned

__all__ = [
  "Bound",
  "all_but_last",
  "column",
  "distilled",
  "every_action",
  "fixed",
  "hierarchical",
  "learned",
  "previous_policy",
  "samples",
  "two_columns",
  "uniform",
]
