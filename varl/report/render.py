"""Episodes as a page that a browser plays: for Brax environments, through Brax's HTML viewer."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

from varl import files


def brax_of(env: Any) -> Any:
  """The Brax environment that `env` is or wraps.

  Raises:
    ValueError: it is none.
  """
  inner = getattr(env, "unwrapped", env)
  if not (hasattr(inner, "sys") and hasattr(inner, "pipeline_step")):
    name = type(inner).__name__
    raise ValueError(f"only Brax environments (brax.envs.PipelineEnv, and wrappers of it) can be rendered, not {name}")
  return inner


def episode(
  env: Any, policy: Callable[[Any, Any], Any], key: Any, episode_length: int, *, action_repeat: int = 1
) -> tuple[list[Any], float]:
  """Runs one episode and keeps every physics state. One jitted scan.

  Args:
    env: one Brax environment, not a batch.
    policy: `(obs [observation_size], key) -> action [action_size]`, the action as `env.step` takes it.
    key: consumed; gives the first state, and a key a step to the policy.
    episode_length: the time limit, in environment steps.
    action_repeat: environment steps that an action is held for.

  Returns:
    The pipeline states from the reset to the end of the episode, both included: `1 + steps` of them, host arrays; and
    the episode's return.

  Raises:
    ValueError: no Brax environment, or a count below 1.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  brax_of(env)
  if episode_length < 1 or action_repeat < 1:
    raise ValueError(f"episode_length and action_repeat are at least 1, got {episode_length} and {action_repeat}")

  @jax.jit
  def run(key: Any) -> Any:
    reset_key, act_key = jax.random.split(key)
    first = env.reset(jax.random.key_data(reset_key))  # Brax takes legacy keys

    def step(carry: Any, time: Any) -> Any:
      state, held = carry
      chosen = policy(state.obs, jax.random.fold_in(act_key, time))
      action = jnp.where(time % action_repeat == 0, chosen, held)
      state = env.step(state, action)
      return (state, action), (state.pipeline_state, state.reward, state.done)

    held = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(policy, first.obs, act_key))
    _, (states, rewards, dones) = jax.lax.scan(step, (first, held), jnp.arange(episode_length))
    return first.pipeline_state, states, rewards, dones

  first, states, rewards, dones = jax.device_get(run(key))
  length = int(np.argmax(dones > 0)) + 1 if np.any(dones > 0) else episode_length
  kept = [jax.tree.map(lambda x, at=at: x[at], states) for at in range(length)]
  return [first, *kept], float(np.sum(rewards[:length]))


def html(env: Any, states: list[Any], path: str | os.PathLike[str]) -> pathlib.Path:
  """Writes physics states as an HTML page that plays them in real time.

  The page holds the states; the viewer's script is fetched from where Brax publishes it when the page is opened.

  Args:
    env: the Brax environment that the states are of.
    states: pipeline states, one a time step `env.dt`, as `rollout_states` returns them.
    path: the file; its directory is created where it does not exist.

  Returns:
    The path.

  Raises:
    ValueError: no Brax environment, or no states.
    OSError: the file cannot be written.
  """
  inner = brax_of(env)
  if not states:
    raise ValueError("there are no states to render")
  import brax.io.html

  # The viewer advances by the system's time step, but the states are a whole environment step apart.
  system = inner.sys.tree_replace({"opt.timestep": inner.dt})
  page = brax.io.html.render(system, states)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(path, page.encode())
  return path
