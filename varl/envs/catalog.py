"""The names of the environments that come with varl, as a plain table: importing this imports neither JAX nor Brax."""

import importlib.util
from collections.abc import Iterable
from typing import NamedTuple

from varl.checks import nearest

BACKENDS = ("generalized", "spring", "positional", "mjx")
"""Brax's physics backends."""

GYMNAX = "gymnax:"
GYMNASIUM = "gymnasium:"
PLAYGROUND = "playground:"
"""What the name of an environment of gymnax's begins with."""

RESETS = ("pool", "fresh", "cached")
"""Where the state after an episode's end comes from (`varl.envs.vectorize`)."""


class Entry(NamedTuple):
  """What can be said of an environment without loading it.

  Attributes:
    description: one line.
    observation_size: length of the observation vector.
    action_size: number of action dimensions, or of actions where discrete.
    backends: the physics backends it runs on, the default first; `()` where it has none to choose.
    source: "brax", "gymnax:" and gymnax's own name, or the factory as "module.name" in `varl.envs`.
  """

  description: str
  observation_size: int
  action_size: int
  backends: tuple[str, ...] = BACKENDS
  source: str = "brax"


CATALOG: dict[str, Entry] = {
  "ant": Entry("four-legged robot, runs forward", 27, 8),
  "fast": Entry("trivial environment without physics (takes any backend), for tests", 2, 1),
  "halfcheetah": Entry("planar two-legged runner, runs forward", 17, 6),
  "hopper": Entry("planar one-legged robot, hops forward", 11, 3),
  "humanoid": Entry("two-legged robot with arms, walks forward", 244, 17),
  "humanoidstandup": Entry("the same robot, lying down, stands up", 244, 17),
  "inverted_pendulum": Entry("cart that balances a pole", 4, 1),
  "inverted_pendulum_positions": Entry(
    "the same cart and pole without their velocities, for policies that remember",
    2,
    1,
    (),
    "partial.inverted_pendulum_positions",
  ),
  "inverted_double_pendulum": Entry("cart that balances two linked poles", 8, 1),
  "pusher": Entry("seven-joint arm, pushes an object to a goal", 23, 7),
  "reacher": Entry("two-link arm, brings its tip to a target", 11, 2),
  "reacher_goals": Entry(
    "the same arm, its target's place alone at the observation's end", 10, 2, (), "goals.ReacherGoals"
  ),
  "swimmer": Entry("three-link chain, swims forward in a viscous fluid", 8, 2, backends=("generalized",)),
  "walker2d": Entry("planar two-legged robot, walks forward", 17, 6),
  "point_mass": Entry("damped point mass on a plane, pushed to the origin", 4, 2, (), "toys.PointMass"),
  "multi_goal": Entry("point on a plane with four equally good goals around it", 2, 2, (), "toys.MultiGoal"),
  "linear_quadratic": Entry(
    "linear dynamics, quadratic cost, unbounded actions; solved in closed form", 2, 1, (), "toys.LinearQuadratic"
  ),
  "chain": Entry("corridor with a distracting small reward; two discrete actions", 6, 2, (), "toys.Chain"),
  "gridworld": Entry("5x5 grid with slips, corner to corner; solved exactly", 25, 4, (), "tabular.gridworld"),
  "gridworld_goals": Entry("the same grid, its goal drawn anew each episode", 50, 4, (), "goals.GridGoals"),
  "gridworld_tasks": Entry(
    "four grids with slips, middle to a corner each; a task each episode", 29, 4, (), "tasks.gridworlds"
  ),
  "point_mass_goals": Entry("the point mass, its goal drawn anew each episode", 6, 2, (), "goals.PointMassGoals"),
  "point_mass_skills": Entry("the point mass, given one of eight skills", 12, 2, (), "tasks.point_mass_skills"),
  "point_mass_tasks": Entry("the point mass, pushed to one of four corners", 8, 2, (), "tasks.point_masses"),
  "random_mdp": Entry("random finite process, drawn with `seed`; solved exactly", 10, 4, (), "tabular.random_mdp"),
  "cartpole": Entry("cart that balances a pole; two discrete actions", 4, 2, (), "gymnax:CartPole-v1"),
  "acrobot": Entry("two links, swung up by the joint between them; discrete actions", 6, 3, (), "gymnax:Acrobot-v1"),
  "mountain_car": Entry("car too weak for its hill; discrete actions", 2, 3, (), "gymnax:MountainCar-v0"),
  "continuous_mountain_car": Entry("the same car, its force continuous", 2, 1, (), "gymnax:MountainCarContinuous-v0"),
  "pendulum": Entry("pendulum, swung up by a bounded torque", 3, 1, (), "gymnax:Pendulum-v1"),
}


def unknown_name(name: str, names: Iterable[str]) -> ValueError:
  """The error for a `name` that is not among `names`: offers the nearest, or all where none is near."""
  names = tuple(names)
  hint = nearest(name.lower(), names) or f"; known are {', '.join(names)}"
  return ValueError(f"unknown environment {name!r}{hint}")


def short_name(name: str) -> str:
  """The catalogued name of an environment that is given by its source, such as "gymnax:CartPole-v1"; others as is."""
  sources = {entry.source: short for short, entry in CATALOG.items() if entry.source.startswith(GYMNAX)}
  return sources.get(name, name)


def missing(name: str) -> str:
  """What has to be installed before `name`, catalogued or of gymnax's, can be made; "" where nothing is missing."""
  source = CATALOG[name].source if name in CATALOG else name
  if source.startswith(GYMNAX) and importlib.util.find_spec("gymnax") is None:
    return "needs gymnax: pip install 'varl[gymnax]'"
  if source.startswith(GYMNASIUM) and importlib.util.find_spec("gymnasium") is None:
    return "needs Gymnasium: pip install 'varl[gymnasium]'"
  if source.startswith(PLAYGROUND) and importlib.util.find_spec("mujoco_playground") is None:
    return "needs MuJoCo Playground: pip install 'varl[playground]'"
  return ""


def check_name(name: str, backend: str | None = None) -> None:
  """Checks the name of a catalogued environment and, where one is given, its backend; imports nothing heavy.

  Raises:
    ValueError: the name is not in the catalog (names near it are offered), what it needs is not installed, or it does
      not run on the backend (those it runs on are named).
  """
  if name not in CATALOG:
    raise unknown_name(name, CATALOG)
  if lacks := missing(name):
    raise ValueError(f"environment {name!r} {lacks}")
  allowed = CATALOG[name].backends
  if backend is None or backend in allowed:
    return
  if not allowed:
    raise ValueError(f"{name} has no physics backend to choose; got backend {backend!r}")
  raise ValueError(f"{name} does not run on backend {backend!r}; it runs on {', '.join(allowed)}")
