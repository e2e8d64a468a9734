"""Demonstrations: transitions of an expert, as arrays or files, and batches drawn from them.

Beside `raw_action`, which is what a squashed policy would have drawn, `action` is the executed one, so that
demonstrations of one kind of policy serve another.
"""

import io
import json
import os
import zipfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks, files, normalize
from varl.types import Agent, AgentState, Array, Batch, Key, Metrics, Spec, Transition

SCHEMA = 1
EDGE = 1e-4
"""An executed action is at least this far inside [-1, 1] when it is brought back to a raw one."""


class Demonstrations(NamedTuple):
  """N transitions of whole episodes, or some of their rows; NumPy arrays.

  Attributes:
    obs, next_obs: `[N, o]`, as the environment gave them.
    action: `[N, d]`, executed: in [-1, 1], or on the whole line where the action space is; integers `[N]` for discrete
      actions.
    raw_action: the same before squashing: what tanh makes of it is `action`. Equal to `action` where nothing squashes.
    reward: `[N]`, the environment's; NaN where nobody knows it.
    discount: `[N]`, 1 - terminated.
    truncated: `[N]`, 1 where a time limit ended the episode after this step.
    episode: `[N]`, the episode of each row, from 0.
    source: what they come from; plain values that JSON can hold.
  """

  obs: Any
  next_obs: Any
  action: Any
  raw_action: Any
  reward: Any
  discount: Any
  truncated: Any
  episode: Any
  source: dict[str, Any]

  def __repr__(self) -> str:
    """Without the arrays."""
    returns = self.returns
    mean = f"mean return {np.mean(returns):.6g}" if np.isfinite(returns).all() else "returns unknown"
    return f"Demonstrations({len(self.obs)} transitions, {self.episodes} episodes, {mean})"

  @property
  def episodes(self) -> int:
    """How many there are."""
    return len(np.unique(self.episode))

  @property
  def returns(self) -> Any:
    """The return of each episode: of the rows that are here."""
    return np.asarray([np.sum(self.reward[self.episode == index]) for index in np.unique(self.episode)])

  def take(self, episodes: int) -> "Demonstrations":
    """The first so many episodes.

    Raises:
      ValueError: fewer than one, or more than there are.
    """
    episodes = checks.whole("episodes", episodes)
    if episodes > self.episodes:
      raise ValueError(f"these are demonstrations of {self.episodes} episodes; got episodes={episodes}")
    return self._rows(np.isin(self.episode, np.unique(self.episode)[:episodes]))

  def subsample(self, every: int, *, seed: int = 0) -> "Demonstrations":
    """Each `every`-th row of each episode, from a random one of its first `every` on (Ho and Ermon 2016, appendix A).

    Raises:
      ValueError: `every` is below 1.
    """
    every, rng = checks.whole("every", every), np.random.default_rng(checks.seed(seed))
    keep = np.zeros(len(self.obs), bool)
    for index in np.unique(self.episode):
      rows = np.flatnonzero(self.episode == index)
      keep[rows[rng.integers(min(every, len(rows))) :: every]] = True
    return self._rows(keep)

  def _rows(self, keep: Any) -> "Demonstrations":
    return Demonstrations._make([*(array[keep] for array in self[:-1]), self.source])

  def sample(self, key: Key, n: int, *, squashed: bool) -> Batch:
    """n rows drawn uniformly, with replacement, as a batch `[n]` for an agent.

    Args:
      key: consumed.
      n: how many.
      squashed: whether the policy squashes its raw actions, as "tanh_gaussian" does.
    """
    index = jax.random.randint(key, (checks.whole("n", n),), 0, len(self.obs))
    return jax.tree.map(lambda array: array[index], self.batch(squashed=squashed))

  def batch(self, *, squashed: bool) -> Batch:
    """All rows, as JAX's arrays in a batch `[N]`; `squashed` as in `sample`."""
    action = self.raw_action if squashed else self.action
    whole = np.issubdtype(np.asarray(action).dtype, np.integer)
    floats = [jnp.asarray(x, float) for x in (self.obs, self.reward, self.discount, self.next_obs, self.truncated)]
    obs, reward, discount, next_obs, truncated = floats
    return Transition(
      obs, jnp.asarray(action, jnp.int32 if whole else float), reward, discount, next_obs, truncated, {}
    )


def of_arrays(
  spec: Spec,
  obs: Any,
  action: Any,
  next_obs: Any,
  *,
  terminated: Any,
  truncated: Any = None,
  reward: Any = None,
  raw_action: Any = None,
  episode: Any = None,
  source: dict[str, Any] | None = None,
) -> Demonstrations:
  """Demonstrations from arrays, checked.

  Args:
    spec: the environment's sizes.
    obs, next_obs: `[N, o]`; `next_obs` is the true one at an episode's end, too.
    action: `[N, d]`, executed, scaled to [-1, 1] where the action space is bounded; integers `[N]` for discrete ones.
    terminated: `[N]` booleans, where an episode ended by itself.
    truncated: `[N]` booleans, where a time limit ended it; None: nowhere but at the end of each `episode`.
    reward: `[N]`; None where nobody knows it.
    raw_action: before squashing; None: the inverse of tanh, `EDGE` off the bounds, where the action space is bounded.
    episode: `[N]`, whole numbers that do not fall; None: a new one begins after each end.
    source: what to say of where they come from.

  Raises:
    ValueError: shapes that do not fit the environment or one another, values that are not finite, actions out of range,
      or no episode at all.
  """
  found = _numbers(obs=obs, next_obs=next_obs, action=action)
  obs, next_obs, action = found.values()
  n = len(obs) if obs.ndim else 0
  if n == 0:
    raise ValueError("demonstrations are of at least one episode; got none")
  kind = (n,) if spec.discrete else (n, spec.action_size)
  for name, array in found.items():
    shape = kind if name == "action" else (n, spec.observation_size)
    if array.shape != shape:
      raise ValueError(f"demonstrations of another environment: {name} must have shape {shape}, got {array.shape}")
  if np.issubdtype(action.dtype, np.integer) != spec.discrete:
    kinds = ("integers", "numbers on a scale") if spec.discrete else ("numbers on a scale", "integers")
    raise ValueError(f"demonstrations of another environment: its actions are {kinds[0]}, got {kinds[1]}")
  rows = _numbers(
    terminated=terminated,
    truncated=np.zeros(n, bool) if truncated is None else truncated,
    reward=np.full(n, np.nan) if reward is None else reward,
    episode=np.zeros(n, int) if episode is None else episode,
  )
  for name, array in rows.items():
    if array.shape != (n,):
      raise ValueError(f"{name} must have shape {(n,)}, as many as observations; got {array.shape}")
    if name in ("terminated", "truncated") and not np.isin(array, (0, 1)).all():
      raise ValueError(f"{name} must hold booleans, or 0 and 1; got {array[~np.isin(array, (0, 1))][0]}")
  ended, cut, given, number = rows["terminated"] > 0, rows["truncated"] > 0, rows["reward"], rows["episode"]
  episode = np.append(0, np.cumsum(ended | cut)[:-1]) if episode is None else number
  if not np.issubdtype(episode.dtype, np.integer) or (np.diff(episode) < 0).any():
    raise ValueError("the episodes of the rows are whole numbers that do not fall")
  if truncated is None:
    cut = np.append(np.diff(episode) > 0, True) & ~ended
  if raw_action is None:
    raw_action = np.arctanh(np.clip(action, EDGE - 1.0, 1.0 - EDGE)) if spec.bounded and not spec.discrete else action
  found |= _numbers(raw_action=raw_action)
  raw_action = found["raw_action"]
  if raw_action.shape != action.shape:
    raise ValueError(f"raw_action must have the shape of the actions, {action.shape}; got {raw_action.shape}")
  for name, array in found.items():
    if not np.isfinite(array).all():
      raise ValueError(f"{name} holds {np.size(array) - np.isfinite(array).sum()} values that are not finite")
  if reward is not None and not np.isfinite(given).all():
    raise ValueError(f"reward holds {n - np.isfinite(given).sum()} values that are not finite")
  if spec.discrete and not ((action >= 0) & (action < spec.action_size)).all():
    raise ValueError(f"actions must lie in [0, {spec.action_size}), got {action.min()} to {action.max()}")
  if not spec.discrete and spec.bounded and np.abs(action).max() > 1.0 + 1e-6:
    raise ValueError(f"executed actions must lie in [-1, 1], got {action.min():.6g} to {action.max():.6g}")
  dtype = np.int32 if spec.discrete else float
  arrays = [np.asarray(x, float) for x in (obs, next_obs)]
  arrays += [np.asarray(x, dtype) for x in (action, raw_action)]
  arrays += [np.asarray(x, float) for x in (given, 1.0 - ended, cut)]
  of_episode = np.unique(episode, return_inverse=True)[1].astype(np.int32)
  return Demonstrations._make([*arrays, of_episode, dict(source or {})])


def _numbers(**given: Any) -> dict[str, Any]:
  """These as NumPy arrays; ValueError where one is not of numbers."""
  arrays = {name: np.asarray(array) for name, array in given.items()}
  for name, array in arrays.items():
    if array.dtype.kind in "cOSUMm":
      raise ValueError(f"{name} must be an array of numbers, got one of {array.dtype}")
  return arrays


def checked(found: Demonstrations, spec: Spec) -> Demonstrations:
  """Demonstrations once more, checked against an environment.

  Raises:
    ValueError: as `of_arrays`.
  """
  discount, reward = _numbers(discount=found.discount, reward=found.reward).values()
  return of_arrays(
    spec,
    found.obs,
    found.action,
    found.next_obs,
    terminated=1 - discount,
    truncated=found.truncated,
    reward=None if np.isnan(reward).all() else reward,
    raw_action=found.raw_action,
    episode=found.episode,
    source=found.source,
  )


def stand_in(spec: Spec) -> Demonstrations:
  """One row of zeros: for an agent that acts and learns no more."""
  obs = np.zeros((1, spec.observation_size))
  action = np.zeros(1, np.int32) if spec.discrete else np.zeros((1, spec.action_size))
  return of_arrays(spec, obs, action, obs, terminated=[False], reward=[0.0])


def of_minari(dataset: Any, spec: Spec, *, bounds: tuple[Any, Any] | None = None) -> Demonstrations:
  """Demonstrations from a Minari dataset, whose observations are one array each.

  Args:
    dataset: an open dataset, or the id of one that is on this machine (which needs `minari` to be installed).
    spec: the environment's sizes.
    bounds: (low, high) of the dataset's actions, which are scaled to [-1, 1]; None: they are there already.

  Raises:
    ValueError: as `of_arrays`; `minari` is not installed, or has no such dataset.
  """
  if isinstance(dataset, str):
    name = dataset
    try:
      import minari
    except ImportError:
      raise ValueError(f"the Minari dataset {name!r} needs minari: pip install minari") from None
    try:
      dataset = minari.load_dataset(name)
    except Exception as error:  # of a hub, a file, or a name
      raise ValueError(f"cannot open the Minari dataset {name!r}: {error}") from error
  parts: dict[str, list[Any]] = {name: [] for name in ("obs", "next", "action", "reward", "ended", "cut", "episode")}
  for index, found in enumerate(dataset.iterate_episodes()):
    obs = np.asarray(found.observations)
    if obs.dtype == object or obs.ndim < 2:
      raise ValueError("a Minari dataset needs observations of one array each")
    parts["obs"].append(obs[:-1].reshape(len(obs) - 1, -1))
    parts["next"].append(obs[1:].reshape(len(obs) - 1, -1))
    parts["action"].append(np.asarray(found.actions))
    parts["reward"].append(np.asarray(found.rewards))
    parts["ended"].append(np.asarray(found.terminations))
    parts["cut"].append(np.asarray(found.truncations))
    parts["episode"].append(np.full(len(obs) - 1, index))
  if not parts["obs"]:
    raise ValueError("demonstrations are of at least one episode; the Minari dataset has none")
  joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
  action = joined["action"]
  if bounds is not None:
    low, high = (np.asarray(bound) for bound in bounds)
    action = (2.0 * action - high - low) / (high - low)
  named = getattr(getattr(dataset, "spec", None), "dataset_id", None)
  return of_arrays(
    spec,
    joined["obs"],
    action,
    joined["next"],
    terminated=joined["ended"],
    truncated=joined["cut"],
    reward=joined["reward"],
    episode=joined["episode"],
    source={"minari": str(named)} if named else {},
  )


def save(path: str | os.PathLike[str], demonstrations: Demonstrations) -> None:
  """Writes them to one NPZ file, in one step.

  Raises:
    ValueError: something else than demonstrations.
    OSError: it cannot be written; what was there is whole.
  """
  if not isinstance(demonstrations, Demonstrations):
    raise ValueError(f"save takes a path, and demonstrations; got {type(demonstrations).__name__} for the second")
  content = io.BytesIO()
  described = np.asarray(json.dumps({"schema": SCHEMA, "source": demonstrations.source}))
  arrays = demonstrations._asdict()
  del arrays["source"]
  np.savez_compressed(content, provenance=described, **arrays)
  files.write_atomically(path, content.getvalue())


def load(path: str | os.PathLike[str], spec: Spec | None = None) -> Demonstrations:
  """Reads what `save` or `varl rollout` wrote.

  Args:
    path: the file.
    spec: the environment that they must be of; None: whatever they say.

  Raises:
    ValueError: there is no such file, it is none of `save`'s, is damaged, or holds what `of_arrays` refuses.
  """
  file = files.as_path(path)
  try:
    # Of bytes: NumPy leaves a file open that turns out to be none of its own.
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as found:
      arrays = {name: found[name] for name in found.files}
    described = json.loads(str(arrays.pop("provenance")))
  except FileNotFoundError:
    raise ValueError(f"there is no file of demonstrations {file}") from None
  except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
    raise ValueError(f"{file} holds no demonstrations: {error}") from None
  if not isinstance(described, dict) or described.get("schema") != SCHEMA:
    raise ValueError(f"{file} holds demonstrations of another schema; this varl reads {SCHEMA}")
  fields = Demonstrations._fields[:-1]
  missing = [name for name in fields if name not in arrays]
  if missing:
    raise ValueError(f"{file} holds no demonstrations: it lacks {', '.join(missing)}")
  found = Demonstrations._make([*(arrays[name] for name in fields), described.get("source", {})])
  try:
    return checked(found, _sizes(arrays) if spec is None else spec)
  except ValueError as error:
    raise ValueError(f"{file}: {error}") from None


def _sizes(arrays: dict[str, Any]) -> Spec:
  obs, action = arrays["obs"], arrays["action"]
  if not (obs.ndim and action.ndim and action.size):
    raise ValueError("demonstrations are of at least one episode; got none")
  discrete = np.issubdtype(action.dtype, np.integer)
  size = int(action.max()) + 1 if discrete else action.shape[-1]
  bounded = bool(discrete or not np.array_equal(action, arrays["raw_action"]))
  return Spec(obs.shape[-1], size, bool(discrete), bounded)


def learner(
  agent: Agent, demonstrations: Demonstrations, *, squashed: bool, rewarded: bool = True, axis: str | None = None
) -> Agent:
  """The agent, learning from demonstrations in place of the rows that the loop brings.

  The loop's own steps are then its clock alone. Its observation moments are the demonstrations', for good.

  Args:
    agent: learns from replay, of single transitions.
    demonstrations: what it learns from.
    squashed: as in `Demonstrations.sample`.
    rewarded: whether the agent reads rewards.
    axis: the mapped axis, on several devices: each draws rows of its own.

  Raises:
    ValueError: the agent learns on-policy or from sequences, or reads rewards that the demonstrations lack.
  """
  if agent.on_policy or agent.sequence or agent.side_batch:
    raise ValueError("demonstrations stand in for single transitions from replay, which this agent does not learn from")
  unknown = int(np.isnan(np.asarray(demonstrations.reward)).sum())
  if rewarded and unknown:
    raise ValueError(
      f"this agent learns from rewards, and {unknown} of the {len(demonstrations.obs)} demonstrated transitions have "
      "none; bc and iq_learn need none"
    )

  def init(key: Key) -> AgentState:
    state = agent.init(key)
    if normalize.NORMALIZER not in state.params:
      return state
    obs = jnp.asarray(demonstrations.obs, float)
    moments = normalize.update(state.params[normalize.NORMALIZER], obs)
    return state._replace(params={**state.params, normalize.NORMALIZER: moments})

  def update(state: AgentState, batch: Batch, key: Key) -> tuple[AgentState, Metrics]:
    if batch.reward.ndim != 1:
      raise ValueError(f"a batch for this agent is [B]; got rewards of shape {batch.reward.shape}")
    rows_key, key = jax.random.split(key)
    return agent.update(state, sampled(demonstrations, rows_key, len(batch.reward), squashed, axis), key)

  def observe(state: AgentState, transitions: Transition, valid: Array) -> AgentState:
    return state

  return agent._replace(init=init, update=update, observe=observe)


def sampled(demonstrations: Demonstrations, key: Key, n: int, squashed: bool, axis: str | None) -> Batch:
  """`Demonstrations.sample` of rows that differ from device to device of a mapped axis."""
  if axis is not None:
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
  return demonstrations.sample(key, n, squashed=squashed)
