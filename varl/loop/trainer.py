"""The training loop as pure functions: interact, learn, evaluate.

One iteration calls `agent.renew`, unrolls the policy for `unroll_length` steps in every environment, gives the fresh
frames to `agent.observe`, and takes `updates_per_iteration` train steps on batches from replay, or from the rollout
itself where the agent learns on-policy (`learner`). The first iterations may be of random actions and without update.
An epoch is `iterations_per_epoch` iterations. Nothing here knows an algorithm.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from varl import checks
from varl.envs.base import Environment
from varl.envs.vector import vectorize
from varl.loop import rollout
from varl.loop.evaluate import AN_AGENT, evaluator
from varl.loop.learner import from_replay, from_rollout, zeros
from varl.loop.settings import Settings
from varl.types import Agent, AgentState, Array, Key, Metrics, Transition

AXIS = "devices"
"""The mapped axis over which several devices' gradients are averaged."""


class LoopState(NamedTuple):
  """What one device holds beside the agent; on several devices every leaf has the devices on a leading axis.

  Attributes:
    rollout: environments and the policy's memory.
    replay: the ring of transitions; () for agents that learn from the rollout alone.
    key: the key that the next iteration consumes.
    iteration: int32, iterations done.
  """

  rollout: rollout.RolloutState
  replay: Any
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
    epoch: `(state, iterations) -> (state, metrics)`: that many iterations; jitted, and the state is donated. Metrics
      are means over updates or episodes. A mean over none is 0, and its count, `training/updates` or
      `training/episodes`, says so: NaN would stop a healthy run under `jax_debug_nans`.
    evaluate: `(state, key) -> metrics`, jitted.
    run: `key -> (TrainerState, metrics)`: the whole run under one scan with an evaluation after every epoch, metrics
      stacked `[epochs]`. `jit(vmap(run))(keys)` trains several seeds; build agent and trainer inside the function to
      vmap over numeric hyper-parameters too. Its "env_steps" are int32 where that holds them, else the nearest float;
      "iterations" is exact.
    shapes: the state as shapes, dtypes and (on several devices) shardings: what a checkpoint is restored into.
    settings: as given.
    warm_up_iterations: iterations of random actions and no update at the start, which count as all others do: those of
      the settings, or one rollout of an agent that needs it (`Agent.seeding`).
    replay_bytes: memory of the replay on each device.
  """

  init: Callable[[Key], TrainerState]
  epoch: Any  # a jitted function, which also lowers and compiles ahead of time
  evaluate: Any
  run: Callable[[Key], tuple[TrainerState, Metrics]]
  shapes: TrainerState
  settings: Settings
  warm_up_iterations: int
  replay_bytes: int


def make_trainer(env: Environment, agent: Agent, settings: Settings) -> Trainer:
  """Glues an environment, an agent and the loop's settings.

  Args:
    env: one environment.
    agent: built for `varl.envs.spec(env)`, and with `axis=trainer.AXIS` where there are several devices.
    settings: the loop's.

  Raises:
    ValueError: one of the three is something else; the agent is built for another environment, or its side batch is
      not divisible by the devices; it learns on-policy and the settings are those of replay, or the reverse; or there
      are fewer devices than asked for.
  """
  checks.instance(agent, Agent, AN_AGENT)
  checks.instance(settings, Settings, "a varl.Settings, the loop's,")
  if agent.on_policy and not settings.epochs:
    raise ValueError(
      "this agent learns from its own rollouts: epochs, the passes over each, must be > 0, got epochs=0; for example "
      "epochs=4, with an unroll_length, and a batch_size that divides num_envs × unroll_length"
    )
  if settings.epochs and not agent.on_policy:
    raise ValueError(f"this agent learns from replay: epochs must be 0, got epochs={settings.epochs}")
  devices = settings.num_devices
  if devices > jax.device_count():
    on_cpu = jax.default_backend() == "cpu"
    hint = "; before JAX starts, varl.run.devices.provide divides a CPU over its cores" * on_cpu
    raise ValueError(f"num_devices={devices}, but JAX sees {jax.device_count()} ({jax.default_backend()}){hint}")
  if devices > 1 and hasattr(env, "vectorized"):
    raise ValueError(
      f"the environment steps on the host, which has no devices to divide it over: num_devices={devices}"
    )
  if agent.side_batch % devices:
    raise ValueError(
      f"the agent's side batch is divided over the devices, but {agent.side_batch} is not divisible by "
      f"num_devices={devices}"
    )
  batch = vectorize(
    env,
    settings.num_envs // devices,
    episode_length=settings.episode_length or None,
    action_repeat=settings.action_repeat,
    reset=settings.reset,
    pool_size=settings.pool_size or None,
    nan_guard=settings.nan_guard,
  )
  if agent.spec != batch.spec:
    raise ValueError(f"the agent is built for {agent.spec}, but the environment is {batch.spec}")
  learner = (
    from_rollout(agent, settings) if agent.on_policy else from_replay(agent, settings, _transition_shapes(batch, agent))
  )
  evaluate_params = evaluator(
    env,
    agent,
    episodes=settings.eval_episodes,
    episode_length=batch.episode_length,
    action_repeat=settings.action_repeat,
    stochastic=settings.eval_stochastic,
  )
  warm_up_iterations = max(settings.warm_up_iterations, int(agent.seeding))

  def init_loop(key: Key) -> LoopState:
    env_key, key = jax.random.split(key)
    return LoopState(rollout.init(batch, agent, env_key), learner.init(), key, jnp.zeros((), jnp.int32))

  @functools.partial(jax.jit, inline=True)  # traced once, for the shapes and for the loop
  def iterate(agent_state: AgentState, loop: LoopState) -> tuple[AgentState, LoopState, Metrics, rollout.Episodes]:
    act_key, update_key, key = jax.random.split(loop.key, 3)
    warm = loop.iteration < warm_up_iterations if warm_up_iterations else False
    agent_state = agent.renew(agent_state)
    state, transitions, valid, episodes = rollout.unroll(
      batch, agent, agent_state.params, loop.rollout, act_key, settings.unroll_length, warm
    )
    agent_state = agent.observe(agent_state, transitions, valid)
    agent_state, memory, metrics = learner.learn(agent_state, loop.replay, transitions, valid, update_key, warm)
    return agent_state, LoopState(state, memory, key, loop.iteration + 1), metrics, episodes

  def epoch(agent_state: AgentState, loop: LoopState, iterations: Array) -> tuple[AgentState, LoopState, Metrics]:
    shapes = jax.eval_shape(iterate, agent_state, loop)

    def body(_: Array, carry: Any) -> Any:
      agent_state, loop, metrics, episodes = carry
      agent_state, loop, *new = iterate(agent_state, loop)
      metrics, episodes = jax.tree.map(jnp.add, (metrics, episodes), tuple(new))
      return agent_state, loop, metrics, episodes

    start = (agent_state, loop, zeros(shapes[2]), rollout.no_episodes())
    agent_state, loop, sums, episodes = jax.lax.fori_loop(0, iterations, body, start)
    if devices > 1:
      episodes = jax.lax.psum(episodes, AXIS)
    return agent_state, loop, _summary(sums, episodes)

  if devices == 1:

    def init(key: Key) -> TrainerState:
      checks.key(key)
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
      checks.key(key)
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
    checks.key(key)
    init_key, eval_key = run_keys(key)

    def one(state: TrainerState, epoch: tuple[Array, Array, Array]) -> tuple[TrainerState, Metrics]:
      iterations, done, steps = epoch
      state, metrics = run_epoch(state, iterations)
      evaluation = evaluate(state, jax.random.fold_in(eval_key, done))
      return state, {"env_steps": steps, "iterations": done, **evaluation, **metrics}

    return jax.lax.scan(one, init(init_key), epochs_of(settings))

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
    warm_up_iterations=warm_up_iterations,
    replay_bytes=learner.nbytes,
  )


def epochs_of(settings: Settings) -> tuple[Array, Array, Array]:
  """The epochs of a whole run, each `[epochs]`: its iterations, iterations at its end, environment steps at its end.

  The first two are int32, and so are the last where they fit; else they are the nearest floats.
  """
  length, total = settings.iterations_per_epoch, settings.iterations
  ends = np.append(length * np.arange(1, -(-total // length), dtype=np.int64), total)
  steps = ends * settings.steps_per_iteration
  dtype = np.int32 if steps[-1] <= np.iinfo(np.int32).max else jnp.result_type(float)
  return (
    jnp.asarray(np.diff(ends, prepend=0), jnp.int32),
    jnp.asarray(ends, jnp.int32),
    jnp.asarray(steps.astype(dtype)),
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
  """Means over the epoch's updates and episodes; 0 where there was none."""
  updates, ended = sums["updates"], jnp.maximum(episodes.ended, 1)
  return {
    **{f"training/{name}": x / jnp.maximum(updates, 1) for name, x in sums.items() if name != "updates"},
    "training/updates": updates,
    "training/episodes": episodes.ended,
    "training/episode_reward": episodes.return_sum / ended,
    "training/avg_episode_length": episodes.length_sum / ended,
    "training/nan_resets": episodes.nan_resets,
  }


def _placed(shapes: Any, sharding: NamedSharding) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def _stack(tree: Any) -> Any:
  return jax.tree.map(lambda x: x[None], tree)


def _unstack(tree: Any) -> Any:
  return jax.tree.map(lambda x: x[0], tree)
