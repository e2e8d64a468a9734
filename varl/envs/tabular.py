"""A finite Markov decision process as an environment."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl.envs.base import State
from varl.exact.tabular import problems
from varl.exact.tabular.mdp import MDP, concrete
from varl.types import Array


class Tabular:
  """An `MDP` to act in: what a trained agent sees of a problem whose answer is known.

  s_0 ~ ρ, s' ~ P(·|s, a), reward r(s, a), done on arrival in a terminal state. Observation: the state, one-hot
  `[S]`; an action is an integer in [0, A). The discount is not the environment's business: give the agent
  `mdp.discount`, and `mdp.terminal` holds what its value must be 0 in.

  Args:
    mdp: one process. Traced arrays serve too: under `vmap` over processes an agent trains on each.
    layout: the rows of a grid whose free cells its states are, as `exact.tabular.gridworld` has it, for pictures; None:
      its states are no places.

  Raises:
    ValueError: `mdp` is no process, has a batch axis, or lets episodes start in a terminal state; a layout of another
      size.
  """

  discrete = True
  dt = 0.25

  def __init__(self, mdp: MDP, *, layout: Sequence[str] | None = None):
    if not isinstance(mdp, MDP):
      raise ValueError(f"Tabular takes a process, as varl.exact.tabular makes them; got {type(mdp).__name__}")
    if mdp.reward.ndim != 2:
      raise ValueError(f"Tabular takes one process, with reward [S, A]; got reward of shape {mdp.reward.shape}")
    terminal, initial = concrete(mdp.terminal), concrete(mdp.initial)
    if terminal is not None and initial is not None and (terminal & (initial > 0)).any():
      starts = np.flatnonzero(terminal & (initial > 0)).tolist()
      raise ValueError(f"an episode cannot start in a terminal state; initial is above 0 in {starts}")
    self.mdp = mdp
    self.observation_size, self.action_size = mdp.reward.shape
    self.layout = layout
    if layout is not None:
      cells = np.array([list(row) for row in layout]) != "#"
      if cells.sum() != self.observation_size:
        raise ValueError(f"a layout of {self.observation_size} states has as many free cells; got {cells.sum()}")
      self.draw = functools.partial(_draw, np.argwhere(cells), np.array([list(row) for row in layout]))

  def reset(self, rng: Array) -> State:
    """A first state and the stream of all later ones, both drawn with the legacy key `rng`."""
    first, stream = jax.random.split(jax.random.wrap_key_data(rng))
    place = jax.random.categorical(first, jnp.log(self.mdp.initial)).astype(jnp.int32)
    return State(obs=self._observation(place), reward=jnp.zeros(()), done=jnp.zeros(()), data=(place, stream))

  def step(self, state: State, action: Array) -> State:
    """The state after `action`, drawn with the stream in `state.data`."""
    place, stream = state.data
    now, stream = jax.random.split(stream)
    following = self._following(place, action, now)
    return state.replace(
      obs=self._observation(following),
      reward=self.mdp.reward[place, action].astype(float),
      done=self.mdp.terminal[following].astype(float),
      data=(following, stream),
    )

  def outcome(self, obs: Array, action: Array, key: Array) -> tuple[Array, Array, Array]:
    """(next_obs, reward, discount) of one step from an observation, for `models.known`."""
    place = jnp.argmax(obs)
    following = self._following(place, action, key)
    reward = self.mdp.reward[place, action].astype(float)
    return self._observation(following), reward, 1.0 - self.mdp.terminal[following].astype(float)

  def _following(self, place: Array, action: Array, key: Array) -> Array:
    following = jax.random.categorical(key, jnp.log(self.mdp.transition[place, action]))
    if self.mdp.successor is not None:
      following = self.mdp.successor[place, action, following]
    return following.astype(jnp.int32)

  def _observation(self, place: Array) -> Array:
    return jax.nn.one_hot(place, self.observation_size, dtype=float)


def gridworld(
  layout: Any = 5,
  *,
  slip: float = 0.1,
  discount: float = 0.95,
  goal: float = 1.0,
  pit: float = -1.0,
  step: float = 0.0,
) -> Tabular:
  """`varl.exact.tabular.gridworld` to act in; arguments and errors are its own."""
  mdp = problems.gridworld(layout, slip=slip, discount=discount, goal=goal, pit=pit, step=step)
  return Tabular(mdp, layout=problems.grid_rows(layout))


def random_mdp(seed: int = 0, states: int = 10, actions: int = 4, *, discount: float = 0.9) -> Tabular:
  """`varl.exact.tabular.random_mdp` to act in, drawn with `jax.random.key(seed)`; it never ends by itself."""
  return Tabular(problems.random_mdp(jax.random.key(seed), states, actions, discount=discount))


def _draw(cells: Any, marks: Any, axes: Any, state: Any) -> None:
  """A grid, its walls grey, its starts, goals and pits by their letters, and the cell that is stood in."""
  axes.imshow(np.where(marks == "#", 0.5, 0.0), cmap="Greys", vmin=0.0, vmax=1.0)
  for row, column in np.argwhere(~np.isin(marks, [".", "#"])):
    axes.text(column, row, marks[row, column], ha="center", va="center", color="0.3")
  row, column = cells[int(state.data[0])]
  axes.plot(column, row, "o", color="C0", markersize=14, alpha=0.8)
  axes.set(xticks=np.arange(marks.shape[1]) - 0.5, yticks=np.arange(marks.shape[0]) - 0.5)
  axes.set(xticklabels=[], yticklabels=[])
  axes.grid(color="0.85")
