"""The loop's settings: each error by name, and the counts that follow from them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.checks import nearest, plain, positive, unit_interval
from varl.envs.catalog import RESETS
from varl.loop.settings import Settings
from varl.run import configure

WHOLE = (
  "num_timesteps",
  "num_envs",
  "action_repeat",
  "unroll_length",
  "batch_size",
  "replay_capacity",
  "eval_every",
  "eval_episodes",
  "num_devices",
)
WHOLE_OR_ZERO = ("episode_length", "warm_up", "pool_size", "checkpoint_every")


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), float("inf"), True, "64"])
def test_counts_are_positive_whole_numbers(name, value):
  with pytest.raises(ValueError, match=rf"{name} is a whole number > 0, got {value!r}"):
    Settings(**{name: value})


@pytest.mark.parametrize("name", WHOLE_OR_ZERO)
@pytest.mark.parametrize("value", [-1, 0.5, float("nan"), False])
def test_counts_that_may_be_zero(name, value):
  with pytest.raises(ValueError, match=rf"{name} is a whole number >= 0, got {value!r}"):
    Settings(**{name: value})
  assert getattr(Settings(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", [-0.25, float("nan"), float("inf"), True, "1"])
def test_the_update_ratio_is_finite_and_not_negative(value):
  with pytest.raises(ValueError, match=rf"updates_per_env_step is a finite number >= 0, got {value!r}"):
    Settings(updates_per_env_step=value)


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"reset": "auto"}, r"reset is one of \['pool', 'fresh', 'cached'\], got 'auto'"),
    (
      {"num_envs": 60, "num_devices": 8, "updates_per_env_step": 1.0},
      "num_envs .* 60 is not divisible by num_devices=8",
    ),
    ({"batch_size": 100, "num_devices": 8}, "batch_size .* 100 is not divisible by num_devices=8"),
    ({"replay_capacity": 9_999, "num_devices": 8}, "replay_capacity .* 9999 is not divisible by num_devices=8"),
    ({"eval_episodes": 12, "num_devices": 8}, "eval_episodes .* 12 is not divisible by num_devices=8"),
    ({"replay_capacity": 255}, "replay_capacity=255 cannot hold one batch of batch_size=256"),
    ({"replay_capacity": 300, "unroll_length": 5}, "replay_capacity=300 .* num_envs × unroll_length = 320"),
    (
      {"updates_per_env_step": 0.3},
      r"updates_per_env_step=0.3 times the 64 .* not a whole number of updates; the nearest are \[0.296875, 0.3125\]",
    ),
    ({"num_envs": 1, "updates_per_env_step": 0.25}, r"the nearest are \[0.0, 1.0\]"),
    ({"episode_length": 2**31 - 1}, r"episode_length \+ action_repeat must be < 2,147,483,648, .* got 2,147,483,648"),
    ({"num_timesteps": 64 * 2**31}, r"iterations, num_timesteps / .*, must be < 2,147,483,648, .* got 2,147,483,648"),
  ],
)
def test_settings_that_do_not_fit_together(kwargs, message):
  with pytest.raises(ValueError, match=message):
    Settings(**kwargs)


@pytest.mark.parametrize("reset", RESETS)
def test_every_reset_is_allowed(reset):
  assert Settings(reset=reset).reset == reset


def test_the_counts_of_an_iteration():
  settings = Settings(
    num_timesteps=1000,
    num_envs=4,
    unroll_length=3,
    action_repeat=2,
    updates_per_env_step=0.5,
    eval_every=100,
    warm_up=100,
  )
  assert settings.steps_per_iteration == 24
  assert settings.updates_per_iteration == 12
  assert settings.iterations == 42  # 1000/24 = 41.7
  assert settings.iterations_per_epoch == 5  # 100/24 = 4.2
  # 256 transitions for one batch are 512 environment steps, more than the warm-up asked for.
  assert settings.warm_up_iterations == 22
  assert dataclasses.replace(settings, warm_up=2400).warm_up_iterations == 100
  assert dataclasses.replace(settings, warm_up=0, updates_per_env_step=0.0).warm_up_iterations == 0


@pytest.mark.parametrize(("num_envs", "ratio", "updates"), [(64, 0.25, 16), (3, 1 / 3, 1), (10, 0.1, 1), (8, 4.0, 32)])
def test_ratios_that_round_are_taken_as_meant(num_envs, ratio, updates):
  assert Settings(num_envs=num_envs, updates_per_env_step=ratio).updates_per_iteration == updates


def test_settings_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    Settings().num_envs = 3


@dataclasses.dataclass
class Config:
  x: object


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "1", jnp.float32(-1.0), np.array(0)])
def test_positive(value):
  with pytest.raises(ValueError, match=r"x is a finite number > 0, got"):
    positive(Config(value), "x")


@pytest.mark.parametrize("value", [1, 0.5, None, jnp.float32(1.0), np.array(2)])
def test_positive_lets_pass(value):
  positive(Config(value), "x")


def test_what_is_traced_passes():
  def checked(x):
    positive(Config(x), "x")
    unit_interval(Config(x), "x")
    return x

  assert jax.jit(checked)(-7.0) == -7.0


def test_zero_and_whole():
  positive(Config(0), "x", zero=True)
  positive(Config(3), "x", whole=True)
  with pytest.raises(ValueError, match=r"x is a finite number >= 0, got -0.1"):
    positive(Config(-0.1), "x", zero=True)
  with pytest.raises(ValueError, match=r"x is a whole number >= 0, got 0.5"):
    positive(Config(0.5), "x", zero=True, whole=True)


@pytest.mark.parametrize(
  ("value", "ends", "interval"),
  [
    (-0.1, {}, r"\[0, 1\]"),
    (1.1, {}, r"\[0, 1\]"),
    (float("nan"), {}, r"\[0, 1\]"),
    (True, {}, r"\[0, 1\]"),
    ("0.5", {}, r"\[0, 1\]"),
    (np.array(7.0), {}, r"\[0, 1\]"),
    (0.0, {"lower_open": True}, r"\(0, 1\]"),
    (1.0, {"upper_open": True}, r"\[0, 1\)"),
    (1, {"lower_open": True, "upper_open": True}, r"\(0, 1\)"),
  ],
)
def test_unit_interval(value, ends, interval):
  with pytest.raises(ValueError, match=rf"x lies in {interval}, got {plain(value)!r}"):
    unit_interval(Config(value), "x", **ends)


def test_unit_interval_lets_pass():
  for value in (0, 0.0, 0.5, 1, 1.0, jnp.float32(0.5)):
    unit_interval(Config(value), "x")
  unit_interval(Config(0.0), "x", upper_open=True)
  unit_interval(Config(1.0), "x", lower_open=True)


def test_nearest():
  assert nearest("num_env", ["num_envs", "reset"]) == " (did you mean 'num_envs'?)"
  assert nearest("polo", ["pool", "polos"]) == " (did you mean 'polos' or 'pool'?)"
  assert nearest("xyzzy", ["num_envs"]) == ""


def test_settings_that_follow_from_epochs_are_not_given():
  with pytest.raises(ValueError, match="replay_capacity, warm_up cannot be set"):
    configure.resolve("ppo", "inverted_pendulum", replay_capacity=10_000, warm_up=100)
  run = configure.resolve("ppo", "inverted_pendulum", epochs=2)
  again = configure.resolve("ppo", "inverted_pendulum", preset=False, **dataclasses.asdict(run.settings))
  assert again.settings == run.settings  # what they came to may be given again
  assert configure.resolve("sac", "inverted_pendulum", warm_up=100).settings.warm_up == 100
