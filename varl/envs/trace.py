"""The contracts that tracing tells: an environment is looked at as JAX sees it, and nothing of it is run."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from varl import checks
from varl.envs import base, flow, foreign, keys
from varl.envs.contract import Book, Stopped, raise_broken
from varl.types import Array, Spec

TRUNCATION = "truncation"
"""Where `info` says that a time limit of the environment's own, and nothing else, ended the episode."""

_STATE_FIELDS = ("obs", "reward", "done", "metrics", "info", "replace")
_OTHER_LIMITS = ("truncated", "TimeLimit.truncated", "timeout")


class Traced(NamedTuple):
  """What tracing tells of an environment.

  Attributes:
    spec: what an agent has to know of it.
    state: its state as shapes and dtypes, which hold after `reset` and after `step` alike.
    keys: the numbers of the state's leaves that are random keys (`keys.find`).
    truncates: whether its info has `TRUNCATION`.
    resets, steps: the jaxprs of two resets and of two steps at once.
  """

  spec: Spec
  state: Any
  keys: tuple[int, ...]
  truncates: bool
  resets: ClosedJaxpr
  steps: ClosedJaxpr


def trace(env: base.Environment, reset: str = "pool") -> Traced:
  """What a batch of `env` has to know of it; traces `reset` and `step`, runs nothing.

  Args:
    env: one environment.
    reset: as in `vectorize`.

  Raises:
    ValueError: `env` breaks a contract; the message names the way out.
  """
  book = Book(type(env).__name__)
  try:
    return look(env, book, reset)
  except Stopped:
    raise_broken(book.findings())
    raise


def spec(env: base.Environment) -> Spec:
  """What an agent has to know of `env`; traces `reset` alone.

  Raises:
    ValueError: `env` breaks a contract that this much tells; the message names the way out.
  """
  book = Book(type(env).__name__)
  try:
    return _begin(env, book)[0]
  except Stopped:
    raise_broken(book.findings())
    raise


def look(env: Any, book: Book, reset: str = "pool") -> Traced:
  """What tracing tells of anything that is given as an environment.

  Args:
    env: anything.
    book: takes down what is found. Contracts that a broken one leaves no way to look at are missing.
    reset: as in `vectorize`.

  Raises:
    Stopped: `env` breaks a contract.
  """
  env_spec, resets, first = _begin(env, book)
  steps, state = _go_on(env, env_spec, first, book)
  book.come_to("keys")
  found = keys.find(resets, steps, state, book, repeats=reset == "pool")
  book.stop_if_broken()
  return Traced(env_spec, state, found, TRUNCATION in first.info, resets, steps)


def again(env: Any, traced: Traced) -> tuple[ClosedJaxpr, ClosedJaxpr]:
  """The jaxprs of `reset` and `step`, traced once more."""
  book = Book(type(env).__name__)
  return _trace_reset(env, book)[0], _trace_step(env, traced.spec, traced.state, book)[0]


class _Wrong(Exception):
  """What is wrong with a value inside a function that JAX traces."""


def _begin(env: Any, book: Book) -> tuple[Spec, Any, Any]:
  """The contracts up to the first state: the spec, the jaxpr of `reset`, and that state as shapes."""
  book.come_to("object")
  if wrong := foreign.no_environment(env):
    book.stop("object", wrong)
  book.come_to("wrappers")
  if wrong := foreign.wrapped_wrongly(env):
    book.stop("wrappers", wrong)
  if repeats := foreign.repeats(env):
    book.note(
      "wrappers", f"EpisodeWrapper repeats each action {repeats} times; varl counts that as one environment step"
    )

  book.come_to("actions", "bounds", "time_limit")
  discrete = book.attempt("actions", lambda: base.is_discrete(env))
  size = book.attempt("actions", lambda: base.action_size(env))
  bounds = None
  if discrete is not None and size is not None:
    bounds = book.attempt("bounds", lambda: base.action_bounds(env))
  book.attempt("time_limit", lambda: base.time_limit(env))

  book.come_to("reset")
  resets, first = _trace_reset(env, book)
  book.come_to("observation", "reward", "done", "metrics")
  _look_at_observation(env, first.obs, book)
  _look_at_rest(first, book)
  book.stop_if_broken()
  length = first.obs.shape[0]
  # Both are of the last entries; what is wrong with the first is wrong with the second.
  last = book.attempt("observation", lambda: (base.context(env, length), base.privileged(env, length)))
  book.stop_if_broken()
  return Spec(length, size, discrete, bounds is not None, *last), resets, first


def _go_on(env: Any, env_spec: Spec, first: Any, book: Book) -> tuple[Any, Any]:
  """The contracts of `step`: its jaxpr, and the state as it stays from then on."""
  book.come_to("step")
  state = first
  while True:
    steps, second = _trace_step(env, env_spec, state, book)
    book.come_to("structure", "dtypes")
    _compare(first, second, book)
    wider = jax.tree.map(_wider, state, second)
    # A wider dtype that goes in may widen what comes out: look again until nothing widens, which promotion ensures.
    if _dtypes(wider) == _dtypes(state):
      break
    state = wider
  pairs = zip(keys.leaf_names(first), _dtypes(first), _dtypes(state), strict=True)
  drifts = [f"state{name} from {before} to {after}" for name, before, after in pairs if before != after]
  if drifts:
    book.note("dtypes", f"step of {book.who} changes dtypes of reset; varl casts {', '.join(drifts)}")
  return steps, state


def _trace_reset(env: Any, book: Book) -> tuple[Any, Any]:
  """The jaxpr of a batch of resets, and one first state, as shapes."""

  def reset(rng: Array) -> Any:
    state = env.reset(rng)
    absent = [name for name in _STATE_FIELDS if not hasattr(state, name)]
    if absent:
      raise _Wrong(
        f"reset of {book.who} returned {type(state).__name__}, which lacks {', '.join(absent)}; "
        f"a state has {', '.join(_STATE_FIELDS)} (varl.envs.State has them all)"
      )
    for leaf in jax.tree.leaves(state):
      if not (_is_numeric(leaf) or flow.is_key(leaf) or isinstance(leaf, bool | int | float)):
        raise _Wrong(
          f"reset of {book.who} must return a pytree of arrays (varl.envs.State is one); got a leaf of type "
          f"{type(leaf).__name__}"
        )
    return state

  # Legacy keys, the numbers of which nobody looks at.
  some = keys.legacy(jax.random.split(jax.random.key(0), 2))
  return _traced(reset, (some,), "reset", "a pure function of its key", book)


def _trace_step(env: Any, env_spec: Spec, state: Any, book: Book) -> tuple[Any, Any]:
  """The jaxpr of a batch of steps from states like `state`, and the state after one, as shapes."""
  shape, dtype = ((), np.int32) if env_spec.discrete else ((env_spec.action_size,), jnp.result_type(float))
  one = (state, jax.ShapeDtypeStruct(shape, dtype))
  two = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), one)

  def step(state: Any, action: Array) -> Any:
    return env.step(state, action)

  return _traced(step, two, "step", "a pure function of state and action", book)


def _traced(function: Any, two: tuple[Any, ...], name: str, meant: str, book: Book) -> tuple[Any, Any]:
  """The jaxpr of `function` over two arguments at once, and what comes out of one; stops where it cannot be traced."""
  try:
    jaxpr, shapes = jax.make_jaxpr(jax.vmap(function), return_shape=True)(*two)
    return jaxpr, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)
  except _Wrong as error:
    book.stop(name, str(error), error)
  except Exception as error:
    failed = error
  if isinstance(failed, jax.errors.UnexpectedTracerError):
    text = f"{name} of {book.who} uses a value that another call of reset or step left on the object"
    book.stop(name, f"{text}: keep all that an episode needs in the state, in its info or data", failed)
  one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), two)
  text = f"{name} of {book.who} cannot be batched by jax.vmap"
  try:
    jax.eval_shape(function, *one)
  except Exception as error:
    text, failed = f"{name} of {book.who} cannot be traced by JAX, as {meant} can", error
  book.stop(name, f"{text}: {_plain(failed)}", failed)
  raise AssertionError


def _look_at_observation(env: Any, obs: Any, book: Book) -> None:
  who, declared, shape = book.who, foreign.attribute(env, "observation_size"), getattr(obs, "shape", None)
  for what, value in (("observations", obs), ("observation_size", declared)):
    if isinstance(value, Mapping):
      names = ", ".join(map(str, value))
      text = f"{what} of {who} is a dict with keys {names}; varl takes one vector: "
      way = "varl.envs.Asymmetric(env, policy=..., values=...) takes one entry for the policy and one for its values"
      book.broken("observation", text + way)
      return
  if shape is None or len(shape) != 1 or shape[0] < 1:
    hint = " (one of a batch? give one environment)" if shape is not None and len(shape) == 2 else ""
    text = f"observations of {who} must be one vector [observation_size]; got shape {shape}"
    book.broken("observation", f"{text}: make it one in a wrapper, by jnp.ravel{hint}")
    return
  if not _is_real(obs):
    book.broken("observation", f"observations of {who} must be real numbers; got {obs.dtype}")
  elif not jnp.issubdtype(obs.dtype, jnp.floating):
    book.note("observation", f"observations of {who} are {obs.dtype}; agents get them as float32")
  if declared is not None:
    size = book.attempt("observation", lambda: checks.whole("observation_size", declared))
    if size is not None and size != shape[0]:
      text = f"observation_size of {who} is {size}, but reset returns observations of length {shape[0]}"
      book.broken("observation", text)


def _look_at_rest(state: Any, book: Book) -> None:
  """What the other fields of a first state must be like."""
  who = book.who
  for name in ("reward", "done"):
    value = getattr(state, name)
    if getattr(value, "shape", None) != () or not _is_real(value):
      text = f"{name} of {who} must be a scalar array for one environment; got {_shown(value)}"
      book.broken(name, f"{text}: give shape () in a wrapper, and batches to varl.envs.vectorize")
  for name in ("metrics", "info"):
    if not isinstance(getattr(state, name), Mapping):
      book.broken("metrics", f"{name} of {who} must be a dict; got {type(getattr(state, name)).__name__}")
  book.stop_if_broken()
  odd = [str(name) for name, leaf in state.metrics.items() if not _is_real(leaf)]
  if odd:
    book.broken("metrics", f"metrics of {who} must be real numbers; {', '.join(odd)} is none (keep it in info)")
  if TRUNCATION in state.info:
    limit = state.info[TRUNCATION]
    if getattr(limit, "shape", None) != () or not _is_real(limit):
      book.broken("done", f"info['{TRUNCATION}'] of {who} must be a scalar array; got {_shown(limit)}")
    return
  other = [name for name in _OTHER_LIMITS if name in state.info]
  if other:
    text = f"info[{other[0]!r}] of {who} is not read: a time limit of its own is said in info['{TRUNCATION}']"
    book.note("done", text)


def _compare(first: Any, second: Any, book: Book) -> None:
  """Stops where `step` returns another structure, other shapes, or keys of another kind than `reset`."""
  who = book.who
  structures: list[Any] = [jax.tree.structure(tree) for tree in (first, second)]
  if structures[0] != structures[1]:
    text = f"step of {who} returns a state of another structure than reset: {_difference(first, second)}; "
    book.stop("structure", text + "give metrics and info the same names in both")
  for name, x, y in zip(keys.leaf_names(first), jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    if x.shape != y.shape:
      book.broken("structure", f"state{name} of {who} has shape {x.shape} from reset and {y.shape} from step")
    elif x.dtype != y.dtype and (flow.is_key(x) or flow.is_key(y)):
      book.broken(
        "dtypes", f"state{name} of {who} is {x.dtype} from reset and {y.dtype} from step: keep one kind of key"
      )
  book.stop_if_broken()


def _wider(x: Any, y: Any) -> Any:
  return jax.ShapeDtypeStruct(x.shape, x.dtype if flow.is_key(x) else jnp.promote_types(x.dtype, y.dtype))


def _dtypes(tree: Any) -> list[Any]:
  return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _is_real(value: Any) -> bool:
  return _is_numeric(value) and not jnp.issubdtype(value.dtype, jnp.complexfloating)


def _is_numeric(value: Any) -> bool:
  return hasattr(value, "dtype") and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.bool_, jnp.number))


def _shown(value: Any) -> str:
  return f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def _plain(error: BaseException) -> str:
  """The first paragraph of an error's message, as one line, with its type where it is none of JAX's own."""
  text = " ".join(str(error).split("\n\n")[0].split()) or "no message"
  return text if isinstance(error, jax.errors.JAXTypeError) else f"{type(error).__name__}: {text}"


def _difference(first: Any, second: Any) -> str:
  """The leaves that only one of two states has."""
  reset, step = (set(keys.leaf_names(tree)) for tree in (first, second))
  sides = (("reset", reset - step), ("step", step - reset))
  return (
    "; ".join(f"only from {who}: {', '.join(sorted(extra))}" for who, extra in sides if extra) or "other containers"
  )
