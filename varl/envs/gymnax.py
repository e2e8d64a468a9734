"""Environments of gymnax, with the interface of Brax's; needs the extra `varl[gymnax]`."""

import dataclasses
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl.checks import nearest
from varl.envs import classics
from varl.envs.base import State
from varl.types import Array


class Gymnax:
  """An environment of gymnax's as one of varl's.

  It is stepped by `step_env`, beneath gymnax's own reset: the observation after an episode's last step is the true one,
  and `done` says only that the episode ended by itself. gymnax's time limit is `time_limit`, which the loop applies
  where nobody names another (`vectorize(episode_length=...)`).

  Observations are flattened to one vector, those that are a category to a one-hot one. Actions that are a category are
  discrete; a box is scaled to from [-1, 1], or unbounded where all its sides are infinite.

  Args:
    env: gymnax's environment.
    params: its parameters; None: its default ones.

  Raises:
    ValueError: `env` is none of gymnax's, or its actions are neither a category nor a box.
  """

  def __init__(self, env: Any, params: Any = None):
    missing = [name for name in ("reset_env", "step_env", "action_space", "default_params") if not hasattr(env, name)]
    if missing:
      raise ValueError(f"{type(env).__name__} is no environment of gymnax's: it lacks {', '.join(missing)}")
    self.env = env
    self.params = env.default_params if params is None else params
    space = env.action_space(self.params)
    categories = _categories(space)
    self.discrete = categories is not None
    if categories is not None:
      self.action_size, self.action_bounds, self._action_shape = categories, None, ()
    elif hasattr(space, "low"):
      self._action_shape = tuple(space.shape)
      self.action_size = int(np.prod(self._action_shape))
      sides = (np.broadcast_to(np.asarray(side), self._action_shape).reshape(-1) for side in (space.low, space.high))
      self.action_bounds = tuple(sides)
    else:
      raise ValueError(
        f"actions of {self.name} are neither a category nor a box, but {type(space).__name__}: choose one of its parts "
        "in a wrapper"
      )
    if drawing := classics.DRAWINGS.get(self.name):
      self.draw = lambda axes, state: drawing(axes, state.data[0], self.params)
      self.dt = float(getattr(self.params, "dt", classics.SECONDS.get(self.name, 0.05)))
    self._observed_categories = _categories(env.observation_space(self.params))
    first = jax.eval_shape(self.reset, jax.random.key_data(jax.random.key(0)))
    self.observation_size = first.obs.shape[0]

  @property
  def name(self) -> str:
    """gymnax's name for it."""
    return str(self.env.name)

  @property
  def time_limit(self) -> int | None:
    """Steps after which gymnax cuts an episode."""
    limit = getattr(self.params, "max_steps_in_episode", None)
    return None if limit is None else int(limit)

  def reset(self, rng: Array) -> State:
    """A first state and the stream of all later ones, both drawn with the legacy key `rng`."""
    first, stream = jax.random.split(jax.random.wrap_key_data(rng))
    obs, inner = self.env.reset_env(first, self.params)
    return State(obs=self._vector(obs), reward=jnp.zeros(()), done=jnp.zeros(()), data=(inner, stream))

  def step(self, state: State, action: Array) -> State:
    """The state after `action`, drawn with the stream in `state.data`."""
    inner, stream = state.data
    now, stream = jax.random.split(stream)
    action = jnp.asarray(action, jnp.int32) if self.discrete else jnp.reshape(action, self._action_shape)
    obs, inner, reward, terminated, _ = self.env.step_env(now, inner, action, self.params)
    return state.replace(
      obs=self._vector(obs),
      reward=jnp.asarray(reward, float).reshape(()),
      done=jnp.asarray(terminated, float).reshape(()),
      data=(inner, stream),
    )

  def _vector(self, obs: Any) -> Array:
    if self._observed_categories is not None:
      return jax.nn.one_hot(obs, self._observed_categories, dtype=float).reshape(-1)
    return jnp.concatenate([jnp.ravel(leaf).astype(float) for leaf in jax.tree.leaves(obs)])


def make(name: str, **kwargs: Any) -> Gymnax:
  """gymnax's environment of that name.

  Args:
    name: as gymnax has it, such as "CartPole-v1".
    **kwargs: parameters of the environment that differ from its default ones (`max_steps_in_episode` is the time
      limit); whatever is none of these goes to the environment's constructor.

  Raises:
    ValueError: gymnax is not installed, or too old to keep the end of an episode and its time limit apart; or it has
      no such environment, or the environment no such argument.
  """
  try:
    gymnax = importlib.import_module("gymnax")
  except ImportError as error:
    raise ValueError(f'environment "gymnax:{name}" needs gymnax (pip install "varl[gymnax]"): {error}') from error
  if not hasattr(importlib.import_module("gymnax.environments.environment").Environment, "is_truncated"):
    raise ValueError("this gymnax does not keep ends and time limits of episodes apart; needed is gymnax 1 or later")
  known = tuple(gymnax.registered_envs)
  if name not in known:
    raise ValueError(f"gymnax has no environment {name!r}{nearest(name, known)}; it has {', '.join(known)}")
  fields = {field.name for field in dataclasses.fields(gymnax.make(name)[1])} if kwargs else set()
  changed = {key: value for key, value in kwargs.items() if key in fields}
  rest = {key: value for key, value in kwargs.items() if key not in fields}
  try:
    env, params = gymnax.make(name, **rest)
  except TypeError as error:
    raise ValueError(f"{name} takes the parameters {', '.join(sorted(fields))}, got {sorted(rest)}: {error}") from error
  return Gymnax(env, params.replace(**changed))


def _categories(space: Any) -> int | None:
  """How many categories a discrete space has; None for other spaces."""
  return int(space.n) if hasattr(space, "n") else None
