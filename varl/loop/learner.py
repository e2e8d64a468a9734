"""Where an iteration's train steps get their batches: from replay, or from the rollout that was just made."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl.envs.vector import stand_ins
from varl.loop import replay
from varl.loop.settings import Settings
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

    @functools.partial(jax.jit, inline=True)  # traced once, for the shapes and for the loop
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
    blocks = jnp.where(warm, 0, jnp.int32(updates // block))
    example = jax.tree.map(lambda x: jnp.zeros((batch_size, *x.shape[1:]), x.dtype), ring.data)
    start = (agent_state, zeros(jax.eval_shape(one, agent_state, (example, key))[1]))
    agent_state, metrics = jax.lax.fori_loop(0, blocks, several, start)
    return agent_state, ring, {**metrics, "updates": blocks * block}

  return Learner(memory.init, learn, memory.nbytes)


def from_rollout(agent: Agent, settings: Settings) -> Learner:
  """Keeps nothing: goes `settings.epochs` times over the rollout, each time in minibatches of a new random order.

  A minibatch is of rows from anywhere in the rollout, or of the whole trajectories of some environments, as
  `settings.minibatches` says; advantages and returns are of `agent.prepare`, anew for what `settings.prepare_every`
  says. Steps that are not valid are replaced first (`replace_invalid`).

  Args:
    agent: what learns.
    settings: all counts are divided over its devices.
  """
  batch_size = settings.batch_size // settings.num_devices
  rows = settings.minibatches == "rows"
  steps = agent.sequence or (1 if rows else settings.unroll_length)
  if agent.sequence:
    if not rows or settings.prepare_every != "rollout":
      raise ValueError(
        f"this agent learns from sequences of {steps} steps of a rollout: minibatches='rows' (which are then of whole "
        "sequences) and prepare_every='rollout'"
      )
    for name, count in (("unroll_length", settings.unroll_length), ("batch_size", batch_size)):
      if count % steps:
        raise ValueError(f"{name}={count} is not divisible by the length {steps} of the sequences of this agent")

  def prepare(every: str, agent_state: AgentState, transitions: Transition, key: Key) -> Transition:
    if every != settings.prepare_every:
      return transitions
    return agent.prepare(agent_state, transitions, stream_key(key, "prepare"))

  def update(agent_state: AgentState, inputs: tuple[Transition, Key]) -> tuple[AgentState, Metrics]:
    sequences, key = inputs
    whole = settings.prepare_every == "minibatch" or agent.sequence
    return agent.update(agent_state, sequences if whole else _flat(sequences), key)

  def learn(
    agent_state: AgentState, memory: tuple[()], transitions: Transition, valid: Array, key: Key, warm: Array | bool
  ) -> tuple[AgentState, tuple[()], Metrics]:
    envs = valid.shape[1]
    count = valid.size // batch_size
    rollout = prepare("rollout", agent_state, replace_invalid(transitions, valid), key)

    def order(key: Key) -> Array:
      """Row numbers `[count, L, B/L]` of the minibatches: of sequences of L steps, which is 1, all, or the agent's."""
      segment, env = jnp.divmod(shuffled(key, valid.size // steps), envs)
      first = (segment * steps * envs + env).reshape(count, 1, -1)
      return first + envs * jnp.arange(steps)[:, None]

    @functools.partial(jax.jit, inline=True)  # traced once, for the shapes and for the loop
    def epoch(agent_state: AgentState, key: Key) -> tuple[AgentState, Metrics]:
      order_key, update_key = jax.random.split(key)
      rows, numbers = _flat(prepare("epoch", agent_state, rollout, key)), order(order_key)
      return _scan(update, agent_state, jax.tree.map(lambda x: x[numbers], rows), update_key, count)

    def one_more(index: Array, carry: tuple[AgentState, Metrics]) -> tuple[AgentState, Metrics]:
      agent_state, metrics = epoch(carry[0], keys[index])
      return agent_state, jax.tree.map(jnp.add, carry[1], metrics)

    keys = jax.random.split(key, settings.epochs)
    epochs = jnp.where(warm, 0, jnp.int32(settings.epochs))  # one number under vmap over seeds, as in `from_replay`
    start = (agent_state, zeros(jax.eval_shape(epoch, agent_state, keys[0])[1]))
    agent_state, metrics = jax.lax.fori_loop(0, epochs, one_more, start)
    return agent_state, memory, {**metrics, "updates": epochs * count}

  return Learner(lambda: (), learn, 0)


def replace_invalid(transitions: Transition, valid: Array) -> Transition:
  """A rollout in which a valid step, of wherever, stands in the place of each that is not.

  It stands alone there: marked as truncated, as is the step before it, whose true next observation it does not have. So
  nothing of a step that is not valid reaches a return, and a return bootstraps where it stops.

  Args:
    transitions: `[T, N]`.
    valid: booleans `[T, N]`. Where none holds, all steps stay.
  """
  flat = valid.reshape(-1)

  def replaced() -> Transition:
    rows = stand_ins(flat).reshape(valid.shape)
    alone = ~valid | jnp.concatenate([~valid[1:], jnp.zeros_like(valid[:1])])
    kept = jax.tree.map(lambda x: x[rows], _flat(transitions))
    return kept._replace(truncated=jnp.where(alone, 1.0, kept.truncated))

  return jax.lax.cond(valid.all() | ~valid.any(), lambda: transitions, replaced)


def shuffled(key: Key, n: int) -> Array:
  """The numbers below n in random order, by one sort: `jax.random.permutation` makes two, so that 32-bit keys that tie
  leave no trace, which n²/2³³ pairs do, and costs twice as much.

  Args:
    key: consumed.
    n: how many.
  """
  return jnp.argsort(jax.random.bits(key, (n,), jnp.uint32))


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
