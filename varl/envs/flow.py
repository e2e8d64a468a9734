"""What the random numbers of a traced function are drawn with: its inputs, followed through its jaxpr."""

import functools
import operator
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_REARRANGES = frozenset(
  (
    *("broadcast_in_dim", "copy", "expand_dims", "gather", "reshape", "rev", "slice", "dynamic_slice", "squeeze"),
    *("transpose", "select_n", "convert_element_type", "optimization_barrier", "pvary", "sharding_constraint"),
    *("random_wrap", "random_unwrap", "random_clone"),
  )
)
"""Operations that move their first operand (`select_n`: one of its cases) and change none of its numbers."""

_RAW = {"threefry2x32": 2, "rng_bit_generator": 1}
"""Operations that make random bits of a key that is plain integers, and how many of their operands are the key."""


class Output(NamedTuple):
  """Where one output comes from.

  Attributes:
    of: numbers of the inputs that it depends on, in whatever way.
    is_one: numbers of the inputs that it may merely be, moved or in part.
  """

  of: frozenset[int]
  is_one: frozenset[int]


class Flow(NamedTuple):
  """What becomes of a function's inputs, which are numbered as they lie in its flat arguments.

  Attributes:
    outputs: one for each flat output.
    keys: inputs of plain integers that serve as random keys as they are.
    seeds: inputs that serve as seeds of new keys as they are.
    draws: the inputs that decide which random numbers are drawn, for each place where some are.
  """

  outputs: tuple[Output, ...]
  keys: frozenset[int]
  seeds: frozenset[int]
  draws: tuple[frozenset[int], ...]


def follow(closed: ClosedJaxpr) -> Flow:
  """Follows every input of a jaxpr to its outputs and to its random numbers.

  Branches are all taken and loops run until nothing changes, so that what is found covers any input. Operations that
  keep their program to themselves (kernels, implicit solvers) pass on what they get; what they draw is not seen.
  """
  walk = _Walk()
  ones = [1 << n for n in range(len(closed.jaxpr.invars))]
  outputs = walk.through(closed.jaxpr, [_Value(x, x) for x in ones])
  return Flow(
    tuple(Output(_numbers(of), _numbers(is_one)) for of, is_one in outputs),
    _numbers(walk.keys),
    _numbers(walk.seeds),
    tuple(_numbers(draw) for draw in sorted(walk.draws)),
  )


def operations(closed: ClosedJaxpr) -> set[str]:
  """The names of all operations in a jaxpr."""
  found: set[str] = set()

  def within(jaxpr: Jaxpr) -> None:
    for equation in jaxpr.eqns:
      found.add(equation.primitive.name)
      for inner in _inside(equation.params.values()):
        within(inner)

  within(closed.jaxpr)
  return found


def is_random(closed: ClosedJaxpr) -> bool:
  """Whether a jaxpr draws anything, or derives a key."""
  return any(name.startswith("random_") or name in _RAW for name in operations(closed))


class _Value(NamedTuple):
  """`Output` of an intermediate value, its sets as the bits of integers, which join fast."""

  of: int = 0
  is_one: int = 0


class _Walk:
  """One pass over a jaxpr and those inside it."""

  def __init__(self) -> None:
    self.keys = 0
    self.seeds = 0
    self.draws: set[int] = set()

  def through(self, jaxpr: Jaxpr, inputs: list[_Value]) -> list[_Value]:
    known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Value:
      return _Value() if isinstance(atom, Literal) else known.get(atom, _Value())

    for equation in jaxpr.eqns:
      known.update(zip(equation.outvars, self.one(equation, [read(x) for x in equation.invars]), strict=True))
    return [read(x) for x in jaxpr.outvars]

  def one(self, equation: Any, inputs: list[_Value]) -> list[_Value]:
    """The outputs of one equation; notes its keys and draws."""
    name, params = equation.primitive.name, equation.params
    if name == "scan":
      return self.scan(equation, inputs)
    if name == "while":
      return self.loop(params, inputs)
    if name == "cond":
      branches = [self.through(_open(branch), inputs[1:]) for branch in params["branches"]]
      return [_also(_join(outputs), inputs[0].of) for outputs in zip(*branches, strict=True)]
    inner = list(_inside(params.values()))
    if len(inner) == 1 and (len(inner[0].invars), len(inner[0].outvars)) == (len(inputs), len(equation.outvars)):
      return self.through(inner[0], inputs)

    if name == "random_wrap" or name in _RAW:
      self.keys |= functools.reduce(operator.and_, (value.is_one for value in inputs[: _RAW.get(name, 1)]))
    if name == "random_seed":
      self.seeds |= inputs[0].is_one
    if name in _RAW:
      self.draws.add(_join(inputs[: _RAW[name]]).of)
    # Whatever makes other numbers of a typed key draws them.
    keys = [value for value, atom in zip(inputs, equation.invars, strict=True) if is_key(atom.aval)]
    if keys and name != "random_unwrap" and not any(is_key(x.aval) for x in equation.outvars):
      self.draws.add(_join(keys).of)

    of = _join(inputs).of
    moved = inputs[1:] if name == "select_n" else inputs[:1]
    return [_Value(of, _join(moved).is_one if name in _REARRANGES else 0)] * len(equation.outvars)

  def scan(self, equation: Any, inputs: list[_Value]) -> list[_Value]:
    body = _open(equation.params["jaxpr"])
    # What is scanned over has an axis more outside than inside; so has what is stacked. The parameters that count them
    # have other names in each version of JAX.
    rows = sum(_axes(x) > _axes(y) for x, y in zip(equation.invars, body.invars, strict=True))
    count = sum(_axes(x) == _axes(y) for x, y in zip(equation.outvars, body.outvars, strict=True))
    first = len(inputs) - rows - count
    constants, carry, rest = inputs[:first], inputs[first : first + count], inputs[first + count :]
    while True:
      outputs = self.through(body, constants + carry + rest)
      after = [_join(pair) for pair in zip(carry, outputs, strict=False)]
      if after == carry:
        return carry + outputs[count:]
      carry = after

  def loop(self, params: dict[str, Any], inputs: list[_Value]) -> list[_Value]:
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    condition, constants, carry = inputs[:first], inputs[first:second], inputs[second:]
    while True:
      goes_on = self.through(_open(params["cond_jaxpr"]), condition + carry)[0]
      outputs = self.through(_open(params["body_jaxpr"]), constants + carry)
      after = [_also(_join(pair), goes_on.of) for pair in zip(carry, outputs, strict=True)]
      if after == carry:
        return carry
      carry = after


def is_key(leaf: Any) -> bool:
  """Whether an array, or what stands for one, is of typed random keys."""
  return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _axes(atom: Any) -> int:
  return len(atom.aval.shape)


def _open(jaxpr: Any) -> Jaxpr:
  """A jaxpr without its constants, where they come with it."""
  return getattr(jaxpr, "jaxpr", jaxpr)


def _inside(params: Iterable[Any]) -> Iterator[Jaxpr]:
  """The jaxprs among an equation's parameters."""
  for param in params:
    if isinstance(param, ClosedJaxpr | Jaxpr):
      yield _open(param)
    elif isinstance(param, tuple | list):
      yield from _inside(param)


def _join(values: Iterable[_Value]) -> _Value:
  of = is_one = 0
  for value in values:
    of |= value.of
    is_one |= value.is_one
  return _Value(of, is_one)


def _also(value: _Value, of: int) -> _Value:
  return _Value(value.of | of, value.is_one)


def _numbers(bits: int) -> frozenset[int]:
  return frozenset(n for n in range(bits.bit_length()) if bits >> n & 1)
