"""Tasks with a goal that is drawn anew each episode, and is the last part of the observation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl.envs import toys
from varl.envs.base import State, Wrapper
from varl.envs.registry import make
from varl.envs.tabular import Tabular, gridworld
from varl.exact.tabular import problems
from varl.types import Array


class PointMassGoals(Wrapper):
  """`toys.PointMass`, pushed to a goal that is drawn uniformly from [-1, 1]² and stays for the episode.

  Observation: x, v and the goal, `[6]`; the goal is the context.
  """

  def __init__(self) -> None:
    super().__init__(toys.PointMass(), 6)
    self.context = 2

  def reset(self, rng: Array) -> State:
    """A goal and a mass at rest, both drawn with the legacy key `rng`."""
    goal_key, own_key = jax.random.split(jax.random.wrap_key_data(rng))
    goal = jax.random.uniform(goal_key, (2,), minval=-1.0, maxval=1.0)
    return _with_goal(toys.PointMass(goal).reset(jax.random.key_data(own_key)), goal)

  def step(self, state: State, action: Array) -> State:
    """The mass after the push `action` `[2]`."""
    own, goal = state.data
    return _with_goal(toys.PointMass(goal).step(own, action), goal)

  def outcome(self, obs: Array, action: Array, key: Array) -> tuple[Array, Array, Array]:
    """(next_obs, reward, discount) of one step from an observation, for `models.known`; nothing is random."""
    following, reward, discount = toys.PointMass(obs[4:]).outcome(obs[:4], action, key)
    return jnp.concatenate([following, obs[4:]]), reward, discount

  def inner(self, state: Any) -> tuple[Any, Any]:
    """A point mass with the goal of a state that is no tracer, and its own state."""
    own, goal = state.data
    return toys.PointMass(goal), own


class GridGoals(Wrapper):
  """A grid with slips without ends of its own, in which an episode has a goal: 1 is paid for reaching it, and it ends.

  Goal and start are two different free cells, uniformly drawn. Observation: the cell and the goal, one-hot each,
  `[2 C]` for C free cells; the goal is the context.

  Args:
    layout: a size, or rows of "." and "S" (free) and "#" (walls), as `exact.tabular.gridworld` takes them.
    slip: in [0, 1], that of `exact.tabular.gridworld`.

  Raises:
    ValueError: a layout with fewer than two free cells or with "G" or "P" in it, and those of `gridworld`.
  """

  def __init__(self, layout: Any = 5, slip: float = 0.1):
    size = isinstance(layout, int) and not isinstance(layout, bool)
    rows = ["." * layout] * layout if size else problems.grid_rows(layout)
    marks = "".join(rows)
    if set(marks) & {"G", "P"} or sum(mark != "#" for mark in marks) < 2:
      raise ValueError(f"a grid whose goals are drawn has two free cells or more, and no G or P; got {rows}")
    grid = gridworld([row.replace(".", "S") for row in rows], slip=slip)
    super().__init__(grid, 2 * grid.observation_size)
    self.context = self.cells = grid.observation_size

  def reset(self, rng: Array) -> State:
    """A goal, a start and the stream of all later moves, drawn with the legacy key `rng`."""
    goal_key, start_key, own_key = jax.random.split(jax.random.wrap_key_data(rng), 3)
    goal = jax.random.randint(goal_key, (), 0, self.cells)
    start = (goal + jax.random.randint(start_key, (), 1, self.cells)) % self.cells
    own = self.env.reset(jax.random.key_data(own_key))
    return self._seeking(own.replace(obs=jax.nn.one_hot(start, self.cells), data=(start, own.data[1])), goal)

  def step(self, state: State, action: Array) -> State:
    """The state after `action`, drawn with the stream that it holds."""
    own, goal = state.data
    new = self.env.step(own, action)
    reached = (new.data[0] == goal).astype(float)
    return self._seeking(new.replace(reward=reached, done=reached), goal)

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The grid with the goal of a state that is no tracer marked in it, and its own state."""
    own, goal = state.data
    marks = np.array([list(row) for row in self.env.layout])
    marks[marks == "S"] = "."
    marks[tuple(np.argwhere(marks != "#")[int(goal)])] = "G"
    return Tabular(self.env.mdp, layout=["".join(row) for row in marks]), own

  def _seeking(self, own: Any, goal: Array) -> State:
    seen = jnp.concatenate([own.obs, jax.nn.one_hot(goal, self.cells, dtype=own.obs.dtype)])
    return super().seen(own).replace(obs=seen, data=(own, goal))


class ReacherGoals(Wrapper):
  """Brax's reacher, of whose observation nothing but the last two entries depends on the target.

  Observation: cosine and sine of both angles, the tip's velocity and the tip's place in the plane, then the target's
  place, `[10]`; the target is the context. Brax's own observation has the target in its middle, and the way to it at
  its end.
  """

  def __init__(self) -> None:
    super().__init__(make("reacher"), 10)
    self.context = 2

  def seen(self, own: Any) -> State:
    """Brax's own state, its observation in another order."""
    angles, target, velocity, way = jnp.split(own.obs[:10], [4, 6, 8])
    return super().seen(own).replace(obs=jnp.concatenate([angles, velocity, target + way, target]))


def _with_goal(own: State, goal: Array) -> State:
  return own.replace(obs=jnp.concatenate([own.obs, goal]), data=(own, goal))
