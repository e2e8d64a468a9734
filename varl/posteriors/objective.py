"""The objective J̃ of a single state's policy, and what posteriors that optimise it per state have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from varl import losses
from varl.policies import Head, is_discrete
from varl.types import Array, ArrayTree, Carry, Design, Extras, Key, Observation, Params, Particles


def particles(design: Design, head: Head, params: Params, obs: Observation, outputs: Array, noise: Array) -> Particles:
  """Equally weighted, reparameterised actions of the policy λ.

  Args:
    design: gives the prior.
    head: what λ means.
    params: of all groups.
    obs: `[B, o]`.
    outputs: λ `[B, head.size]`.
    noise: `[M, B, *]`, or `[M, 1, *]` for the same noise in every state.
  """
  action, log_prob = head.transform(outputs, noise)
  log_weight = jnp.full_like(log_prob, -jnp.log(float(len(noise))))
  return Particles(action, log_weight, log_prob - design.prior.log_prob(params, obs, action))


def estimate(
  design: Design, head: Head, params: Params, obs: Observation, outputs: Array, noise: Array, *, target: bool
) -> Array:
  """What the policy λ is worth in a state (Marino et al. 2019, On the Design of Variational RL Algorithms, Eq. 16).

    J̃(s, λ) = 1/M Σ_m (Q(s, a_m) - α log π_λ(a_m|s)/p(a_m|s)),   a_m reparameterised

  Args:
    design, head, params, obs, outputs, noise: as `particles`.
    target: whether Q is the value's slow copy, as in 2010.10670, or the learning one.

  Returns:
    `[B]`, in units of return; differentiable in λ.
  """
  drawn = particles(design, head, params, obs, outputs, noise)
  q = (design.value.q_target if target else design.value.q)(params, obs, drawn.action)
  return losses.soft_value(q, drawn.log_weight, drawn.log_ratio, design.temperature.value(params))


def ascent(
  design: Design, head: Head, params: Params, *, target: bool
) -> Callable[[Observation, Array, Array], tuple[Array, Array]]:
  """Makes `(obs, outputs, noise) -> (J̃ [B], ∇_λ J̃ [B, head.size])`; Args as `estimate`."""

  def climb(obs: Observation, outputs: Array, noise: Array) -> tuple[Array, Array]:
    def total(outputs: Array) -> tuple[Array, Array]:
      each = estimate(design, head, params, obs, outputs, noise, target=target)
      return jnp.sum(each), each  # states do not see one another: the gradient of the sum is each one's own

    slope, each = jax.grad(total, has_aux=True)(outputs)
    return each, slope

  return climb


def acting(
  head: Head,
  draw_noise: Callable[[Key, tuple[int, ...]], ArrayTree],
  infer: Callable[[Design, Params, Observation, Any], Array],
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """`act` and `mode` of a posterior that infers λ anew in every state.

  Args:
    head: what λ means.
    draw_noise: `(key, batch shape) -> noise`, all that inference is random in, with that shape after its first axes.
    infer: `(design, params, obs, noise) -> λ`; the noise of all states may be one, with batch axes of 1.

  Returns:
    `act`, which consumes its key once, by splitting it into inference's and the action's; and `mode`, whose inference
    uses the noise of one fixed key in every state, so that it is a function of the state alone.
  """

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    shape = obs.shape[:-1]
    infer_key, action_key = jax.random.split(key)
    outputs = infer(design, params, obs, draw_noise(infer_key, shape))
    action, log_prob = head.transform(outputs, head.noise(action_key, 1, shape))
    return action[0], carry, {"log_prob": log_prob[0]}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    noise = draw_noise(jax.random.key(0), (1,) * (obs.ndim - 1))
    outputs = infer(design, params, obs, noise)
    action = head.mode(outputs)
    return action, carry, {"log_prob": head.log_prob(outputs, action)}

  return act, mode


def check_reparameterised(name: str, head: Head) -> None:
  """Raises ValueError where a head's actions are not differentiable in its outputs."""
  if is_discrete(head):
    raise ValueError(f"{name} inference moves continuous actions by reparameterisation, but this head's are discrete")


def start_from(head: Head, start: Array | None) -> Array:
  """λ₀ `[head.size]`: what is given, or zeros.

  Raises:
    ValueError: another shape.
  """
  outputs = jnp.zeros(head.size) if start is None else jnp.asarray(start, float)
  if outputs.shape != (head.size,):
    raise ValueError(f"inference starts from outputs of shape {(head.size,)}, got {outputs.shape}")
  return outputs
