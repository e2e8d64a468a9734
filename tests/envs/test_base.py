"""What passes for an environment, and what the errors say of what does not."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import Counter

from varl.envs import Environment, State, make, registry, spec, vectorize
from varl.envs.base import action_bounds, episode_length
from varl.envs.trace import trace
from varl.types import Spec


def test_spec():
  assert spec(Counter(bounds=(-2, 2))) == Spec(observation_size=2, action_size=2, discrete=False, bounded=True)
  assert not spec(Counter(bounds=None)).bounded
  assert isinstance(Counter(), Environment)


def test_default_bounds_are_those_of_brax():
  class Plain(Counter):
    def __init__(self):
      super().__init__()
      del self.action_bounds

  assert spec(Plain()).bounded


def test_a_wrapper_that_passes_attributes_on_is_an_environment():
  class Wrapper:
    def __init__(self, env):
      self.env = env

    def __getattr__(self, name):
      return getattr(self.env, name)

  trace(Wrapper(Counter()))


def test_a_size_that_is_computed_is_not_computed():
  class Costly(Counter):
    @property
    def observation_size(self):
      raise AssertionError("Brax would run a whole reset here")

  assert spec(Costly()).observation_size == 2


class NoStep:
  observation_size = action_size = 1

  def reset(self, rng):
    return State(jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))


class Fractional(Counter):
  """Its size is asked for by name only, since arrays of that size cannot be made."""

  def reset(self, rng):
    return State(jnp.zeros(2), jnp.zeros(()), jnp.zeros(()))

  def __init__(self):
    super().__init__(action_size=1.5)


def with_state(make_state, **attributes):
  """A `Counter` whose reset returns what `make_state` makes of its state."""
  body = {"reset": lambda self, rng: make_state(Counter.reset(self, rng)), **attributes}
  return type("Broken", (Counter,), body)()


def with_step(make_state, **attributes):
  """A `Counter` whose step returns what `make_state` makes of its state."""
  body = {"step": lambda self, state, action: make_state(Counter.step(self, state, action)), **attributes}
  return type("Broken", (Counter,), body)()


class Leaky(Counter):
  def reset(self, rng):
    self.first = super().reset(rng)
    return self.first

  def step(self, state, action):
    return super().step(state, action).replace(obs=self.first.obs)


class Alone(Counter):
  """Runs for one environment, but asks for the value of what it is given: a tracer has none."""

  def step(self, state, action):
    state = super().step(state, action)
    call = jax.pure_callback(lambda x: np.asarray(x) + 1, jax.ShapeDtypeStruct((), jnp.float32), state.obs[1])
    return state.replace(reward=call)


class Gymnasium:
  """What Gymnasium's environments offer."""

  action_space = observation_space = types.SimpleNamespace(shape=(2,))

  def reset(self, *, seed=None, options=None):
    return np.zeros(2), {}

  def step(self, action):
    return np.zeros(2), 0.0, False, False, {}


class PettingZoo(Gymnasium):
  possible_agents = ("a", "b")


class DmEnv:
  def reset(self):
    return None

  def step(self, action):
    return None

  def action_spec(self):
    return None

  def observation_spec(self):
    return None


class GymnaxLike(Gymnasium):
  default_params = ()

  def reset_env(self, key, params):
    return None

  def step_env(self, key, state, action, params):
    return None


def typed(state):
  return state.replace(info={"key": jax.random.key(0)})


@pytest.mark.parametrize(
  ("env", "message"),
  [
    (object(), "lacks reset, step, observation_size, action_size"),
    (NoStep(), "NoStep is no environment: it lacks step;"),
    (None, r"None is no environment \(a factory without a return"),
    ("ant", r"'ant' is a name and no environment: varl\.envs\.make\('ant'\)"),
    (Counter, r"Counter is a class and no environment: call it, Counter\(\.\.\.\)"),
    (sys, "sys is a module and no environment"),
    (make, "make is a function and no environment: call it"),
    ((Counter(), Counter()), "a tuple is no environment: give one environment, not several, nor spaces"),
    ({"a": Counter()}, "a dict is no environment"),
    (vectorize(Counter(), 2), r"a VectorEnv is a batch of environments: give .* its \.env"),
    (Gymnasium(), 'Gymnasium\'s interface are not functions of JAX.*"gymnax:ID"'),
    (PettingZoo(), "PettingZoo's environments have several agents"),
    (DmEnv(), "interface of dm_env give time steps, not states"),
    (GymnaxLike(), r'give the name "gymnax:ID", or varl\.envs\.gymnax\.Gymnax\(env, params\)'),
    ((GymnaxLike(), None), r"a pair of gymnax's environment .* varl\.envs\.gymnax\.Gymnax\(env, params\)"),
    (with_state(lambda s: s.obs), "lacks obs, reward, done, metrics, info, replace"),
    (with_state(lambda s: s.replace(obs={"image": s.obs, "touch": s.obs})), "dict with keys image, touch"),
    (with_state(lambda s: s, observation_size={"image": (2,)}), "observation_size of Broken is a dict"),
    (with_state(lambda s: s, observation_size=(2,)), r"observation_size is a whole number >= 1, got \(2,\)"),
    (with_state(lambda s: s.replace(obs=jnp.zeros((2, 2)))), r"one vector .* got shape \(2, 2\).*one of a batch"),
    (with_state(lambda s: s.replace(obs=jnp.zeros(()))), r"one vector .* got shape \(\): make it one"),
    (with_state(lambda s: s.replace(obs=jnp.zeros(0))), r"one vector .* got shape \(0,\)"),
    (with_state(lambda s: s.replace(obs=jnp.zeros(2, complex))), "must be real numbers; got complex64"),
    (with_state(lambda s: s.replace(obs=jnp.zeros(3))), "observation_size of Broken is 2, but .* length 3"),
    (with_state(lambda s: s.replace(reward=jnp.zeros(2))), r"reward of Broken must be a scalar .* float32\[2\]"),
    (with_state(lambda s: s.replace(reward=jnp.zeros(1))), r"reward of Broken must be a scalar .* float32\[1\]"),
    (with_state(lambda s: s.replace(done=jnp.zeros(1, bool))), r"done of Broken must be a scalar .* bool\[1\]"),
    (with_state(lambda s: s.replace(reward=None)), "reward of Broken must be a scalar .* NoneType"),
    (with_state(lambda s: s.replace(metrics=None)), "metrics of Broken must be a dict; got NoneType"),
    (with_state(lambda s: s.replace(info=())), "info of Broken must be a dict; got tuple"),
    (with_state(lambda s: s.replace(metrics={"k": jax.random.key(0)})), r"real numbers; k is none \(keep it in info\)"),
    (with_state(lambda s: s.replace(info={"truncation": jnp.zeros(2)})), r"info\['truncation'\] .* scalar"),
    (with_state(lambda s: s.replace(info={"name": "x"})), "leaf of type str"),
    (with_state(lambda s: s.replace(data=object())), "leaf of type object"),
    (with_state(lambda s: s.replace(obs=s.obs * float(s.obs[0]))), "reset of Broken cannot be traced by JAX"),
    (with_state(lambda s: s.replace(obs=np.asarray(s.obs) + 1)), "cannot be traced by JAX"),
    (with_state(lambda s: s.missing), "cannot be traced by JAX.*AttributeError"),
    (with_state(lambda s: s, observation_size=-2), "observation_size is a whole number >= 1, got -2"),
    (with_step(lambda s: s.replace(reward=float(s.reward))), "step of Broken cannot be traced by JAX"),
    (Leaky(), "step of Leaky uses a value that another call .* keep all that an episode needs in the state"),
    (Alone(), r"step of Alone cannot be batched by jax\.vmap"),
    (
      with_step(lambda s: s.replace(info={"extra": s.reward})),
      r"structure than reset: only from step: \.info\['extra'\]",
    ),
    (
      with_step(lambda s: s.replace(metrics={"other": s.reward})),
      r"only from reset: \.metrics\['count'\]; only from step",
    ),
    (with_step(lambda s: s.replace(data=jnp.zeros(5))), r"state\.data of Broken has shape \(2,\) .* \(5,\) from step"),
    (
      type("Kinds", (type(with_state(typed)),), {"step": lambda self, s, a: s.replace(info={"key": jnp.uint32(3)})})(),
      r"state\.info\['key'\] of Kinds is key<fry> from reset and uint32 from step",
    ),
    (Counter(action_size=0), "action_size is a whole number >= 1, got 0"),
    (Counter(action_size=True), "action_size is a whole number >= 1, got True"),
    (Counter(action_size=(2,)), r"action_size is a whole number >= 1, got \(2,\)"),
    (Counter(action_size=np.ones(2)), "action_size is a whole number >= 1, got array"),
    (Fractional(), "action_size is a whole number >= 1, got 1.5"),
    (with_state(lambda s: s, discrete=4), "discrete must be True or False; got 4"),
    (with_state(lambda s: s, time_limit=0), "time_limit is a whole number >= 1, got 0"),
    (with_state(lambda s: s, time_limit=2.5), "time_limit is a whole number >= 1, got 2.5"),
    (Counter(bounds=(1.0, -1.0)), "finite with low < high"),
    (Counter(bounds=(1.0, 1.0)), "finite with low < high"),
    (Counter(bounds=(0.0, jnp.inf)), "finite, or infinite on all sides; got .* half-infinite"),
    (Counter(bounds=([-jnp.inf, -1.0], [jnp.inf, 1.0])), "finite, or infinite on all sides"),
    (Counter(bounds=(jnp.nan, 1.0)), "finite, or infinite on all sides"),
    (Counter(bounds=([-1.0] * 3, [1.0] * 3)), "a scalar or an array"),
    (Counter(bounds=(-1, 0, 1)), "a scalar or an array"),
    (Counter(bounds=(-(10**400), 10**400)), "a scalar or an array"),
    (Counter(bounds={"low": -1, "high": 1}), "a scalar or an array"),
    (Counter(bounds=3.0), "a scalar or an array"),
  ],
)
def test_errors_name_what_is_wrong_and_the_way_out(env, message):
  with pytest.raises(ValueError, match=message):
    trace(env)
  with pytest.raises(ValueError, match=message):
    vectorize(env, 2)


def test_further_broken_contracts_are_counted():
  env = with_state(lambda s: s.replace(obs=jnp.zeros(3), reward=jnp.zeros(1)), time_limit=0)
  with pytest.raises(ValueError, match=r"^time_limit is a .*, got 0 \(and 2 more: varl\.envs\.check tells all\)$"):
    spec(env)


@pytest.mark.parametrize("side", [np.inf, np.finfo(np.float32).max, np.finfo(np.float64).max, 2**127])
def test_sides_that_lie_as_far_out_as_floats_go_are_no_bounds(side):
  assert action_bounds(Counter(bounds=(-side, side))) is None
  assert not spec(Counter(bounds=([-side] * 2, [side] * 2))).bounded


def test_bounds_may_be_lists_integers_and_arrays():
  for bounds in ([-2, 4], (np.int64(-2), [4, 4]), (jnp.full(2, -2), np.array([4.0]))):
    low, high = action_bounds(Counter(bounds=bounds))
    np.testing.assert_array_equal([low, high], [[-2.0, -2.0], [4.0, 4.0]])
    assert low.dtype == high.dtype == np.float32


def test_sizes_may_be_integers_of_any_kind():
  for size in (np.int32(2), np.asarray(2), jnp.asarray(2)):
    sized = Counter()
    sized.action_size = size
    assert spec(sized) == spec(Counter())
    assert type(spec(sized).action_size) is int


def test_the_time_limit_is_the_one_given_or_the_environments_own():
  limited = with_state(lambda s: s, time_limit=np.int64(7))
  assert [episode_length(limited), episode_length(limited, 5), episode_length(Counter())] == [7, 5, 1000]
  assert vectorize(limited, 2).episode_length == 7
  assert vectorize(limited, 2, episode_length=9).episode_length == 9
  assert vectorize(Counter(), 2).episode_length == 1000


@pytest.mark.parametrize(
  ("factory", "message"),
  [
    (lambda: None, "environment 'mine': None is no environment"),
    (lambda: Counter, "environment 'mine': Counter is a class and no environment"),
    (lambda needed: Counter(), "the factory of environment 'mine' raised TypeError"),
    (lambda: 1 / 0, "the factory of environment 'mine' raised ZeroDivisionError"),
  ],
)
def test_factories_that_make_none_are_named(factory, message, monkeypatch):
  monkeypatch.setattr(registry, "_FACTORIES", {"mine": factory})
  with pytest.raises(ValueError, match=message):
    make("mine")
