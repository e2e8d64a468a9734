"""Temperatures α: what a nat of divergence from the prior costs."""

import jax.numpy as jnp
import optax

from varl.duals import Dual
from varl.step import POSTERIOR_STREAM, descend
from varl.types import Array, Batch, Design, Key, Metrics, Params, Temperature, TrainStep


def fixed(alpha: float | Array) -> Temperature:
  """A constant.

  Raises:
    ValueError: a concrete α that is negative or not finite.
  """
  if isinstance(alpha, int | float) and not 0.0 <= alpha < float("inf"):
    raise ValueError(f"a temperature is finite and not negative, got {alpha}")
  return Temperature(lambda key: {}, lambda params: jnp.asarray(alpha, jnp.float32))


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

  def value(params: Params) -> Array:
    return variable.value(params[group])

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = design.posterior.particles(design, params, batch, key)
      log_prob = drawn.log_ratio + design.prior.log_prob(params, batch.obs, drawn.action)
      # E[-log π] >= H̄ is log π <= -H̄ in the form of a budget.
      measured = jnp.mean(jnp.sum(jnp.exp(drawn.log_weight) * log_prob, axis=0))
      return variable.loss(params[group], measured, -jnp.asarray(target)), {
        "entropy_target": jnp.asarray(target, jnp.float32)
      }

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis)

  return Temperature(lambda key: {group: variable.init()}, value, step)
