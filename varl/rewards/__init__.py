"""Rewards that are paid in place of, or on top of, the environment's."""

from varl.rewards.density import log_ratio

__all__ = ["log_ratio"]
