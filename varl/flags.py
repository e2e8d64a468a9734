"""Command-line flags, among them one for each field of a dataclass, and a parser whose every error is one line.

Importing this imports nothing heavy.
"""

import argparse
import dataclasses
import decimal
import enum
import inspect
import pathlib
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from varl.checks import counts, nearest


class Reader(NamedTuple):
  """How the text of a value is read.

  Attributes:
    metavar: what help shows in the value's place.
    what: what the value is, to complete "--flag is ...".
    read: the value of a text; raises ValueError where it is none.
  """

  metavar: str
  what: str
  read: Callable[[str], Any]


class Parser(argparse.ArgumentParser):
  """argparse, stricter: no abbreviations, each flag at most once, `_` read as `-`, and errors as one line each.

  A text of several lines, such as examples, is shown as it stands.
  """

  def __init__(self, **kwargs: Any) -> None:
    super().__init__(allow_abbrev=False, formatter_class=_Formatter, **kwargs)
    self.register("action", None, _Store)
    self.register("action", "store", _Store)
    self.register("action", "store_true", _StoreTrue)

  def error(self, message: str) -> typing.NoReturn:
    """Raises ValueError with argparse's message in this package's words."""
    for pattern, words in _WORDS:
      message = re.sub(pattern, words, message)
    raise ValueError(f"{self.prog} {message}" if message.startswith("needs ") else message)

  def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
    return super().parse_known_args(self._spelled(args), namespace)

  def parse(self, tokens: Sequence[str]) -> argparse.Namespace:
    """What the tokens say; `given` in it holds the names of the flags that they name.

    Raises:
      ValueError: an unknown flag (the nearest are offered), one without its value or given twice, or a value that is
        none.
    """
    tokens = self._spelled(tokens)
    found, unread = self.parse_known_args(tokens)
    if unread:
      self.error(self._unexpected(unread[0], tokens))
    return found

  def values(self, flag: str) -> int | None:
    """How many values a flag takes: 0, 1, or None where it takes any number or is not known."""
    action = self._option_string_actions.get(flag)
    return None if action is None or action.nargs == "*" else 1 if action.nargs is None else 0

  def _spelled(self, tokens: Sequence[str]) -> list[str]:
    """The tokens with flags as they are declared, and each negative number joined to its flag by `=`."""
    spelled: list[str] = []
    for token in tokens:
      if token.startswith("--"):
        name, equals, value = token.partition("=")
        token = name.replace("_", "-") + equals + value
      if _NEGATIVE.fullmatch(token) and spelled and self.values(spelled[-1]) == 1:
        spelled[-1] += f"={token}"
      else:
        spelled.append(token)
    return spelled

  def _unexpected(self, token: str, tokens: list[str]) -> str:
    """What is wrong with a token that no flag takes."""
    flags = self._option_string_actions
    if token.startswith("-") and token != "-":
      name = token.partition("=")[0]
      return f"unknown flag {name}{nearest(name, flags) or f'; `{self.prog} --help` lists them'}"
    before = tokens[tokens.index(token) - 1] if tokens.index(token) else ""
    if before in flags and self.values(before) == 0:
      both = " or ".join(flags[before].option_strings)
      return f"{before} takes no value, got {token!r}" + (f"; give {both}" if both != before else "")
    name, equals, _value = token.partition("=")
    return f"unexpected argument {token!r}{nearest('--' + name.replace('_', '-'), flags) if equals else ''}"


_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan).*", re.IGNORECASE)
_WORDS = (
  (r"^argument ([^:]*): (is|takes|needs) ", r"\1 \2 "),
  (r"^argument ([^:]*): expected one argument$", r"\1 needs a value"),
  (r"^argument ([^:]*): ignored explicit argument (.*)$", r"\1 takes no value, got \2"),
  (r"^the following arguments are required: (.*)$", r"needs \1"),
  (r"^argument ([^:]*): ", r"\1: "),
)


class _Formatter(argparse.HelpFormatter):
  """Help with room for long flags; texts of several lines stay as they are."""

  def __init__(self, prog: str, **kwargs: Any) -> None:
    super().__init__(prog, max_help_position=28, **kwargs)

  def _fill_text(self, text: str, width: int, indent: str) -> str:
    return text if "\n" in text else super()._fill_text(text, width, indent)


def _once(action: argparse.Action, namespace: argparse.Namespace) -> None:
  """Notes that a flag was given; raises where it was before."""
  given = namespace.__dict__.setdefault("given", set())
  if action.dest in given and action.option_strings:
    raise argparse.ArgumentError(action, "is given twice")
  given.add(action.dest)


class _Store(argparse.Action):
  """Stores a value."""

  def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
    _once(self, namespace)
    setattr(namespace, self.dest, values)


class _StoreTrue(argparse.Action):
  """Stores True."""

  def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
    super().__init__(option_strings, dest, nargs=0, default=False, help=help)

  def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
    _once(self, namespace)
    setattr(namespace, self.dest, True)


class _Switch(argparse.Action):
  """Stores True for its first name and False for its second, `--no-...`."""

  def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
    _once(self, namespace)
    setattr(namespace, self.dest, option_string == self.option_strings[0])


class _Several(argparse.Action):
  """Stores the values of several words and of words divided by commas."""

  def __init__(self, *args: Any, optional: bool, **kwargs: Any) -> None:
    super().__init__(*args, **kwargs)
    self.optional = optional

  def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
    _once(self, namespace)
    values = tuple(value for word in values for value in word)
    setattr(namespace, self.dest, None if self.optional and values == (None,) else values)


# Values


def whole(text: str) -> int:
  """A whole number in digits, with `_` between them or an exponent: 100000, 1_000_000, 1e5."""
  try:
    number = decimal.Decimal(text)
  except decimal.InvalidOperation:
    raise ValueError(text) from None
  if not number.is_finite() or number.adjusted() > 18 or number != number.to_integral_value():
    raise ValueError(text)
  return int(number)


def _none(text: str) -> None:
  if text.lower() != "none":
    raise ValueError(text)


def _truth(text: str) -> bool:
  if text.lower() not in ("true", "false"):
    raise ValueError(text)
  return text.lower() == "true"


_READERS = {
  types.NoneType: Reader("none", "none", _none),
  bool: Reader("true|false", "true or false", _truth),
  int: Reader("N", "a whole number (such as 1000, 1_000 or 1e3)", whole),
  float: Reader("X", "a number", float),
  pathlib.Path: Reader("PATH", "a path", pathlib.Path),
  str: Reader("TEXT", "a text", str),
}
"""By type; the members of a union are tried in this order."""


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
  """The `type` of a flag that takes a whole number from `low` to `high`, `high` itself excluded."""

  def read(text: str) -> int:
    try:
      value = whole(text)
    except ValueError:
      value = low - 1
    if value < low or (high is not None and value >= high):
      raise argparse.ArgumentTypeError(f"is {counts(low, high)}, got {text!r}")
    return value

  return read


def reader(hint: Any) -> Reader | None:
  """How values of a type are read; None where flags cannot give such values."""
  if hint in _READERS:
    return _READERS[hint]
  if typing.get_origin(hint) is typing.Literal:
    return _choice({str(value): value for value in typing.get_args(hint)})
  if isinstance(hint, type) and issubclass(hint, enum.Enum):
    return _choice({member.name: member for member in hint})
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return _union(typing.get_args(hint))
  return None


def _choice(values: dict[str, Any]) -> Reader:
  def read(text: str) -> Any:
    if text not in values:
      raise ValueError(text)
    return values[text]

  return Reader("|".join(values), f"one of {', '.join(values)}", read)


def _union(hints: Iterable[Any]) -> Reader | None:
  order = list(_READERS)
  hints = sorted(hints, key=lambda hint: order.index(hint) if hint in order else 1)
  readers = [reader(hint) for hint in hints]
  known = [found for found in readers if found is not None]
  if len(known) < len(readers):
    return None

  def read(text: str) -> Any:
    for found in known:
      try:
        return found.read(text)
      except ValueError:
        pass
    raise ValueError(text)

  named = [*known[1:], known[0]] if known[0] is _READERS[types.NoneType] else known
  return Reader("|".join(x.metavar for x in named), " or ".join(x.what for x in named), read)


def _members(hint: Any) -> tuple[Any, bool] | None:
  """The type of the members of `tuple[X, ...]`, and whether the hint allows None beside it; None for other hints."""
  parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
  found = [part for part in parts if part is not types.NoneType]
  if len(found) != 1 or typing.get_origin(found[0]) is not tuple:
    return None
  arguments = typing.get_args(found[0])
  return (arguments[0], len(parts) > 1) if len(arguments) == 2 and arguments[1] is ... else None


# Fields


def add_fields(parser: Parser, config: Any, title: str) -> None:
  """Adds a flag for each field of a dataclass, in a group of its own; fields of types that no text gives have none.

  Args:
    parser: takes the flags.
    config: an instance; its values are shown as the defaults.
    title: of the group in help.
  """
  group = parser.add_argument_group(title)
  texts, hints = attributes(type(config)), _hints(type(config))
  for field in dataclasses.fields(config):
    if not field.init:
      continue
    value = getattr(config, field.name)
    flag = "--" + field.name.replace("_", "-")
    shown = f"{texts.get(field.name, '')} (default: {_shown(value)})".strip().replace("%", "%%")
    hint = hints.get(field.name, type(value))
    several = _members(hint)
    found = reader(hint if several is None else several[0])
    if hint is bool:
      names = (flag, "--no-" + flag.removeprefix("--"))
      group.add_argument(*names, dest=field.name, action=_Switch, nargs=0, help=shown, default=value)
    elif found is not None and several is None:
      group.add_argument(flag, type=_typed(found), metavar=found.metavar, help=shown, default=value)
    elif found is not None and several is not None:
      group.add_argument(
        flag, type=_words(found, several[1]), metavar=found.metavar, nargs="*", help=shown, default=value,
        action=_Several, optional=several[1],
      )  # fmt: skip


def attributes(cls: type) -> dict[str, str]:
  """What the docstrings of a class and of those that it extends say of each attribute, in their `Attributes:`."""
  found: dict[str, str] = {}
  for part in reversed(cls.__mro__):
    _, _, section = inspect.cleandoc(part.__dict__.get("__doc__") or "").partition("Attributes:\n")
    indent = len(section) - len(section.lstrip(" "))
    names: list[str] = []
    for line in section.splitlines():
      depth = len(line) - len(line.lstrip(" "))
      if line and depth < indent:
        break
      entry = re.match(r" *(\w+(?:, *\w+)*): *(.*)", line) if depth == indent else None
      if entry:
        names = re.split(", *", entry[1])
        found |= dict.fromkeys(names, entry[2])
      elif line:
        found |= {name: f"{found[name]} {line.strip()}" for name in names}
  return found


def _hints(cls: type) -> dict[str, Any]:
  try:
    return typing.get_type_hints(cls)
  except Exception:  # an annotation may be any expression, of names that are not here
    return {}


def _typed(found: Reader) -> Callable[[str], Any]:
  def read(text: str) -> Any:
    try:
      return found.read(text)
    except ValueError:
      raise argparse.ArgumentTypeError(f"is {found.what}, got {text!r}") from None

  return read


def _words(found: Reader, optional: bool) -> Callable[[str], Any]:
  """Reads the members in one word, divided by commas or white space; `none` as `(None,)` where that is allowed."""

  def read(text: str) -> tuple[Any, ...]:
    if optional and text.lower() == "none":
      return (None,)
    try:
      return tuple(found.read(part) for part in text.replace(",", " ").split())
    except ValueError:
      what = found.what.removeprefix("a ")
      raise argparse.ArgumentTypeError(f"takes values such as 64,64 or 64 64, each a {what}, got {text!r}") from None

  return read


def _shown(value: Any) -> str:
  """A default as its flag takes it."""
  if isinstance(value, bool):
    return "on" if value else "off"
  if isinstance(value, tuple):
    return " ".join(map(_shown, value)) or "no value"
  return "none" if value is None else value.name if isinstance(value, enum.Enum) else str(value)
