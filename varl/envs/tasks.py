"""Several tasks as one environment: one of them an episode, and which one is the last part of the observation."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks
from varl.envs import base, foreign, toys
from varl.envs.base import Environment, State, Wrapper
from varl.envs.tabular import gridworld
from varl.types import Array


class Tasks(Wrapper):
  """K environments of one shape; each episode is one of them, uniformly drawn, and the observation says which.

  Observation: the task's own, and the task's number, one-hot, `[o + K]`. The last K entries are its `context`: running
  moments leave them alone, and a prior may be kept from seeing them. An evaluation reports each task.

  Args:
    envs: the tasks.

  Raises:
    ValueError: fewer than two, something else than environments, or tasks that differ in observation, action, bounds,
      time limit, or in what their states hold.
  """

  def __init__(self, envs: Sequence[Environment]):
    if isinstance(envs, str) or not isinstance(envs, Iterable):
      raise ValueError(f"several tasks are a list of environments, got {envs!r}")
    envs = list(envs)
    for env in envs:
      foreign.single(env)
    if len(envs) < 2:
      raise ValueError(f"several tasks are at least two, got {len(envs)}")
    shapes = [_shape(env) for env in envs]
    for number, shape in enumerate(shapes):
      for name, value in shape.items():
        if value != shapes[0][name]:
          raise ValueError(f"the tasks differ in their {name}: {shapes[0][name]} of task 0, {value} of task {number}")
    states = [jax.eval_shape(env.reset, jax.ShapeDtypeStruct((2,), jnp.uint32)) for env in envs]
    for number, state in enumerate(states):
      if jax.tree.map(_described, state) != jax.tree.map(_described, states[0]):
        raise ValueError(f"the states of task 0 and task {number} hold different things, so that no step serves both")
    first, self.envs, self.tasks = envs[0], envs, len(envs)
    own = checks.whole("observation_size", first.observation_size)
    if base.privileged(first, own) and base.context(first, own):
      raise ValueError("the tasks' own context would lie between what is privileged and the task's number")
    super().__init__(first, own + self.tasks)
    self.context = self.tasks

  def reset(self, rng: Array) -> State:
    """A task drawn with the legacy key `rng`, and its first state."""
    task_key, own_key = jax.random.split(jax.random.wrap_key_data(rng))
    task = jax.random.randint(task_key, (), 0, self.tasks)
    state = jax.lax.switch(task, [env.reset for env in self.envs], jax.random.key_data(own_key))
    return self.of_task(state, task)

  def step(self, state: State, action: Array) -> State:
    """The task's own step."""
    task, own = state.data
    return self.of_task(jax.lax.switch(task, [env.step for env in self.envs], own, action), task)

  def only(self, task: int) -> "OneTask":
    """An environment of the same observations whose episodes are all of this task."""
    return OneTask(self, task)

  def of_task(self, own: Any, task: Array) -> State:
    """A task's own state, with its number in the observation."""
    which = jax.nn.one_hot(task, self.tasks, dtype=own.obs.dtype)
    return self.seen(own).replace(obs=jnp.concatenate([own.obs, which]), data=(task, own))

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The task of a state that is no tracer, and its own state."""
    task, own = state.data
    return self.envs[int(task)], own


class OneTask(Wrapper):
  """One of several tasks, observed as all are: `Tasks.only`."""

  def __init__(self, of: Tasks, task: int):
    super().__init__(of, of.observation_size)
    self.of, self.task, self.env = of, task, of.envs[task]

  def reset(self, rng: Array) -> State:
    """The task's first state, by the key that its own `reset` would get."""
    own_key = jax.random.split(jax.random.wrap_key_data(rng))[1]
    return self.of.of_task(self.of.envs[self.task].reset(jax.random.key_data(own_key)), jnp.int32(self.task))

  def step(self, state: State, action: Array) -> State:
    """The task's own step."""
    return self.of.of_task(self.of.envs[self.task].step(state.data[1], action), jnp.int32(self.task))

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The task, and its own state."""
    return self.of.inner(state)


class Skills(Tasks):
  """One environment whose episodes are each given a skill: a number that changes nothing but the observation's end."""

  def reset(self, rng: Array) -> State:
    """A skill drawn with the legacy key `rng`, and a first state."""
    skill_key, own_key = jax.random.split(jax.random.wrap_key_data(rng))
    skill = jax.random.randint(skill_key, (), 0, self.tasks)
    return self.of_task(self.envs[0].reset(jax.random.key_data(own_key)), skill)

  def step(self, state: State, action: Array) -> State:
    """The environment's own step."""
    skill, own = state.data
    return self.of_task(self.envs[0].step(own, action), skill)


def with_skill(env: Environment, skills: int) -> Skills:
  """The environment, each of whose episodes is given one of so many skills, uniformly drawn (`rewards.skills`).

  Args:
    env: the environment.
    skills: n; the observation's last n entries are the skill, one-hot.

  Raises:
    ValueError: fewer than two skills, or no whole number of them.
  """
  return Skills([env] * checks.whole("skills", skills, least=2))


def point_mass_skills(skills: int = 8) -> Skills:
  """`with_skill` of `toys.PointMass`; arguments and errors are its own."""
  return with_skill(toys.PointMass(), skills)


def point_masses(distance: float = 1.0) -> Tasks:
  """Four tasks: `toys.PointMass` pushed to (±distance, ±distance)."""
  corners = [(x * distance, y * distance) for x in (-1.0, 1.0) for y in (-1.0, 1.0)]
  return Tasks([toys.PointMass(goal) for goal in corners])


def gridworlds(size: int = 5) -> Tasks:
  """Four tasks: a grid with slips, from its middle to one of its corners.

  Raises:
    ValueError: a size below 3, or an even one, which has no middle.
  """
  size = checks.whole("size", size, least=3)
  if size % 2 == 0:
    raise ValueError(f"size is an odd number of cells, at least 3; got {size!r}")
  found = []
  for row, column in ((0, 0), (0, size - 1), (size - 1, 0), (size - 1, size - 1)):
    cells = [["."] * size for _ in range(size)]
    cells[size // 2][size // 2], cells[row][column] = "S", "G"
    found.append(gridworld(["".join(line) for line in cells]))
  return Tasks(found)


def _shape(env: Any) -> dict[str, Any]:
  bounds = base.action_bounds(env)
  return {
    "observation": checks.whole("observation_size", env.observation_size),
    "privileged entries": base.privileged(env, checks.whole("observation_size", env.observation_size)),
    "actions": base.action_size(env),
    "kind of actions": "discrete" if base.is_discrete(env) else "continuous",
    "action bounds": None if bounds is None else tuple(side.tolist() for side in bounds),
    "time limit": base.time_limit(env),
  }


def _described(leaf: Any) -> tuple[tuple[int, ...], str]:
  return tuple(leaf.shape), str(leaf.dtype)
