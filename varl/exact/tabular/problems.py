"""Finite problems to try things on: random ones, a corridor, grids, and a lottery."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.exact.tabular.mdp import MDP, check_discount, mdp
from varl.types import Key

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def random_mdp(
  key: Key, states: int, actions: int, *, discount: Any = 0.9, branching: int | None = None, terminal: int = 0
) -> MDP:
  """A process with r(s, a) ~ N(0, 1), and transitions and first state uniform over all distributions.

  Args:
    key: consumed here; `jax.vmap` over keys makes a batch of processes.
    states, actions: S and A.
    discount: γ.
    branching: None for dense transitions; K for the sparse form with K successors drawn with replacement for each state
      and action (1 for deterministic dynamics).
    terminal: how many of the last states are terminal. Nobody starts there.

  Returns:
    An `MDP` in JAX's default floating type.

  Raises:
    ValueError: fewer than one state, action or successor, no state that is not terminal, or a discount outside [0, 1].
  """
  states, actions = checks.whole("states", states), checks.whole("actions", actions)
  branching = None if branching is None else checks.whole("branching", branching)
  terminal = checks.whole("terminal", terminal, least=0, below=states)
  check_discount(discount)
  return _random(key, discount, states, actions, branching, terminal)


def chain(length: int = 6, *, discount: Any = 0.9, back: float = 0.1, end: float = 1.0) -> MDP:
  """The corridor of `varl.envs.toys.Chain`: action 1 goes right, action 0 goes back to the first cell and pays `back`.

  Reaching the last cell pays `end` and is terminal. Starts in the first cell. Dense.

  Raises:
    ValueError: `length` below 2.
  """
  length = checks.whole("length", length, least=2)
  cells = np.arange(length)
  transition, reward = np.zeros((length, 2, length)), np.zeros((length, 2))
  transition[:, 0, 0] = 1.0
  transition[cells, 1, np.minimum(cells + 1, length - 1)] = 1.0
  reward[:, 0], reward[length - 2, 1] = back, end
  return mdp(transition, reward, discount=discount, initial=cells == 0, terminal=cells == length - 1)


def gridworld(
  layout: Sequence[str] | int | tuple[int, int] = 4,
  *,
  slip: float = 0.1,
  discount: Any = 0.95,
  goal: float = 1.0,
  pit: float = -1.0,
  step: float = 0.0,
) -> MDP:
  """A grid; the actions are up, right, down, left.

  A move goes where it should with probability 1 - slip, else to one of the two sides, each slip/2; a wall or the edge
  leaves one where one is. States are the cells that are no walls, in reading order. Sparse, with K = 3.

  Args:
    layout: rows of equal length of "." free, "#" wall, "S" start (any number, uniform), "G" goal and "P" pit, both
      terminal; or a size n or (rows, columns) of an open grid from the upper left to a goal at the lower right.
    slip: in [0, 1].
    discount: γ.
    goal, pit: paid for reaching them; r(s, a) is the expectation of that over where a move leads.
    step: paid for every move.

  Raises:
    ValueError: a layout with other characters, uneven rows or no start; a slip outside [0, 1].
  """
  rows = grid_rows(layout)
  if "S" not in "".join(rows):
    raise ValueError(f"layout needs a start S; got {rows}")
  if not 0.0 <= slip <= 1.0:
    raise ValueError(f"slip must be in [0, 1]; got {slip}")
  cells = [(y, x) for y, row in enumerate(rows) for x, mark in enumerate(row) if mark != "#"]
  number = {cell: state for state, cell in enumerate(cells)}
  marks = np.array([rows[y][x] for y, x in cells])
  # reached[s, d]: where a move in direction d leads from s.
  reached = np.array([[number.get((y + dy, x + dx), number[y, x]) for dy, dx in _MOVES] for y, x in cells])
  directions = (np.arange(4)[:, None] + np.array([0, 1, -1])) % 4
  successor = reached[:, directions]
  transition = np.broadcast_to([1.0 - slip, slip / 2, slip / 2], successor.shape)
  arrival = step + goal * (marks == "G") + pit * (marks == "P")
  return mdp(
    transition,
    np.sum(transition * arrival[successor], axis=-1),
    discount=discount,
    initial=(marks == "S") / np.sum(marks == "S"),
    terminal=(marks == "G") | (marks == "P"),
    successor=successor,
  )


def grid_rows(layout: Sequence[str] | int | tuple[int, int]) -> list[str]:
  """The rows of a layout as `gridworld` takes it, of a size those of the open grid.

  Raises:
    ValueError: no layout, other characters, or uneven rows.
  """
  if isinstance(layout, bool) or not isinstance(layout, int | Sequence):
    raise ValueError(f"layout is a size, rows and columns, or rows made of . # S G P; got {layout!r}")
  sizes: Any = (layout, layout) if isinstance(layout, int) else tuple(layout)
  rows: list[str] = _open_grid(*sizes) if [type(size) for size in sizes] == [int, int] else list(sizes)
  text = all(isinstance(row, str) for row in rows)
  if not text or len({len(row) for row in rows}) != 1 or set("".join(rows)) - set(".#SGP") or not rows[0]:
    raise ValueError(f"layout must be rows of equal length made of . # S G P; got {rows}")
  return rows


def lottery(
  *, safe: float = 1.0, jackpot: float = 4.0, blank: float = 0.0, chance: float = 0.2, discount: Any = 1.0
) -> MDP:
  """A safe arm against a ticket: where inference about the dynamics and inference about actions part.

  State 0: action 0 pays `safe` and ends; action 1 leads to state 1 with probability `chance`, else to state 2. Every
  action pays `jackpot` in state 1 and `blank` in state 2, and ends. State 3 is terminal. Dense; the horizon is 2.

  With these numbers, c = 1 and a uniform prior, the ticket is worth log(0.2 e⁴ + 0.8) = 2.461 > 1 by message passing
  and 0.2 · 4 = 0.8 < 1 by soft value iteration.

  Raises:
    ValueError: a chance outside [0, 1].
  """
  if not 0.0 <= chance <= 1.0:
    raise ValueError(f"chance must be in [0, 1]; got {chance}")
  transition = np.zeros((4, 2, 4))
  transition[0, 0, 3] = 1.0
  transition[0, 1, 1], transition[0, 1, 2] = chance, 1.0 - chance
  transition[1:, :, 3] = 1.0
  reward = np.array([[safe, 0.0], [jackpot, jackpot], [blank, blank], [0.0, 0.0]])
  return mdp(transition, reward, discount=discount, initial=[1.0, 0.0, 0.0, 0.0], terminal=np.arange(4) == 3)


@partial(jax.jit, static_argnames=("states", "actions", "branching", "terminal"))
def _random(key: Key, discount: Any, states: int, actions: int, branching: int | None, terminal: int) -> MDP:
  weight_key, reward_key, successor_key = jax.random.split(key, 3)
  shape = (states, actions, states if branching is None else branching)
  # Normalised exponentials are a Dirichlet with ones (jax.random.dirichlet samples gammas by rejection, which takes
  # many seconds to compile). One draw for all compiles in half the time of two.
  weight = jax.random.exponential(weight_key, (math.prod(shape) + states - terminal,))
  transition, first = weight[: math.prod(shape)].reshape(shape), weight[math.prod(shape) :]
  return mdp(
    transition / jnp.sum(transition, axis=-1, keepdims=True),
    jax.random.normal(reward_key, shape[:2]),
    discount=discount,
    initial=jnp.concatenate([first / jnp.sum(first), jnp.zeros(terminal)]),
    terminal=np.arange(states) >= states - terminal,
    successor=None if branching is None else jax.random.randint(successor_key, shape, 0, states, jnp.int32),
  )


def _open_grid(rows: int, columns: int) -> list[str]:
  rows, columns = checks.whole("rows", rows), checks.whole("columns", columns)
  if rows * columns < 2:
    raise ValueError(f"a grid needs at least two cells; got {rows} by {columns}")
  flat = "S" + "." * (rows * columns - 2) + "G"
  return [flat[row * columns : (row + 1) * columns] for row in range(rows)]
