"""Where an iteration's train steps get their batches: from replay, or from the rollout that was just made."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import replay
from varl.settings import Settings
from varl.step import SIDE, stream_key
from varl.types import Agent, AgentState, Array, Key, Metrics, SideBatch, Transition

MAX_BLOCK = 64
"""Updates that one draw from replay serves, at most."""

UNROLL = 2
"""Updates in one pass of the compiled loop: one's end overlaps the next one's beginning (11 % on two CPU cores)."""


class Learner(NamedTuple):
  """The learning half of an iteration.

  Attributes:
    init: `() -> memory`, what is kept from one iteration to the next.
    learn: `(agent_state, memory, transitions, valid, key, warm) -> (agent_state, memory, metrics)` of a rollout
      `[T, N]`, whose rows count where `valid`. Metrics are sums over updates, and "updates" is how many there were:
      none while `warm` holds.
    nbytes: bytes that the memory takes.
  """

  init: Callable[[], Any]
  learn: Callable[[AgentState, Any, Transition, Array, Key, Array | bool], tuple[AgentState, Any, Metrics]]
  nbytes: int


def from_replay(agent: Agent, settings: Settings, row: Transition) -> Learner:
  """Stores the rollout, then updates on rows drawn uniformly from all that is stored.

  For an agent that asks for sequences a row is one of them, and a rollout is cut into them; those with a step that is
  not valid are left out. `batch_size` and `replay_capacity` count transitions in any case.

  Args:
    agent: what learns.
    settings: all counts are divided over its devices.
    row: one transition, as shapes.

  Raises:
    ValueError: a rollout, or a batch, that sequences do not divide.
  """
  devices, updates = settings.num_devices, settings.updates_per_iteration
  length = agent.sequence or 1
  for name, count in (("unroll_length", settings.unroll_length), ("batch_size", settings.batch_size // devices)):
    if count % length:
      raise ValueError(f"{name}={count} is not divisible by the length {length} of the sequences that this agent takes")
  if agent.sequence:
    row = jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape), x.dtype), row)
  memory = replay.ring(settings.replay_capacity // devices // length, row)
  batch_size = settings.batch_size // devices // length
  side_batch = min(agent.side_batch, settings.replay_capacity) // devices
  # One draw from replay serves several updates: fewer, larger gathers. Their number is bounded, and so is their memory.
  block = max(n for n in range(1, MAX_BLOCK + 1) if updates % n == 0) if updates else 1

  def learn(
    agent_state: AgentState,
    ring: replay.ReplayState,
    transitions: Transition,
    valid: Array,
    key: Key,
    warm: Array | bool,
  ) -> tuple[AgentState, replay.ReplayState, Metrics]:
    rows, whole = _sequences(transitions, valid, length) if agent.sequence else (_flat(transitions), valid.reshape(-1))
    ring = memory.add(ring, rows, whole)

    def one(agent_state: AgentState, inputs: tuple[Transition, Key]) -> tuple[AgentState, Metrics]:
      batch, key = inputs
      if agent.sequence:
        batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)
      if side_batch:
        # Large beside the batch: drawn for one update at a time, so that memory does not grow with the block.
        side: Any = SideBatch(memory.sample(ring, stream_key(key, SIDE), side_batch), memory.size(ring))
        batch = batch._replace(extras={**batch.extras, SIDE: side})
      return agent.update(agent_state, batch, key)

    def several(index: Array, carry: tuple[AgentState, Metrics]) -> tuple[AgentState, Metrics]:
      agent_state, sums = carry
      sample_key, update_key = jax.random.split(jax.random.fold_in(key, index))
      rows = memory.sample(ring, sample_key, block * batch_size)
      batches = jax.tree.map(lambda x: x.reshape(block, batch_size, *x.shape[1:]), rows)
      agent_state, metrics = _scan(one, agent_state, batches, update_key, block)
      return agent_state, jax.tree.map(jnp.add, sums, metrics)

    # `warm` depends on no key, so under vmap over seeds the number of updates is one number and the loop stays a loop.
    blocks = jnp.where(warm, 0, updates // block)
    example = jax.tree.map(lambda x: jnp.zeros((batch_size, *x.shape[1:]), x.dtype), ring.data)
    start = (agent_state, zeros(jax.eval_shape(one, agent_state, (example, key))[1]))
    agent_state, metrics = jax.lax.fori_loop(0, blocks, several, start)
    return agent_state, ring, {**metrics, "updates": blocks * block}

  return Learner(memory.init, learn, memory.nbytes)


def from_rollout(agent: Agent, settings: Settings) -> Learner:
  """Keeps nothing: goes `settings.epochs` times over the rollout, each time in minibatches of a new random order.

  A minibatch is of rows from anywhere in the rollout, or of the whole trajectories of some environments, as
  `settings.minibatches` says.
  Advantages and returns are of `agent.prepare`, once, or with `settings.prepare_every_epoch` anew for each pass. Rows
  that are not valid are left out, and others taken twice in their place.

  Args:
    agent: what learns.
    settings: all counts are divided over its devices.
  """
  batch_size = settings.batch_size // settings.num_devices

  def learn(
    agent_state: AgentState, memory: tuple[()], transitions: Transition, valid: Array, key: Key, warm: Array | bool
  ) -> tuple[AgentState, tuple[()], Metrics]:
    count = valid.size // batch_size
    rows = valid_rows(valid.reshape(-1))

    def reordered(key: Key) -> Array:
      if settings.minibatches == "rows":
        return shuffled(key, rows)
      length, envs = valid.shape
      order = (shuffled(key, jnp.arange(envs))[:, None] + envs * jnp.arange(length)).reshape(-1)
      return jnp.where(valid.reshape(-1)[order], order, rows[order])

    def epoch(agent_state: AgentState, key: Key, prepared: Transition) -> tuple[AgentState, Metrics]:
      order_key, update_key = jax.random.split(key)
      order = reordered(order_key).reshape(count, batch_size)
      batches = jax.tree.map(lambda x: x[order], _flat(prepared))
      return _scan(lambda state, inputs: agent.update(state, *inputs), agent_state, batches, update_key, count)

    keys = jax.random.split(key, settings.epochs)
    if settings.prepare_every_epoch:
      agent_state, metrics = jax.lax.scan(
        lambda state, key: epoch(state, key, agent.prepare(state, transitions, stream_key(key, "prepare"))),
        agent_state,
        keys,
      )
    else:
      prepared = agent.prepare(agent_state, transitions, stream_key(key, "prepare"))
      agent_state, metrics = jax.lax.scan(lambda state, key: epoch(state, key, prepared), agent_state, keys)
    sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics)
    return agent_state, memory, {**sums, "updates": jnp.int32(settings.epochs * count)}

  return Learner(lambda: (), learn, 0)


def valid_rows(valid: Array) -> Array:
  """Row numbers `[n]`: each valid row once, in order, and valid ones again in the place of others.

  Args:
    valid: booleans `[n]`. Where none holds, all rows are taken.
  """
  first = jnp.argsort(~valid, stable=True)  # the valid ones
  return first[jnp.arange(valid.size) % jnp.where(valid.any(), jnp.sum(valid), valid.size)]


def shuffled(key: Key, rows: Array) -> Array:
  """`rows` in random order, by one sort: `jax.random.permutation` makes two, so that 32-bit keys that tie leave no
  trace, which of n rows n²/2³³ pairs do, and costs twice as much.

  Args:
    key: consumed.
    rows: `[n]`.
  """
  return rows[jnp.argsort(jax.random.bits(key, rows.shape))]


def zeros(shapes: Any) -> Any:
  """Zeros of these shapes and dtypes."""
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _scan(
  update: Callable[[AgentState, tuple[Transition, Key]], tuple[AgentState, Metrics]],
  agent_state: AgentState,
  batches: Transition,
  key: Key,
  count: int,
) -> tuple[AgentState, Metrics]:
  """`count` updates one after another; metrics are their sums."""
  inputs = (batches, jax.random.split(key, count))
  unroll = UNROLL if count % UNROLL == 0 else 1
  agent_state, metrics = jax.lax.scan(update, agent_state, inputs, unroll=unroll)
  return agent_state, jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics)


def _sequences(transitions: Transition, valid: Array, length: int) -> tuple[Transition, Array]:
  """A rollout `[T, N]` as sequences `[N T/length, length]`, and which of them are valid throughout."""

  def cut(x: Array) -> Array:
    x = x.reshape(-1, length, *x.shape[1:])  # [T/length, length, N, ...]
    return jnp.moveaxis(x, 2, 1).reshape(-1, length, *x.shape[3:])

  return jax.tree.map(cut, transitions), jnp.all(cut(valid), axis=1)


def _flat(transitions: Transition) -> Transition:
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
