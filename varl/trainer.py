"""The training loop as pure functions: interact, store, update.

One iteration unrolls the policy for `unroll_length` steps in every environment, gives the fresh frames to
`agent.observe`, stores them, and takes `updates_per_iteration` train steps on batches from replay. An epoch is
`iterations_per_epoch` of these. Nothing here knows an algorithm.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from varl import replay as replay_lib
from varl import rollout
from varl.envs.base import Environment, spec
from varl.envs.vector import vectorize
from varl.evaluate import evaluator
from varl.settings import Settings
from varl.step import SIDE, stream_key
from varl.types import Agent, AgentState, Array, Key, Metrics, SideBatch, Transition

AXIS = "devices"
"""The mapped axis over which several devices' gradients are averaged."""


MAX_BLOCK = 64
"""Updates that one draw from replay serves, at most."""

UNROLL = 2
"""Updates in one pass of the compiled loop: one's end overlaps the next one's beginning (11 % on two CPU cores)."""


class LoopState(NamedTuple):
  """What one device holds beside the agent; on several devices every leaf has the devices on a leading axis.

  Attributes:
    rollout: environments and the policy's memory.
    replay: the ring of transitions.
    key: the key that the next iteration consumes.
    iteration: int32, iterations done.
  """

  rollout: rollout.RolloutState
  replay: replay_lib.ReplayState
  key: Key
  iteration: Array


class TrainerState(NamedTuple):
  """The whole state of a run: what a checkpoint holds."""

  agent: AgentState
  loop: LoopState


class Trainer(NamedTuple):
  """A training run as functions.

  Attributes:
    init: `key -> TrainerState`.
    epoch: `(state, iterations) -> (state, metrics)`: that many iterations; jitted, and the state is donated.
    evaluate: `(state, key) -> metrics`, jitted.
    run: `key -> (TrainerState, metrics)`: the whole run under one scan with an evaluation after every epoch, metrics
      stacked `[epochs]`. `jit(vmap(run))(keys)` trains several seeds; build agent and trainer inside the function to
      vmap over numeric hyper-parameters too.
    shapes: the state as shapes, dtypes and (on several devices) shardings: what a checkpoint is restored into.
    settings: as given.
    replay_bytes: memory of the replay on each device.
  """

  init: Callable[[Key], TrainerState]
  epoch: Any  # a jitted function, which also lowers and compiles ahead of time
  evaluate: Any
  run: Callable[[Key], tuple[TrainerState, Metrics]]
  shapes: TrainerState
  settings: Settings
  replay_bytes: int


def make_trainer(env: Environment, agent: Agent, settings: Settings) -> Trainer:
  """Glues an environment, an agent and the loop's settings.

  Args:
    env: one environment.
    agent: built for `varl.envs.spec(env)`, and with `axis=trainer.AXIS` where there are several devices.
    settings: the loop's.

  Raises:
    ValueError: the agent is built for another environment, or its side batch is not divisible by the devices; or there
      are fewer devices than asked for.
  """
  if agent.spec != spec(env):
    raise ValueError(f"the agent is built for {agent.spec}, but the environment is {spec(env)}")
  devices = settings.num_devices
  if devices > jax.device_count():
    raise ValueError(f"num_devices={devices}, but JAX sees {jax.device_count()} ({jax.default_backend()})")
  if agent.side_batch % devices:
    raise ValueError(
      f"the agent's side batch is divided over the devices, but {agent.side_batch} is not divisible by "
      f"num_devices={devices}"
    )
  batch = vectorize(
    env,
    settings.num_envs // devices,
    episode_length=settings.episode_length,
    action_repeat=settings.action_repeat,
    reset=settings.reset,
    pool_size=settings.pool_size or None,
    nan_guard=settings.nan_guard,
  )
  memory = replay_lib.ring(settings.replay_capacity // devices, _transition_shapes(batch, agent))
  evaluate_params = evaluator(
    env,
    agent,
    episodes=settings.eval_episodes,
    episode_length=settings.episode_length,
    action_repeat=settings.action_repeat,
    stochastic=settings.eval_stochastic,
  )
  updates = settings.updates_per_iteration
  batch_size = settings.batch_size // devices
  side_batch = min(agent.side_batch, settings.replay_capacity) // devices

  def init_loop(key: Key) -> LoopState:
    env_key, key = jax.random.split(key)
    return LoopState(rollout.init(batch, agent, env_key), memory.init(), key, jnp.zeros((), jnp.int32))

  # One draw from replay serves several updates: fewer, larger gathers. Their number is bounded, and so is their memory.
  block = max(n for n in range(1, MAX_BLOCK + 1) if updates % n == 0) if updates else 1
  unroll = UNROLL if block % UNROLL == 0 else 1

  def update(
    agent_state: AgentState, ring: replay_lib.ReplayState, key: Key, blocks: Array
  ) -> tuple[AgentState, Metrics]:
    def one(agent_state: AgentState, inputs: tuple[Transition, Key]) -> tuple[AgentState, Metrics]:
      batch, key = inputs
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
      keys = jax.random.split(update_key, block)
      agent_state, metrics = jax.lax.scan(one, agent_state, (batches, keys), unroll=unroll)
      return agent_state, jax.tree.map(lambda total, x: total + jnp.sum(x, axis=0), sums, metrics)

    row = jax.tree.map(lambda x: x[0], ring.data)
    example = jax.tree.map(lambda x: jnp.zeros((batch_size, *x.shape), x.dtype), row)
    shapes = jax.eval_shape(one, agent_state, (example, key))[1]
    return jax.lax.fori_loop(0, blocks, several, (agent_state, _zeros(shapes)))

  def iterate(agent_state: AgentState, loop: LoopState) -> tuple[AgentState, LoopState, Metrics, rollout.Episodes]:
    act_key, update_key, key = jax.random.split(loop.key, 3)
    warm = loop.iteration < settings.warm_up_iterations
    state, transitions, valid, episodes = rollout.unroll(
      batch, agent, agent_state.params, loop.rollout, act_key, settings.unroll_length, warm
    )
    agent_state = agent.observe(agent_state, transitions, valid)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
    ring = memory.add(loop.replay, flat, valid.reshape(-1))
    # `warm` depends on no key, so under vmap over seeds the number of updates is one number and the loop stays a loop.
    blocks = jnp.where(warm, 0, updates // block)
    agent_state, metrics = update(agent_state, ring, update_key, blocks)
    metrics = {**metrics, "updates": blocks * block}
    return agent_state, LoopState(state, ring, key, loop.iteration + 1), metrics, episodes

  def epoch(agent_state: AgentState, loop: LoopState, iterations: Array) -> tuple[AgentState, LoopState, Metrics]:
    shapes = jax.eval_shape(iterate, agent_state, loop)

    def body(_: Array, carry: Any) -> Any:
      agent_state, loop, metrics, episodes = carry
      agent_state, loop, *new = iterate(agent_state, loop)
      metrics, episodes = jax.tree.map(jnp.add, (metrics, episodes), tuple(new))
      return agent_state, loop, metrics, episodes

    start = (agent_state, loop, _zeros(shapes[2]), rollout.no_episodes())
    agent_state, loop, sums, episodes = jax.lax.fori_loop(0, iterations, body, start)
    if devices > 1:
      episodes = jax.lax.psum(episodes, AXIS)
    return agent_state, loop, _summary(sums, episodes)

  if devices == 1:

    def init(key: Key) -> TrainerState:
      agent_key, loop_key = jax.random.split(key)
      return TrainerState(agent.init(agent_key), init_loop(loop_key))

    def run_epoch(state: TrainerState, iterations: Array) -> tuple[TrainerState, Metrics]:
      agent_state, loop, metrics = epoch(*state, iterations)
      return TrainerState(agent_state, loop), metrics

  else:
    mesh = Mesh(np.asarray(jax.devices()[:devices]), (AXIS,), axis_types=(AxisType.Auto,))
    # Environments are arbitrary user code, written without tracking of what varies over devices.
    split = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)

    def init(key: Key) -> TrainerState:
      agent_key, loop_key = jax.random.split(key)

      def local() -> LoopState:
        return _stack(init_loop(jax.random.fold_in(loop_key, jax.lax.axis_index(AXIS))))

      state = agent.init(agent_key)
      state = jax.lax.with_sharding_constraint(state, NamedSharding(mesh, P()))
      return TrainerState(state, split(local, in_specs=(), out_specs=P(AXIS))())

    def run_epoch(state: TrainerState, iterations: Array) -> tuple[TrainerState, Metrics]:
      def local(agent_state: AgentState, loop: LoopState, iterations: Array) -> Any:
        agent_state, loop, metrics = epoch(agent_state, _unstack(loop), iterations)
        return agent_state, _stack(loop), metrics

      mapped = split(local, in_specs=(P(), P(AXIS), P()), out_specs=(P(), P(AXIS), P()))
      agent_state, loop, metrics = mapped(*state, iterations)
      return TrainerState(agent_state, loop), metrics

  def evaluate(state: TrainerState, key: Key) -> Metrics:
    return evaluate_params(state.agent.params, key)

  def run(key: Key) -> tuple[TrainerState, Metrics]:
    init_key, eval_key = run_keys(key)
    epochs = -(-settings.iterations // settings.iterations_per_epoch)

    def one(state: TrainerState, index: Array) -> tuple[TrainerState, Metrics]:
      left = settings.iterations - index * settings.iterations_per_epoch
      state, metrics = run_epoch(state, jnp.minimum(settings.iterations_per_epoch, left))
      done = settings.iterations - left + jnp.minimum(settings.iterations_per_epoch, left)
      evaluation = evaluate(state, jax.random.fold_in(eval_key, done))
      return state, {"env_steps": done * settings.steps_per_iteration, **evaluation, **metrics}

    return jax.lax.scan(one, init(init_key), jnp.arange(epochs))

  shapes = jax.eval_shape(init, jax.random.key(0))
  if devices > 1:
    shapes = TrainerState(
      _placed(shapes.agent, NamedSharding(mesh, P())), _placed(shapes.loop, NamedSharding(mesh, P(AXIS)))
    )

  return Trainer(
    init=jax.jit(init),
    epoch=jax.jit(run_epoch, donate_argnums=0),
    evaluate=jax.jit(evaluate),
    run=run,
    shapes=shapes,
    settings=settings,
    replay_bytes=memory.nbytes,
  )


def run_keys(key: Key) -> tuple[Key, Key]:
  """The key of a run as (key of `init`, key of evaluations); the latter is folded with the iterations done."""
  init_key, eval_key = jax.random.split(key)
  return init_key, eval_key


def _transition_shapes(env: Any, agent: Agent) -> Transition:
  """One transition of one environment, as shapes."""

  def first(key: Key) -> Transition:
    params, state = agent.init(key).params, rollout.init(env, agent, key)
    transitions = rollout.unroll(env, agent, params, state, key, 1)[1]
    return jax.tree.map(lambda x: x[0, 0], transitions)

  return jax.eval_shape(first, jax.random.key(0))


def _summary(sums: Metrics, episodes: rollout.Episodes) -> Metrics:
  """Means over the epoch's updates and episodes; NaN where there was none."""
  updates = sums["updates"]
  metrics = {f"training/{k}": jnp.where(updates > 0, x / updates, jnp.nan) for k, x in sums.items() if k != "updates"}
  any_ended = episodes.ended > 0
  return {
    **metrics,
    "training/updates": updates,
    "training/episodes": episodes.ended,
    "training/episode_reward": jnp.where(any_ended, episodes.return_sum / episodes.ended, jnp.nan),
    "training/avg_episode_length": jnp.where(any_ended, episodes.length_sum / episodes.ended, jnp.nan),
    "training/nan_resets": episodes.nan_resets,
  }


def _placed(shapes: Any, sharding: NamedSharding) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def _zeros(shapes: Any) -> Any:
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _stack(tree: Any) -> Any:
  return jax.tree.map(lambda x: x[None], tree)


def _unstack(tree: Any) -> Any:
  return jax.tree.map(lambda x: x[0], tree)
