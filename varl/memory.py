"""What a policy and its values remember of an episode: recurrent networks, through the carry and from replay.

A recurrent network is one whose observations are rows that this module makes. While acting a row is what is seen now
beside the memory of all before, and the network takes one step. While learning it is a part of a sequence, and the
network unrolls that from the memory at its start. Nothing else of a design knows of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from varl import checks
from varl.networks import Critic, Network
from varl.types import Array, Batch, Key, Observation, Params, Spec, Transition

MEMORY = "memory"
"""Where among a transition's extras the action before it and the memories at its start are."""

Wrapped = TypeVar("Wrapped", Network, Critic)


class Memory(NamedTuple):
  """The memories of an agent's networks.

  Attributes:
    groups: the parameter groups of the networks that remember; each has a memory of its own.
    length: L, steps that each sequence is learned from; 0: batches are of single transitions.
    burn_in: K, steps before these, which only warm the memory up.
    carry: `batch size -> carry`, at an episode's start.
    recurrent: `(network of [..., o + units], group) -> network` of the rows of this module.
    see: `(carry, obs [..., o]) -> row`, what a network sees while acting.
    after: `(params, carry, obs, action) -> carry`, once that action was taken.
    acted: `(carry, action) -> carry`, where another action was taken after all.
    record: `carry -> [..., *]`, what a transition keeps as `extras["memory"]`.
    step_rows: `(params, transitions) -> transitions` whose observations are rows as while acting, of a rollout by these
      parameters.
    sequence_rows: `batch [K + L, B] -> batch [L B]`, or `[B] -> [B]` of single transitions, whose observations are rows
      of sequences.
  """

  groups: tuple[str, ...]
  length: int
  burn_in: int
  carry: Callable[[int], Any]
  recurrent: Callable[[Any, str], Any]
  see: Callable[[Any, Observation], Array]
  after: Callable[[Params, Any, Observation, Array], Any]
  acted: Callable[[Any, Array], Any]
  record: Callable[[Any], Array]
  step_rows: Callable[[Params, Transition], Transition]
  sequence_rows: Callable[[Batch], Batch]


def gru(
  spec: Spec,
  execute: Callable[[Array], Array],
  groups: tuple[str, ...],
  *,
  units: int = 64,
  length: int = 16,
  burn_in: int = 0,
) -> Memory:
  """Gated recurrent units, one a network, over observations and the actions between them.

    h_t = GRU(h_{t-1}, [s_t, a_{t-1}]),   network(s_t, h_t),   h_{-1} = 0 and a_{-1} = 0 at an episode's start

  A sequence of K + L steps is unrolled from the memory that its first transition was stored with. The first K steps are
  by the parameters of now, since those stored are of parameters as they were; no gradient passes through them, and
  nothing is learned from them. Gradients pass through the L steps after.

  Args:
    spec: the environment's sizes.
    execute: raw action -> executed action.
    groups: the parameter groups of the networks that remember; "target_<group>" may be a slow copy of one.
    units: of each memory.
    length: L.
    burn_in: K, at most L.

  Returns:
    A Memory, for `varl.agent(..., memory=...)`.

  Raises:
    ValueError: no unit, a sequence of no step, or a burn-in that is negative or above `length`.

  Reference: Hausknecht and Stone 2015, 1507.06527; Kapturowski et al. 2019, Recurrent Experience Replay in Distributed
    Reinforcement Learning, section 3, for the stored memory and the burn-in.
  """
  units, length = checks.whole("units", units), checks.whole("length", length)
  burn_in = checks.whole("burn_in", burn_in, least=0, below=length + 1)
  cell: Any = nn.GRUCell(units, param_dtype=jnp.result_type(float))
  o, d, kept = spec.observation_size, spec.action_size, units * len(groups)
  inputs = o + d
  # A row is [inputs | memories at the start] while acting; in a sequence also [reset | burn-in inputs, their reset],
  # and of a next observation [next inputs] after that. Their lengths tell them apart.
  acting = inputs + kept
  learning = acting + 1 + (inputs + 1 if burn_in else 0)

  def advance(params: Any, h: Array, x: Array) -> Array:
    moved: Array = cell.apply(params, h, x)[0]
    return moved

  def unroll(params: Any, h: Array, x: Array, reset: Array) -> tuple[Array, Array]:
    """From h `[B, units]` over x `[T, B, inputs]`: the last memory, and all."""

    def one(h: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
      x, reset = row
      h = advance(params, jnp.where(reset[:, None] > 0, 0.0, h), x)
      return h, h

    return jax.lax.scan(one, h, (x, reset))

  def features(params: Any, rows: Array, slot: int) -> Array:
    """[s, h] of rows."""
    own = slice(inputs + slot * units, inputs + (slot + 1) * units)
    if rows.shape[-1] == acting:
      return jnp.concatenate([rows[..., :o], advance(params, rows[..., own], rows[..., :inputs])], axis=-1)
    flat = rows.reshape(length, -1, rows.shape[-1])
    h = flat[0, :, own]
    if burn_in:
      x, reset = flat[:burn_in, :, acting + 1 : learning - 1], flat[:burn_in, :, learning - 1]
      h = jax.lax.stop_gradient(unroll(params, h, x, reset)[0])
    _, h = unroll(params, h, flat[..., :inputs], flat[..., acting])
    seen = flat[..., :o]
    if rows.shape[-1] > learning:
      following = flat[..., learning:]
      seen, h = following[..., :o], advance(params, h, following)
    return jnp.concatenate([seen, h], axis=-1).reshape(*rows.shape[:-1], -1)

  def recurrent(network: Wrapped, group: str) -> Wrapped:
    slot = groups.index(group)

    def init(key: Key) -> Any:
      cell_key, own_key = jax.random.split(key)
      params = cell.init(cell_key, jnp.zeros((1, units)), jnp.zeros((1, inputs)))
      return {"cell": params, "network": network.init(own_key)}

    def apply(params: Any, rows: Array, *action: Array) -> Array:
      made: Array = network.apply(params["network"], features(params["cell"], rows, slot), *action)
      return made

    return type(network)(init, apply)

  def taken(action: Array, like: Array) -> Array:
    executed = jax.nn.one_hot(action, d) if spec.discrete else execute(action)
    return executed.astype(like.dtype)

  def carry(batch: int) -> Any:
    return {"action": jnp.zeros((batch, d)), "hidden": jnp.zeros((batch, kept))}

  def see(carry: Any, obs: Observation) -> Array:
    return jnp.concatenate([obs, carry["action"], carry["hidden"]], axis=-1)

  def after(params: Params, carry: Any, obs: Observation, action: Array) -> Any:
    x = jnp.concatenate([obs, carry["action"]], axis=-1)
    hidden = jnp.split(carry["hidden"], len(groups), axis=-1)
    moved = [advance(params[group]["cell"], h, x) for group, h in zip(groups, hidden, strict=True)]
    return {"action": taken(action, carry["action"]), "hidden": jnp.concatenate(moved, axis=-1)}

  def acted(carry: Any, action: Array) -> Any:
    return {**carry, "action": taken(action, carry["action"])}

  def record(carry: Any) -> Array:
    return jnp.concatenate([carry["action"], carry["hidden"]], axis=-1)

  def step_rows(params: Params, transitions: Transition) -> Transition:
    kept: Any = transitions.extras[MEMORY]
    now = {"action": kept[..., :d], "hidden": kept[..., d:]}
    later = after(params, now, transitions.obs, transitions.action)
    return transitions._replace(obs=see(now, transitions.obs), next_obs=see(later, transitions.next_obs))

  def sequence_rows(batch: Batch) -> Batch:
    if MEMORY not in batch.extras or batch.reward.ndim != 2 or len(batch.reward) != burn_in + length:
      raise ValueError(
        f"a network that remembers learns from sequences [{burn_in + length}, B] with the memory that they were stored "
        f"with; got rewards of shape {batch.reward.shape} and the extras {sorted(batch.extras)}"
      )
    kept: Any = batch.extras[MEMORY]
    ended = ((batch.discount == 0) | (batch.truncated > 0)).astype(batch.obs.dtype)
    reset = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])[..., None]
    x = jnp.concatenate([batch.obs, kept[..., :d]], axis=-1)
    start = jnp.broadcast_to(kept[0, :, d:], (length, *kept.shape[1:-1], kept.shape[-1] - d))
    parts = [x[burn_in:], start, reset[burn_in:]]
    if burn_in:
      warm = jnp.concatenate([x, reset], axis=-1)[:burn_in]
      parts.append(jnp.concatenate([warm, jnp.zeros((length - burn_in, *warm.shape[1:]), warm.dtype)]))
    rows = jnp.concatenate(parts, axis=-1)
    batch = jax.tree.map(lambda leaf: leaf[burn_in:], batch)
    following = [rows, batch.next_obs, taken(batch.action, rows)]
    extras = {name: value for name, value in batch.extras.items() if name != MEMORY}
    batch = batch._replace(obs=rows, next_obs=jnp.concatenate(following, axis=-1), extras=extras)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)

  return Memory(groups, length, burn_in, carry, recurrent, see, after, acted, record, step_rows, sequence_rows)


def latent(spec: Spec, size: int) -> Memory:
  """The latent that a policy with two levels chose in the step before, for a prior that it goes on from.

  The action is [z, a], z first; the row is [s, z_{t-1}], and of a next observation [s', z_t]. z_{-1} = 0, and so it is
  where a batch's extras lack it.

  Args:
    spec: the environment's sizes.
    size: of z.

  Returns:
    A Memory of single transitions; no network of its own, and nothing that a gradient passes through.
  """
  size = checks.whole("size", size)

  def after(params: Params, carry: Any, obs: Observation, action: Array) -> Array:
    return action[..., :size]

  def beside(obs: Observation, before: Any) -> Array:
    return jnp.concatenate([obs, before], axis=-1)

  def rows(batch: Batch) -> Batch:
    first = jnp.zeros((*batch.obs.shape[:-1], size))
    extras = {name: value for name, value in batch.extras.items() if name != MEMORY}
    return batch._replace(
      obs=beside(batch.obs, batch.extras.get(MEMORY, first)),
      next_obs=beside(batch.next_obs, batch.action[..., :size]),
      extras=extras,
    )

  return Memory(
    groups=(),
    length=0,
    burn_in=0,
    carry=lambda batch: jnp.zeros((batch, size)),
    recurrent=lambda network, group: network,
    see=lambda carry, obs: beside(obs, carry),
    after=after,
    acted=lambda carry, action: action[..., :size],
    record=lambda carry: carry,
    step_rows=lambda params, transitions: rows(transitions),
    sequence_rows=rows,
  )
