"""What is often given in an environment's place, recognised without importing where it comes from; and the way out."""

import types
from collections.abc import Iterator, Mapping
from inspect import getattr_static
from typing import Any

NEEDED = ("reset", "step", "observation_size", "action_size")
"""What an environment cannot lack."""

_BATCHES = ("VmapWrapper", "DomainRandomizationVmapWrapper", "BraxDomainRandomizationVmapWrapper", "MadronaWrapper")
_RESETS = ("AutoResetWrapper", "BraxAutoResetWrapper")
_WRITERS = ("brax.", "mujoco_playground.")


def no_environment(env: Any) -> str | None:
  """Why `env` is not one environment, and what to give in its place; None where it may be one."""
  who = type(env).__name__
  if env is None:
    return "None is no environment (a factory without a return?)"
  if isinstance(env, str):
    return f"{env!r} is a name and no environment: varl.envs.make({env!r}) makes one of it"
  if isinstance(env, type):
    return f"{env.__name__} is a class and no environment: call it, {env.__name__}(...)"
  if isinstance(env, types.ModuleType):
    return f"{env.__name__} is a module and no environment: give an object made of what is in it"
  if isinstance(env, tuple) and len(env) == 2 and _is_gymnax(env[0]):
    return "a pair of gymnax's environment and its parameters is no environment: varl.envs.gymnax.Gymnax(env, params)"
  if isinstance(env, Mapping | list | tuple | set) and not _offers(env, "reset"):
    return f"a {who} is no environment: give one environment, not several, nor spaces"
  if _has_class(env, "VectorEnv", "varl."):
    return "a VectorEnv is a batch of environments: give the one that it was made of, its .env"
  if callable(env) and not _offers(env, "reset"):
    return (
      f"{getattr(env, '__name__', who)} is a function and no environment: call it, or give varl.envs.register its name"
    )
  missing = [name for name in NEEDED if not _offers(env, name)]
  return f"{who} is no environment: it lacks {', '.join(missing)}; {_way_out(env)}" if missing else None


def single(env: Any) -> None:
  """Nothing, where `env` may be one environment.

  Raises:
    ValueError: it is none: a name, a class, several of them.
  """
  if wrong := no_environment(env):
    raise ValueError(wrong)


def wrapped_wrongly(env: Any) -> str | None:
  """What known wrappers around an environment do that is the loop's business; None where there are none.

  Brax's `EpisodeWrapper` is not among them: it says in `info["truncation"]` what its time limit is.
  """
  layers = list(_layers(env))
  doing = {
    "batches environments": [name for layer in layers if (name := _has_class(layer, _BATCHES, _WRITERS))],
    "resets inside step, which loses each episode's last observation": [
      name for layer in layers if (name := _has_class(layer, _RESETS, _WRITERS))
    ],
  }
  said = [f"{names[0]} {what}" for what, names in doing.items() if names]
  if not said:
    return None
  return (
    f"{' and '.join(said)}: varl does both itself, so give the environment inside them "
    "(for Brax brax.envs.get_environment or brax.envs.create(..., auto_reset=False), without training.wrap)"
  )


def repeats(env: Any) -> int:
  """How often a known wrapper repeats each action; 0 where none does."""
  counts = (getattr(x, "action_repeat", 1) for x in _layers(env) if _has_class(x, "EpisodeWrapper", _WRITERS))
  return max((count for count in counts if count > 1), default=0)


def attribute(env: Any, name: str) -> Any:
  """The attribute, where it is a plain value; None where it is missing or computed."""
  value = getattr_static(env, name, None)
  return None if hasattr(value, "__get__") else value


def _way_out(env: Any) -> str:
  """Where an object that lacks something most likely comes from, and what to do with it."""
  if _is_gymnax(env):
    return 'for environments of gymnax give the name "gymnax:ID", or varl.envs.gymnax.Gymnax(env, params)'
  if _offers(env, "possible_agents"):
    return "PettingZoo's environments have several agents and are not functions of JAX; varl takes one agent's"
  if _offers(env, "action_space") and _offers(env, "observation_space"):
    return (
      "environments with Gymnasium's interface are not functions of JAX, so that varl cannot compile them: use a JAX "
      'version ("gymnax:ID", one of Brax\'s), write reset(rng) and step(state, action) with jax.numpy, or let it step '
      'on the host, as "gymnasium:ID" or varl.envs.gymnasium.Gymnasium(factory)'
    )
  if _offers(env, "action_spec") and _offers(env, "observation_spec"):
    return (
      "environments with the interface of dm_env give time steps, not states: write reset(rng) and "
      "step(state, action), pure functions of JAX, around it"
    )
  return "needed are reset(rng), step(state, action), observation_size and action_size, as in Brax's Env"


def _layers(env: Any) -> Iterator[Any]:
  """`env` and what it wraps, outermost first."""
  seen: list[Any] = []
  while env is not None and not any(env is other for other in seen):
    seen.append(env)
    yield env
    held = getattr(env, "__dict__", {})
    env = held.get("env", held.get("_env"))


def _is_gymnax(env: Any) -> bool:
  return all(_offers(env, name) for name in ("reset_env", "step_env", "default_params"))


def _offers(env: Any, name: str) -> bool:
  """Whether `env` has the attribute; where that can be told without, it is not read, since Brax's may take a reset."""
  passes_on = hasattr(type(env), "__getattr__")
  layers = _layers(env) if passes_on else (env,)
  found = any(getattr_static(layer, name, None) is not None for layer in layers)
  return found or (passes_on and hasattr(env, name))


def _has_class(env: Any, names: str | tuple[str, ...], modules: str | tuple[str, ...]) -> str | None:
  """The first class of `env` that has one of the names and is from one of the modules (prefixes)."""
  names = (names,) if isinstance(names, str) else names
  found = (c.__name__ for c in type(env).__mro__ if c.__name__ in names and c.__module__.startswith(modules))
  return next(found, None)
