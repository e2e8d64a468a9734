"""The training loop's settings; imports no JAX, to parse quickly."""

import dataclasses
import math
from collections.abc import Iterable

from varl.checks import kinds, plain, positive
from varl.envs.catalog import RESETS

MINIBATCHES = ("rows", "trajectories")
PREPARE_EVERY = ("rollout", "epoch", "minibatch")
COUNTED = 2**31
"""Steps of an episode and iterations of a run are counted in 32 bits; a run's environment steps on the host, in any."""
FOLLOWS = ("updates_per_env_step", "replay_capacity", "warm_up")
"""The settings that follow from `epochs`, where there are any."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """How the loop runs: how long, over how many environments, with how much replay. All counts are of environment steps.

  Attributes:
    num_timesteps: environment steps in all, over all environments, repeated actions counted.
    num_envs: parallel environments.
    episode_length: the time limit, in environment steps; 0: the environment's own (`time_limit`), or 1000 where it has
      none.
    action_repeat: environment steps an action is held for.
    unroll_length: actions an environment takes between two rounds of updates.
    epochs: for algorithms that learn from the latest rollout alone: passes over it, in minibatches of `batch_size`.
      `updates_per_env_step`, `replay_capacity` and `warm_up` then follow, whatever they were given as: what the passes
      come to, one rollout, none. (`varl.train` and the command line refuse them.) Where such an algorithm normalises
      observations, its first rollout is of random actions and gives the first moments: it counts among
      `num_timesteps`, and no update is made on it.
      0: for algorithms that learn from replay.
    minibatches: of a rollout: "rows" drawn from all of it, or the whole "trajectories" of some of its environments,
      `batch_size / unroll_length` of them.
    prepare_every: how often advantages are computed, by the values as they then are: once a "rollout", anew for each
      "epoch" over it, or anew for each "minibatch", which is then of trajectories.
    updates_per_env_step: train steps a (single) environment step; times the steps of one iteration it is a whole
      number.
    batch_size: transitions a train step.
    replay_capacity: transitions kept; the oldest go first.
    warm_up: environment steps of uniformly random actions before the first update.
    reset: "pool" (drawn from many precomputed first states), "fresh" (computed anew) or "cached" (each environment
      always returns to its own first state).
    pool_size: first states in the pool; 0: as many as environments, at least 256.
    nan_guard: reset environments that turn non-finite, keep those steps out of replay, and count them.
    eval_every: environment steps between evaluations, each a row of metrics; rounded up to whole iterations.
    checkpoint_every: environment steps between checkpoints, which are written after an evaluation; 0: after each. The
      last step of a run always has one.
    eval_episodes: episodes an evaluation, in parallel.
    eval_stochastic: evaluate the exploring policy and not its mode.
    num_devices: devices the environments, replay and batches are split over; of a CPU, its cores.
  """

  num_timesteps: int = 1_000_000
  num_envs: int = 64
  episode_length: int = 0
  action_repeat: int = 1
  unroll_length: int = 1
  epochs: int = 0
  minibatches: str = "rows"
  prepare_every: str = "rollout"
  updates_per_env_step: float = 0.25
  batch_size: int = 256
  replay_capacity: int = 1_000_000
  warm_up: int = 5_000
  reset: str = "pool"
  pool_size: int = 0
  nan_guard: bool = True
  eval_every: int = 50_000
  checkpoint_every: int = 0
  eval_episodes: int = 32
  eval_stochastic: bool = False
  num_devices: int = 1

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      object.__setattr__(self, field.name, plain(getattr(self, field.name), whole=field.type in (int, "int")))
    kinds(self)
    whole = ("num_timesteps", "num_envs", "action_repeat", "unroll_length", "batch_size")
    positive(self, *whole, "replay_capacity", "eval_every", "eval_episodes", "num_devices", whole=True)
    positive(self, "episode_length", "epochs", "warm_up", "pool_size", "checkpoint_every", zero=True, whole=True)
    positive(self, "updates_per_env_step", zero=True)
    choices = {"reset": RESETS, "minibatches": MINIBATCHES, "prepare_every": PREPARE_EVERY}
    for name, allowed in choices.items():
      if getattr(self, name) not in allowed:
        raise ValueError(f"{name} is one of {list(allowed)}, got {getattr(self, name)!r}")
      if name != "reset" and getattr(self, name) != allowed[0] and not self.epochs:
        raise ValueError(f"{name}={getattr(self, name)!r} is of rollouts: epochs, the passes over each, must be > 0")
    if self.prepare_every == "minibatch" and self.minibatches == "rows":
      raise ValueError("prepare_every='minibatch' needs whole trajectories in each: minibatches='trajectories'")
    for name in ("num_envs", "batch_size", "replay_capacity", "eval_episodes"):
      if getattr(self, name) % self.num_devices:
        raise ValueError(
          f"{name} is divided over the devices, but {getattr(self, name)} is not divisible by "
          f"num_devices={self.num_devices}"
        )
    if self.epochs:
      self._on_policy()
    if self.replay_capacity < self.batch_size:
      raise ValueError(f"replay_capacity={self.replay_capacity} cannot hold one batch of batch_size={self.batch_size}")
    if self.replay_capacity < self.num_envs * self.unroll_length:
      raise ValueError(
        f"replay_capacity={self.replay_capacity} cannot hold one rollout of num_envs × unroll_length = "
        f"{self.num_envs * self.unroll_length}"
      )
    for name, count in (
      ("episode_length + action_repeat", self.episode_length + self.action_repeat),
      ("iterations, num_timesteps / (num_envs × unroll_length × action_repeat),", self.iterations),
    ):
      if count >= COUNTED:
        raise ValueError(f"{name} must be < {COUNTED:,}, what 32 bits count; got {count:,}")
    if abs(self.updates_per_iteration - self.updates_per_env_step * self.steps_per_iteration) > 1e-6:
      raise ValueError(
        f"updates_per_env_step={self.updates_per_env_step} times the {self.steps_per_iteration} environment steps "
        f"of an iteration (num_envs × unroll_length × action_repeat) is not a whole number of updates; the nearest are "
        f"{[k / self.steps_per_iteration for k in _around(self.updates_per_env_step * self.steps_per_iteration)]}"
      )

  def _on_policy(self) -> None:
    rows = self.num_envs * self.unroll_length
    if rows % self.batch_size:
      raise ValueError(
        f"batch_size={self.batch_size} does not divide a rollout of num_envs × unroll_length = {rows} transitions into "
        "minibatches"
      )
    if self.minibatches == "trajectories" and self.batch_size // self.num_devices % self.unroll_length:
      raise ValueError(
        f"batch_size={self.batch_size} over num_devices={self.num_devices} holds no whole number of trajectories of "
        f"unroll_length={self.unroll_length}"
      )
    follows = {
      "updates_per_env_step": self.epochs * (rows // self.batch_size) / self.steps_per_iteration,
      "replay_capacity": rows,
      "warm_up": 0,
    }
    for name in FOLLOWS:
      object.__setattr__(self, name, follows[name])

  @property
  def steps_per_iteration(self) -> int:
    """Environment steps of one iteration of the loop."""
    return self.num_envs * self.unroll_length * self.action_repeat

  @property
  def updates_per_iteration(self) -> int:
    """Train steps of one iteration of the loop."""
    return round(self.updates_per_env_step * self.steps_per_iteration)

  @property
  def iterations_per_epoch(self) -> int:
    """Iterations between evaluations."""
    return -(-self.eval_every // self.steps_per_iteration)

  @property
  def warm_up_iterations(self) -> int:
    """Iterations of random actions, no update: enough for `warm_up` steps and for one batch."""
    first = self.batch_size * self.action_repeat if self.updates_per_iteration and not self.epochs else 0
    return -(-max(self.warm_up, first) // self.steps_per_iteration)

  @property
  def iterations(self) -> int:
    """Iterations of the whole run."""
    return -(-self.num_timesteps // self.steps_per_iteration)


def check_given(names: Iterable[str], settings: Settings) -> None:
  """Checks the names of the settings that somebody gave.

  Raises:
    ValueError: some follow from `epochs`, so that what was given would go unheeded.
  """
  unheeded = [name for name in names if name in FOLLOWS]
  if settings.epochs and unheeded:
    raise ValueError(
      f"{', '.join(unheeded)} cannot be set for an algorithm that learns from rollouts: updates follow from "
      "epochs and batch_size, and there is neither replay nor warm-up"
    )


def _around(x: float) -> list[int]:
  return sorted({max(math.floor(x), 0), math.ceil(x)})
