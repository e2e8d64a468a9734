"""Environments of Gymnasium, stepped on the host; needs the extra `varl[gymnasium]`.

They are programs of Python's and no functions of JAX: a batch of them is stepped in a callback, one after another, in
this process. They do not run on an accelerator, and their states are in no checkpoint.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from varl import checks
from varl.envs import joint
from varl.envs.base import State
from varl.envs.vector import TimeStep, VectorEnv, VectorState, scaling
from varl.types import Array, Key, Spec


class HostState(struct.PyTreeNode):
  """What JAX holds of environments on the host.

  Attributes:
    obs: `[num_envs, observation_size]`.
    turn: int32 `[num_envs]`, which of the host's states this is of; another number than the host's own is of a process
      that is gone.
    done: `[num_envs]`, 0: whose episode ended has begun another one.
  """

  obs: Array
  turn: Array
  done: Array


class Gymnasium:
  """An environment of Gymnasium's as one of varl's.

  `varl.envs.vectorize` makes a batch of it that lives on the host. The environment's `terminated` is an end, its
  `truncated` and its `max_episode_steps` are time limits. Observations are flattened to one vector
  (`gymnasium.spaces.flatten`). Actions that are `Discrete` are discrete, and so are those of several integers, each
  combination of which is one (`MultiDiscrete`, `MultiBinary`); a `Box` is scaled to from [-1, 1].

  A run that is resumed begins new episodes, since the host's states are in no checkpoint. Copies of one run in one
  program (`vmap`, `varl.population`) would share the host's states, and are refused.

  Args:
    factory: makes one environment of Gymnasium's at each call.
    drawing: makes one that draws pictures (`render_mode="rgb_array"`); None: nothing does.

  Raises:
    ValueError: `factory` makes none, its actions are of another kind, or more than `joint.MOST` combinations.
  """

  def __init__(self, factory: Callable[[], Any], drawing: Callable[[], Any] | None = None):
    self.factory, self.drawing = factory, drawing
    env = factory()
    missing = [name for name in ("reset", "step", "action_space", "observation_space") if not hasattr(env, name)]
    if missing:
      raise ValueError(f"{type(env).__name__} is no environment of Gymnasium's: it lacks {', '.join(missing)}")
    spaces = importlib.import_module("gymnasium.spaces")
    self.flatten = spaces.flatten
    self.space = env.observation_space
    self.observation_size = int(spaces.flatdim(self.space))
    actions = env.action_space
    self.discrete = isinstance(actions, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
    self.first_action: Any = 0
    self.counts: Any = None
    self.action_shape: tuple[int, ...] = ()
    if isinstance(actions, spaces.Discrete):
      self.action_size, self.action_bounds, self.first_action = int(actions.n), None, int(actions.start)
    elif self.discrete:  # several integers
      counts = getattr(actions, "nvec", np.full(actions.shape, 2))
      self.action_shape, self.counts = tuple(counts.shape), tuple(int(count) for count in counts.reshape(-1))
      self.action_size, self.action_bounds = joint.combined(self.counts), None
      self.first_action = getattr(actions, "start", 0)
    elif isinstance(actions, spaces.Box):
      self.action_shape = tuple(actions.shape)
      self.action_size = int(np.prod(self.action_shape))
      self.action_bounds = tuple(np.asarray(side, float).reshape(-1) for side in (actions.low, actions.high))
      if all(np.isinf(side).all() for side in self.action_bounds):
        self.action_bounds = None
    else:
      raise ValueError(
        f"actions are Discrete, MultiDiscrete, MultiBinary or a Box; these are a {type(actions).__name__}: {actions}"
      )
    spec = getattr(env, "spec", None)
    limit = getattr(spec, "max_episode_steps", None)
    if limit:
      self.time_limit = int(limit)
    self.name = getattr(spec, "id", type(env).__name__)
    env.close()

  def reset(self, rng: Array) -> State:
    """Of the right shapes, and not to be run: `vectorize` has a reset of its own."""
    obs = jax.pure_callback(
      _not_alone, jax.ShapeDtypeStruct((self.observation_size,), jnp.result_type(float)), rng, vmap_method="sequential"
    )
    return State(obs=obs, reward=jnp.zeros(()), done=jnp.zeros(()))

  def step(self, state: State, action: Array) -> State:
    """As `reset`."""
    return self.reset(jnp.zeros(2, jnp.uint32)).replace(reward=jnp.sum(action) * 0.0)

  def native(self, action: Any) -> Any:
    """An action in the environment's units, as Gymnasium takes it."""
    if self.counts is not None:
      return np.reshape(np.unravel_index(int(action), self.counts), self.action_shape) + self.first_action
    if self.discrete:
      return int(action) + self.first_action
    return np.asarray(action, np.float32).reshape(self.action_shape)

  def vectorized(self, num_envs: int, *, episode_length: int, action_repeat: int, spec: Spec) -> VectorEnv:
    """A batch that resets itself, as `vectorize` makes it; first states are always fresh."""
    fleet = Fleet(self, num_envs, action_repeat)
    obs_shape = jax.ShapeDtypeStruct((num_envs, self.observation_size), jnp.result_type(float))
    numbers = jax.ShapeDtypeStruct((num_envs,), jnp.result_type(float))
    flags, turn = jax.ShapeDtypeStruct((num_envs,), bool), jax.ShapeDtypeStruct((num_envs,), jnp.int32)
    to_range = scaling(self)

    def called(function: Callable[..., Any], shapes: Any, *arguments: Any) -> Any:
      return jax.experimental.io_callback(function, shapes, *arguments, ordered=True)

    def reset(key: Key) -> VectorState:
      checks.key(key)
      seed_key, key = jax.random.split(key)
      seed = jax.random.randint(seed_key, (), 0, np.iinfo(np.int32).max)
      obs, now = called(fleet.reset, (obs_shape, turn), seed)
      return VectorState(
        HostState(obs, now, jnp.zeros(num_envs)), jnp.zeros(num_envs, jnp.int32), key, (), jnp.int32(0)
      )

    def step(state: VectorState, action: Array) -> tuple[VectorState, TimeStep]:
      key, seed_key = jax.random.split(state.key)
      steps = state.steps + action_repeat
      limited = steps >= episode_length
      seed = jax.random.randint(seed_key, (), 0, np.iinfo(np.int32).max)
      shapes = (obs_shape, numbers, flags, flags, flags, obs_shape, turn)
      inner: Any = state.env
      next_obs, reward, terminated, cut, valid, after, now = called(
        fleet.step, shapes, inner.turn, to_range(action), limited, seed
      )
      terminated = terminated & valid
      truncated = (~terminated & (cut | limited)) | ~valid
      timestep = TimeStep(
        obs=inner.obs,
        reward=jnp.where(valid, reward, 0.0),
        next_obs=jnp.where(valid[:, None], next_obs, inner.obs),
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        metrics={},
        discarded=jnp.int32(0),
      )
      steps = jnp.where(terminated | truncated, 0, steps)
      return VectorState(HostState(after, now, jnp.zeros(num_envs)), steps, key, (), jnp.int32(0)), timestep

    return VectorEnv(reset, step, spec, num_envs, episode_length, action_repeat, self)

  def play(self, policy: Any, key: Any, episode_length: int, action_repeat: int) -> tuple[list[Any], int, float, Any]:
    """One episode, drawn by Gymnasium: pictures, steps, the return, and the seconds that a step lasts (None: unknown).

    Args:
      policy: a `varl.run.export.Policy`.
      key: consumed.
      episode_length: the time limit, in environment steps.
      action_repeat: environment steps that an action is held for.

    Raises:
      ValueError: the environment draws no pictures, or lacks what it needs for that.
    """
    if self.drawing is None:
      raise ValueError(f"{self.name} was not made by its name: nobody says how to draw it")
    try:
      env = self.drawing()
      seed_key, key = jax.random.split(key)
      obs, _ = env.reset(seed=int(jax.random.randint(seed_key, (), 0, np.iinfo(np.int32).max)))
      pictures = [np.asarray(env.render(), np.uint8)]
    except Exception as error:
      raise ValueError(f"Gymnasium cannot draw {self.name}: {' '.join(str(error).split())}") from error
    carry, total, steps, over = policy.agent.carry(1), 0.0, 0, False
    choose = jax.jit(lambda carry, obs, key: policy.step(carry, obs, key))
    while not over and steps < episode_length:
      flat = np.asarray(self.flatten(self.space, obs), float)
      action, carry = choose(carry, flat, jax.random.fold_in(key, steps))
      for _ in range(action_repeat):
        obs, reward, terminated, truncated, _ = env.step(self.native(np.asarray(action)))
        total, steps, over = total + float(reward), steps + 1, bool(terminated or truncated)
        pictures.append(np.asarray(env.render(), np.uint8))
        if over:
          break
    fps = env.metadata.get("render_fps")
    env.close()
    return pictures, steps, total, None if not fps else 1.0 / fps


class Fleet:
  """Environments on the host, made when they are first needed."""

  def __init__(self, env: Gymnasium, count: int, action_repeat: int):
    self.env, self.count, self.action_repeat = env, count, action_repeat
    self.envs: list[Any] = []
    self.turn = 0

  def reset(self, seed: Any) -> tuple[Any, Any]:
    """First observations of all of them, and the turn."""
    if not self.envs:
      self.envs = [self.env.factory() for _ in range(self.count)]
    seeds = np.random.SeedSequence(int(seed)).generate_state(self.count)
    obs = [env.reset(seed=int(one))[0] for env, one in zip(self.envs, seeds, strict=True)]
    self.turn = (self.turn + 1) % 2**31
    return self._flat(obs), self._now()

  def step(self, turn: Any, action: Any, limited: Any, seed: Any) -> tuple[Any, ...]:
    """One step of all; those whose episode ends are reset, and what they led to is kept.

    States of another turn are of a process that is gone, as after a resume: all begin anew, and the step counts for
    nothing.
    """
    if (np.asarray(turn) != self.turn).any() or not self.envs:
      obs, now = self.reset(seed)
      none = np.zeros(self.count, bool)
      return obs, np.zeros(self.count, obs.dtype), none, none, none, obs, now
    action, limited = np.asarray(action), np.asarray(limited)
    led, after, rewards = [], [], np.zeros(self.count, self._dtype())
    ended, cut, valid = np.zeros((3, self.count), bool)
    for index, env in enumerate(self.envs):
      own = self.env.native(action[index])
      for _ in range(self.action_repeat):
        obs, reward, terminated, truncated, _ = env.step(own)
        rewards[index] += reward
        ended[index], cut[index] = terminated, truncated and not terminated
        if terminated or truncated:
          break
      led.append(obs)
      flat = self.env.flatten(self.env.space, obs)
      valid[index] = np.isfinite(rewards[index]) and np.isfinite(flat).all()
      over = ended[index] or cut[index] or limited[index] or not valid[index]
      after.append(env.reset()[0] if over else obs)
    self.turn = (self.turn + 1) % 2**31
    return self._flat(led), rewards, ended, cut, valid, self._flat(after), self._now()

  def _now(self) -> Any:
    return np.full(self.count, self.turn, np.int32)

  def _flat(self, observations: list[Any]) -> Any:
    return np.stack([self.env.flatten(self.env.space, obs) for obs in observations]).astype(self._dtype())

  def _dtype(self) -> Any:
    return jnp.result_type(float)


def make(name: str, **kwargs: Any) -> Gymnasium:
  """Gymnasium's environment of that name, such as "Pendulum-v1"; its own time limit is `time_limit`.

  Args:
    name: as Gymnasium has it.
    **kwargs: for `gymnasium.make`.

  Raises:
    ValueError: Gymnasium is not installed, or makes no such environment.
  """
  try:
    gymnasium = importlib.import_module("gymnasium")
  except ImportError as error:
    raise ValueError(
      f'environment "gymnasium:{name}" needs Gymnasium (pip install "varl[gymnasium]"): {error}'
    ) from error
  try:
    drawn = {**kwargs, "render_mode": "rgb_array"}
    return Gymnasium(lambda: gymnasium.make(name, **kwargs), lambda: gymnasium.make(name, **drawn))
  except gymnasium.error.Error as error:
    raise ValueError(f"Gymnasium makes no {name!r}: {' '.join(str(error).split())}") from None
  except (ImportError, TypeError) as error:
    raise ValueError(f"Gymnasium's {name!r} cannot be made: {error}") from None


def _not_alone(rng: Any) -> Any:
  raise ValueError("an environment of Gymnasium's is stepped in batches: varl.envs.vectorize(env, n)")
