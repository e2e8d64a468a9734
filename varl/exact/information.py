"""Information in closed form or by a convergent iteration: channel capacity, empowerment, what an observation tells."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.exact.tabular.mdp import MDP, dense
from varl.types import Array

LARGEST = 20_000_000
"""Entries of the largest channel that `empowerment` makes."""


class Capacity(NamedTuple):
  """The most that can be sent through a channel.

  Attributes:
    nats: `[...]`, max_p I(X; Y).
    inputs: `[..., X]`, the distribution of inputs that reaches it.
    gap: `[...]`, how far below its upper bound `nats` may lie.
  """

  nats: Array
  inputs: Array
  gap: Array


class LinearBelief(NamedTuple):
  """A normal belief about the weights of y = wᵀx + ε, ε ~ N(0, σ²).

  Attributes:
    mean: `[d]`.
    covariance: `[d, d]`.
  """

  mean: Array
  covariance: Array


def mutual_information(inputs: Any, channel: Any) -> Array:
  """I(X; Y) = Σ_x p(x) KL(W(·|x) ‖ Σ_x p(x) W(·|x)), in nats.

  Args:
    inputs: `[..., X]`, p(x).
    channel: `[..., X, Y]`, W(y|x).

  Returns:
    `[...]`.
  """
  inputs, channel = jnp.asarray(inputs), jnp.asarray(channel)
  return jnp.sum(inputs * _divergences(inputs, channel), axis=-1)


def channel_capacity(channel: Any, *, tolerance: float | None = None, max_iterations: int = 100_000) -> Capacity:
  """The capacity of a channel, by Blahut and Arimoto's iteration.

    p(x) ← p(x) e^{D(x)} / Σ_x p(x) e^{D(x)},    D(x) = KL(W(·|x) ‖ Σ_x p(x) W(·|x))
    log Σ_x p(x) e^{D(x)} <= C <= max_x D(x)

  Args:
    channel: `[..., X, Y]`, W(y|x), rows that sum to 1.
    tolerance: the two bounds' distance at which it ends, in nats; None: 1e-10, or 1e-6 in single precision.
    max_iterations: at which it ends in any case.

  Returns:
    A `Capacity`, differentiable in the channel: at the best inputs the derivative of the capacity is that of the
    mutual information with these held.

  Raises:
    ValueError: fewer than two axes, or rows of a concrete channel that are negative or do not sum to 1 within 1e-5.

  Reference: Blahut 1972, "Computation of channel capacity and rate-distortion functions"; Arimoto 1972.
  """
  channel = jnp.asarray(channel)
  channel = channel.astype(jnp.result_type(channel, 1.0))
  if channel.ndim < 2 or 0 in channel.shape:
    raise ValueError(f"a channel is [..., inputs, outputs]; got shape {channel.shape}")
  if not isinstance(channel, jax.core.Tracer):
    total = jnp.sum(channel, axis=-1)
    if bool(jnp.any(channel < 0)) or not bool(jnp.all(jnp.abs(total - 1.0) <= 1e-5)):
      raise ValueError(
        "rows of a channel are distributions: not negative, and sum to 1 within 1e-5; got entries from "
        f"{float(channel.min()):.6g} and sums from {float(total.min()):.6g} to {float(total.max()):.6g}"
      )
  least = 1e-10 if channel.dtype == jnp.float64 else 1e-6
  return _capacity(channel, least if tolerance is None else tolerance, checks.whole("max_iterations", max_iterations))


def empowerment(m: MDP, *, steps: int = 1, tolerance: float | None = None) -> Capacity:
  """What an agent can make of its future: the capacity from its next n actions to where they lead.

    E_n(s) = max_p(a_1..a_n) I(a_1..a_n; s_n | s_0 = s)

  The actions are chosen before any is taken, and there are A^n sequences of them. Where dynamics are deterministic this
  is the logarithm of how many states n actions reach.

  Args:
    m: the process; terminal states stay.
    steps: n.
    tolerance: as in `channel_capacity`.

  Returns:
    A `Capacity` of leading axis `[S]`; its inputs `[S, A^n]` count the first action slowest.

  Raises:
    ValueError: fewer than one step, or a channel of more than `LARGEST` entries.

  Reference: Klyubin, Polani, Nehaniv 2005, "Empowerment: a universal agent-centric measure of control"; Mohamed and
    Rezende 2015, 1509.08731, who learn a bound on it.
  """
  steps = checks.whole("steps", steps)
  states, actions = m.reward.shape
  size = states * actions**steps * states
  if size > LARGEST:
    raise ValueError(
      f"the channel of {actions} ** {steps} sequences from {states} states has {size:,} entries; at most {LARGEST:,}"
    )
  channel = transition = dense(m).transition
  for _ in range(steps - 1):
    channel = jnp.einsum("sau,ubt->sabt", channel, transition, precision=jax.lax.Precision.HIGHEST)
    channel = channel.reshape(states, -1, states)
  return channel_capacity(channel, tolerance=tolerance)


def linear_update(belief: LinearBelief, x: Any, y: Any, *, noise_std: Any) -> LinearBelief:
  """Bayes' rule for one observation y = wᵀx + ε of weights w ~ N(μ, Σ).

    k = Σx / (σ² + xᵀΣx),    μ ← μ + k (y - xᵀμ),    Σ ← Σ - k xᵀΣ

  Args:
    belief: before.
    x: `[d]`. y: scalar.
    noise_std: σ > 0.
  """
  x = jnp.asarray(x, belief.mean.dtype)
  towards = belief.covariance @ x
  gain = towards / (jnp.square(noise_std) + x @ towards)
  return LinearBelief(belief.mean + gain * (y - x @ belief.mean), belief.covariance - jnp.outer(gain, towards))


def linear_gain(belief: LinearBelief, x: Any, *, noise_std: Any) -> Array:
  """What observing y = wᵀx + ε tells of w: I(w; y | x) = ½ log(1 + xᵀΣx/σ²), in nats, a scalar.

  It is the expected KL of the belief after the observation from the one before, whatever y turns out to be.

  Args:
    belief: before.
    x: `[d]`.
    noise_std: σ > 0.

  Reference: Lindley 1956; the quantity that VIME (Houthooft et al. 2016, 1605.09674, section 2) estimates.
  """
  x = jnp.asarray(x, belief.mean.dtype)
  return 0.5 * jnp.log1p(x @ belief.covariance @ x / jnp.square(noise_std))


def _divergences(inputs: Array, channel: Array) -> Array:
  """KL(W(·|x) ‖ Σ_x p(x) W(·|x)) of each input, `[..., X]`."""
  outputs = jnp.einsum("...x,...xy->...y", inputs, channel, precision=jax.lax.Precision.HIGHEST)[..., None, :]
  some = channel > 0
  # Where an input has no mass, an output that it alone leads to has none either, and the divergence is infinite.
  log_ratio = jnp.log(jnp.where(some, channel, 1.0)) - jnp.log(jnp.where(outputs > 0, outputs, 1.0))
  log_ratio = jnp.where(some & (outputs <= 0), jnp.inf, log_ratio)
  return jnp.sum(jnp.where(some, channel * jnp.where(some, log_ratio, 0.0), 0.0), axis=-1)


@partial(jax.jit, static_argnames="max_iterations")
def _capacity(channel: Array, tolerance: Any, max_iterations: int) -> Capacity:
  count = channel.shape[-2]
  constant = jax.lax.stop_gradient(channel)

  def bounds(log_inputs: Array) -> tuple[Array, Array, Array]:
    each = _divergences(jnp.exp(log_inputs), constant)
    return each, jax.nn.logsumexp(log_inputs + each, axis=-1), jnp.max(each, axis=-1)

  def unfinished(carry: tuple[Array, Array, Array]) -> Array:
    _, gap, iteration = carry
    return jnp.any(gap > tolerance) & (iteration < max_iterations)

  def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    log_inputs, _, iteration = carry
    each, lower, _ = bounds(log_inputs)
    log_inputs = log_inputs + each - lower[..., None]
    _, lower, upper = bounds(log_inputs)
    return log_inputs, upper - lower, iteration + 1

  log_inputs = jnp.full(channel.shape[:-1], -jnp.log(count), channel.dtype)
  gap = jnp.full(channel.shape[:-2], jnp.inf, channel.dtype)
  log_inputs, gap, _ = jax.lax.while_loop(unfinished, step, (log_inputs, gap, jnp.int32(0)))
  inputs = jnp.exp(log_inputs)
  return Capacity(mutual_information(inputs, channel), inputs, gap)
