"""From a name, or an object, to an environment."""

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from varl.checks import imported
from varl.envs import catalog

if TYPE_CHECKING:
  from varl.envs.base import Environment

_FACTORIES: dict[str, Callable[..., "Environment"]] = {}


def names() -> tuple[str, ...]:
  """Every name that `make` takes: the catalog's, then the registered ones."""
  return tuple(dict.fromkeys((*catalog.CATALOG, *_FACTORIES)))


def register(name: str, factory: Callable[..., "Environment"], *, overwrite: bool = False) -> None:
  """Makes `make(name, ...)` call `factory`.

  Args:
    name: any name without a colon.
    factory: called with the keyword arguments of `make`, and `backend` where one was given; returns an environment.
    overwrite: whether `name` may replace a name that is known already.

  Raises:
    ValueError: the name is taken or malformed, or the factory cannot be called.
  """
  if not isinstance(name, str) or not name or ":" in name:
    raise ValueError(f"an environment's name is a non-empty string without a colon; got {name!r}")
  if not callable(factory):
    raise ValueError(f"factory of {name!r} must be callable; got {type(factory).__name__}")
  if name in names() and not overwrite:
    raise ValueError(f"environment {name!r} exists already; pass overwrite=True to replace it")
  _FACTORIES[name] = factory


def check_name(name: str, backend: str | None = None) -> None:
  """Checks what `make` was asked for before anything heavy is imported.

  A registered name, "gymnax:...", "playground:...", "gymnasium:..." and "package.module:factory" pass with any backend:
  who makes them judges it.

  Raises:
    ValueError: as `varl.envs.catalog.check_name`, with the registered names among those offered.
  """
  if name in _FACTORIES:
    return
  if ":" in name:
    if lacks := catalog.missing(name):
      raise ValueError(f"environment {name!r} {lacks}")
    return
  if name not in catalog.CATALOG:
    raise catalog.unknown_name(name, names())
  catalog.check_name(name, backend)


def make(env: "str | Environment", backend: str | None = None, **kwargs: Any) -> "Environment":
  """An environment, checked.

  Args:
    env: a name of `names()`; or "gymnax:", "playground:" or "gymnasium:" and the name of any environment of theirs; or
      "package.module:factory", imported and called; or an environment, returned as it is.
    backend: Brax's physics backend; None for the environment's own default, which is "generalized" for all of Brax's.
    **kwargs: for the environment's constructor or factory.

  Returns:
    One environment (`varl.envs.vectorize` makes a batch of it).

  Raises:
    ValueError: an unknown name or backend, a package that is not installed, a factory that cannot be imported, or an
      environment that is none.
  """
  from varl.envs import trace

  made = build(env, backend, **kwargs)
  if not isinstance(env, str) or env not in catalog.CATALOG or env in _FACTORIES:
    try:
      trace.spec(made)
    except ValueError as error:
      raise ValueError(f"environment {env!r}: {error}" if isinstance(env, str) else str(error)) from error
  return made


def build(env: "str | Environment", backend: str | None = None, **kwargs: Any) -> "Environment":
  """What `make` makes, whatever it is: not checked. Arguments and errors are `make`'s."""
  from varl.envs import fluid

  if isinstance(env, str):
    check_name(env, backend)
    made = _named(env, backend, kwargs)
  elif backend is None and not kwargs:
    made = env
  else:
    given = ", ".join((["backend"] if backend is not None else []) + list(kwargs))
    raise ValueError(f"an environment that is made already takes no further arguments; got {given}")
  fluid.mend()
  return made


def _named(name: str, backend: str | None, kwargs: dict[str, Any]) -> "Environment":
  """The environment of a name that passes `check_name`."""
  if name.startswith(catalog.GYMNASIUM):
    if backend is not None:
      raise ValueError(f"{name} has no physics backend to choose; got backend {backend!r}")
    return importlib.import_module("varl.envs.gymnasium").make(name.removeprefix(catalog.GYMNASIUM), **kwargs)
  if name.startswith(catalog.PLAYGROUND):
    return importlib.import_module("varl.envs.playground").make(
      name.removeprefix(catalog.PLAYGROUND), backend, **kwargs
    )
  if name in _FACTORIES or (":" in name and not name.startswith(catalog.GYMNAX)):
    return _call(name, kwargs if backend is None else {"backend": backend, **kwargs})
  entry = catalog.CATALOG.get(name)
  source = name if entry is None else entry.source
  if entry is None or source.startswith(catalog.GYMNAX):
    if backend is not None:
      raise ValueError(f"{name} has no physics backend to choose; got backend {backend!r}")
    return importlib.import_module("varl.envs.gymnax").make(source.removeprefix(catalog.GYMNAX), **kwargs)
  if source == "brax":
    return _make_brax(name, backend or entry.backends[0], kwargs)
  module, _, factory = source.partition(".")
  return getattr(importlib.import_module(f"varl.envs.{module}"), factory)(**kwargs)


def _call(name: str, kwargs: dict[str, Any]) -> "Environment":
  """What a registered factory, or one "package.module:factory", makes."""
  factory = _FACTORIES[name] if name in _FACTORIES else _import(name)
  try:
    return factory(**kwargs)
  except ValueError:
    raise
  except Exception as error:
    raise ValueError(f"the factory of environment {name!r} raised {type(error).__name__}: {error}") from error


def _import(name: str) -> Callable[..., "Environment"]:
  """The factory "package.module:factory"."""
  factory: Any = imported(name, "environment")
  if not callable(factory):
    raise ValueError(f"environment {name!r} must name a class or function; got {type(factory).__name__}")
  return factory


def _make_brax(name: str, backend: str, kwargs: dict[str, Any]) -> "Environment":
  with _without_lines("Failed to import warp:", "Failed to import mujoco_warp:"):
    envs = importlib.import_module("brax.envs")
  with _without_mujoco_warning("'settotalmass' is deprecated"), warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Brax System, piplines and environments are not actively", UserWarning)
    return envs.get_environment(name, backend=backend, **kwargs)


@contextlib.contextmanager
def _without_lines(*starts: str) -> Iterator[None]:
  """Leaves out the lines printed to stdout that start with one of `starts`: MuJoCo prints that it found no Warp."""
  printed = io.StringIO()
  try:
    with contextlib.redirect_stdout(printed):
      yield
  finally:
    sys.stdout.write("".join(x for x in printed.getvalue().splitlines(keepends=True) if not x.startswith(starts)))


@contextlib.contextmanager
def _without_mujoco_warning(known: str) -> Iterator[None]:
  """Leaves out MuJoCo's warnings that contain `known`; others become Python warnings.

  MuJoCo writes its warnings from C, and to a file in the working directory, unless a handler is installed.
  """
  mujoco = importlib.import_module("mujoco")
  before = mujoco.get_mju_user_warning()
  messages: list[str] = []
  mujoco.set_mju_user_warning(messages.append)
  try:
    yield
  finally:
    mujoco.set_mju_user_warning(before)
  for message in messages:
    if known not in message:
      warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=4)
