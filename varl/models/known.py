"""A model given as a function, so that planning can be tested without model error."""

from collections.abc import Callable

import jax

from varl import checks, normalize
from varl.normalize import NORMALIZER
from varl.types import Array, Key, Model, Observation, Outcome, Params

OutcomeFn = Callable[[Array, Array, Key], tuple[Array, Array, Array]]
"""`(obs [o], executed action, key) -> (next_obs [o], reward, discount)` of one step, in the environment's own units."""


def known(outcome: OutcomeFn, *, execute: Callable[[Array], Array] = lambda action: action, draws: int = 1) -> Model:
  """A model that is known; nothing is learned, and there are no parameters.

  The environments `varl.envs.toys.LinearQuadratic`, `varl.envs.toys.PointMass`, `varl.envs.toys.MultiGoal` and
  `varl.envs.tabular.Tabular` offer theirs as the method `outcome`.

  Args:
    outcome: of one step, from the observation alone. It is differentiated through where a posterior looks ahead.
    execute: raw action -> the action that `outcome` takes (`Head.execute`).
    draws: how many independent draws `draws` makes; 1 is enough where dynamics are deterministic.

  Returns:
    A Model in the space of scaled observations: where the parameters have moments ("normalizer"), observations are
    scaled back before `outcome` sees them, and its own are scaled by the same moments.

  Raises:
    ValueError: fewer than one draw.
  """
  draws = checks.whole("draws", draws)

  def sample(params: Params, obs: Observation, action: Array, key: Key, member: Array | None = None) -> Outcome:
    del member
    moments = params.get(NORMALIZER)
    shape = obs.shape[:-1]
    own = obs if moments is None else normalize.invert(moments, obs)
    executed = execute(action)
    rows = (own.reshape(-1, own.shape[-1]), executed.reshape(-1, *executed.shape[len(shape) :]))
    following = jax.vmap(outcome)(*rows, jax.random.split(key, len(rows[0])))
    next_obs, reward, discount = (x.reshape(*shape, *x.shape[1:]) for x in following)
    return Outcome(next_obs if moments is None else normalize.apply(moments, next_obs), reward, discount)

  def several(params: Params, obs: Observation, action: Array, key: Key, member: Array | None = None) -> Outcome:
    del member
    return jax.vmap(lambda key: sample(params, obs, action, key))(jax.random.split(key, draws))

  return Model(lambda key: {}, sample, several)
