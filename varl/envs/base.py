"""What an environment is: Brax's interface, and what varl reads of it beside."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import struct

from varl import checks
from varl.envs import foreign
from varl.types import Array

DEFAULT_BOUNDS = (-1.0, 1.0)
"""The action range of an environment that names none: Brax's."""

DEFAULT_LENGTH = 1000
"""The time limit where neither anybody nor the environment names one, in environment steps."""

NO_BOUND = float(np.sqrt(np.finfo(np.float32).max))
"""A side of an action range at least this far out is none: its square, which is what actions cost, overflows."""


@runtime_checkable
class Environment(Protocol):
  """One environment, not a batch of them, with the interface of Brax's `Env`.

  `reset` takes one *legacy* key, because that is what Brax takes: as `jax.random.PRNGKey` makes it, `uint32[2]`, or
  `uint32[4]` where JAX's default generator is another. (`varl.envs.vectorize` takes typed keys of any generator.) Both
  methods return a pytree with `.obs` `[observation_size]`, `.reward` and `.done` scalars, `.metrics` and `.info` dicts
  and `.replace`. `done` means that the episode ended by itself. Time limits belong to `varl.envs.vectorize`; one of the
  environment's own is said in `info["truncation"]`, as Brax's `EpisodeWrapper` does: 1 where the limit alone ended the
  episode, whatever `done` says then.

  Optional attributes:
    discrete: True where an action is one integer in [0, action_size); default False.
    action_bounds: `(low, high)`, scalars or `[action_size]`; None for the whole real line; default (-1, 1).
    time_limit: environment steps after which an episode is cut where nobody names another number; default None.
    context: how many of the observation's last entries say which task or goal an episode has; default 0.
    privileged: how many entries before these no policy sees, only what is learned with; default 0.
    draw: `(axes, state) -> None`, draws a state, of NumPy arrays, into matplotlib axes (`varl.report.film`).
    dt: seconds that a step lasts, for pictures.
    inner: of what wraps an environment, `env`: `state -> (environment, its own state)`.
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


class Wrapper:
  """An environment around another one; what it does not say anew is the inner one's.

  Its `observation_size`, `action_size`, `discrete`, `action_bounds`, `context`, `privileged` and, where there is one,
  `time_limit` are the inner one's. `reset` and `step` are, too, each state shown by `seen`.

  Args:
    env: the environment inside.
    observation_size: of this one, where it is another number or the inner one's is none.

  Raises:
    ValueError: what is given is no environment, or what it says of itself is malformed.
  """

  def __init__(self, env: Any, observation_size: int | None = None):
    foreign.single(env)
    self.env = env
    own = checks.whole("observation_size", env.observation_size) if observation_size is None else observation_size
    self.observation_size, self.context, self.privileged = own, context(env, own), privileged(env, own)
    self.action_size, self.discrete = action_size(env), is_discrete(env)
    self.action_bounds: Any = getattr(env, "action_bounds", DEFAULT_BOUNDS)
    if limit := time_limit(env):
      self.time_limit = limit

  def reset(self, rng: Array) -> Any:
    """The environment's own, shown."""
    return self.seen(self.env.reset(rng))

  def step(self, state: Any, action: Array) -> Any:
    """The environment's own step, shown."""
    return self.seen(self.env.step(state.data, action))

  def seen(self, own: Any) -> State:
    """A state of the inner environment as one of this one's, which holds it as `data`."""
    return State(own.obs, own.reward, own.done, metrics=own.metrics, info=own.info, data=own)

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The environment inside, and its own part of a state."""
    return self.env, state.data


class Bounds(NamedTuple):
  """An action range, each side `float32[action_size]`."""

  low: np.ndarray
  high: np.ndarray


def is_discrete(env: Environment) -> bool:
  """Whether an action of `env` is one integer.

  Raises:
    ValueError: its `discrete` is neither True nor False.
  """
  discrete = getattr(env, "discrete", False)
  if not isinstance(discrete, bool | np.bool_):
    raise ValueError(f"discrete must be True or False; got {discrete!r}")
  return bool(discrete)


def action_size(env: Environment) -> int:
  """The number of action dimensions of `env`, or of its actions where it is discrete.

  Raises:
    ValueError: it is no positive integer.
  """
  return checks.whole("action_size", env.action_size)


def action_bounds(env: Environment) -> Bounds | None:
  """The action range of `env`, or None where it has none (unbounded or discrete).

  A range all of whose sides lie beyond `NO_BOUND` is none: libraries write the largest float for "no bound".

  Raises:
    ValueError: the bounds are no (low, high) pair that fits `[action_size]`, or not finite with low < high.
  """
  bounds = getattr(env, "action_bounds", DEFAULT_BOUNDS)
  if bounds is None or is_discrete(env):
    return None
  size = action_size(env)
  try:
    low, high = (np.broadcast_to(np.asarray(side, np.float64), (size,)) for side in bounds)
  except (TypeError, ValueError, OverflowError) as error:
    raise ValueError(
      f"action_bounds must be None or (low, high), each a scalar or an array [{size}]; got {bounds!r}"
    ) from error
  given = f"got low {low.tolist()}, high {high.tolist()}"
  if (low <= -NO_BOUND).all() and (high >= NO_BOUND).all():
    return None
  if not (np.abs(low) < NO_BOUND).all() or not (np.abs(high) < NO_BOUND).all():
    raise ValueError(
      f"action_bounds must be finite, or infinite on all sides; {given}: an action is scaled to its range, and a half-"
      "infinite one has no scale (map the whole line to it in a wrapper, by softplus for one, or name finite sides)"
    )
  low, high = low.astype(np.float32), high.astype(np.float32)
  if not (low < high).all():
    raise ValueError(f"action_bounds must be finite with low < high; {given}")
  return Bounds(low, high)


def context(env: Environment, observation_size: int) -> int:
  """How many of the observation's last entries say which task or goal an episode has: the attribute `context`, or 0.

  Args:
    env: the environment.
    observation_size: the length of its observations; `env.observation_size` may be costly to ask for.

  Raises:
    ValueError: it is no whole number below the observation's size.
  """
  return checks.whole("context", getattr(env, "context", 0), least=0, below=observation_size)


def privileged(env: Environment, observation_size: int) -> int:
  """How many entries before the context no policy sees, only what is learned with: the attribute `privileged`, or 0.

  Args:
    env: the environment.
    observation_size: as in `context`.

  Raises:
    ValueError: it is no whole number, or leaves a policy nothing to see.
  """
  rest = observation_size - context(env, observation_size)
  return checks.whole("privileged", getattr(env, "privileged", 0), least=0, below=rest)


def time_limit(env: Environment) -> int | None:
  """The time limit that `env` names itself, in environment steps; None where it names none.

  Raises:
    ValueError: it is no positive integer.
  """
  limit = getattr(env, "time_limit", None)
  return None if limit is None else checks.whole("time_limit", limit)


def episode_length(env: Environment, given: int | None = None) -> int:
  """The time limit to use: the one given (None or 0: none is), else the environment's own, else `DEFAULT_LENGTH`."""
  return given or time_limit(env) or DEFAULT_LENGTH
