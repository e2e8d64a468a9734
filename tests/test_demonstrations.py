"""Demonstrations: what is refused, what files keep, which rows are drawn, and an agent that learns from them alone."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import expert, small, transitions

from varl import agents, demonstrations, normalize
from varl.demonstrations import EDGE, of_arrays
from varl.envs import spec as spec_of
from varl.envs import toys
from varl.types import Spec

SPEC, WHOLE = Spec(3, 2), Spec(3, 4, discrete=True)
N = 6


def arrays(**changed):
  rng = np.random.default_rng(0)
  given = {
    "obs": rng.normal(size=(N, 3)), "action": rng.uniform(-1, 1, (N, 2)), "next_obs": rng.normal(size=(N, 3)),
    "terminated": [0, 0, 1, 0, 0, 0], "reward": np.arange(6.0),
  }  # fmt: skip
  return given | changed


def made(spec=SPEC, **changed):
  given = arrays(**changed)
  return of_arrays(spec, given.pop("obs"), given.pop("action"), given.pop("next_obs"), **given)


def test_episodes_end_where_they_are_said_to_and_the_last_one_is_cut():
  found = made()
  np.testing.assert_array_equal(found.episode, [0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(found.discount, [1, 1, 0, 1, 1, 1])
  np.testing.assert_array_equal(found.truncated, [0, 0, 0, 0, 0, 1])
  np.testing.assert_array_equal(found.returns, [3.0, 12.0])
  assert repr(found) == "Demonstrations(6 transitions, 2 episodes, mean return 7.5)"
  assert "unknown" in repr(made(reward=None))
  by_number = made(terminated=np.zeros(6), episode=np.array([3, 3, 5, 5, 5, 9]))
  np.testing.assert_array_equal(by_number.episode, [0, 0, 1, 1, 1, 2])
  np.testing.assert_array_equal(by_number.truncated, [0, 1, 0, 0, 1, 1])


def test_an_executed_action_is_brought_back_before_its_squashing():
  found = made(action=np.array([[0.5, 1.0]] * N))
  np.testing.assert_allclose(np.tanh(found.raw_action), [[0.5, 1.0 - EDGE]] * N, rtol=1e-6)
  own = made(action=np.tanh(np.full((N, 2), 3.0)), raw_action=np.full((N, 2), 3.0))
  np.testing.assert_array_equal(own.raw_action, 3.0)
  unbounded = made(SPEC._replace(bounded=False), action=np.full((N, 2), 7.0))
  np.testing.assert_array_equal(unbounded.raw_action, unbounded.action)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"obs": np.zeros((0, 3))}, "at least one episode; got none"),
    ({"obs": np.zeros((N, 4))}, r"another environment: obs must have shape \(6, 3\), got \(6, 4\)"),
    ({"next_obs": np.zeros((N, 2))}, r"another environment: next_obs must have shape \(6, 3\)"),
    ({"action": np.zeros((N, 3))}, r"another environment: action must have shape \(6, 2\), got \(6, 3\)"),
    ({"action": np.zeros((N, 2), int)}, "another environment: its actions are numbers on a scale, got integers"),
    ({"obs": np.full((N, 3), np.nan)}, "obs holds 18 values that are not finite"),
    ({"reward": [0, 0, np.inf, 0, 0, 0]}, "reward holds 1 values that are not finite"),
    ({"action": np.full((N, 2), 1.5)}, r"executed actions must lie in \[-1, 1\], got 1.5"),
    ({"terminated": [0, 1]}, r"terminated must have shape \(6,\)"),
    ({"terminated": [0, 0, np.nan, 0, 0, 0]}, "terminated must hold booleans, or 0 and 1; got nan"),
    ({"truncated": [0, 0, 0.5, 0, 0, 0]}, "truncated must hold booleans, or 0 and 1; got 0.5"),
    ({"obs": np.zeros((N, 3), object)}, "obs must be an array of numbers, got one of object"),
    ({"action": np.full((N, 2), "left")}, "action must be an array of numbers, got one of <U4"),
    ({"reward": [None] * N}, "reward must be an array of numbers, got one of object"),
    ({"episode": np.array([1, 0, 0, 0, 0, 0])}, "whole numbers that do not fall"),
    ({"raw_action": np.zeros((N, 1))}, "raw_action must have the shape of the actions"),
  ],
)
def test_what_is_refused(changed, message):
  with pytest.raises(ValueError, match=message):
    made(**changed)


def test_discrete_actions_are_checked_against_their_number():
  with pytest.raises(ValueError, match=r"actions must lie in \[0, 4\), got 0 to 4"):
    made(WHOLE, action=np.array([0, 1, 2, 3, 4, 0]))
  with pytest.raises(ValueError, match="its actions are integers, got numbers on a scale"):
    made(WHOLE, action=np.zeros(N))
  assert made(WHOLE, action=np.arange(N) % 4).raw_action.dtype == np.int32


@pytest.mark.parametrize("reward", [np.arange(6.0), None])
def test_a_file_keeps_them(tmp_path, reward):
  found = made(reward=reward, source={"env": "reacher", "seed": 3})
  demonstrations.save(tmp_path / "demos.npz", found)
  for spec in (SPEC, None):
    again = demonstrations.load(tmp_path / "demos.npz", spec)
    for name, one, two in zip(found._fields[:-1], found[:-1], again[:-1], strict=True):
      np.testing.assert_array_equal(one, two, err_msg=name)
    assert again.source == {"env": "reacher", "seed": 3}


def test_a_file_that_holds_none_is_refused(tmp_path):
  path = tmp_path / "x.npz"
  with pytest.raises(ValueError, match="there is no file of demonstrations"):
    demonstrations.load(path)
  path.write_bytes(b"PK\x03\x04 and then nothing")
  with pytest.raises(ValueError, match="holds no demonstrations"):
    demonstrations.load(path)
  np.savez(path, obs=np.zeros(3))
  with pytest.raises(ValueError, match="holds no demonstrations"):
    demonstrations.load(path)
  np.savez(path, provenance=np.asarray('{"schema": 9}'))
  with pytest.raises(ValueError, match="another schema"):
    demonstrations.load(path)
  np.savez(path, provenance=np.asarray('{"schema": 1}'), obs=np.zeros(3))
  with pytest.raises(ValueError, match="lacks next_obs, action"):
    demonstrations.load(path)
  good = made()
  for field, damaged, message in (
    ("discount", np.full(N, np.nan), "terminated must hold booleans, or 0 and 1; got nan"),
    ("obs", np.zeros(()), "at least one episode; got none"),
    ("action", np.zeros((0, 2)), "at least one episode; got none"),
    ("reward", np.full(N, "?"), "reward must be an array of numbers, got one of <U1"),
  ):
    demonstrations.save(path, good._replace(**{field: damaged}))
    with pytest.raises(ValueError, match=rf"x.npz: .*{message}"):
      demonstrations.load(path)
  demonstrations.save(path, good)
  with pytest.raises(ValueError, match=r"x.npz: demonstrations of another environment: obs must have shape \(6, 5\)"):
    demonstrations.load(path, Spec(5, 2))


def test_the_first_episodes_and_each_so_manyth_row():
  found = of_arrays(
    SPEC, np.arange(60.0).reshape(20, 3), np.zeros((20, 2)), np.zeros((20, 3)), terminated=np.zeros(20),
    episode=np.repeat([0, 1], 10),
  )  # fmt: skip
  np.testing.assert_array_equal(found.take(1).obs, found.obs[:10])
  for seed in range(5):
    kept = found.subsample(4, seed=seed)
    for episode in (0, 1):
      steps = kept.obs[kept.episode == episode][:, 0] / 3
      assert np.all(np.diff(steps) == 4)
      assert steps[0] - 10 * episode < 4
  assert len(found.subsample(100).obs) == 2
  for call, message in (
    (lambda: found.take(3), "of 2 episodes; got episodes=3"),
    (lambda: found.take(0), "episodes is a whole number >= 1, got 0"),
    (lambda: found.subsample(0), "every is a whole number >= 1, got 0"),
  ):
    with pytest.raises(ValueError, match=message):
      call()


def test_rows_are_drawn_uniformly_and_belong_together():
  found = made(action=np.linspace(-0.9, 0.9, 12).reshape(N, 2))
  rows = found.sample(jax.random.key(0), 6_000, squashed=False)
  index = np.argmin(np.abs(np.asarray(rows.reward)[:, None] - found.reward), axis=1)
  for name, one in (("obs", rows.obs), ("action", rows.action), ("next_obs", rows.next_obs)):
    np.testing.assert_allclose(one, getattr(found, name)[index], rtol=1e-6)
  assert np.all(np.abs(np.bincount(index) - 1_000) < 5 * np.sqrt(1_000 * 5 / 6))  # five deviations
  squashed = found.sample(jax.random.key(0), 6_000, squashed=True)
  np.testing.assert_allclose(np.tanh(squashed.action), rows.action, rtol=1e-5)


def test_minari_datasets_are_read_by_episode():
  def episode(length, terminated):
    return types.SimpleNamespace(
      observations=np.arange(3.0 * (length + 1)).reshape(-1, 3), actions=np.full((length, 2), 5.0),
      rewards=np.ones(length), terminations=np.arange(length) == (length - 1) * terminated,
      truncations=np.zeros(length, bool),
    )  # fmt: skip

  episodes = [episode(3, True), episode(2, False)]
  dataset = types.SimpleNamespace(
    iterate_episodes=lambda: episodes, spec=types.SimpleNamespace(dataset_id="mujoco/reacher/expert-v0")
  )
  found = demonstrations.of_minari(dataset, SPEC, bounds=(np.zeros(2), np.full(2, 10.0)))
  assert found.source == {"minari": "mujoco/reacher/expert-v0"}
  np.testing.assert_array_equal(found.action, 0.0)
  np.testing.assert_array_equal(found.obs[:, 0], [0, 3, 6, 0, 3])
  np.testing.assert_array_equal(found.next_obs[:, 0], [3, 6, 9, 3, 6])
  np.testing.assert_array_equal(found.episode, [0, 0, 0, 1, 1])
  with pytest.raises(ValueError, match="the Minari dataset has none"):
    demonstrations.of_minari(types.SimpleNamespace(iterate_episodes=list), SPEC)
  episodes[0].observations = np.zeros(4, object)
  with pytest.raises(ValueError, match="observations of one array each"):
    demonstrations.of_minari(dataset, SPEC)


def test_a_learner_sees_demonstrations_and_no_row_of_the_loops():
  module, spec = agents.load("bc"), spec_of(toys.PointMass())
  given = expert(spec)
  agent = module.make(spec, small(module, spec, demonstrations=given))
  state = agent.init(jax.random.key(0))
  moments = state.params[normalize.NORMALIZER]
  np.testing.assert_allclose(moments.origin + moments.mean, given.obs.mean(axis=0), rtol=1e-5, atol=1e-6)
  one, two = (transitions(seed, (8,), spec) for seed in (0, 1))
  same = [agent.update(state, batch, jax.random.key(1))[0].params for batch in (one, two)]
  jax.tree.map(np.testing.assert_array_equal, *same)
  assert agent.observe(state, one, jnp.ones(8, bool)) is state
  with pytest.raises(ValueError, match=r"a batch for this agent is \[B\]"):
    agent.update(state, transitions(0, (2, 8), spec), jax.random.key(1))
  for name in ("ppo", "beta_virel"):
    other = agents.load(name)
    with pytest.raises(ValueError, match="single transitions from replay"):
      demonstrations.learner(other.make(spec, small(other, spec)), given, squashed=True)


@pytest.mark.parametrize("name", ["gail", "airl", "maxent_irl", "iq_learn", "bc"])
def test_an_algorithm_without_demonstrations_says_how_they_are_made(name):
  module = agents.load(name)
  with pytest.raises(ValueError, match=f"^{name} learns from demonstrations: .*varl rollout"):
    module.make(SPEC, module.Config())
  with pytest.raises(ValueError, match="demonstrations of another environment"):
    module.make(SPEC, small(module, SPEC, demonstrations=expert(Spec(5, 2))))
  with pytest.raises(ValueError, match=r"there is no file of demonstrations nowhere\.npz"):
    module.make(SPEC, small(module, SPEC, demonstrations="nowhere.npz"))
  with pytest.raises(ValueError, match="of 2 episodes; got episodes=3"):
    module.make(SPEC, small(module, SPEC, episodes=3))
  module.make(SPEC, small(module, SPEC, episodes=1, subsample=2))


def test_rewards_that_nobody_knows_are_not_learned_from():
  spec = spec_of(toys.PointMass())
  rows = transitions(0, (6,), spec)
  found = demonstrations.of_arrays(spec, rows.obs, np.tanh(rows.action), rows.next_obs, terminated=np.zeros(6, bool))
  agent = agents.load("sac").make(spec, small(agents.load("sac")))
  with pytest.raises(ValueError, match="learns from rewards, and 6 of the 6 demonstrated transitions have none"):
    demonstrations.learner(agent, found, squashed=True)
  demonstrations.learner(agent, found, squashed=True, rewarded=False)
