"""Temperatures α: what a nat of divergence from the prior costs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.duals import Dual
from varl.step import POSTERIOR_STREAM, SIDE, assign, descend
from varl.types import Array, Batch, Design, Key, Metrics, Params, Particles, Temperature, TrainStep


def fixed(alpha: float | Array) -> Temperature:
  """A constant.

  Raises:
    ValueError: a concrete α that is negative or not finite.
  """
  if isinstance(alpha, int | float) and not 0.0 <= alpha < float("inf"):
    raise ValueError(f"a temperature is finite and not negative, got {alpha}")
  return Temperature(lambda key: {}, lambda params: jnp.asarray(alpha, float))


def entropy_target(
  variable: Dual, optimizer: optax.GradientTransformation, target: float | Array, *, group: str = "temperature"
) -> Temperature:
  """The price at which the policy's entropy is H̄: the dual of E[-log π] >= H̄ (1812.05905, Eq. 17-18).

    L(α) = α·sg(E[-log π(a|s)] - H̄)

  Args:
    variable: α as a dual variable (`duals.dual`).
    optimizer: for its parameter.
    target: H̄, in nats of the executed action's density on [-1, 1]^d.
    group: the parameter group's name.
  """

  def measure(design: Design, params: Params, batch: Batch, drawn: Particles) -> tuple[Array, Array, Metrics]:
    log_prob = drawn.log_ratio + design.prior.log_prob(params, batch.obs, drawn.action)
    # E[-log π] >= H̄ is log π <= -H̄ in the form of a budget.
    measured = jnp.mean(jnp.sum(jnp.exp(drawn.log_weight) * log_prob, axis=0))
    return measured, -jnp.asarray(target), {"entropy_target": jnp.asarray(target, float)}

  return _price(variable, optimizer, measure, group)


def kl_budget(
  variable: Dual, optimizer: optax.GradientTransformation, epsilon: float | Array, *, group: str = "temperature"
) -> Temperature:
  """The price at which the posterior stays within KL ε of the prior: MPO's η (1806.06920, Eq. 9).

    L(η) = η sg(ε - E[KL(π ‖ p)]),   KL = Σ_n w_n log_ratio_n

  For a Boltzmann posterior this has the gradient of the convex dual g(η) = ηε + η E[log mean_n exp(Q̄/η)]
  (`losses.temperature_dual`). Its KL is of the weights: of n proposals at most log n.

  Metrics: `kl`, `kl_budget_used`, `effective_samples` (a state, of all particles together: (Σ w)²/(B Σ w²)).

  Args:
    variable: η as a dual variable (`duals.dual`).
    optimizer: for its parameter.
    epsilon: ε, in nats.
    group: the parameter group's name.

  Raises:
    ValueError: a concrete ε that is not positive.
  """
  checks.arguments(above={"epsilon": epsilon})

  def measure(design: Design, params: Params, batch: Batch, drawn: Particles) -> tuple[Array, Array, Metrics]:
    def of_rows(x: Array) -> Array:
      return losses.batch_mean(jnp.sum(x, axis=0), design.axis)

    weight = jnp.exp(drawn.log_weight)
    measured, budget = jnp.mean(jnp.sum(weight * drawn.log_ratio, axis=0)), jnp.asarray(epsilon)
    return (
      measured,
      budget,
      {
        "kl": measured,
        "kl_budget_used": measured / budget,
        "effective_samples": of_rows(weight) ** 2 / of_rows(jnp.square(weight)),
      },
    )

  return _price(variable, optimizer, measure, group)


def _price(
  variable: Dual,
  optimizer: optax.GradientTransformation,
  measure: Callable[[Design, Params, Batch, Particles], tuple[Array, Array, Metrics]],
  group: str,
) -> Temperature:
  """α as the multiplier of a constraint on the posterior's particles; `measure` gives (measured, budget, metrics)."""

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = design.posterior.particles(design, params, batch, key)
      measured, budget, metrics = measure(design, params, batch, drawn)
      return variable.loss(params[group], measured, budget), metrics

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  return Temperature(lambda key: {group: variable.init()}, lambda params: variable.value(params[group]), step)


def bellman_residual(
  *,
  scale: float | Array,
  rows: int = 4096,
  initial: float | Array = 1.0,
  ceiling: float | Array = 1.0,
  average: float | Array = 0.0,
  group: str = "temperature",
) -> Temperature:
  """The critic's own error as the temperature: VIREL's ε_ω, which falls as the critic converges.

    ε = min(c δ², ceiling),   δ² ← κ δ² + (1 - κ) mean_batch mean_i (Q_i(s, a) - y)²,   y = r + γ m V(s')

  The batch is a draw of its own from replay, asked for as `side_batch`, and y is the value's `backup`: without entropy,
  under the current policy. Until the replay holds `rows` transitions, or is full, δ² stays `initial`, from where an
  average then starts. Where the loop brings no side batch (an update by hand), the update's own batch serves.

  What keeps it stable: ε sets the policy's width, and a wider policy visits worse states, moves every value by its own
  cost and so makes the critic err more. That loop's gain grows with c times the spread of returns, and above 1 policy
  and error feed each other without end on an unbounded action space. The ceiling cuts the loop: whatever the error, ε
  is at most `ceiling`, by default 1, which is `virel`'s constant ε. Choose c such that `at_ceiling` is 0 in the long
  run.

  Metrics: `residual` (the batch's mean), `residual_scale` (c), `at_ceiling` (1.0 while the ceiling holds ε down; its
  mean is the share of time).

  Args:
    scale: c > 0, in 1/return. The published Walker2d run has .004 with rewards times 3.
    rows: of the batch, over all devices.
    initial: δ² before the replay holds that many rows.
    ceiling: the largest ε; infinity for none.
    average: κ in [0, 1), the share of the old δ² that each update keeps; the published code keeps none.
    group: the parameter group's name; it holds δ².

  Raises:
    ValueError: a concrete argument out of range; at `step`, a value without `backup`.

  Reference: 1811.01132, section 3 (ε_ω), and its published code. Departures: ceiling and moving average; δ² is the mean
    over an ensemble's members; the actor reads the ε of the update before (`design.agent` joins its steps).
  """
  checks.arguments(above={"scale": scale, "ceiling": ceiling}, least={"initial": initial})
  checks.share("average", average, upper_open=True)
  rows = checks.whole("rows", rows)

  def value(params: Params) -> Array:
    return losses.residual_temperature(params[group], scale, ceiling)

  def step(design: Design) -> TrainStep:
    backup = design.value.backup
    if backup is None:
      raise ValueError("bellman_residual needs a value with a `backup`, such as q_value or state_value")

    def measure(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      side: Any = batch.extras.get(SIDE)
      sample = batch._replace(extras={}) if side is None else side.rows._replace(extras={})
      residual = jnp.mean(losses.bellman_residual(*backup(design, params, sample, key)))
      missing = jnp.zeros(()) if side is None else (side.stored < sample.reward.shape[0]).astype(float)
      if design.axis is not None:
        residual, missing = jax.lax.pmean((residual, missing), design.axis)
      new = jnp.where(missing > 0, initial, average * params[group] + (1.0 - average) * residual)
      held = losses.residual_temperature(new, scale, jnp.inf) > ceiling
      return new, {
        "residual": residual,
        "residual_scale": jnp.asarray(scale, float),
        "at_ceiling": held.astype(float),
      }

    return assign(group, measure)

  return Temperature(lambda key: {group: jnp.asarray(initial, float)}, value, step, rows)
