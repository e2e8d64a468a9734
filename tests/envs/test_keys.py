"""Random keys in an environment's state: found by what `step` does with them, and drawn anew in copies of a state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import Counter, rollout

from varl.envs import State, flow, vectorize
from varl.envs.contract import Book
from varl.envs.keys import leaf_names, renew
from varl.envs.trace import look, trace

N = 4


class Noisy:
  """Pays noise. Where its key lies, and how it is drawn with, is up to a subclass."""

  observation_size = action_size = 1

  def reset(self, rng):
    return State(jnp.zeros(1), jnp.zeros(()), jnp.zeros(()), **self.first(rng))

  def step(self, state, action):
    reward, kept = self.noise(state)
    return state.replace(reward=reward, **kept)


def split_of(key):
  key, now = jax.random.split(key)
  return jax.random.normal(now), key


class Data(Noisy):
  def first(self, rng):
    return {"data": {"place": jnp.zeros(3), "rng": rng}}

  def noise(self, state):
    reward, key = split_of(state.data["rng"])
    return reward, {"data": {**state.data, "rng": key}}


class Info(Noisy):
  def first(self, rng):
    return {"info": {"noise": jax.random.split(rng)[1]}}

  def noise(self, state):
    reward, key = split_of(state.info["noise"])
    return reward, {"info": {"noise": key}}


class Typed(Noisy):
  def first(self, rng):
    return {"data": jax.random.wrap_key_data(rng)}

  def noise(self, state):
    reward, key = split_of(state.data)
    return reward, {"data": key}


class Other(Noisy):
  """A typed key of an implementation that is not the default one."""

  def first(self, rng):
    return {"data": jax.random.key(jax.random.bits(rng), impl="rbg")}

  def noise(self, state):
    return Typed.noise(self, state)


class OtherLegacy(Noisy):
  def first(self, rng):
    return {"data": jax.random.key_data(jax.random.key(jax.random.bits(rng), impl="rbg"))}

  def noise(self, state):
    reward, key = split_of(jax.random.wrap_key_data(state.data, impl="rbg"))
    return reward, {"data": jax.random.key_data(key)}


class Row(Noisy):
  """One key of several, drawn with in a branch of a loop."""

  def first(self, rng):
    return {"data": (jax.random.split(rng, 3), jnp.int32(0))}

  def noise(self, state):
    keys, count = state.data

    def one(_, total):
      return jax.lax.cond(total < 9, lambda: jax.random.normal(jax.random.fold_in(keys[count % 3], count)), lambda: 0.0)

    return jax.lax.fori_loop(0, 2, one, 0.0), {"data": (keys, count + 1)}


@pytest.mark.parametrize(
  ("env", "names"),
  [
    (Data(), [".data['rng']"]),
    (Info(), [".info['noise']"]),
    (Typed(), [".data"]),
    (Other(), [".data"]),
    (OtherLegacy(), [".data"]),
    (Row(), [".data[0]"]),
  ],
  ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize("reset", ["pool", "cached"])
def test_noise_is_new_in_every_copy_wherever_its_key_lies(env, names, reset):
  traced = trace(env, reset)
  assert [leaf_names(traced.state)[n] for n in traced.keys] == names
  vector = vectorize(env, N, reset=reset, episode_length=1, pool_size=1 if reset == "pool" else None)
  step, _, _ = rollout(vector, 20)
  assert np.unique(step.reward).size == 20 * N


class Counters(Data):
  """Two counters that look like a key, and a key. Observation and reward say what became of both."""

  def first(self, rng):
    return {"info": {"tiles": jax.random.randint(rng, (2,), 0, 9).astype(jnp.uint32), "rng": rng}}

  def noise(self, state):
    reward, key = split_of(state.info["rng"])
    return reward + state.info["tiles"].sum(), {"info": {"tiles": state.info["tiles"] + 1, "rng": key}}


def test_counters_of_the_same_dtype_and_shape_are_none():
  traced = trace(Counters())
  assert [leaf_names(traced.state)[n] for n in traced.keys] == [".info['rng']"]
  states = jax.vmap(Counters().reset)(jax.random.split(jax.random.PRNGKey(0), N))
  fresh = renew(states, traced.keys, jax.random.key(1))
  np.testing.assert_array_equal(fresh.info["tiles"], states.info["tiles"])
  assert (fresh.info["rng"] != states.info["rng"]).any(axis=1).all()


class Unused(Noisy):
  def first(self, rng):
    return {"data": rng}

  def noise(self, state):
    return state.data.sum().astype(jnp.float32), {}


def test_plain_integers_that_nothing_is_drawn_with_are_kept():
  assert trace(Unused()).keys == ()


class Seed(Noisy):
  def first(self, rng):
    return {"data": (jax.random.randint(rng, (), 0, 2**30), jnp.int32(0))}

  def noise(self, state):
    seed, count = state.data
    return jax.random.normal(jax.random.fold_in(jax.random.PRNGKey(seed), count)), {"data": (seed, count + 1)}


class Packed(Noisy):
  """A legacy key and a counter in one array."""

  def first(self, rng):
    return {"data": jnp.concatenate([rng, jnp.zeros(1, jnp.uint32)])}

  def noise(self, state):
    key, count = state.data[:2], state.data[2]
    return jax.random.normal(jax.random.fold_in(key, count)), {"data": state.data.at[2].add(1)}


@pytest.mark.parametrize("env", [Seed(), Packed()], ids=lambda x: type(x).__name__)
def test_seeds_are_refused_where_states_are_copied(env):
  with pytest.raises(
    ValueError, match=r"state\.data.* seeds the noise of step: .* keep a random key .* or take reset="
  ):
    vectorize(env, N)
  step, _, _ = rollout(vectorize(env, N, reset="fresh", episode_length=2), 20)
  assert np.unique(step.reward).size == 20 * N


def notes(env):
  book = Book("Broken")
  look(env, book)
  return [finding.message for finding in book.findings() if finding.severity == "note"]


class Constant(Noisy):
  def first(self, rng):
    return {"data": jnp.int32(0)}

  def noise(self, state):
    return jax.random.normal(jax.random.fold_in(jax.random.PRNGKey(0), state.data)), {"data": state.data + 1}


class Stuck(Data):
  def noise(self, state):
    return split_of(state.data["rng"])[0], {}


def test_noise_that_repeats_itself_is_noted():
  assert notes(Constant()) == [
    "step of Broken draws with a key that no reset changes: every episode has the same noise"
  ]
  assert notes(Stuck()) == [
    "step of Broken never advances state.data['rng']: all steps of an episode have the same noise"
  ]
  assert notes(Data()) == notes(Row()) == []


def test_the_flow_of_a_function():
  def function(key, x, seed, count):
    one, two = jax.random.split(key)
    carried, _ = jax.lax.scan(lambda c, y: (c + y * jax.random.normal(one), c), x[0], x)
    looped = jax.lax.while_loop(lambda c: c[1] < count, lambda c: (c[0][::-1], c[1] + 1), (two, 0))
    other = jax.random.gamma(jax.random.key(seed), 1.0)
    return carried, looped[0], other, jnp.where(count > 0, key, two), x.T[::-1]

  jaxpr = jax.make_jaxpr(function)(jnp.zeros(2, jnp.uint32), jnp.zeros(3), jnp.int32(0), jnp.int32(1))
  found = flow.follow(jaxpr)
  assert [set(output.of) for output in found.outputs] == [{0, 1}, {0, 3}, {2}, {0, 3}, {1}]
  assert [set(output.is_one) for output in found.outputs] == [{1}, set(), set(), {0}, {1}]
  assert (set(found.keys), set(found.seeds), set(found.draws)) == ({0}, {2}, {frozenset({0}), frozenset({2})})
  assert flow.is_random(jaxpr)
  assert not flow.is_random(jax.make_jaxpr(lambda x: jnp.where(x > 0, x, -x))(1.0))


def test_an_environment_without_noise_is_not_walked():
  assert trace(Counter()).keys == ()
