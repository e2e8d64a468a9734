"""One object for every temperature and Lagrange multiplier.

A dual variable λ > 0 prices a constraint measured <= budget. Its loss λ·sg(budget - measured), minimised, raises λ
while the constraint is broken and lowers it while there is slack.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from varl.types import Array, Metrics


class Dual(NamedTuple):
  """A positive variable in unconstrained form.

  Attributes:
    init: `() -> raw`, the parameter at the initial value.
    value: `raw -> λ`.
    loss: `(raw, measured, budget) -> λ·sg(budget - measured)`, of λ's shape.
    metrics: `(name, raw, measured, budget) -> Metrics`: `<name>`, `<name>_measured`, `<name>_budget_used`, each a mean.
  """

  init: Callable[[], Array]
  value: Callable[[Array], Array]
  loss: Callable[[Array, Array, Array], Array]
  metrics: Callable[[str, Array, Array, Array], Metrics]


def dual(
  initial: float | Array = 1.0,
  *,
  shape: tuple[int, ...] = (),
  transform: str = "exp",
  floor: float = 0.0,
  ceiling: float = float("inf"),
) -> Dual:
  """Makes a dual variable λ = min(floor + f(raw), ceiling), f = exp or softplus.

  Args:
    initial: λ at the start, above the floor.
    shape: () for one multiplier, (d,) for one a dimension.
    transform: "exp" (the step in log λ) or "softplus" (the step in λ itself where it is large).
    floor: λ never goes below.
    ceiling: λ never goes above. The gradient at the ceiling is that of the unclipped value, so that it can come down
      again.

  Raises:
    ValueError: an unknown transform, or an initial value outside (floor, ceiling].
  """
  if transform not in ("exp", "softplus"):
    raise ValueError(f"the transform of a dual variable is 'exp' or 'softplus', got {transform!r}")
  if isinstance(initial, int | float) and not floor < initial <= ceiling:
    raise ValueError(f"a dual variable starts in (floor, ceiling] = ({floor}, {ceiling}], got {initial}")

  def init() -> Array:
    excess = jnp.broadcast_to(jnp.asarray(initial, float) - floor, shape)
    return jnp.log(excess) if transform == "exp" else excess + jnp.log(-jnp.expm1(-excess))

  def value(raw: Array) -> Array:
    free = floor + (jnp.exp(raw) if transform == "exp" else jax.nn.softplus(raw))
    # The 0 added to the ceiling carries the gradient; free + sg(ceiling - free) would lose the ceiling to a large free.
    return jnp.where(free > ceiling, ceiling + (free - jax.lax.stop_gradient(free)), free)

  def loss(raw: Array, measured: Array, budget: Array) -> Array:
    return value(raw) * jax.lax.stop_gradient(budget - measured)

  def metrics(name: str, raw: Array, measured: Array, budget: Array) -> Metrics:
    return {
      name: jnp.mean(value(raw)),
      f"{name}_measured": jnp.mean(measured),
      f"{name}_budget_used": jnp.mean(measured / budget),
    }

  return Dual(init, value, loss, metrics)
