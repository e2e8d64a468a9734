"""Small problems that step in microseconds, one of them with a closed-form answer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.envs.base import State
from varl.exact import linear_quadratic
from varl.exact.linear_quadratic.problem import concrete
from varl.types import Array


class PointMass:
  """A damped point mass on a plane, pushed to the origin or another goal.

  v' = 0.8 v + 0.2 a, x' = clip(x + 0.2 v', -2, 2), reward = -min(|x' - goal|, 2) / 2 in [-1, 0]. It starts at rest,
  uniformly in [-1, 1]², and never ends by itself. Observation: x and v, `[4]`; action: `[2]` in [-1, 1].

  Args:
    goal: where it is pushed to; the observation does not say.
  """

  observation_size = 4
  action_size = 2

  def __init__(self, goal: tuple[float, float] | Array = (0.0, 0.0)):
    self.goal = goal

  def reset(self, rng: Array) -> State:
    """A mass at rest at a place drawn with the legacy key `rng`."""
    position = jax.random.uniform(rng, (2,), minval=-1.0, maxval=1.0)
    return self._state(position, jnp.zeros(2))

  def step(self, state: State, action: Array) -> State:
    """The mass after the push `action` `[2]`."""
    new = self._moved(state.obs, action)
    return state.replace(obs=new.obs, reward=new.reward, metrics={**state.metrics, **new.metrics})

  def outcome(self, obs: Array, action: Array, key: Array) -> tuple[Array, Array, Array]:
    """(next_obs, reward, discount) of one step from an observation, for `models.known`; nothing is random."""
    new = self._moved(obs, action)
    return new.obs, new.reward, jnp.ones_like(new.reward)

  def draw(self, axes: Any, state: Any) -> None:
    """The mass with its velocity, and its goal."""
    _plane(axes, 2.1, [self.goal], state.obs[:2])
    axes.arrow(*state.obs[:2], *state.obs[2:], width=0.02, color="C0", length_includes_head=True)

  def _moved(self, obs: Array, action: Array) -> State:
    velocity = 0.8 * obs[2:] + 0.2 * action
    return self._state(jnp.clip(obs[:2] + 0.2 * velocity, -2.0, 2.0), velocity)

  def _state(self, position: Array, velocity: Array) -> State:
    distance = jnp.sqrt(jnp.sum((position - jnp.asarray(self.goal)) ** 2))
    return State(
      obs=jnp.concatenate([position, velocity]),
      reward=-jnp.minimum(distance, 2.0) / 2.0,
      done=jnp.zeros(()),
      metrics={"distance": distance},
    )


class MultiGoal:
  """A point on a plane with four goals around it, equally good: (±5, 0) and (0, ±5) (1702.08165, section 5.1).

  x' = clip(x + a, -7, 7) and reward = -30 ‖a‖² - min_g ‖x' - g‖², and 10 more where x' is within 1 of a goal, which
  ends the episode. It starts at N(0, 0.1² I); the published horizon of 30 steps is its `time_limit`. Observation: x,
  `[2]`; action: a, `[2]` in [-1, 1]. The numbers are those of the published code.
  """

  observation_size = 2
  action_size = 2
  time_limit = 30
  goals = np.array([[5, 0], [-5, 0], [0, 5], [0, -5]], np.float32)

  def reset(self, rng: Array) -> State:
    """A point near the middle, drawn with the legacy key `rng`."""
    place = 0.1 * jax.random.normal(rng, (2,))
    zero = jnp.zeros(())
    return State(obs=place, reward=zero, done=zero, metrics={"distance": self._distances(place).min()})

  def step(self, state: State, action: Array) -> State:
    """The point after the velocity `action` `[2]`."""
    place, reward, discount = self.outcome(state.obs, action, None)
    distance = self._distances(place).min()
    return state.replace(obs=place, reward=reward, done=1.0 - discount, metrics={"distance": distance})

  def outcome(self, obs: Array, action: Array, key: Any) -> tuple[Array, Array, Array]:
    """(next_obs, reward, discount) of one step from an observation, for `models.known`; nothing is random."""
    place = jnp.clip(obs + action, -7.0, 7.0)
    distance = self._distances(place).min()
    reached = distance < 1.0
    cost = 30.0 * jnp.sum(action**2) + distance**2
    return place, jnp.where(reached, 10.0, 0.0) - cost, 1.0 - reached.astype(float)

  def draw(self, axes: Any, state: Any) -> None:
    """The point among its goals."""
    _plane(axes, 7.2, self.goals, state.obs)

  def _distances(self, place: Array) -> Array:
    return jnp.sqrt(jnp.sum((place - self.goals) ** 2, axis=-1))


class LinearQuadratic:
  """Linear dynamics, quadratic cost, unbounded actions: s' = As + Ba + w, r = -(sᵀQs + aᵀRa), w ~ N(0, noise² I).

  The reward is that of the state the action was taken in. Starts at s ~ N(0, initial_std² I) and never ends by itself.
  The default is a double integrator, s = (place, speed), controllable and on the edge of stability without control.

  Args:
    A: `[n, n]`. B: `[n, d]`. Q: `[n, n]`, symmetric, positive semi-definite. R: `[d, d]`, symmetric, positive definite.
    noise: standard deviation of w, >= 0.
    initial_std: standard deviation of the first state, >= 0.

  Traced arrays serve too, where what they hold is not checked: under `vmap` over problems an agent trains on each.

  Raises:
    ValueError: shapes that do not fit, or matrices or deviations outside of what is said above.
  """

  action_bounds = None

  def __init__(
    self,
    A: Any = ((1.0, 0.1), (0.0, 1.0)),
    B: Any = ((0.0,), (0.1,)),
    Q: Any = ((1.0, 0.0), (0.0, 0.1)),
    R: Any = ((0.1,),),
    noise: Any = 0.05,
    initial_std: Any = 1.0,
  ):
    self.A, self.B, self.Q, self.R = (m.astype(np.float32) for m in linear_quadratic.check_matrices(A, B, Q, R))
    self.observation_size, self.action_size = self.B.shape
    self.noise, self.initial_std = noise, initial_std
    for name, value in (("noise", noise), ("initial_std", initial_std)):
      known = concrete(value)
      if known is not None and not 0.0 <= known[0] < float("inf"):
        raise ValueError(f"{name} must be finite and >= 0; got {value}")

  def reset(self, rng: Array) -> State:
    """A first state and a noise stream, both drawn with the legacy key `rng`."""
    start_key, noise_key = jax.random.split(jax.random.wrap_key_data(rng))
    obs = self.initial_std * jax.random.normal(start_key, (self.observation_size,))
    return State(obs=obs, reward=jnp.zeros(()), done=jnp.zeros(()), data=noise_key)

  def step(self, state: State, action: Array) -> State:
    """The state after `action` `[d]`, and the cost of the step."""
    key, noise_key = jax.random.split(state.data)
    next_obs, reward, _ = self.outcome(state.obs, action, noise_key)
    return state.replace(obs=next_obs, reward=reward, data=key)

  def outcome(self, obs: Array, action: Array, key: Array) -> tuple[Array, Array, Array]:
    """(next_obs, reward, discount) of one step from an observation, for `models.known`."""
    noise = self.noise * jax.random.normal(key, obs.shape)
    reward = -(obs @ self.Q @ obs + action @ self.R @ action)
    return self.A @ obs + self.B @ action + noise, reward, jnp.ones_like(reward)

  def problem(self, discount: float) -> linear_quadratic.LinearQuadratic:
    """The same problem for `varl.exact.linear_quadratic`, which solves it under the discount γ in (0, 1).

    Raises:
      ValueError: γ out of range, or a problem without a solution under it.
    """
    matrices = (m.astype(np.float64) for m in (self.A, self.B, self.Q, self.R))
    noise = self.noise**2 * np.eye(self.observation_size)
    return linear_quadratic.linear_quadratic(*matrices, noise_covariance=noise, discount=discount)


class Chain:
  """A discrete corridor of `length` cells: action 1 goes right, action 0 goes back to the first cell and pays 0.1.

  The last cell pays 1 and ends the episode. Observation: the cell, one-hot `[length]`. Starts in the first cell.

  Raises:
    ValueError: `length` below 2.
  """

  discrete = True
  action_size = 2
  dt = 0.25

  def __init__(self, length: int = 6):
    self.observation_size = checks.whole("length", length, least=2)

  def reset(self, rng: Array) -> State:
    """The first cell; the key is not needed."""
    del rng
    return self._state(jnp.int32(0), jnp.zeros(()))

  def step(self, state: State, action: Array) -> State:
    """The cell after `action` in {0, 1}."""
    right = jnp.asarray(action) == 1
    cell = jnp.where(right, state.data + 1, 0)
    new = self._state(cell, jnp.where(right, 1.0 * (cell == self.observation_size - 1), 0.1))
    return state.replace(obs=new.obs, reward=new.reward, done=new.done, data=new.data)

  def draw(self, axes: Any, state: Any) -> None:
    """The corridor, and the cell that is stood in."""
    cells = np.zeros((1, self.observation_size))
    cells[0, int(state.data)] = 1.0
    axes.imshow(cells, cmap="Blues", vmin=0.0, vmax=1.5)
    axes.text(self.observation_size - 1, 0, "G", ha="center", va="center")
    axes.set(xticks=np.arange(self.observation_size + 1) - 0.5, xticklabels=[], yticks=[])
    axes.grid(color="0.6")

  def _state(self, cell: Array, reward: Array) -> State:
    return State(
      obs=jax.nn.one_hot(cell, self.observation_size),
      reward=reward,
      done=(cell == self.observation_size - 1).astype(float),
      data=cell,
    )


def _plane(axes: Any, reach: float, goals: Any, place: Any) -> None:
  """A square of the plane around the origin, with goals and a point."""
  axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
  axes.plot(*np.asarray(goals, float).T, "*", color="C1", markersize=16)
  axes.plot(*np.asarray(place, float), "o", color="C0", markersize=12)
