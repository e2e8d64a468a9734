"""Episodes, and as a page that a browser plays, offline: for Brax environments, through Brax's HTML viewer."""

import base64
import html
import importlib.resources
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable
from typing import Any

from varl import checks, files

GENERATOR = '<meta name="generator" content="varl">'
"""What says of a page that varl wrote it."""
_VENDORED = {
  "three": "three.module.min.js",
  "three/addons/controls/OrbitControls.js": "OrbitControls.js",
  "lilgui": "lil-gui.esm.min.js",
}
"""The modules that Brax's viewer imports, by the names it has for them, and where `viewer/` holds each."""
_FROM = re.compile(r"""(\bfrom\s*|\bimport\s*\(?\s*)(["'])([\w@./-]+)\2""")
"""A module that a script imports."""


def innermost(env: Any) -> Any:
  """The environment that draws what `env` wraps."""
  while True:
    if hasattr(type(env), "inner"):
      env = env.env
    elif getattr(env, "unwrapped", env) is not env:
      env = env.unwrapped
    else:
      return env


def resolve(env: Any, state: Any) -> tuple[Any, Any]:
  """The environment that draws what `env` wraps, and its own part of a state of `env`."""
  while hasattr(type(env), "inner"):
    env, state = env.inner(state)
  return innermost(env), state


def brax_of(env: Any) -> Any:
  """The Brax environment that `env` is or wraps.

  Raises:
    ValueError: it is none.
  """
  inner = innermost(env)
  if not (hasattr(inner, "sys") and hasattr(inner, "pipeline_step")):
    name = type(inner).__name__
    raise ValueError(
      f"a page is of a Brax environment (brax.envs.PipelineEnv, and wrappers of it), not of {name}; FILE.gif and "
      "FILE.mp4 are of whatever can be drawn"
    )
  return inner


def episode(
  env: Any,
  policy: Callable[..., Any],
  key: Any,
  episode_length: int,
  *,
  action_repeat: int = 1,
  carry: Any = None,
) -> tuple[list[Any], float]:
  """Runs one episode and keeps every state. One jitted scan.

  Args:
    env: one environment, not a batch.
    policy: `(obs [observation_size], key) -> action [action_size]`, the action as `env.step` takes it; with a `carry`,
      `(carry, obs, key) -> (action, carry)`.
    key: consumed; gives the first state, and a key a step to the policy.
    episode_length: the time limit, in environment steps.
    action_repeat: environment steps that an action is held for.
    carry: the policy's memory at the start; None: it has none.

  Returns:
    The states from the reset to the end of the episode, both included: `1 + steps` of them, host arrays; and the
    episode's return.

  Raises:
    ValueError: a count below 1.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  from varl.envs import keys

  episode_length = checks.whole("episode_length", episode_length)
  action_repeat = checks.whole("action_repeat", action_repeat)

  def choose(memory: Any, obs: Any, key: Any) -> Any:
    return (policy(obs, key), memory) if carry is None else policy(memory, obs, key)

  def numbers(state: Any) -> Any:  # keys of another kind than arrays are nothing to look at
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, state)

  @jax.jit
  def run(key: Any) -> Any:
    reset_key, act_key = jax.random.split(key)
    first = jax.tree.map(jnp.asarray, env.reset(keys.legacy(reset_key)))

    def step(held: Any, time: Any) -> Any:
      state, memory, action = held
      chosen, later = choose(memory, state.obs, jax.random.fold_in(act_key, time))
      anew = time % action_repeat == 0
      action, memory = jax.tree.map(lambda x, y: jnp.where(anew, x, y), (chosen, later), (action, memory))
      following = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), env.step(state, action), state)
      return (following, memory, action), (numbers(following), following.reward, following.done)

    action = jax.eval_shape(choose, carry, first.obs, act_key)[0]
    start = (first, carry, jnp.zeros(action.shape, action.dtype))
    _, (states, rewards, dones) = jax.lax.scan(step, start, jnp.arange(episode_length))
    return numbers(first), states, rewards, dones

  first, states, rewards, dones = jax.device_get(run(key))
  length = int(np.argmax(dones > 0)) + 1 if np.any(dones > 0) else episode_length
  kept = [jax.tree.map(lambda x, at=at: x[at], states) for at in range(length)]
  return [first, *kept], float(np.sum(rewards[:length]))


def check_place(path: pathlib.Path) -> None:
  """Raises ValueError where `path` is a directory, or lies in what is none."""
  if path.is_dir():
    raise ValueError(f"{path} is a directory")
  above = next(parent for parent in path.absolute().parents if parent.exists())
  if not above.is_dir():
    raise ValueError(f"{path} cannot be written: {above} is no directory")


def check_path(
  path: str | os.PathLike[str],
  *,
  overwrite: bool = False,
  what: str = "an episode is rendered as a page FILE.html, or as a film FILE.gif or FILE.mp4",
) -> pathlib.Path:
  """Checks that a page can be written, and that it takes the place of nothing but a page.

  Args:
    path: the file.
    overwrite: whether any file may be replaced, and not only a page that varl wrote.
    what: the beginning of the message.

  Returns:
    The path.

  Raises:
    ValueError: its name does not end in .html, it is a directory or lies in a file, or another file has the name.
  """
  path = files.as_path(path)
  if path.suffix.lower() not in (".html", ".htm"):
    raise ValueError(f"{what}, got {str(path)!r}")
  check_place(path)
  if path.exists() and not overwrite:
    with open(path, encoding="utf-8", errors="replace") as file:
      if GENERATOR not in file.read(1000):
        raise ValueError(f"{path} exists and is no page of varl's; overwrite (--overwrite) replaces it")
  return path


def page(
  env: Any, states: list[Any], path: str | os.PathLike[str], *, title: str = "", overwrite: bool = False
) -> pathlib.Path:
  """Writes states as an HTML page that plays them in real time.

  The page holds the states and every script that it runs, so that it needs no network.

  Args:
    env: the Brax environment that the states are of, or what wraps it.
    states: one a time step `env.dt`, as `episode` returns them.
    path: the file; its directory is created where it does not exist.
    title: what the browser shows as the page's name; by default the environment's.
    overwrite: as in `check_path`.

  Returns:
    The path.

  Raises:
    ValueError: no Brax environment, no states, a shape that Brax's viewer cannot draw, or as in `check_path`.
    OSError: the file cannot be written.
  """
  inner = brax_of(env)
  if not states:
    raise ValueError("there are no states to render")
  path = check_path(path, overwrite=overwrite)
  import brax.io.json

  # The viewer advances by the system's time step, but the states are a whole environment step apart.
  system = inner.sys.tree_replace({"opt.timestep": inner.dt})
  try:
    played = brax.io.json.dumps(system, [resolve(env, state)[1].pipeline_state for state in states])
  except KeyError as error:
    raise ValueError(
      f"Brax's viewer cannot draw a shape of {type(inner).__name__}: MuJoCo's geometry type {error.args[0]}"
    ) from error
  text = importlib.resources.files("varl.report").joinpath("viewer", "page.html").read_text(encoding="utf-8")
  values = {
    "title": html.escape(title or type(inner).__name__),
    "importmap": json.dumps({"imports": _modules()}),
    "episode": base64.b64encode(zlib.compress(played.encode())).decode("ascii"),
  }
  content = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(path, content.encode())
  return path


def _modules() -> dict[str, str]:
  """Every module of the viewer as a data URL, by the name under which it is imported."""
  viewer = importlib.resources.files("varl.report").joinpath("viewer")
  sources = {name: viewer.joinpath(file).read_text(encoding="utf-8") for name, file in _VENDORED.items()}
  for file in importlib.resources.files("brax").joinpath("visualizer", "js").iterdir():
    # A data URL has no directory that "./" could be.
    sources[f"brax/{file.name}"] = _FROM.sub(
      lambda match: f"{match[1]}{match[2]}{re.sub('^[.]/', 'brax/', match[3])}{match[2]}",
      file.read_text(encoding="utf-8"),
    )
  wanted = {match[3] for source in sources.values() for match in _FROM.finditer(source)}
  if not wanted <= sources.keys():
    missing = ", ".join(sorted(wanted - sources.keys()))
    raise RuntimeError(f"the viewer of the installed Brax imports {missing}, which varl does not bring")
  return {
    name: f"data:text/javascript;base64,{base64.b64encode(source.encode()).decode('ascii')}"
    for name, source in sources.items()
  }
