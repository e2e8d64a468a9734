"""Environments of Gymnasium, on the host: by hand, with their ends and limits, trained, resumed, and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl.envs import check, make, observe, spec, vectorize

gymnasium = pytest.importorskip("gymnasium")

from varl.envs.gymnasium import Gymnasium  # noqa: E402


class Counting(gymnasium.Env):
  """Observation: steps since the reset, beside the last action. Ends after `end` steps, is cut after `cut`."""

  observation_space = gymnasium.spaces.Dict({
    "action": gymnasium.spaces.Box(-9, 9, (2,)), "count": gymnasium.spaces.Box(0, 99, (1,)),
  })  # fmt: skip
  action_space = gymnasium.spaces.Box(np.float32([-1.0, 0.0]), np.float32([3.0, 2.0]))

  def __init__(self, end=99, cut=99, broken=99):
    self.end, self.cut, self.broken = end, cut, broken

  def _obs(self):
    return {"action": self.last, "count": np.array([self.count], np.float32)}

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.count, self.last = 0, np.zeros(2, np.float32)
    return self._obs(), {}

  def step(self, action):
    self.count, self.last = self.count + 1, action
    reward = np.nan if self.count == self.broken else 1.0
    return self._obs(), reward, self.count >= self.end, self.count >= self.cut, {}


def rollout(batch, length, action):
  @jax.jit
  def run(key):
    return jax.lax.scan(lambda state, _: batch.step(state, action), batch.reset(key), None, length=length)[1]

  return jax.device_get(run(jax.random.key(0)))


def test_steps_ends_and_the_true_last_observation():
  env = Gymnasium(lambda: Counting(end=3))
  assert spec(env) == varl.Spec(3, 2)
  rows = rollout(vectorize(env, 2, episode_length=100), 7, jnp.array([[0.0, 0.0], [1.0, -1.0]]))
  np.testing.assert_array_equal(rows.obs[:, 0, 2], [0, 1, 2, 0, 1, 2, 0])
  np.testing.assert_array_equal(rows.next_obs[:, 0, 2], [1, 2, 3, 1, 2, 3, 1])
  np.testing.assert_array_equal(rows.next_obs[0, :, :2], [[1.0, 1.0], [3.0, 0.0]])  # in the environment's own units
  np.testing.assert_array_equal(rows.terminated[:, 1], [0, 0, 1, 0, 0, 1, 0])
  assert not rows.truncated.any()
  assert (rows.reward == 1.0).all()


@pytest.mark.parametrize(("cut", "length"), [(3, 100), (99, 3)])
def test_a_limit_is_no_end(cut, length):
  rows = rollout(vectorize(Gymnasium(lambda: Counting(cut=cut)), 1, episode_length=length), 4, jnp.zeros((1, 2)))
  np.testing.assert_array_equal(rows.truncated[:, 0], [0, 0, 1, 0])
  assert not rows.terminated.any()
  np.testing.assert_array_equal(rows.next_obs[:, 0, 2], [1, 2, 3, 1])


def test_repeated_actions_and_what_is_not_finite():
  rows = rollout(vectorize(Gymnasium(lambda: Counting(end=5)), 1, action_repeat=2), 3, jnp.zeros((1, 2)))
  np.testing.assert_array_equal(rows.reward[:, 0], [2.0, 2.0, 1.0])
  np.testing.assert_array_equal(rows.terminated[:, 0], [0, 0, 1])
  rows = rollout(vectorize(Gymnasium(lambda: Counting(broken=2)), 1), 3, jnp.zeros((1, 2)))
  np.testing.assert_array_equal(rows.valid[:, 0], [1, 0, 1])
  np.testing.assert_array_equal(rows.next_obs[:, 0, 2], [1, 1, 1])


def test_names_time_limits_and_kinds():
  pendulum, pole = make("gymnasium:Pendulum-v1"), make("gymnasium:CartPole-v1")
  assert (pendulum.time_limit, pole.time_limit) == (200, 500)
  assert spec(pole) == varl.Spec(4, 2, discrete=True, bounded=False)
  assert check(pendulum).kept
  low, high = pendulum.action_bounds
  assert (float(low[0]), float(high[0])) == (-2.0, 2.0)


FEW = {
  "num_timesteps": 200, "num_envs": 4, "warm_up": 100, "batch_size": 8, "hidden": (8,), "eval_every": 100,
  "episode_length": 20, "eval_episodes": 2, "preset": False, "replay_capacity": 400,
}  # fmt: skip


def test_a_run_is_trained_evaluated_and_resumed(tmp_path):
  out = tmp_path / "run"
  run = varl.train("sac_discrete", "gymnasium:CartPole-v1", out=out, **FEW)
  assert run.finished
  assert varl.evaluate(out, episodes=2)["eval/avg_episode_length"] <= 20
  longer = varl.resume(out, num_timesteps=300)
  assert [row["env_steps"] for row in longer.metrics] == [0, 100, 200, 300]
  # Of another process, the host's states are gone: the first step counts for nothing, and is told.
  assert longer.metrics[-1]["training/nan_resets"] == 4.0


@pytest.mark.parametrize(
  ("space", "expected"),
  [
    (gymnasium.spaces.MultiDiscrete([3, 2], start=[0, 5]), [[0, 5], [0, 6], [1, 5], [1, 6], [2, 5], [2, 6]]),
    (gymnasium.spaces.MultiBinary(2), [[0, 0], [0, 1], [1, 0], [1, 1]]),
  ],
)
def test_several_integers_are_one_action(space, expected):
  env = Gymnasium(lambda: type("M", (Counting,), {"action_space": space})())
  assert spec(env) == varl.Spec(3, len(expected), discrete=True, bounded=False)
  for action, own in enumerate(expected):
    assert space.contains(np.asarray(env.native(action), space.dtype))
    np.testing.assert_array_equal(env.native(action), own)
  rows = rollout(vectorize(env, len(expected), episode_length=9), 2, jnp.arange(len(expected)))
  np.testing.assert_array_equal(rows.next_obs[0, :, :2], expected)


def test_what_the_host_cannot_do_is_refused():
  with pytest.raises(ValueError, match="members of a population would share its states"):
    varl.population("sac", "gymnasium:Pendulum-v1", seeds=2, **FEW)
  with pytest.raises(ValueError, match="no devices to divide it over"):
    varl.train("sac", "gymnasium:Pendulum-v1", num_devices=2, **FEW)
  with pytest.raises(ValueError, match="Gymnasium makes no 'Pendulum-v99'"):
    make("gymnasium:Pendulum-v99")
  with pytest.raises(ValueError, match="has no physics backend"):
    make("gymnasium:Pendulum-v1", "mjx")
  with pytest.raises(ValueError, match=r"MultiDiscrete, MultiBinary or a Box; these are a Text"):
    Gymnasium(lambda: type("M", (Counting,), {"action_space": gymnasium.spaces.Text(3)})())
  with pytest.raises(ValueError, match=r"of which there may be 1024; .* makes 4096"):
    Gymnasium(lambda: type("M", (Counting,), {"action_space": gymnasium.spaces.MultiBinary(12)})())
  with pytest.raises(ValueError, match="nobody says how to draw it"):
    Gymnasium(Counting).play(None, jax.random.key(0), 9, 1)
  with pytest.raises(ValueError, match='as "gymnasium:ID"'):
    make(gymnasium.make("Pendulum-v1"))
  state = vectorize(Gymnasium(Counting), 2).reset(jax.random.key(0))
  assert observe(state).shape == (2, 3)
