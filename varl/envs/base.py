"""What an environment is: Brax's interface, checked, and described as a `Spec`."""

import operator
from collections.abc import Mapping
from inspect import getattr_static
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from varl.types import Array, Key, Spec

DEFAULT_BOUNDS = (-1.0, 1.0)
"""The action range of an environment that names none: Brax's."""

_STATE_FIELDS = ("obs", "reward", "done", "metrics", "info", "replace")


@runtime_checkable
class Environment(Protocol):
  """One environment, not a batch of them, with the interface of Brax's `Env`.

  `reset` takes one *legacy* key, because that is what Brax takes: as `jax.random.PRNGKey` makes it, `uint32[2]`, or
  `uint32[4]` where JAX's default generator is another. (`varl.envs.vectorize` takes typed keys of any generator.)
  Both methods return a pytree with `.obs` `[observation_size]`, `.reward` and `.done` scalars, `.metrics` and `.info`
  dicts and `.replace`. `done` means that the episode ended by itself; time limits belong to `varl.envs.vectorize`.

  Optional attributes:
    discrete: True where an action is one integer in [0, action_size); default False.
    action_bounds: `(low, high)`, scalars or `[action_size]`; None for the whole real line; default (-1, 1).
  """

  def reset(self, rng: Array) -> Any:
    """First state of an episode, drawn with the legacy key `rng`."""

  def step(self, state: Any, action: Array) -> Any:
    """State after `action` `[action_size]` (an integer scalar where the environment is discrete)."""

  @property
  def observation_size(self) -> int:
    """Length of the observation vector."""

  @property
  def action_size(self) -> int:
    """Number of action dimensions, or of actions where the environment is discrete."""


class State(struct.PyTreeNode):
  """The state of an environment that brings no state class of its own.

  Attributes:
    obs: `[observation_size]`.
    reward: scalar, of the step that led here.
    done: scalar, 1 where the episode ended by itself.
    metrics: scalars to log, by name; the same names from `reset` and `step`.
    info: anything else, the same structure from `reset` and `step`.
    data: what the environment itself has to remember, any pytree.
  """

  obs: Array
  reward: Array
  done: Array
  metrics: dict[str, Array] = struct.field(default_factory=dict)
  info: dict[str, Any] = struct.field(default_factory=dict)
  data: Any = None


class Bounds(NamedTuple):
  """An action range, each side `float32[action_size]`."""

  low: np.ndarray
  high: np.ndarray


def is_discrete(env: Environment) -> bool:
  """Whether an action of `env` is one integer."""
  return bool(getattr(env, "discrete", False))


def action_bounds(env: Environment) -> Bounds | None:
  """The action range of `env`, or None where it has none (unbounded or discrete).

  Raises:
    ValueError: the bounds are no (low, high) pair that fits `[action_size]`, or not finite with low < high.
  """
  bounds = getattr(env, "action_bounds", DEFAULT_BOUNDS)
  if bounds is None or is_discrete(env):
    return None
  size = _size(env.action_size, "action_size")
  try:
    low, high = (np.broadcast_to(np.asarray(side, np.float32), (size,)) for side in bounds)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"action_bounds must be None or (low, high), each a scalar or an array [{size}]; got {bounds!r}"
    ) from error
  if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
    raise ValueError(
      f"action_bounds must be finite with low < high; got low {low.tolist()}, high {high.tolist()}"
      " (unbounded actions are action_bounds = None)"
    )
  return Bounds(low, high)


def inspect(env: Environment) -> tuple[Spec, Any]:
  """What an agent has to know of `env`, and the shapes and dtypes of its first state. Traces `reset`, does not run it.

  Raises:
    ValueError: `env` is no `Environment`; the message names what is missing or wrong.
  """
  who = type(env).__name__
  # Looked up without being read: Brax computes observation_size by a whole reset.
  found = {name: _static(env, name) for name in ("reset", "step", "observation_size", "action_size")}
  missing = [name for name, value in found.items() if value is None]
  if missing:
    raise ValueError(
      f"{who} is no environment: it lacks {', '.join(missing)}; needed are reset(rng), step(state, action), "
      "observation_size and action_size, as in Brax's Env"
    )
  state = _trace_reset(env)
  declared = found["observation_size"]
  for what, value in (("observations", state.obs), ("observation_size", declared)):
    if isinstance(value, Mapping):
      raise ValueError(
        f"{what} of {who} is a dict with keys {', '.join(map(str, value))}; varl takes one vector: "
        "concatenate the entries, or choose one, in a wrapper"
      )
  shape = getattr(state.obs, "shape", None)
  if shape is None or len(shape) != 1 or shape[0] < 1:
    raise ValueError(f"observations of {who} must be one vector [observation_size]; got shape {shape}")
  if isinstance(declared, int | float | np.number) and _size(declared, "observation_size") != shape[0]:
    raise ValueError(f"observation_size of {who} is {declared}, but reset returns observations of length {shape[0]}")
  for name in ("reward", "done"):
    if getattr(getattr(state, name), "shape", None) != ():
      raise ValueError(f"{name} of {who} must be a scalar array for one environment; got {getattr(state, name)}")
  env_spec = Spec(
    observation_size=shape[0],
    action_size=_size(env.action_size, "action_size"),
    discrete=is_discrete(env),
    bounded=action_bounds(env) is not None,
  )
  return env_spec, state


def of_implementation(keys: Key, name: Any = None) -> Key:
  """Typed keys of the random number generator of that name, by default JAX's default one, for typed keys of any.

  Keys of that generator are themselves, others are consumed: each draws the data of its successor.
  """
  like = jax.eval_shape(lambda: jax.random.key(0, impl=name))
  if keys.dtype == like.dtype:
    return keys
  shape = jax.eval_shape(jax.random.key_data, like).shape
  data = jax.vmap(lambda key: jax.random.bits(key, shape, jnp.uint32))(keys.reshape(-1))
  return jax.random.wrap_key_data(data.reshape(*keys.shape, *shape), impl=name)


def legacy(keys: Key) -> Array:
  """Typed keys as what `Environment.reset` takes: `uint32[..., k]`, the data of keys of JAX's default generator."""
  return jax.random.key_data(of_implementation(keys))


def spec(env: Environment) -> Spec:
  """What an agent has to know of `env`; raises as `inspect` does."""
  return inspect(env)[0]


def check(env: Environment) -> None:
  """Raises ValueError naming what `env` lacks or has wrong to be an `Environment`; returns nothing."""
  inspect(env)


def trace_step(env: Environment, env_spec: Spec, state: Any) -> Any:
  """Shapes and dtypes of the state that `step` leads to from one like `state`; nothing is run."""
  shape, dtype = ((), np.int32) if env_spec.discrete else ((env_spec.action_size,), jnp.result_type(float))
  return jax.eval_shape(env.step, state, jax.ShapeDtypeStruct(shape, dtype))


def _static(env: Any, name: str) -> Any:
  """The attribute `name` of `env` without running a property; None where there is none."""
  value = getattr_static(env, name, None)
  # A wrapper may pass attributes on by __getattr__, which only a real look-up finds.
  return getattr(env, name, None) if value is None else value


def _trace_reset(env: Environment) -> Any:
  """Shapes and dtypes of the first state, which is checked to be a state."""
  who = type(env).__name__

  def reset(rng: Array) -> Any:
    state = env.reset(rng)
    absent = [name for name in _STATE_FIELDS if not hasattr(state, name)]
    if absent:
      raise ValueError(
        f"reset of {who} returned {type(state).__name__}, which lacks {', '.join(absent)}; "
        f"a state has {', '.join(_STATE_FIELDS)} (varl.envs.State has them all)"
      )
    for leaf in jax.tree.leaves(state):
      if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
        raise ValueError(
          f"reset of {who} must return a pytree of arrays (varl.envs.State is one); got a leaf of type "
          f"{type(leaf).__name__}"
        )
    return state

  try:
    # A legacy key, the numbers of which nobody looks at.
    return jax.eval_shape(reset, legacy(jax.random.key(0)))
  except jax.errors.JAXTypeError as error:
    raise ValueError(f"reset of {who} cannot be traced by JAX, as a pure function of its key can: {error}") from error


def _size(value: Any, name: str) -> int:
  """`value` as a positive Python int."""
  try:
    size = operator.index(value)
  except TypeError as error:
    raise ValueError(f"{name} must be a positive integer; got {value!r}") from error
  if size < 1:
    raise ValueError(f"{name} must be a positive integer; got {size}")
  return size
