"""A batch of environments as two pure functions, with resets that keep the true next observation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.envs import base, flow, keys
from varl.envs.catalog import RESETS
from varl.envs.trace import TRUNCATION, trace
from varl.types import Array, Key, Spec

MIN_POOL, MAX_POOL = 256, 4096


class VectorState(NamedTuple):
  """The state of `num_envs` environments; `step` keeps its structure, shapes and dtypes.

  Attributes:
    env: the environments' own states, each leaf `[num_envs, ...]`.
    steps: raw environment steps since the last reset, `int32[num_envs]`.
    key: the key that the next step consumes.
    pool: reset states to draw from, each leaf `[pool_size, ...]`; each environment's first state `[num_envs, ...]`
      under "cached"; `()` under "fresh".
    discarded: first states discarded since the last step, int32.
  """

  env: Any
  steps: Array
  key: Key
  pool: Any
  discarded: Array


class TimeStep(NamedTuple):
  """What one step of `num_envs` environments did.

  An environment was reset after this step exactly where `terminated | truncated`.

  Attributes:
    obs: before the step, `[num_envs, observation_size]`.
    reward: `[num_envs]`, of JAX's default float, summed over repeated actions; 0 where not `valid`.
    next_obs: what the step led to, also where the environment was reset afterwards; `obs` where not `valid`.
    terminated: `bool[num_envs]`, the episode ended by itself.
    truncated: `bool[num_envs]`, the episode was cut: by a time limit where `valid`, else because it was not finite.
      False where `terminated`.
    valid: `bool[num_envs]`, False where the step turned non-finite: leave that row out, and count it.
    metrics: the environment's own, by name, each `[num_envs, ...]`, of the last repeated action; 0 where not `valid`.
    discarded: int32, first states that were not finite, so that others took their place, in the resets since the step
      before.
  """

  obs: Array
  reward: Array
  next_obs: Array
  terminated: Array
  truncated: Array
  valid: Array
  metrics: dict[str, Array]
  discarded: Array


class VectorEnv(NamedTuple):
  """`num_envs` copies of one environment. Pure functions: jit, scan and vmap (over keys) them.

  Attributes:
    reset: key -> `VectorState`. Consumes the key.
    step: (`VectorState`, action) -> (`VectorState`, `TimeStep`), with the action in the executed space:
      `[num_envs, action_size]` in [-1, 1] (clipped, then scaled to the environment's bounds), or passed on as it is
      where unbounded, or `int[num_envs]` where discrete.
    spec: what an agent has to know of the environment.
    num_envs: number of environments.
    episode_length: the time limit, in raw environment steps.
    action_repeat: raw environment steps for one action.
    env: the single environment.
  """

  reset: Callable[[Key], VectorState]
  step: Callable[[VectorState, Array], tuple[VectorState, TimeStep]]
  spec: Spec
  num_envs: int
  episode_length: int
  action_repeat: int
  env: base.Environment


def observe(state: VectorState) -> Array:
  """Current observations `[num_envs, observation_size]`: after a reset, the first of the new episode."""
  return _floating(state.env.obs)


def vectorize(
  env: base.Environment,
  num_envs: int,
  *,
  episode_length: int | None = None,
  action_repeat: int = 1,
  reset: str = "pool",
  pool_size: int | None = None,
  nan_guard: bool = True,
) -> VectorEnv:
  """Makes a batch of `num_envs` environments that reset themselves.

  A time limit of the environment's own that `info["truncation"]` tells of cuts an episode as `episode_length` does.
  Brax's `info["time_out"]` is not read: `inverted_pendulum` sets it where the pole fell, too.

  Args:
    env: one environment.
    num_envs: how many copies.
    episode_length: raw environment steps after which an episode is cut, `steps >= episode_length`. Each `step` adds
      `action_repeat` to the count, as in Brax. None: the environment's own `time_limit`, or 1000 where it has none.
    action_repeat: how often an action is applied; rewards are summed, and nothing follows the first `done`.
    reset: where the state after an episode's end comes from.
      "pool": uniformly from `pool_size` reset states computed once by `VectorEnv.reset`.
      "fresh": `env.reset` with a new key. Only steps at which some episode ends pay for it (under vmap all do).
      "cached": each environment returns to its own first state, as in Brax.
      The random keys that the noise of a pooled or cached state is drawn with (`keys.find`) are drawn anew.
    pool_size: size of the pool; default `num_envs`, but at least 256 and at most 4096.
    nan_guard: whether a step with a reward or next observation that is not finite is marked not `valid` and followed by
      a reset, and a first state with such an observation is discarded: another one takes its place, or where there is
      none, its step is not valid. Off, such numbers pass through.

  Returns:
    A `VectorEnv`.

  Raises:
    ValueError: `env` is no environment, its noise would be repeated by this kind of reset, or an argument is out of its
      range.
  """
  num_envs, action_repeat = checks.whole("num_envs", num_envs), checks.whole("action_repeat", action_repeat)
  episode_length = None if episode_length is None else checks.whole("episode_length", episode_length)
  pool_size = None if pool_size is None else checks.whole("pool_size", pool_size)
  if reset not in RESETS:
    raise ValueError(f"reset must be one of {', '.join(RESETS)}; got {reset!r}")
  if pool_size is not None and reset != "pool":
    raise ValueError(f'pool_size is for reset="pool" only; got pool_size={pool_size} with reset={reset!r}')
  if pool_size is None:
    pool_size = min(max(num_envs, MIN_POOL), MAX_POOL)

  traced = trace(env, reset)
  episode_length = base.episode_length(env, episode_length)
  on_host: Any = getattr(env, "vectorized", None)
  if on_host is not None:  # of environments that are no functions of JAX
    made: VectorEnv = on_host(num_envs, episode_length=episode_length, action_repeat=action_repeat, spec=traced.spec)
    return made
  to_range = scaling(env)

  def canonical(states: Any) -> Any:
    # Brax's reset and step disagree about weak types, and what a jitted step returns would make it compile again.
    return jax.tree.map(lambda x, like: x if flow.is_key(x) else jnp.asarray(x, like.dtype), states, traced.state)

  def reset_many(key: Key, count: int) -> tuple[Any, Array]:
    """First states, and which of them were discarded."""
    states = _tie(canonical(jax.vmap(env.reset)(keys.legacy(jax.random.split(key, count)))), key)
    if not nan_guard:
      return states, jnp.zeros(count, bool)
    finite = _finite(states.obs)

    def others() -> Any:
      rows = stand_ins(finite)
      # `split` gives the children below `count`, and this is the next one.
      return keys.renew(jax.tree.map(lambda x: x[rows], states), traced.keys, jax.random.fold_in(key, count))

    states = jax.lax.cond(finite.all(), lambda: states, others)
    return states, ~finite & finite.any()

  def init(key: Key) -> VectorState:
    checks.key(key)
    state_key, reset_key = jax.random.split(key)
    # One batch of resets, so that one reset is compiled, not two.
    states, discarded = reset_many(reset_key, num_envs + (pool_size if reset == "pool" else 0))
    first = jax.tree.map(lambda x: x[:num_envs], states)
    pools = {"pool": jax.tree.map(lambda x: x[num_envs:], states), "fresh": (), "cached": first}
    steps = jnp.zeros(num_envs, jnp.int32)
    # Tied apart, the states and a pool of the same values are two buffers, and both can be donated.
    count = jnp.sum(discarded, dtype=jnp.int32)
    return VectorState(_tie(first, key), _tie(steps, key), state_key, _tie(pools[reset], key), _tie(count, key))

  def draw(pool: Any, key: Key) -> tuple[Any, Array]:
    """A first state for every environment, and where another one was discarded for it."""
    if reset == "fresh":
      return reset_many(key, num_envs)
    index_key, inner_key = jax.random.split(key)
    if reset == "pool":
      index = jax.random.randint(index_key, (num_envs,), 0, pool_size)
      pool = jax.tree.map(lambda x: x[index], pool)
    return keys.renew(pool, traced.keys, inner_key), jnp.zeros(num_envs, bool)

  def cut(state: Any) -> Array:
    """Where a time limit of the environment's own, and nothing else, ended the episode."""
    return state.info[TRUNCATION].astype(bool) if traced.truncates else jnp.zeros(num_envs, bool)

  def advance(state: Any, action: Array, key: Key) -> tuple[Any, Array, Array]:
    """`action_repeat` steps of all environments: states, summed rewards and whether all of it was finite."""

    def once(state: Any) -> tuple[Any, Array, Array]:
      state = _tie(canonical(jax.vmap(env.step)(state, action)), key)
      return state, state.reward.astype(float), jnp.isfinite(state.reward) & _finite(state.obs)

    def again(carry: tuple[Any, Array, Array, Array], _: None) -> tuple[tuple[Any, Array, Array, Array], None]:
      state, reward, finite, over = carry
      new_state, new_reward, new_finite = once(state)
      ends = new_state.done.astype(bool) | cut(new_state) | (~new_finite if nan_guard else False)
      return select(over, carry, (new_state, reward + new_reward, finite & new_finite, ends)), None

    if action_repeat == 1:
      return once(state)
    start = (state, jnp.zeros(num_envs), jnp.ones(num_envs, bool), jnp.zeros(num_envs, bool))
    return jax.lax.scan(again, _tie(start, key), None, length=action_repeat)[0][:3]

  def step(state: VectorState, action: Array) -> tuple[VectorState, TimeStep]:
    _check_action(action, traced.spec, num_envs)
    key, reset_key = jax.random.split(state.key)
    obs = observe(state)
    inner, reward, finite = advance(state.env, to_range(action), key)
    began = _finite(obs)  # False only where no first state was finite
    valid = finite & began if nan_guard else jnp.ones_like(finite)
    if nan_guard:
      obs = select(began, obs, jnp.zeros_like(obs))
    limited = cut(inner)
    terminated = inner.done.astype(bool) & ~limited & valid
    steps = state.steps + action_repeat
    truncated = (~terminated & (limited | (steps >= episode_length))) | ~valid
    ended = terminated | truncated
    timestep = TimeStep(
      obs=obs,
      reward=jnp.where(valid, reward, 0.0),
      next_obs=select(valid, _floating(inner.obs), obs),
      terminated=terminated,
      truncated=truncated,
      valid=valid,
      metrics=select(valid, inner.metrics, jax.tree.map(jnp.zeros_like, inner.metrics)),
      discarded=state.discarded,
    )

    def renewed() -> tuple[Any, Array]:
      states, discarded = draw(state.pool, reset_key)
      return select(ended, states, inner), jnp.sum(ended & discarded, dtype=jnp.int32)

    inner, discarded = jax.lax.cond(jnp.any(ended), renewed, lambda: (inner, _tie(jnp.int32(0), key)))
    return VectorState(inner, jnp.where(ended, 0, steps), key, state.pool, discarded), timestep

  return VectorEnv(init, step, traced.spec, num_envs, episode_length, action_repeat, env)


def stand_ins(fine: Array) -> Array:
  """For each of n rows itself where it is fine, else one of those that are: `int32[n]`, of booleans `[n]`.

  Where none is fine, each row stands for itself.
  """
  rows = jnp.arange(fine.size)
  others = jnp.argsort(~fine, stable=True)[rows % jnp.maximum(jnp.sum(fine), 1)]
  return jnp.where(fine | ~fine.any(), rows, others)


def scaling(env: base.Environment) -> Callable[[Array], Array]:
  """From actions in the executed space to what `env` takes, in the dtype that `trace` traces it with."""
  bounds = base.action_bounds(env)
  if base.is_discrete(env):
    return lambda action: action.astype(jnp.int32)
  if bounds is None:
    return lambda action: action.astype(float)
  middle, half = (bounds.low + bounds.high) / 2, (bounds.high - bounds.low) / 2
  return lambda action: (middle + half * jnp.clip(action, -1.0, 1.0)).astype(float)


def _tie(tree: Any, key: Key) -> Any:
  """`tree` unchanged, but depending on `key`, so that under `shard_map` constants vary over devices as `key` does.

  Without it a leaf that an environment sets to a constant changes its type between `reset` and `step`. XLA drops the
  select; it costs nothing.
  """
  always = jax.random.key_data(key).ravel()[0] >= 0
  return jax.tree.map(lambda x: jnp.where(always, x, x), tree)


def select(mask: Array, yes: Any, no: Any) -> Any:
  """`yes` in the rows where `mask`, else `no`; leaves `[num_envs, ...]`."""
  return jax.vmap(lambda m, a, b: jax.tree.map(lambda x, y: jnp.where(m, x, y), a, b))(mask, yes, no)


def _finite(obs: Array) -> Array:
  """Which of the observations `[n, observation_size]` are finite, `bool[n]`."""
  return jnp.isfinite(obs).all(axis=-1)


def _floating(obs: Array) -> Array:
  """Observations as agents get them: of a floating dtype, float32 at the least."""
  return obs.astype(jnp.promote_types(obs.dtype, jnp.float32))


def _check_action(action: Array, spec: Spec, num_envs: int) -> None:
  """Raises ValueError where a batch of actions has another shape or kind than the environment takes."""
  shape = (num_envs,) if spec.discrete else (num_envs, spec.action_size)
  integers = jnp.issubdtype(action.dtype, jnp.integer)
  if action.shape != shape or (spec.discrete and not integers):
    kind = "integers" if spec.discrete else "numbers"
    raise ValueError(f"actions must be {kind} of shape {shape}; got {action.dtype}{list(action.shape)}")
