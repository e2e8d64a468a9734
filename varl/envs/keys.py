"""The random keys in an environment's state: found by what `step` does with them, and drawn anew."""

from typing import Any

import jax
from jax.extend.core import ClosedJaxpr

from varl.envs import flow
from varl.envs.contract import Book
from varl.types import Array, Key


def find(resets: ClosedJaxpr, steps: ClosedJaxpr, state: Any, book: Book, *, repeats: bool) -> tuple[int, ...]:
  """The keys that the noise of an episode is drawn with.

  A leaf of the state is a key where `reset` makes it of its own key, and it is a typed one, or plain integers
  `uint32[..., n]` that `step` draws with as they are. So two counters are none, whatever their dtype and shape. An
  integer that `reset` draws and `step` makes its keys of is a seed: nobody knows how to draw another one.

  Args:
    resets: the jaxpr of `reset`, whose one input is its key.
    steps: the jaxpr of `step`, whose inputs are the leaves of `state` and the action.
    state: the state, as shapes.
    book: takes down noise that no such key is behind.
    repeats: whether first states are copied, so that a seed's noise would be repeated; then it breaks the contract.

  Returns:
    The numbers of the leaves that are keys.
  """
  if not flow.is_random(steps):
    return ()
  leaves, names = jax.tree.leaves(state), leaf_names(state)
  through = flow.follow(steps)
  drawn = {n for n, output in enumerate(flow.follow(resets).outputs) if output.of}
  typed = {n for n, leaf in enumerate(leaves) if flow.is_key(leaf)}
  plain = {n for n in through.keys - typed if leaves[n].ndim and leaves[n].shape[-1] in _widths()}
  keys = drawn & (typed | plain)

  alone = [draw for draw in through.draws if not draw & keys]
  seeds = [names[n] for n in sorted((through.seeds | through.keys) & drawn) if any(n in draw for draw in alone)]
  if seeds:
    (book.broken if repeats else book.note)(
      "keys",
      f"state{seeds[0]} of {book.who}, which reset draws, seeds the noise of step: all copies of a first state live "
      'the same noise; keep a random key (of jax.random.split) in its place, or take reset="fresh"',
    )
  if any(not draw & drawn for draw in alone):
    book.note("keys", f"step of {book.who} draws with a key that no reset changes: every episode has the same noise")
  still = {n for n, output in enumerate(through.outputs) if output.is_one == output.of == {n}}
  for n in sorted(keys):
    if any(n in draw and draw <= still for draw in through.draws):
      book.note(
        "keys", f"step of {book.who} never advances state{names[n]}: all steps of an episode have the same noise"
      )
  return tuple(sorted(keys))


def renew(states: Any, numbers: tuple[int, ...], key: Key) -> Any:
  """States whose keys are drawn anew, for copies of one first state would live the same noise otherwise.

  Args:
    states: a tree; its leaves of these numbers are keys, typed ones or legacy ones.
    numbers: of `find`.
    key: consumed.
  """
  leaves, structure = jax.tree.flatten(states)
  for number in numbers:
    leaves[number] = _like(leaves[number], jax.random.fold_in(key, number))
  return jax.tree.unflatten(structure, leaves)


def of_implementation(keys: Key, name: Any = None) -> Key:
  """Typed keys of the random number generator of that name, by default JAX's default one, for typed keys of any.

  Keys of that generator are themselves, others are consumed: each draws the data of its successor.
  """
  like = jax.eval_shape(lambda: jax.random.key(0, impl=name))
  if keys.dtype == like.dtype:
    return keys
  shape = jax.eval_shape(jax.random.key_data, like).shape
  data = jax.vmap(lambda key: jax.random.bits(key, shape, "uint32"))(keys.reshape(-1))
  return jax.random.wrap_key_data(data.reshape(*keys.shape, *shape), impl=name)


def legacy(keys: Key) -> Array:
  """Typed keys as what `Environment.reset` takes: `uint32[..., k]`, the data of keys of JAX's default generator."""
  return jax.random.key_data(of_implementation(keys))


def leaf_names(tree: Any) -> list[str]:
  """The leaves' paths, such as `.info['rng']`."""
  return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _like(old: Any, key: Key) -> Any:
  """As many new keys as `old` holds, of its implementation."""
  if flow.is_key(old):
    return of_implementation(jax.random.split(key, old.shape), jax.random.key_impl(old))
  if old.shape[-1] != legacy(jax.random.key(0)).shape[-1]:  # of another generator than JAX's default one
    return jax.random.bits(key, old.shape, "uint32").astype(old.dtype)
  return legacy(jax.random.split(key, old.shape[:-1])).astype(old.dtype)


def _widths() -> tuple[int, ...]:
  """How many integers a legacy key may be: threefry's and rbg's."""
  return tuple(jax.random.key_data(jax.random.key(0, impl=name)).shape[-1] for name in ("threefry2x32", "rbg"))
