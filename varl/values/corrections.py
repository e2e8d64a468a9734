"""Off-policy corrections: how an action value's targets are made along sequences from replay."""

from collections.abc import Callable
from typing import Any, NamedTuple

from varl import checks, returns
from varl.types import Array


class Correction(NamedTuple):
  """How `q_value` makes its targets along sequences from replay, in place of one step: `retrace` or `n_step`.

  Attributes:
    sequence: transitions a sequence; targets near its end look less far ahead.
    target: `((reward, discount, truncated), next_value, taken, gamma) -> [T, ...]`, where taken() is (Q̄(s, a), log ρ)
      of the actions taken: log ρ is of the policy that is evaluated against the behaviour.
  """

  sequence: int
  target: Callable[[tuple[Array, Array, Array], Array, Callable[[], tuple[Array, Array]], float | Array], Array]


def retrace(sequence: int, lam: float | Array = 1.0) -> Correction:
  """λ-returns, cut where the policy does what the behaviour would rather not (1606.02647; `returns.retrace`).

  Raises:
    ValueError: sequences shorter than 2, or a concrete λ outside [0, 1].
  """
  checks.share("lam", lam)

  def target(row: Any, next_value: Array, taken: Any, gamma: float | Array) -> Array:
    reward, discount, truncated = row
    q, log_rho = taken()
    return returns.retrace(reward, discount, truncated, q, next_value, log_rho, gamma=gamma, lam=lam)

  return Correction(checks.whole("sequence", sequence, least=2), target)


def n_step(sequence: int) -> Correction:
  """Returns of as many rewards as the sequence has left, as if all of it were the policy's own (`n_step_return`).

  Raises:
    ValueError: sequences shorter than 2.
  """
  sequence = checks.whole("sequence", sequence, least=2)

  def target(row: Any, next_value: Array, taken: Any, gamma: float | Array) -> Array:
    reward, discount, truncated = row
    return returns.n_step_return(reward, discount, truncated, next_value, gamma=gamma, n=sequence)

  return Correction(sequence, target)
