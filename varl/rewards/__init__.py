"""Rewards that are paid in place of, or on top of, the environment's."""

from varl.rewards.adversarial import airl, gail
from varl.rewards.combine import learned, sum
from varl.rewards.density import log_ratio
from varl.rewards.empowerment import empowerment
from varl.rewards.empowerment import outputs_of as empowerment_outputs
from varl.rewards.information import GAINS, information_gain
from varl.rewards.inverse import maxent_irl
from varl.rewards.options import DIRECTIONS, delayed, reverse_options, window_size
from varl.rewards.skills import skill_count, skills

__all__ = [
  "DIRECTIONS",
  "GAINS",
  "airl",
  "delayed",
  "empowerment",
  "empowerment_outputs",
  "gail",
  "information_gain",
  "learned",
  "log_ratio",
  "maxent_irl",
  "reverse_options",
  "skill_count",
  "skills",
  "sum",
  "window_size",
]
