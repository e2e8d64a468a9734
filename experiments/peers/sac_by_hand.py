"""Soft actor-critic written out by hand: one update with jax and optax alone, on varl's parameters.

A peer and a witness: `experiments.peers.throughput` times `agent.update` beside it, which shows what varl's transformer
costs, and `tests/test_step.py` holds the parameters of both equal.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl.step import stream_key
from varl.types import Array, Key, Params, Transition

LEARNED = ("critic", "actor", "temperature")
"""The groups that have an optimiser."""

_SHIFT = math.log(math.expm1(1.0 - 1e-3))


def update(
  params: Params,
  opt: Any,
  batch: Transition,
  key: Key,
  *,
  optimizer: optax.GradientTransformation,
  gamma: float = 0.99,
  tau: float = 0.005,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """One simultaneous update of SAC from the paper's equations (1812.05905, Eq. 5-9, 17-18).

  For two critics, networks of two hidden layers with ReLU, and an entropy target of -d; observations are taken as they
  are.

  Args:
    params: of `varl.agents.sac`.
    opt: the optimiser's state of each of `LEARNED`.
    batch: `[B]` transitions.
    key: of the update, from which the noise comes as the agent draws it.
    optimizer: of each group.
    gamma: the discount.
    tau: the rate of the target copy.

  Returns:
    New parameters and states.
  """
  noise = jax.random.normal(stream_key(key, "posterior"), batch.action.shape)
  next_noise = jax.random.normal(stream_key(key, "critic"), batch.action.shape)
  noise, next_noise = jax.lax.optimization_barrier((noise, next_noise))  # drawn once, not in each reader anew
  alpha = jnp.exp(params["temperature"])
  next_raw, next_log_prob = _policy(params["actor"], batch.next_obs, next_noise)
  next_value = _q(params["target_critic"], batch.next_obs, next_raw).min(0) - alpha * next_log_prob
  y = batch.reward + gamma * batch.discount * next_value

  def critic_loss(critic: Any) -> Array:
    return (0.5 * (_q(critic, batch.obs, batch.action) - y) ** 2).sum(0).mean()

  def actor_loss(actor: Any) -> tuple[Array, Array]:
    raw, log_prob = _policy(actor, batch.obs, noise)
    return (alpha * log_prob - _q(params["critic"], batch.obs, raw).min(0)).mean(), log_prob

  grads: dict[str, Any] = {"critic": jax.grad(critic_loss)(params["critic"])}
  grads["actor"], log_prob = jax.grad(actor_loss, has_aux=True)(params["actor"])
  grads["temperature"] = alpha * (batch.action.shape[-1] - log_prob.mean())
  new, new_opt = dict(params), {}
  for name in LEARNED:
    updates, new_opt[name] = optimizer.update(grads[name], opt[name])
    new[name] = optax.apply_updates(params[name], updates)
  new["target_critic"] = jax.tree.map(lambda t, x: (1 - tau) * t + tau * x, params["target_critic"], new["critic"])
  return new, new_opt


def _policy(actor: Any, obs: Array, noise: Array) -> tuple[Array, Array]:
  """A raw action and log π of the executed one, from standard normal noise."""
  mean, rho = jnp.split(_dense(actor, obs), 2, axis=-1)
  std = 1e-3 + jax.nn.softplus(rho + _SHIFT)
  raw = mean + std * noise
  log_prob = -0.5 * noise**2 - jnp.log(std) - 0.5 * math.log(2 * math.pi)
  log_prob -= 2 * (math.log(2.0) - raw - jax.nn.softplus(-2 * raw))
  return raw, log_prob.sum(-1)


def _q(critics: Any, obs: Array, raw: Array) -> Array:
  """`[2, B]` of both critics."""
  x = jnp.concatenate([obs, jnp.tanh(raw)], -1)
  # A copy each: XLA would merge both first layers into one product, and pay for its layout later.
  return jax.vmap(_dense)(critics, jax.lax.optimization_barrier(jnp.stack([x, x])))[..., 0]


def _dense(tree: Any, x: Array) -> Array:
  layers = [tree["params"][f"Dense_{i}"] for i in range(3)]
  for layer in layers[:-1]:
    x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
  return x @ layers[-1]["kernel"] + layers[-1]["bias"]
