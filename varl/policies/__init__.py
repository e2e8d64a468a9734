"""Policy heads: what a network's outputs mean as a distribution over actions, and the divergences between them."""

from varl.policies.flow import flow
from varl.policies.heads import (
  Head,
  Part,
  categorical,
  categorical_kl,
  decoupled_gaussian_kl,
  every_action,
  full_gaussian,
  gaussian,
  gaussian_kl,
  is_discrete,
  normal,
  tanh_gaussian,
  tanh_log_det,
)
from varl.policies.options import OPTION, OPTION_ADVANTAGE, PREVIOUS, TINY, Choice, choice, of_option

__all__ = [
  "OPTION",
  "OPTION_ADVANTAGE",
  "PREVIOUS",
  "TINY",
  "Choice",
  "Head",
  "Part",
  "categorical",
  "categorical_kl",
  "choice",
  "decoupled_gaussian_kl",
  "every_action",
  "flow",
  "full_gaussian",
  "gaussian",
  "gaussian_kl",
  "is_discrete",
  "normal",
  "of_option",
  "tanh_gaussian",
  "tanh_log_det",
]
