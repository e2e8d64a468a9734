"""A trained policy as a directory of its own: small, and independent of the checkpoint that it came from."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp

from varl import agents, demonstrations, files, rewards
from varl.types import Agent, Array, Carry, Design, Key, Params, Reward, Spec

SCHEMA = 1
_DESCRIPTION, _PARAMS = "policy.json", "params.msgpack"


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, so that jax.jit takes it
class Policy:
  """A policy to run: `action = policy(obs, key)`.

  Attributes:
    agent: the agent.
    params: its parameters, the observation normaliser among them.
    bounds: `(low, high)` of the environment's actions; None where they are unbounded or discrete.
    stochastic: whether it explores (`agent.act`) or gives its mode (`agent.mode`).
  """

  agent: Agent
  params: Params
  bounds: tuple[Any, Any] | None
  stochastic: bool = False

  def __repr__(self) -> str:
    """Without the arrays."""
    spec, kind = self.agent.spec, "stochastic" if self.stochastic else "deterministic"
    actions = f"{spec.action_size} actions" if spec.discrete else f"actions [{spec.action_size}]"
    return f"Policy({kind}, observations [{spec.observation_size - spec.privileged}], {actions})"

  def __call__(self, obs: Array, key: Key | None = None) -> Array:
    """The action for the environment, in its own units.

    Args:
      obs: `[observation_size]` or `[B, observation_size]`, as the environment gives it (not normalised); what is
        privileged in it may be left out.
      key: consumed; a deterministic policy needs none, and one has no effect on it.

    Returns:
      `[action_size]` or `[B, action_size]`; an integer or `[B]` integers for discrete actions.

    Raises:
      ValueError: an observation of another size, a stochastic policy without a key, or a policy with memory, which
        `step` is for.
    """
    if jax.tree.leaves(self.agent.carry(1)):
      raise ValueError("this policy has a memory between steps; use policy.step(carry, obs, key)")
    return self.step((), obs, key)[0]

  def step(self, carry: Carry, obs: Array, key: Key | None = None) -> tuple[Array, Carry]:
    """As a call, with the policy's memory: `(action, carry)`. `agent.carry(B)` starts an episode."""
    obs = jnp.asarray(obs, float)
    spec = self.agent.spec
    size = spec.observation_size - spec.privileged
    if obs.ndim not in (1, 2) or obs.shape[-1] not in (size, spec.observation_size):
      beside = f", or with the {spec.privileged} privileged entries" if spec.privileged else ""
      raise ValueError(f"this policy takes observations [{size}] or [B, {size}]{beside}, got shape {obs.shape}")
    if key is None:
      if self.stochastic:
        raise ValueError("a stochastic policy needs a key: policy(obs, jax.random.key(seed))")
      key = jax.random.key(0)
    single = obs.ndim == 1
    choose = self.agent.act if self.stochastic else self.agent.mode
    raw, carry, _ = choose(self.params, carry, obs[None] if single else obs, key)
    action = self.in_units(self.agent.execute(raw))
    return (action[0] if single else action), carry

  def in_units(self, action: Array) -> Array:
    """An executed action in the environment's own units."""
    if self.bounds is None:
      return action
    low, high = (jnp.asarray(b) for b in self.bounds)
    return (low + high) / 2 + (high - low) / 2 * jnp.clip(action, -1.0, 1.0)


def save_policy(
  directory: str | os.PathLike[str],
  policy: Policy,
  *,
  algorithm: Any = None,
  config: Any = None,
  env: dict[str, Any] | None = None,
) -> None:
  """Writes a policy: `policy.json` (what it is) and `params.msgpack` (its arrays), each replaced in one step.

  Args:
    directory: made where it does not exist.
    policy: to write.
    algorithm: what made its agent, as `varl.agents.load` takes it; None: the agent itself, which no file holds, so that
      `load_policy` needs it once more.
    config: its hyper-parameters, an instance of its Config or a dict; None: the algorithm's defaults.
    env: what to say of the environment; nothing reads it.

  Raises:
    ValueError: the algorithm is none, or the policy.
    OSError: the directory cannot be written.
  """
  if not isinstance(policy, Policy):
    raise ValueError(f"save_policy takes a path, and a policy; got {type(policy).__name__} for the second")
  made = agents.load(policy.agent if algorithm is None else algorithm)
  config = made.config if config is None else config
  if getattr(config, "demonstrations", None) is not None:  # it acts, and learns no more
    config = dataclasses.replace(config, demonstrations=None)
  bounds = None if policy.bounds is None else [jnp.asarray(b).tolist() for b in policy.bounds]
  description = {
    "schema": SCHEMA,
    "algorithm": made.name,
    "source": made.source,
    "objects": ["algorithm"] if agents.is_object(made) else [],
    "config": config if isinstance(config, dict) else dataclasses.asdict(config),
    "spec": policy.agent.spec._asdict(),
    "action_bounds": bounds,
    "environment": env,
  }
  arrays = flax.serialization.msgpack_serialize(flax.serialization.to_state_dict(jax.device_get(policy.params)))
  directory = files.as_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  files.write_atomically(directory / _PARAMS, arrays)
  files.write_atomically(directory / _DESCRIPTION, json.dumps(description, indent=2).encode())


def load_policy(path: str | os.PathLike[str], *, algorithm: Any = None, stochastic: bool = False) -> Policy:
  """Reads a policy from a run's directory, or from its `policy/`.

  Args:
    path: `OUT` or `OUT/policy`.
    algorithm: the algorithm, where the run was given an object and not a name.
    stochastic: whether it explores; by default it gives its mode.

  Raises:
    ValueError: there is no policy, it is damaged, of another algorithm, or was written by a newer varl.
  """
  return _load(path, algorithm, stochastic)[0]


def load_design(path: str | os.PathLike[str], *, algorithm: Any = None) -> tuple[Policy, Design | None]:
  """A run's policy, and the design that it was learned by; None where its algorithm has none.

  Args and Raises are those of `load_policy`.
  """
  policy, made, config = _load(path, algorithm, False)
  return policy, None if made.design is None else made.design(policy.agent.spec, config)


def policy_directory(path: str | os.PathLike[str]) -> pathlib.Path:
  """The directory of a policy: of a run, or this one itself."""
  directory = files.as_path(path)
  return directory / "policy" if (directory / "policy").is_dir() else directory


def load_reward(path: str | os.PathLike[str], spec: Spec | None = None, *, algorithm: Any = None) -> Reward:
  """The reward that a run has learned, as it was at its end: for another agent, or under other dynamics.

    varl.train("sac", "pendulum", reward="runs/gail")

  Args:
    path: `OUT` or `OUT/policy` of an algorithm that learns a reward.
    spec: the environment that it must be of; None: any.
    algorithm: the algorithm, where the run was given an object and not a name.

  Raises:
    ValueError: as `load_policy`; the algorithm learns no reward, or one for its own agent alone; or it is of another
      environment.
  """
  policy, design = load_design(path, algorithm=algorithm)
  own = policy.agent.spec
  if spec is not None and spec != own:
    raise ValueError(f"the reward of {path} was learned for {own}, but this environment is {spec}")
  reward = None if design is None else design.reward
  if reward is None:
    raise ValueError(f"the run in {path} learned no reward: its algorithm has none of its own")
  try:
    return rewards.learned(reward, policy.params)
  except ValueError as error:
    raise ValueError(f"the reward of {path}: {error}") from None


def _load(path: str | os.PathLike[str], algorithm: Any, stochastic: bool) -> tuple[Policy, Any, Any]:
  """A policy, the algorithm that made it, and its hyper-parameters; Args and Raises as `load_policy`."""
  directory = policy_directory(path)
  try:
    description = json.loads((directory / _DESCRIPTION).read_text())
    arrays = (directory / _PARAMS).read_bytes()
  except (FileNotFoundError, NotADirectoryError) as error:
    raise ValueError(f"{path} holds no policy: {error.filename} is missing") from None
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(f"{directory / _DESCRIPTION} is damaged: {error}") from None
  found = description.get("schema") if isinstance(description, dict) else None
  if found != SCHEMA:
    raise ValueError(f"{directory} has schema {found!r}, this varl reads {SCHEMA}")
  try:
    is_object = "algorithm" in description.get("objects", ())
    named, source = str(description["algorithm"]), description.get("source", "")
    spec, values, bounds = Spec(**description["spec"]), dict(description["config"]), description["action_bounds"]
    bounds = None if bounds is None else tuple(bounds)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{directory / _DESCRIPTION} is damaged: {error!r}") from None
  made = agents.of_record(named, source, is_object=is_object, given=algorithm)
  config = config_of(agents.config_from(made, values), spec)
  agent = made.make(spec, config)
  if agent.spec != spec:
    raise ValueError(f"{directory} holds a policy for {spec}, but the agent is built for {agent.spec}")
  example = jax.eval_shape(agent.init, jax.random.key(0)).params
  try:
    state = flax.serialization.msgpack_restore(arrays)
    params = flax.serialization.from_state_dict(example, state)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{directory / _PARAMS} is damaged or of another agent: {error}") from None
  shapes = jax.tree.map(lambda a, b: a.shape == b.shape, example, params)
  if not all(jax.tree.leaves(shapes)):
    raise ValueError(f"{directory / _PARAMS} holds arrays of other shapes than its config describes")
  policy = Policy(agent, jax.tree.map(jnp.asarray, params), bounds, stochastic)
  return policy, made, config


def config_of(config: Any, spec: Spec) -> Any:
  """The Config of an agent that acts and learns no more: whose demonstrations need not be there."""
  if not hasattr(config, "demonstrations"):
    return config
  return dataclasses.replace(config, demonstrations=demonstrations.stand_in(spec), episodes=0, subsample=1)
