"""A batch of environments as two pure functions, with resets that keep the true next observation."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from varl import checks
from varl.envs import base
from varl.envs.catalog import RESETS
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
  """

  env: Any
  steps: Array
  key: Key
  pool: Any


class TimeStep(NamedTuple):
  """What one step of `num_envs` environments did.

  An environment was reset after this step exactly where `terminated | truncated`.

  Attributes:
    obs: before the step, `[num_envs, observation_size]`.
    reward: `[num_envs]`, of JAX's default float, summed over repeated actions; 0 where not `valid`.
    next_obs: what the step led to, also where the environment was reset afterwards; `obs` where not `valid`.
    terminated: `bool[num_envs]`, the episode ended by itself.
    truncated: `bool[num_envs]`, the episode was cut: by the time limit where `valid`, else because it was not finite.
      False where `terminated`.
    valid: `bool[num_envs]`, False where the step turned non-finite: leave that row out, and count it.
    metrics: the environment's own, by name, each `[num_envs, ...]`, of the last repeated action; 0 where not `valid`.
  """

  obs: Array
  reward: Array
  next_obs: Array
  terminated: Array
  truncated: Array
  valid: Array
  metrics: dict[str, Array]


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
  return state.env.obs


def vectorize(
  env: base.Environment,
  num_envs: int,
  *,
  episode_length: int = 1000,
  action_repeat: int = 1,
  reset: str = "pool",
  pool_size: int | None = None,
  nan_guard: bool = True,
) -> VectorEnv:
  """Makes a batch of `num_envs` environments that reset themselves.

  Brax's `info["time_out"]` is not read: `inverted_pendulum` sets it where the pole fell, too.

  Args:
    env: one environment.
    num_envs: how many copies.
    episode_length: raw environment steps after which an episode is cut, `steps >= episode_length`. Each `step` adds
      `action_repeat` to the count, as in Brax.
    action_repeat: how often an action is applied; rewards are summed, and nothing follows the first `done`.
    reset: where the state after an episode's end comes from.
      "pool": uniformly from `pool_size` reset states computed once by `VectorEnv.reset`.
      "fresh": `env.reset` with a new key. Only steps at which some episode ends pay for it (under vmap all do).
      "cached": each environment returns to its own first state, as in Brax.
      Random keys inside a pooled or cached state (typed ones anywhere, a legacy one as `info["rng"]`) are drawn anew.
    pool_size: size of the pool; default `num_envs`, but at least 256 and at most 4096.
    nan_guard: whether a step with a reward or next observation that is not finite is marked not `valid` and followed by
      a reset. Off, such numbers pass through.

  Returns:
    A `VectorEnv`.

  Raises:
    ValueError: `env` is no environment, or an argument is out of its range.
  """
  counts = {"num_envs": num_envs, "episode_length": episode_length, "action_repeat": action_repeat}
  if pool_size is not None:
    counts["pool_size"] = pool_size
  for name, value in counts.items():
    try:
      positive = operator.index(value) >= 1
    except TypeError:
      positive = False
    if not positive:
      raise ValueError(f"{name} must be a positive integer; got {value!r}")
  if reset not in RESETS:
    raise ValueError(f"reset must be one of {', '.join(RESETS)}; got {reset!r}")
  if pool_size is not None and reset != "pool":
    raise ValueError(f'pool_size is for reset="pool" only; got pool_size={pool_size} with reset={reset!r}')
  if pool_size is None:
    pool_size = min(max(num_envs, MIN_POOL), MAX_POOL)

  env_spec, first_state = base.inspect(env)
  to_range = _scaling(env)
  canonical = _canonical(env, env_spec, first_state)

  def reset_many(key: Key, count: int) -> Any:
    keys = base.legacy(jax.random.split(key, count))
    return canonical(jax.vmap(env.reset)(keys))

  def init(key: Key) -> VectorState:
    checks.key(key)
    state_key, reset_key = jax.random.split(key)
    # One batch of resets, so that one reset is compiled, not two.
    states = reset_many(reset_key, num_envs + (pool_size if reset == "pool" else 0))
    first = jax.tree.map(lambda x: x[:num_envs], states)
    pools = {"pool": jax.tree.map(lambda x: x[num_envs:], states), "fresh": (), "cached": first}
    steps = jnp.zeros(num_envs, jnp.int32)
    # Tied apart, the states and a pool of the same values are two buffers, and both can be donated.
    return VectorState(_tie(first, key), _tie(steps, key), state_key, _tie(pools[reset], key))

  def draw(pool: Any, key: Key) -> Any:
    """A first state for every environment."""
    if reset == "fresh":
      return reset_many(key, num_envs)
    index_key, inner_key = jax.random.split(key)
    if reset == "pool":
      index = jax.random.randint(index_key, (num_envs,), 0, pool_size)
      pool = jax.tree.map(lambda x: x[index], pool)
    return _rekey(pool, inner_key)

  def advance(state: Any, action: Array, key: Key) -> tuple[Any, Array, Array]:
    """`action_repeat` steps of all environments: states, summed rewards and whether all of it was finite."""

    def once(state: Any) -> tuple[Any, Array, Array]:
      state = _tie(canonical(jax.vmap(env.step)(state, action)), key)
      finite = jnp.isfinite(state.reward) & jnp.isfinite(state.obs).all(axis=-1)
      return state, state.reward.astype(float), finite

    def again(carry: tuple[Any, Array, Array], _: None) -> tuple[tuple[Any, Array, Array], None]:
      state, reward, finite = carry
      over = state.done.astype(bool) | ~finite if nan_guard else state.done.astype(bool)
      new_state, new_reward, new_finite = once(state)
      new = (new_state, reward + new_reward, finite & new_finite)
      return _select(over, carry, new), None

    if action_repeat == 1:
      return once(state)
    # An environment in which the episode goes on is not done, so that the first of the repeated steps is always taken.
    start = (state.replace(done=jnp.zeros_like(state.done)), jnp.zeros(num_envs), jnp.ones(num_envs, bool))
    return jax.lax.scan(again, _tie(start, key), None, length=action_repeat)[0]

  def step(state: VectorState, action: Array) -> tuple[VectorState, TimeStep]:
    key, reset_key = jax.random.split(state.key)
    obs = observe(state)
    inner, reward, finite = advance(state.env, to_range(action), key)
    valid = finite if nan_guard else jnp.ones_like(finite)
    terminated = inner.done.astype(bool) & valid
    steps = state.steps + action_repeat
    truncated = (~terminated & (steps >= episode_length)) | ~valid
    ended = terminated | truncated
    timestep = TimeStep(
      obs=obs,
      reward=jnp.where(valid, reward, 0.0),
      next_obs=_select(valid, inner.obs, obs),
      terminated=terminated,
      truncated=truncated,
      valid=valid,
      metrics=_select(valid, inner.metrics, jax.tree.map(jnp.zeros_like, inner.metrics)),
    )
    inner = jax.lax.cond(jnp.any(ended), lambda: _select(ended, draw(state.pool, reset_key), inner), lambda: inner)
    return VectorState(inner, jnp.where(ended, 0, steps), key, state.pool), timestep

  return VectorEnv(init, step, env_spec, num_envs, episode_length, action_repeat, env)


def _scaling(env: base.Environment) -> Callable[[Array], Array]:
  """From actions in the executed space to what `env` takes, in the dtype that `base.trace_step` traces it with."""
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


def _select(mask: Array, yes: Any, no: Any) -> Any:
  """`yes` in the rows where `mask`, else `no`; leaves `[num_envs, ...]`."""
  return jax.vmap(lambda m, a, b: jax.tree.map(lambda x, y: jnp.where(m, x, y), a, b))(mask, yes, no)


def _rekey(states: Any, key: Key) -> Any:
  """New random keys for the copies of one reset state, which would live the same noise again otherwise."""
  paths = jax.tree_util.tree_leaves_with_path(states)
  leaves = []
  for number, (path, leaf) in enumerate(paths):
    typed = _is_key(leaf)
    if typed or jax.tree_util.keystr(path) == ".info['rng']":
      leaf_key = jax.random.fold_in(key, number)
      keys = jax.random.split(leaf_key, leaf.shape if typed else leaf.shape[:-1])
      leaf = base.of_implementation(keys, jax.random.key_impl(leaf)) if typed else base.legacy(keys).astype(leaf.dtype)
    leaves.append(leaf)
  return jax.tree.unflatten(jax.tree.structure(states), leaves)


def _canonical(env: base.Environment, spec: Spec, first: Any) -> Callable[[Any], Any]:
  """A cast of `env`'s states, from `reset` (like `first`) and from `step`, to one set of dtypes, none of them weak.

  Brax's `reset` and `step` disagree about weak types, and what a jitted step returns would make it compile again.

  Raises:
    ValueError: `step` returns another structure or other shapes than `reset`.
  """
  who = type(env).__name__
  while True:
    second = base.trace_step(env, spec, first)
    structures: list[Any] = [jax.tree.structure(tree) for tree in (first, second)]
    if structures[0] != structures[1]:
      raise ValueError(
        f"step of {who} returns a state of another structure than reset: {_difference(first, second)}; "
        "give metrics and info the same names in both"
      )
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second), strict=True):
      if x.shape != y.shape:
        name = jax.tree_util.keystr(path)
        raise ValueError(f"state{name} of {who} has shape {x.shape} from reset and {y.shape} from step")
    dtypes = jax.tree.map(lambda x, y: x.dtype if _is_key(x) else jnp.promote_types(x.dtype, y.dtype), first, second)
    # A wider dtype that goes in may widen what comes out: look again until nothing widens, which promotion ensures.
    if jax.tree.leaves(dtypes) == [x.dtype for x in jax.tree.leaves(first)]:
      return lambda states: jax.tree.map(lambda x, d: x if _is_key(x) else jnp.asarray(x, d), states, dtypes)
    first = jax.tree.map(lambda x, d: jax.ShapeDtypeStruct(x.shape, d), first, dtypes)


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _difference(first: Any, second: Any) -> str:
  """The leaves that only one of two states has."""
  reset, step = ({jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(t)} for t in (first, second))
  sides = (("reset", reset - step), ("step", step - reset))
  return (
    "; ".join(f"only from {who}: {', '.join(sorted(extra))}" for who, extra in sides if extra) or "other containers"
  )
