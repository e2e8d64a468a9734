"""Function approximators: flax modules behind `(init, apply)` pairs, and ensembles by vmap over parameters."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from varl import checks
from varl.types import Array, ArrayTree, Key, Observation, Spec

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  "relu": nn.relu,
  "silu": nn.silu,
  "elu": nn.elu,
  "gelu": nn.gelu,
  "tanh": nn.tanh,
}


class Network(NamedTuple):
  """A function with parameters.

  Attributes:
    init: `key -> params`.
    apply: `(params, x [..., inputs]) -> [..., outputs]`; an ensemble's result has its members first.
  """

  init: Callable[[Key], ArrayTree]
  apply: Callable[[ArrayTree, Array], Array]


class Critic(NamedTuple):
  """Action values with parameters, whatever the action space.

  Attributes:
    init: `key -> params`.
    apply: `(params, obs [B, o], raw action [n, B, d]) -> [E, n, B]` for an ensemble of E; the leading n may be absent,
      and a discrete action has no d. A critic of distributions has its K outputs last, `[E, n, B, K]`.
  """

  init: Callable[[Key], ArrayTree]
  apply: Callable[[ArrayTree, Array, Array], Array]


def visible(spec: Spec, obs: Observation) -> Observation:
  """The part of observations `[..., o]` that a policy sees, without `spec.privileged`; of that part alone, itself."""
  seen = spec.observation_size - spec.privileged
  if not spec.privileged or obs.shape[-1] == seen:
    return obs
  before = seen - spec.context
  return jnp.concatenate([obs[..., :before], obs[..., before + spec.privileged :]], axis=-1)


def whole(spec: Spec, obs: Observation) -> Observation:
  """Observations `[..., o]`, of the part that a policy sees with zeros for the rest; of whole ones, themselves."""
  seen = spec.observation_size - spec.privileged
  if not spec.privileged or obs.shape[-1] != seen:
    return obs
  before = seen - spec.context
  unknown = jnp.zeros((*obs.shape[:-1], spec.privileged), obs.dtype)
  return jnp.concatenate([obs[..., :before], unknown, obs[..., before:]], axis=-1)


def blind(spec: Spec, network: Network) -> Network:
  """The network of a policy, of `visible` observations, as one of whole ones."""
  if not spec.privileged:
    return network
  return network._replace(apply=lambda params, obs: network.apply(params, visible(spec, obs)))


class MLP(nn.Module):
  """Dense layers with an activation between them, and optionally LayerNorm before each activation."""

  hidden: Sequence[int]
  outputs: int
  activation: Callable[[Array], Array] = nn.relu
  layer_norm: bool = False
  zero_output: bool = False

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[..., inputs] -> [..., outputs]`."""
    dtype = jnp.result_type(float)  # flax has float32 whatever JAX's default is
    for width in self.hidden:
      x = nn.Dense(width, param_dtype=dtype)(x)
      if self.layer_norm:
        x = nn.LayerNorm(param_dtype=dtype)(x)
      x = self.activation(x)
    if self.zero_output:
      return nn.Dense(self.outputs, kernel_init=nn.initializers.zeros, param_dtype=dtype)(x)
    return nn.Dense(self.outputs, param_dtype=dtype)(x)


def mlp(
  inputs: int,
  outputs: int,
  *,
  hidden: Sequence[int] = (256, 256),
  activation: str = "relu",
  layer_norm: bool = False,
  zero_output: bool = False,
) -> Network:
  """A multi-layer perceptron `[..., inputs] -> [..., outputs]`.

  Args:
    inputs, outputs: sizes.
    hidden: the widths of the layers between them.
    activation: a name of `ACTIVATIONS`.
    layer_norm: LayerNorm before each activation.
    zero_output: the last layer starts at zero, and so does every output.

  Raises:
    ValueError: a size below 1, or an unknown activation.
  """
  inputs, outputs = checks.whole("inputs", inputs), checks.whole("outputs", outputs)
  widths = tuple(checks.whole("each width of hidden", width) for width in hidden)
  if activation not in ACTIVATIONS:
    raise ValueError(f"activation is one of {sorted(ACTIVATIONS)}, got {activation!r}")
  module = MLP(widths, outputs, ACTIVATIONS[activation], layer_norm, zero_output)

  def apply(params: ArrayTree, x: Array) -> Array:
    result: Any = module.apply(params, x)
    return result

  return Network(lambda key: module.init(key, jnp.zeros((1, inputs))), apply)


def spectral(network: Network, *, iterations: int = 16) -> Network:
  """The network with each weight matrix divided by its largest singular value, W/σ(W).

  With activations of slope at most 1, as all but "gelu" and "silu" have, a multi-layer perceptron's outputs then move
  at most as far as its inputs do (in Euclidean length), up to the error of σ.

  Args:
    network: of parameters whose leaves named "kernel" are matrices `[..., inputs, outputs]`.
    iterations: of the power method, which starts anew at each call: nothing is carried, so that the function is of its
      parameters alone. It comes to σ from below; gradients are those of uᵀWv with u and v held fixed.

  Raises:
    ValueError: fewer than one iteration.

  Reference: Miyato et al. 2018, 1802.05957, Eq. 7-8 and Algorithm 1.
  """
  iterations = checks.whole("iterations", iterations)

  def largest(kernel: Array) -> Array:
    """σ of each matrix, `[..., 1, 1]`."""
    fixed, tiny = jax.lax.stop_gradient(kernel), jnp.finfo(kernel.dtype).tiny
    # A start with no symmetry that a matrix could be orthogonal to.
    v = jnp.broadcast_to(
      1.0 + jnp.arange(kernel.shape[-1], dtype=kernel.dtype) ** 0.5, (*kernel.shape[:-2], kernel.shape[-1])
    )
    u = v
    for _ in range(iterations):
      u = jnp.einsum("...io,...o->...i", fixed, v)
      u = u / jnp.maximum(jnp.linalg.norm(u, axis=-1, keepdims=True), tiny)
      v = jnp.einsum("...io,...i->...o", fixed, u)
      v = v / jnp.maximum(jnp.linalg.norm(v, axis=-1, keepdims=True), tiny)
    return jnp.maximum(jnp.einsum("...i,...io,...o->...", u, kernel, v), tiny)[..., None, None]

  def apply(params: ArrayTree, x: Array) -> Array:
    def scaled(path: Any, leaf: Array) -> Array:
      return leaf / largest(leaf) if getattr(path[-1], "key", None) == "kernel" else leaf

    return network.apply(jax.tree_util.tree_map_with_path(scaled, params), x)

  return Network(network.init, apply)


def ensemble(network: Network, size: int) -> Network:
  """`size` independent copies: parameters stacked on a leading axis, results `[size, ...]`.

  Raises:
    ValueError: size below 1.
  """
  size = checks.whole("size", size)

  def apply(params: ArrayTree, x: Array) -> Array:
    # Each member gets its own copy of the input. Left to itself XLA merges the members' first layers into one product,
    # whose result has the members inside each row, and every later layer pays for that layout (5 % of a SAC update on
    # a CPU).
    copies = jax.lax.optimization_barrier(jnp.broadcast_to(x, (size, *x.shape)))
    return jax.vmap(network.apply)(params, copies)

  return Network(lambda key: jax.vmap(network.init)(jax.random.split(key, size)), apply)


def action_in(network: Network, execute: Callable[[Array], Array], *, outputs: int | None = None) -> Critic:
  """Q(s, a) of a network that takes the action as an input: for continuous actions.

  Args:
    network: an ensemble, `[obs, executed action] [..., o + d] -> [E, ..., 1]`, or K in place of 1.
    execute: raw action -> executed action; the critic sees what the environment gets.
    outputs: K of a critic of distributions (`values.Returns.size`); None: one number.
  """

  def apply(params: ArrayTree, obs: Array, action: Array) -> Array:
    obs = jnp.broadcast_to(obs, (*action.shape[:-1], obs.shape[-1]))
    found = network.apply(params, jnp.concatenate([obs, execute(action)], axis=-1))
    return found[..., 0] if outputs is None else found

  return Critic(network.init, apply)


def action_out(network: Network, *, outputs: int | None = None) -> Critic:
  """Q(s, a) of a network with one output an action: for discrete actions; one pass values them all.

  Args:
    network: an ensemble, `obs [..., o] -> [E, ..., A]`, or A·K in place of A.
    outputs: K of a critic of distributions (`values.Returns.size`); None: one number an action.
  """

  def apply(params: ArrayTree, obs: Array, action: Array) -> Array:
    q = network.apply(params, obs)
    q = q.reshape(*q.shape[:-1], -1, 1 if outputs is None else outputs)
    # A sum and not a gather: its gradient is a product and no scatter.
    chosen = jax.nn.one_hot(action, q.shape[-2], dtype=q.dtype)[..., None]
    q = q.reshape(q.shape[0], *(1,) * (action.ndim - obs.ndim + 1), *q.shape[1:])
    found = jnp.sum(jnp.where(chosen > 0, q, 0.0), axis=-2)
    return found[..., 0] if outputs is None else found

  return Critic(network.init, apply)


def state_action(spec: Spec, execute: Callable[[Array], Array]) -> Callable[[Observation, Array], Array]:
  """What models and classifiers of transitions see: `(obs [..., o], raw action) -> [..., o + d]`.

  Args:
    spec: the environment's sizes; a discrete action becomes one-hot, of d = its number of actions.
    execute: raw action -> executed action.

  Raises:
    ValueError: at the call, actions of the other kind.
  """

  def joined(obs: Observation, action: Array) -> Array:
    if jnp.issubdtype(action.dtype, jnp.integer) != spec.discrete:
      kinds = ("discrete", "continuous") if spec.discrete else ("continuous", "discrete")
      raise ValueError(f"the model is of {kinds[0]} actions, got {kinds[1]} ones: {action.dtype}{list(action.shape)}")
    executed = execute(action)
    executed = jax.nn.one_hot(executed, spec.action_size, dtype=obs.dtype) if spec.discrete else executed
    return jnp.concatenate([obs, executed], axis=-1)

  return joined
