"""Checks that configurations and keys share, and names: the nearest to a mistyped one, imports. Importing it imports no
JAX."""

import dataclasses
import difflib
import importlib
import math
import numbers
import operator
import sys
from collections.abc import Iterable
from typing import Any

SEEDS = 2**32
"""How many seeds there are."""


KINDS = {"int": "a whole number", "float": "a number", "bool": "True or False", "str": "text", "tuple": "a tuple"}
"""What a field is, by its annotation."""


def kinds(config: Any) -> None:
  """Checks that the fields of a dataclass are what their annotations say: text, True or False, and None only where that
  is one of them. Of numbers, the range and so the kind is for `positive` and its like.

  Raises:
    ValueError: naming the field, what it is and what came.
  """
  for field in dataclasses.fields(config):
    allowed = _annotated(field)
    words = [KINDS.get(part, "") for part in allowed if part != "None"]
    value = plain(getattr(config, field.name))
    if value is None:
      fits = "None" in allowed
    else:
      fits = allowed not in (["bool"], ["str"]) or type(value).__name__ in allowed
    if not fits and all(words):
      raise ValueError(f"{field.name} is {' or '.join(words)}, got {_shown(value)}")


def numbers_of(config: Any) -> None:
  """Checks that the numbers among the fields of a dataclass are numbers, and whole ones where their annotations say so;
  traced arrays and None pass.

  Raises:
    ValueError: naming the field, what it is and what came.
  """
  for field in dataclasses.fields(config):
    allowed = [part for part in _annotated(field) if part != "None"]
    whole = allowed == ["int"]
    value = plain(getattr(config, field.name), whole=whole)
    if value is None or hasattr(value, "dtype") or allowed not in (["int"], ["float"]):
      continue
    if not _is_number(value) or math.isnan(value) or (whole and not isinstance(value, numbers.Integral)):
      raise ValueError(f"{field.name} is {KINDS['int' if whole else 'float']}, got {_shown(value)}")


def _annotated(field: dataclasses.Field[Any]) -> list[str]:
  """What a field may be, `["tuple", "None"]`."""
  kind: Any = field.type
  text = kind if isinstance(kind, str) else str(kind) if hasattr(kind, "__args__") else kind.__name__
  return [part.strip().partition("[")[0] for part in text.split("|")]


def positive(config: Any, *names: str, zero: bool = False, whole: bool = False) -> None:
  """Checks that fields are finite and positive (or zero); traced arrays pass, since their values are not known yet.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  allowed = ("a whole number" if whole else "a finite number") + (" >= 0" if zero else " > 0")
  for name in names:
    value = plain(getattr(config, name))
    if value is None or hasattr(value, "dtype"):
      continue
    number = float(value) if _is_number(value) else math.nan
    fits = math.isfinite(number) and (number >= 0 if zero else number > 0)
    if not fits or (whole and not isinstance(value, numbers.Integral)):
      raise ValueError(f"{name} is {allowed}, got {value!r}")


def unit_interval(config: Any, *names: str, lower_open: bool = False, upper_open: bool = False) -> None:
  """Checks that fields lie in the unit interval, its ends open or closed; traced arrays pass.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  for name in names:
    share(name, getattr(config, name), lower_open=lower_open, upper_open=upper_open)


def share(name: str, value: Any, *, lower_open: bool = False, upper_open: bool = False) -> None:
  """Checks that an argument lies in the unit interval, its ends open or closed; traced arrays and None pass.

  Raises:
    ValueError: naming the argument, its value and what is allowed.
  """
  number = plain(value)
  if number is None or hasattr(number, "dtype"):
    return
  fits = _is_number(number) and 0 <= number <= 1
  if not fits or (lower_open and number == 0) or (upper_open and number == 1):
    interval = f"{'(' if lower_open else '['}0, 1{')' if upper_open else ']'}"
    raise ValueError(f"{name} lies in {interval}, got {_shown(number)}")


def arguments(*, above: dict[str, Any] | None = None, least: dict[str, Any] | None = None) -> None:
  """Checks that arguments, by name, are numbers above 0 or at least 0; traced arrays and None pass.

  Raises:
    ValueError: naming the argument, its value and what is allowed.
  """
  for limited, words in ((above or {}, "above 0"), (least or {}, "at least 0")):
    for name, value in limited.items():
      number = plain(value)
      if number is None or hasattr(number, "dtype"):
        continue
      if not _is_number(number) or not (number >= 0 and (number > 0 or limited is least)):
        raise ValueError(f"{name} must be {words}, got {value!r}")


def whole(name: str, value: Any, *, least: int = 1, below: int | None = None) -> int:
  """A count as Python's int, from whatever is a whole number: NumPy's, JAX's, 1e5.

  Args:
    name: of the argument, for the message.
    value: what was given.
    least: the smallest that is allowed.
    below: what it must be smaller than; None: nothing.

  Raises:
    ValueError: it is something else, naming the argument, its value and what is allowed.
  """
  number = plain(value, whole=True)
  is_whole = isinstance(number, int) and not isinstance(number, bool)
  if not is_whole or number < least or (below is not None and number >= below):
    raise ValueError(f"{name} is {counts(least, below)}, got {_shown(value)}")
  return number


def counts(least: int, below: int | None = None) -> str:
  """What `whole` allows, in words."""
  if below is None:
    return f"a whole number >= {least}"
  return f"a whole number in [{least}, {'2^32' if below == SEEDS else below})"


def seed(value: Any, name: str = "seed") -> int:
  """The seed of a key, as `whole` gives it: in [0, 2^32).

  Raises:
    ValueError: it is none.
  """
  return whole(name, value, least=0, below=SEEDS)


def finite(name: str, value: Any) -> float:
  """A number as Python's float, NumPy's and JAX's too.

  Raises:
    ValueError: it is none, or not finite; naming the argument and its value.
  """
  number = plain(value)
  if not _is_number(number) or not math.isfinite(number):
    raise ValueError(f"{name} is a finite number, got {_shown(value)}")
  return float(number)


def _shown(value: Any) -> str:
  """What was given, on one line."""
  return " ".join(repr(value).split())[:80]


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def instance(given: Any, kind: type, what: str) -> None:
  """Checks that an argument is what it is taken for.

  Args:
    given: the argument.
    kind: its type.
    what: what it ought to be, for the message, with an article.

  Raises:
    ValueError: it is something else.
  """
  if not isinstance(given, kind):
    got = repr(given) if isinstance(given, str | int | float | type(None)) else f"a {type(given).__name__}"
    raise ValueError(f"{what} is needed here; got {got}")


def reachable(epsilon: Any, count: int, *, name: str, of: str) -> None:
  """Checks that weights of so many samples can diverge by ε from equal ones: at most by log count.

  Args:
    epsilon: ε in nats; a traced array or None passes.
    count: how many there are.
    name: of the count, in the message.
    of: what they are, in the message.

  Raises:
    ValueError: they cannot.
  """
  if isinstance(epsilon, int | float) and epsilon >= math.log(count):
    raise ValueError(
      f"epsilon must be below log {name} = {math.log(count):.6g}, the largest divergence that weights of {of} can "
      f"have; got {epsilon}"
    )


def key(value: Any) -> None:
  """Checks that a value is one typed key, of any generator.

  Raises:
    ValueError: it is a legacy key, a seed, several keys or anything else; the message says what makes it a key.
  """
  import jax

  shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
  if dtype is None:
    raise ValueError(f"a random key is made by jax.random.key(seed), got {value!r:.40}")
  given = f"{dtype}[{','.join(map(str, shape))}]"
  if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    legacy = "; jax.random.wrap_key_data makes a legacy key a typed one" if dtype == "uint32" and shape else ""
    raise ValueError(f"a random key is made by jax.random.key(seed), got {given}{legacy}")
  if shape:
    raise ValueError(f"one random key is needed, got {given}; jax.vmap goes over several")


def plain(value: Any, *, whole: bool = False) -> Any:
  """Numbers of NumPy and JAX as Python's, alone or in tuples and lists; all else, traced arrays too, as it is.

  Args:
    value: of a setting.
    whole: whether a float that is a whole number becomes an integer (`1e5`).
  """
  if type(value) in (tuple, list):
    return type(value)(plain(item, whole=whole) for item in value)
  if getattr(value, "shape", None) == () and hasattr(value, "dtype") and hasattr(value, "item"):
    jax = sys.modules.get("jax")  # where it is not imported, nothing is traced
    if jax is not None and isinstance(value, jax.core.Tracer):
      return value
    value = value.item()
  if whole and isinstance(value, float) and value.is_integer():
    return int(value)
  return value


def nearest(name: str, names: Iterable[str]) -> str:
  """`" (did you mean 'a' or 'b'?)"` with the names most like a mistyped one, or "" where none is."""
  close = difflib.get_close_matches(name, list(names), n=3)
  return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def imported(name: str, kind: str) -> Any:
  """What "package.module:attribute" names, or the module "package.module".

  Args:
    name: of it.
    kind: what it is to be, for the message.

  Raises:
    ValueError: it cannot be imported.
  """
  module_name, _, attribute = name.partition(":")
  try:
    module = importlib.import_module(module_name)
    return operator.attrgetter(attribute)(module) if ":" in name else module
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(f"cannot import {kind} {name!r} (package.module:factory): {error}") from error


def source_of(thing: Any) -> str:
  """The "package.module:attribute" that `imported` gives this very thing for; "" where there is none."""
  module_name, attribute = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
  if module_name in (None, "__main__") or not attribute:
    return ""
  try:
    found = operator.attrgetter(attribute)(sys.modules[module_name])
  except (KeyError, AttributeError):
    return ""
  return f"{module_name}:{attribute}" if found is thing else ""
