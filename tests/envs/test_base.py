"""What passes for an environment, and what the errors say of what does not."""

import jax.numpy as jnp
import pytest
from counter import Counter

from varl.envs import Environment, State, check, spec
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

  check(Wrapper(Counter()))


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


@pytest.mark.parametrize(
  ("env", "message"),
  [
    (object(), "lacks reset, step, observation_size, action_size"),
    (NoStep(), "NoStep is no environment: it lacks step;"),
    (with_state(lambda s: s.obs), "lacks obs, reward, done, metrics, info, replace"),
    (with_state(lambda s: s.replace(obs={"image": s.obs, "touch": s.obs})), "dict with keys image, touch"),
    (with_state(lambda s: s, observation_size={"image": (2,)}), "observation_size of Broken is a dict"),
    (with_state(lambda s: s.replace(obs=jnp.zeros((2, 2)))), r"one vector .* got shape \(2, 2\)"),
    (with_state(lambda s: s.replace(obs=jnp.zeros(0))), r"one vector .* got shape \(0,\)"),
    (with_state(lambda s: s.replace(obs=jnp.zeros(3))), "observation_size of Broken is 2, but .* length 3"),
    (with_state(lambda s: s.replace(reward=jnp.zeros(2))), "reward of Broken must be a scalar"),
    (with_state(lambda s: s.replace(info={"name": "x"})), "leaf of type str"),
    (with_state(lambda s: s.replace(obs=s.obs * float(s.obs[0]))), "cannot be traced by JAX"),
    (with_state(lambda s: s, observation_size=-2), "observation_size must be a positive integer; got -2"),
    (Counter(action_size=0), "action_size must be a positive integer; got 0"),
    (Fractional(), "action_size must be a positive integer; got 1.5"),
    (Counter(bounds=(1.0, -1.0)), "finite with low < high"),
    (Counter(bounds=(-jnp.inf, jnp.inf)), "unbounded actions are action_bounds = None"),
    (Counter(bounds=([-1.0] * 3, [1.0] * 3)), "a scalar or an array"),
    (Counter(bounds=3.0), "a scalar or an array"),
  ],
)
def test_errors_name_what_is_wrong(env, message):
  with pytest.raises(ValueError, match=message):
    check(env)
