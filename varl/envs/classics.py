"""Pictures of the classic control problems of gymnax: each draws a state into matplotlib axes, to scale."""

from collections.abc import Callable
from typing import Any

import numpy as np

Drawing = Callable[[Any, Any, Any], None]
"""`(axes, gymnax's state, its parameters) -> None`."""


def cart_pole(axes: Any, state: Any, params: Any) -> None:
  """A cart on its rail, and the pole on it."""
  x, angle, length = float(state.x), float(state.theta), 2 * float(params.length)
  reach = float(params.x_threshold) + 0.3
  axes.plot([-reach, reach], [0, 0], color="0.6")
  axes.plot([x - 0.25, x + 0.25, x + 0.25, x - 0.25, x - 0.25], [-0.12, -0.12, 0.12, 0.12, -0.12], color="C0")
  axes.plot([x, x + length * np.sin(angle)], [0.12, 0.12 + length * np.cos(angle)], color="C1", linewidth=4)
  _frame(axes, (-reach, reach), (-reach, reach))


def pendulum(axes: Any, state: Any, params: Any) -> None:
  """A pendulum, upright where its angle is 0, and the torque on it as the ring's colour."""
  angle, length = float(state.theta), float(params.l)
  axes.plot([0, -length * np.sin(angle)], [0, length * np.cos(angle)], color="C1", linewidth=6, solid_capstyle="round")
  share = float(np.clip(state.last_u / params.max_torque, -1.0, 1.0))
  axes.plot(0, 0, "o", color="C0" if share < 0 else "C3", markersize=6 + 14 * abs(share))
  _frame(axes, (-1.3 * length, 1.3 * length), (-1.3 * length, 1.3 * length))


def mountain_car(axes: Any, state: Any, params: Any) -> None:
  """A car on its hill, and its goal."""
  low, high = float(params.min_position), float(params.max_position)
  along = np.linspace(low, high, 100)
  axes.plot(along, _hill(along), color="0.6")
  goal, place = float(params.goal_position), float(state.position)
  axes.plot([goal, goal], [_hill(goal), _hill(goal) + 0.25], color="C2", linewidth=2)
  axes.plot(place, _hill(place) + 0.04, "o", color="C0", markersize=14)
  _frame(axes, (low, high), (-0.1, high - low - 0.1))


def acrobot(axes: Any, state: Any, params: Any) -> None:
  """Two links that hang from the middle, and the height that their tip has to reach."""
  first, second = float(params.link_length_1), float(params.link_length_2)
  inner, outer = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
  elbow = np.array([first * np.sin(inner), -first * np.cos(inner)])
  tip = elbow + np.array([second * np.sin(outer), -second * np.cos(outer)])
  reach = 1.1 * (first + second)
  axes.plot([-reach, reach], [first, first], color="C2", linestyle=":")
  axes.plot([0, elbow[0]], [0, elbow[1]], color="C0", linewidth=6, solid_capstyle="round")
  axes.plot([elbow[0], tip[0]], [elbow[1], tip[1]], color="C1", linewidth=6, solid_capstyle="round")
  _frame(axes, (-reach, reach), (-reach, reach))


DRAWINGS: dict[str, Drawing] = {
  "CartPole-v1": cart_pole,
  "Pendulum-v1": pendulum,
  "MountainCar-v0": mountain_car,
  "MountainCarContinuous-v0": mountain_car,
  "Acrobot-v1": acrobot,
}
"""By gymnax's names."""

SECONDS = {"CartPole-v1": 0.02, "Pendulum-v1": 0.05, "MountainCar-v0": 1 / 30, "MountainCarContinuous-v0": 1 / 30}
"""How long a step lasts, where it is not what pictures take it for."""


def _hill(place: Any) -> Any:
  return 0.45 * np.sin(3 * place) + 0.55


def _frame(axes: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
  axes.set(xlim=x, ylim=y, aspect="equal", xticks=[], yticks=[])
