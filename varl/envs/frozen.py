"""Environments that are acted in through a policy that learns no more: by its noise, or by its skills."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from varl import checks
from varl.envs import base, foreign
from varl.envs.base import Environment, State, Wrapper
from varl.types import Array, Spec


class Latent(Wrapper):
  """An environment whose action is the noise of a frozen policy: a higher policy acts in its latent space.

    s' ~ p(·|s, f_s(h)),    f_s: the policy's invertible map of noise h to actions

  f_s covers all actions, so that nothing is lost to the higher policy; where the lower one has learned what is worth
  doing, h ~ N(0, I) does it already. Any algorithm of continuous actions acts here: h is unbounded, `[d]`.

  Args:
    env: the environment that the lower policy was trained in, or another one of the same shape: its reward may differ.
    policy: of `varl.load_policy`, whose agent says what noise does (`Agent.by_noise`).

  Raises:
    ValueError: a policy without such a map or with a memory, or of an environment of another shape.

  Reference: Haarnoja et al. 2018, 1804.02808, section 4.2.
  """

  def __init__(self, env: Environment, policy: Any):
    spec = _spec(env, policy)
    if policy.agent.by_noise is None:
      raise ValueError("this policy is no map of noise to actions: train one with posteriors.direct, as sac's is")
    _same(env, policy, observed=spec.observation_size)
    super().__init__(env)
    self.policy, self.action_bounds = policy, None

  def step(self, state: State, action: Array) -> State:
    """The environment's own, by the action that the noise stands for."""
    agent = self.policy.agent
    raw = agent.by_noise(self.policy.params, state.data.obs[None], action[None])[0]
    return super().step(state, self.policy.in_units(agent.execute(raw)))


class ChosenSkills(Wrapper):
  """An environment whose action is a skill of a frozen policy, which then acts for some steps.

    s_{t+k} ~ the policy π(·|s, z) for k steps, r = Σ_i r_{t+i}

  A step of this environment is k of the inner one's, fewer where its episode ends; its reward is their sum. Discount as
  a step of k: γ here is γ^k there. The time limit is that of the inner environment, in steps of this one.

  Args:
    env: the environment without skills.
    policy: of `varl.load_policy`, trained with skills as its observation's last entries (`diayn`); it acts by its mode,
      unless it was loaded to explore.
    steps: k.

  Raises:
    ValueError: fewer than one step, a policy without skills or with a memory, or of an environment of another shape.
  """

  def __init__(self, env: Environment, policy: Any, steps: int = 10):
    spec = _spec(env, policy)
    steps = checks.whole("steps", steps)
    if spec.context < 2:
      raise ValueError(f"the policy has no skills to choose from: its observations end with {spec.context} of context")
    _same(env, policy, observed=spec.observation_size - spec.context)
    super().__init__(env)
    self.policy, self.steps = policy, steps
    self.action_size, self.discrete, self.action_bounds = spec.context, True, None
    if limit := base.time_limit(env):
      self.time_limit = -(-limit // steps)

  def reset(self, rng: Array) -> State:
    """The environment's own, and the stream of what the policy draws."""
    own_key, stream = jax.random.split(jax.random.wrap_key_data(rng))
    own = self.env.reset(jax.random.key_data(own_key))
    return self.seen(own).replace(data=(own, stream))

  def step(self, state: State, action: Array) -> State:
    """Steps of the skill `action`, until the episode ends."""
    own, stream = state.data
    now, stream = jax.random.split(stream)
    skill = jax.nn.one_hot(action, self.action_size, dtype=own.obs.dtype)

    def one(carry: tuple[Any, Array], key: Array) -> tuple[tuple[Any, Array], None]:
      own, total = carry
      act = self.policy(jnp.concatenate([own.obs, skill]), key)
      following = self.env.step(own, act)
      ended = own.done > 0
      kept: Any = jax.tree.map(lambda old, new: jnp.where(ended, old, new), own, following)
      return (kept, total + jnp.where(ended, 0.0, following.reward)), None

    start = own.replace(done=jnp.zeros_like(own.done))
    total = jnp.zeros_like(own.reward)
    (own, total), _ = jax.lax.scan(one, (start, total), jax.random.split(now, self.steps))
    return self.seen(own).replace(reward=total, data=(own, stream))

  def inner(self, state: Any) -> tuple[Any, Any]:
    """The environment inside, and its own state."""
    return self.env, state.data[0]


def _spec(env: Environment, policy: Any) -> Spec:
  """The policy's; raises ValueError where one of the two is something else."""
  foreign.single(env)
  if not hasattr(policy, "agent"):
    given = repr(policy) if isinstance(policy, str | os.PathLike) else type(policy).__name__
    raise ValueError(f"a frozen policy is what varl.load_policy reads, or the policy of a run; got {given}")
  spec: Spec = policy.agent.spec
  return spec


def _same(env: Environment, policy: Any, *, observed: int) -> None:
  """Raises ValueError for a policy with a memory, or one of another environment."""
  spec = policy.agent.spec
  if jax.tree.leaves(policy.agent.carry(1)):
    raise ValueError("a frozen policy acts from the observation alone; this one has a memory")
  found = checks.whole("observation_size", env.observation_size), base.action_size(env), base.is_discrete(env)
  wanted = observed, spec.action_size, spec.discrete
  if found != wanted:
    names = "observations [{}], {} actions, discrete: {}"
    raise ValueError(f"the policy is of {names.format(*wanted)}; the environment has {names.format(*found)}")
