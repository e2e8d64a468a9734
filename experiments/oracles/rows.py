"""Rows of what was learned beside what is true, and how an algorithm is run for one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

import varl


class Row(NamedTuple):
  """One quantity of one problem.

  Attributes:
    algorithm, problem, quantity: what it is.
    got, exact: the size of the learned and of the true quantity (norms of matrices, means of values).
    errors: one a seed.
    tolerance: on their mean.
  """

  algorithm: str
  problem: str
  quantity: str
  got: float
  exact: float
  errors: tuple[float, ...]
  tolerance: float

  @property
  def error(self) -> float:
    return float(np.mean(self.errors))

  @property
  def interval(self) -> float:
    """Half the width of the 95 % interval of the mean (Student's t); NaN for a single seed."""
    n = len(self.errors)
    if n < 2:
      return float("nan")
    return float(stats.t.ppf(0.975, n - 1) * np.std(self.errors, ddof=1) / np.sqrt(n))

  @property
  def holds(self) -> bool:
    return self.error <= self.tolerance


class Scale(NamedTuple):
  """How much is run: updates and problems are multiplied down and tolerances up in the short form."""

  seeds: tuple[int, ...]
  short: bool

  def problems(self, full: int, short: int) -> int:
    return short if self.short else full

  def updates(self, full: int, short: int) -> int:
    return short if self.short else full

  def tolerance(self, full: float, short: float) -> float:
    return short if self.short else full


Oracle = Callable[[str, Scale], list[Row]]


class Rollouts(NamedTuple):
  """How an on-policy algorithm learns here, beside the number of its updates.

  Attributes:
    unroll_length, epochs, batch_size: as in `varl.Settings`, for 64 environments.
  """

  unroll_length: int = 16
  epochs: int = 4
  batch_size: int = 256


MANY = 16
"""Environment steps for each update where the exact answer depends on how often states are visited: of a few hundred
episodes in replay that is off by more than what is allowed."""


def loop(
  updates: int, *, warm_up: int, rollouts: Rollouts | None, steps_each: int = 4, **settings: Any
) -> varl.Settings:
  """64 environments for a number of updates: of replay after a warm-up, `steps_each` an update; or of rollouts."""
  if rollouts is None:
    steps = steps_each * updates + warm_up
    settings = {
      "updates_per_env_step": 1.0 / steps_each, "batch_size": 256, "warm_up": warm_up, "replay_capacity": steps,
      **settings,
    }  # fmt: skip
  else:
    rows = 64 * rollouts.unroll_length
    steps = updates * rollouts.batch_size // rollouts.epochs // rows * rows
    settings = {**settings, **rollouts._asdict()}
  return varl.Settings(**{"num_timesteps": steps, "num_envs": 64, "eval_every": steps, "eval_episodes": 1, **settings})


def floats(values: Any) -> tuple[float, ...]:
  return tuple(float(value) for value in values)
