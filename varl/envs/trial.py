"""The contracts that only running tells: a batch of environments under random actions, run twice."""

import functools
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from varl.envs import flow, foreign, keys
from varl.envs.contract import Book
from varl.envs.trace import Traced, again
from varl.envs.vector import TimeStep, VectorState, observe, select, vectorize
from varl.types import Array, Key, Spec

CHUNK = 50
"""Steps of one call of the compiled program."""

STEPS = 1_200
"""Steps of the whole trial, where it takes no longer than it may: more than the usual time limit."""

_ALIKE = 10
"""Steps over which two runs must agree. Later ones may part where an accelerator adds in another order."""

_ENOUGH = 6
"""Ends of episodes that tell something."""

_NEVER = 2**30


class Record(NamedTuple):
  """What a batch of N environments did, on the host.

  Attributes:
    first: first observations `[N, o]`; each environment returns to its own.
    over: booleans `[N]`, whether a first state is done.
    steps: leaves `[T, N, ...]`, `discarded` `[T]`.
  """

  first: np.ndarray
  over: np.ndarray
  steps: TimeStep


def look(env: Any, traced: Traced, book: Book, *, num_envs: int, seconds: float, seed: int) -> None:
  """Runs `env` and takes down what that tells.

  Args:
    env: one environment that keeps what tracing tells.
    traced: what tracing told.
    book: takes it down.
    num_envs: N.
    seconds: about how long both runs may take.
    seed: of the keys.

  Raises:
    Stopped: it does not run.
  """
  book.come_to("observation", "step", "pure", "runs")
  _look_at_traces(env, traced, book)
  try:
    start, go_on = _programs(env, traced, num_envs, jax.random.key(seed))
    record = _run(start, go_on, np.full(num_envs, -1), steps=STEPS, seconds=seconds)
    ended = np.asarray(record.steps.terminated | record.steps.truncated & record.steps.valid)
    first_end = np.where(ended.any(0), ended.argmax(0), -1)
    second = _run(start, go_on, first_end, steps=max(int(first_end.max()) + 1, CHUNK))
  except Exception as error:
    text = " ".join(str(error).split("\n\n")[0].split())
    book.stop("runs", f"a batch of {book.who} fails when it runs: {type(error).__name__}: {text}", error)

  book.come_to("first_states", "finite", "ends")
  _look_at_purity(record, second, first_end, book)
  _look_at_first_states(record, book)
  _look_at_numbers(record, book)
  _look_at_ends(record, second, ended, first_end, traced, book)


def _programs(env: Any, traced: Traced, num_envs: int, key: Key) -> tuple[Callable[[], Any], Callable[..., Any]]:
  """Two compiled functions: first states, and `CHUNK` steps from step t on.

  The second takes at which step each environment's random keys are drawn anew, and -1 for never.
  """
  batch = vectorize(env, num_envs, episode_length=_NEVER, reset="cached")
  reset_key, action_key, other_key = jax.random.split(key, 3)
  # Compiling is nearly all that a trial takes, and it runs for moments.
  quickly = functools.partial(jax.jit, compiler_options=_least_optimised())

  @quickly
  def start() -> tuple[VectorState, Array, Array]:
    state = batch.reset(reset_key)
    return state, observe(state), state.env.done.astype(bool)

  @quickly
  def go_on(state: VectorState, begin: Array, redraw_at: Array) -> tuple[VectorState, TimeStep]:
    def one(state: VectorState, t: Array) -> tuple[VectorState, TimeStep]:
      other = keys.renew(state.env, traced.keys, jax.random.fold_in(other_key, t))
      state = state._replace(env=select(redraw_at == t, other, state.env))
      return batch.step(state, _random_actions(traced.spec, num_envs, jax.random.fold_in(action_key, t)))

    return jax.lax.scan(one, state, begin + jnp.arange(CHUNK))

  return start, go_on


def _least_optimised() -> dict[str, Any]:
  """What makes XLA compile for a CPU in a third of the time."""
  if jax.default_backend() != "cpu":
    return {}
  older = {"xla_cpu_use_fusion_emitters": False} if jax.lib.__version__.startswith("0.10.") else {}
  return {"xla_backend_optimization_level": 0, **older}


def _random_actions(spec: Spec, count: int, key: Key) -> Array:
  """Actions of all kinds: every one of the discrete ones, the range with its edges, the line about 0."""
  if spec.discrete:
    return jax.random.randint(key, (count,), 0, spec.action_size)
  shape = (count, spec.action_size)
  if not spec.bounded:
    return jax.random.normal(key, shape)
  return jnp.clip(jax.random.uniform(key, shape, minval=-1.5, maxval=1.5), -1.0, 1.0)


def _run(
  start: Callable[[], Any],
  go_on: Callable[..., Any],
  redraw_at: np.ndarray,
  *,
  steps: int,
  seconds: float | None = None,
) -> Record:
  """At most `steps` steps, in whole chunks: no more once the time is over, which begins after the first chunk."""
  state, first, over = start()
  chunks: list[TimeStep] = []
  begun = None
  for begin in range(0, steps, CHUNK):
    state, seen = go_on(state, np.int32(begin), redraw_at)
    chunks.append(jax.device_get(seen))
    begun = time.perf_counter() if begun is None else begun
    if seconds is not None and time.perf_counter() - begun > seconds:
      break
  joined: TimeStep = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
  return Record(np.asarray(first), np.asarray(over), joined)


def _look_at_traces(env: Any, traced: Traced, book: Book) -> None:
  """What the jaxprs tell beside `trace.look`: a second look at the same, and what runs on the host."""
  who = book.who
  if foreign.attribute(env, "observation_size") is None:
    seen: list[Any] = []
    # Under a trace: Brax computes it by a whole reset.
    jax.eval_shape(lambda: seen.append(env.observation_size))
    if seen != [traced.spec.observation_size]:
      text = f"observation_size of {who} is {seen[0]}, but reset returns observations of length "
      book.broken("observation", f"{text}{traced.spec.observation_size}")
  for name, before, after in zip(("reset", "step"), (traced.resets, traced.steps), again(env, traced), strict=True):
    if not _same(before, after):
      book.broken(
        "pure",
        f"{name} of {who} is another program each time it is traced: it depends on something beside its arguments (a "
        "counter of the object's, numpy.random, the time); keep in the state what changes, and draw with jax.random",
      )
    host = sorted(x for x in flow.operations(before) if x in ("pure_callback", "io_callback"))
    if host:
      book.note("step", f"{name} of {who} calls Python on the host ({host[0]}), at every step of every environment")


def _same(one: ClosedJaxpr, other: ClosedJaxpr) -> bool:
  """Whether two jaxprs are the same program with the same constants."""
  texts = [re.sub(r"0x[0-9a-f]+", "", str(closed)) for closed in (one, other)]
  # Within another transformation constants may be traced, and are equal as far as anybody knows.
  pairs = [pair for pair in zip(one.consts, other.consts, strict=False) if not any(_is_traced(x) for x in pair)]
  equal = all(np.array_equal(np.asarray(x), np.asarray(y), equal_nan=_is_float(x)) for x, y in pairs)
  return texts[0] == texts[1] and len(one.consts) == len(other.consts) and equal


def _look_at_purity(record: Record, second: Record, first_end: np.ndarray, book: Book) -> None:
  length = min(_ALIKE, len(record.steps.reward), len(second.steps.reward))
  # From where its keys were drawn anew an environment goes another way.
  same = (first_end < 0) | (np.arange(length)[:, None] < first_end)
  for name in ("obs", "next_obs", "reward", "terminated", "truncated"):
    one, two = (np.asarray(getattr(x.steps, name)[:length], np.float64)[same] for x in (record, second))
    if not np.allclose(one, two, rtol=1e-3, atol=1e-5, equal_nan=True):
      book.broken(
        "pure",
        f"two runs of {book.who} with the same keys and actions differ in {name}: reset or step depends on something "
        "beside its arguments; keep in the state what changes, and draw with jax.random",
      )
      return


def _look_at_first_states(record: Record, book: Book) -> None:
  who, count = book.who, len(record.first)
  bad = int((~np.isfinite(record.first).all(-1)).sum() + record.steps.discarded[0])
  if bad:
    book.broken("first_states", f"{bad} of {count} first observations of {who} are not finite: reset must give numbers")
  elif (record.first == record.first[0]).all():
    book.note("first_states", f"all first observations of {who} are alike, whatever the key of reset")
  if record.over.any():
    book.note("first_states", f"{record.over.sum()} of {count} first states of {who} are done; varl steps on from them")


def _look_at_numbers(record: Record, book: Book) -> None:
  valid = record.steps.valid[:, np.isfinite(record.first).all(-1)]
  if valid.size and not valid[0].any():
    book.broken("finite", f"the first step of every episode of {book.who} turns non-finite, in reward or observation")
  elif not valid.all():
    book.note(
      "finite",
      f"{(~valid).sum():,} of {valid.size:,} steps of {book.who} under random actions turned non-finite; varl leaves "
      "such steps out, counts them and resets",
    )


def _look_at_ends(
  record: Record, second: Record, ended: np.ndarray, first_end: np.ndarray, traced: Traced, book: Book
) -> None:
  """Whether what an episode ended in is a first state, and whether ends look like a time limit."""
  times, places = np.nonzero(ended)
  if len(times) < _ENOUGH:
    return
  steps, who = record.steps, book.who
  reset_inside = (
    f"step of {who} resets by itself: what it returns at an episode's end is a first state. varl resets itself, and "
    "needs the observation that the last step led to: leave the reset out"
  )
  first, before, after = record.first[places], steps.obs[times, places], steps.next_obs[times, places]
  fixed = (record.first == record.first[0]).all()
  returned, moved = (after == first).all(-1), (before != first).any(-1)
  if returned.all() and moved.mean() > 0.5:
    if fixed and not steps.truncated.any():
      book.note("ends", f"all episodes of {who} end in their first observation (if step resets, leave that out)")
    else:
      book.broken("ends", reset_inside)
    return

  which = np.flatnonzero((first_end >= 0) & (first_end < len(second.steps.reward)))
  at = first_end[which]
  both = (second.steps.terminated | second.steps.truncated)[at, which]
  which, at = which[both], at[both]
  if not fixed and len(which) >= _ENOUGH:
    seen = (steps.obs, steps.next_obs, second.steps.next_obs)
    last, led_to, other = (np.asarray(x[at, which]) for x in seen)
    low, high = record.first.min(0), record.first.max(0)

    def like_first(obs: np.ndarray) -> np.ndarray:
      return ((obs >= 2 * low - high) & (obs <= 2 * high - low)).all(-1)

    spread = np.abs(record.first[:, None] - record.first[None]).mean((0, 1))
    apart = np.abs(led_to - other).mean(0)[spread > 0] / spread[spread > 0]
    # Other keys lead to other first states, and as far from one another as first states are, but not to states near the
    # last.
    inside = like_first(led_to).all() and like_first(other).all()
    if inside and (~like_first(last)).mean() > 0.8 and apart.mean() > 0.5:
      book.broken("ends", reset_inside)
      return

  lengths = np.concatenate([np.diff(np.flatnonzero(column), prepend=-1) for column in ended.T])
  if (lengths == lengths[0]).all() and lengths[0] > 1 and steps.terminated[ended].all():
    book.note(
      "ends",
      f"all {len(lengths)} episodes of {who} ended after {lengths[0]} steps: if that is a time limit, it is no end; "
      "name it as the attribute time_limit, or say so in info['truncation']",
    )


def _is_traced(value: Any) -> bool:
  return isinstance(value, jax.core.Tracer)


def _is_float(value: Any) -> bool:
  return jnp.issubdtype(np.asarray(value).dtype, np.inexact)
