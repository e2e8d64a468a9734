"""What a run's policy does, and what it takes states to be worth, as a map of a grid or of two entries of the state."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks, files
from varl.design import scaled
from varl.normalize import NORMALIZER
from varl.report import maps, plots
from varl.run import configure, export
from varl.types import Design

QUANTITIES = ("value", "action")


def value_map(
  out: str | os.PathLike[str],
  path: str | os.PathLike[str],
  *,
  of: str = "value",
  entries: Sequence[int] = (0, 1),
  low: Sequence[float] | None = None,
  high: Sequence[float] | None = None,
  at: Sequence[float] | None = None,
  resolution: int = 64,
  overwrite: bool = False,
  algorithm: Any = None,
  env: Any = None,
) -> pathlib.Path:
  """Draws what the value of a run says of states, and what its policy does there.

  On a grid (`envs.tabular.gridworld`) every free cell is a state, ends are worth 0, and arrows are the policy's mean
  moves. Elsewhere two
  entries of the observation vary and the others stay; where actions have two dimensions, arrows are the policy's mode.
  The value is V(s), or where a run has action values Q(s, a) at the mode a.

  Args:
    out: the run's directory.
    path: the picture, PNG or, by its name, SVG.
    of: "value", or "action": the mode's first entry, or the number of a discrete action.
    entries: which two entries vary.
    low, high: their smallest and largest values; None: two deviations around the mean of what the run has seen, or -1
      and 1 where it has no moments.
    at: the whole observation that the other entries are taken from; None: the mean of what the run has seen, or 0.
    resolution: points along each side.
    overwrite: whether a file may be replaced.
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.

  Raises:
    ValueError: as `run.inspect.evaluate`; a policy with a memory or, for its value, an algorithm without one of states
      or actions; an argument out of its range; a file of another kind, or one that exists.
  """
  path = files.check_new(plots.check_picture(path), overwrite=overwrite)
  if of not in QUANTITIES:
    raise ValueError(f"a map is of {' or '.join(QUANTITIES)}, got {of!r}")
  run = configure.read(out, algorithm)
  policy, design = export.load_design(out, algorithm=algorithm)
  if jax.tree.leaves(policy.agent.carry(1)):
    raise ValueError("a map is of what the present observation says; this policy has a memory")
  colours = _value(run.algorithm, policy, design) if of == "value" else _action(policy)
  title = f"{run.algorithm} on {run.env}"
  made = configure.environment_of(run, env)
  layout = getattr(made, "layout", None)
  if layout is not None:
    shown = np.asarray(colours(jnp.eye(policy.agent.spec.observation_size)), float)
    if of == "value":  # nothing follows an end, whatever the network says of it
      shown = np.where(made.mdp.terminal, 0.0, shown)
    return pathlib.Path(maps.grid(shown, layout, path, log_policy=_log_policy(policy, design), label=of, title=title))
  size = policy.agent.spec.observation_size
  chosen = [checks.whole("an entry", entry, least=0, below=size) for entry in entries]
  if len(chosen) != 2 or len(set(chosen)) != 2:
    raise ValueError(f"two different entries of 0 to {size - 1} vary; got {chosen}")
  mean, deviation = _seen(policy)
  base = mean if at is None else np.asarray(at, float)
  if base.shape != (size,) or not np.isfinite(base).all():
    raise ValueError(f"`at` is an observation of {size} finite numbers; got {len(base)}")
  corners = [
    np.asarray(given if given is not None else (mean + sign * 2 * deviation)[chosen], float)
    for given, sign in ((low, -1.0), (high, 1.0))
  ]

  def states_at(points: Any) -> Any:
    states = np.tile(base, (len(points), 1))
    states[:, chosen] = points
    return jnp.asarray(states, float)

  spec = policy.agent.spec
  arrows = not spec.discrete and spec.action_size == 2
  return pathlib.Path(
    maps.plane(
      lambda points: colours(states_at(points)), corners[0].tolist(), corners[1].tolist(), path,
      move=(lambda points: policy(states_at(points))) if arrows else None, resolution=resolution,
      names=(f"observation {chosen[0]}", f"observation {chosen[1]}"), label=of, title=title,
    )
  )  # fmt: skip


def _value(name: str, policy: export.Policy, design: Design | None) -> Any:
  """The function of states that says what they are worth."""
  if design is None or (design.value.v is None and design.value.backup is None):
    raise ValueError(f"{name} has no value of states or actions to draw; of='action' (--of action) needs none")
  value = design.value

  @jax.jit
  def colours(states: Any) -> Any:
    seen = scaled(policy.params, states)
    if value.v is not None:
      return value.v(policy.params, seen)
    action, _, _ = policy.agent.mode(policy.params, policy.agent.carry(len(states)), states, jax.random.key(0))
    return value.q(policy.params, seen, action[None])[0]

  return colours


def _action(policy: export.Policy) -> Any:
  @jax.jit
  def colours(states: Any) -> Any:
    action = policy(states)
    return action if policy.agent.spec.discrete else action[:, 0]

  return colours


def _log_policy(policy: export.Policy, design: Design | None) -> Any:
  """log π(a|s) `[S, A]` of every state of a grid; of the mode alone where the policy has no density."""
  spec = policy.agent.spec
  states = jnp.eye(spec.observation_size)
  density: Any = None if design is None else design.posterior.log_prob
  if density is None:
    return jnp.log(jax.nn.one_hot(policy(states), spec.action_size) + 1e-9)
  actions = jnp.broadcast_to(jnp.arange(spec.action_size)[:, None], (spec.action_size, len(states)))
  return density(policy.params, scaled(policy.params, states), actions).T


def _seen(policy: export.Policy) -> tuple[Any, Any]:
  """Mean and deviation of the observations that a run has seen; 0 and ½ where it has no moments."""
  size = policy.agent.spec.observation_size
  if NORMALIZER not in policy.params:
    return np.zeros(size), np.full(size, 0.5)
  moments = policy.params[NORMALIZER]
  return np.asarray(moments.origin + moments.mean, float), np.sqrt(np.asarray(moments.variance, float))
