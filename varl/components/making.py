"""What makes an algorithm of its Config, its design, its policy's head and its memory."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

from varl import checks, policies
from varl.components.memories import memory_of
from varl.design import agent
from varl.memory import Memory
from varl.types import Agent, Design, Reward, Spec


def designs(config_type: type) -> Callable[[Callable[..., Design]], Callable[..., Design]]:
  """The decorator of an algorithm's `design(spec, config, *, axis=None)`: it gets a Spec, and that Config.

  Raises:
    ValueError: in the call, another thing in the place of one of the two, or of a field.
  """

  def decorated(design: Callable[..., Design]) -> Callable[..., Design]:
    @functools.wraps(design)
    def checked(spec: Spec, config: Any, **others: Any) -> Design:
      checks.instance(spec, Spec, "a Spec, as varl.envs.spec(env) gives it,")
      _check_sizes(spec)
      checks.instance(config, config_type, f"a Config of {config_type.__module__}")
      checks.kinds(config)
      made = design(spec, config, **others)
      checks.numbers_of(config)  # after the design, which knows the ranges of those that it uses
      return made

    return checked

  return decorated


def _check_sizes(spec: Spec) -> None:
  """Checks the sizes of an environment.

  Raises:
    ValueError: one is no whole number, or there are no actions.
  """
  for name, least in (("observation_size", 0), ("action_size", 1), ("context", 0), ("privileged", 0)):
    checks.whole(f"{name} of a Spec", getattr(spec, name), least=least)


class Make(Protocol):
  """`(spec, config=None, *, axis=None, reward=None) -> Agent`: an algorithm for an environment, by default with its
  `Config()`.

  Args and Raises are those of the algorithm's `design`; a `reward` is paid in place of the environment's, and refused
  where the algorithm learns one of its own.
  """

  def __call__(
    self, spec: Spec, config: Any = None, *, axis: str | None = None, reward: Reward | None = None
  ) -> Agent: ...


def maker(
  config_type: Callable[[], Any],
  design: Callable[..., Design],
  make_head: Callable[[Spec, Any], policies.Head],
  make_memory: Callable[[Spec, Any, policies.Head], Memory | None] = memory_of,
) -> Make:
  """An algorithm's `make`, of its Config, its design, its policy's head and its memory."""

  def make(spec: Spec, config: Any = None, *, axis: str | None = None, reward: Reward | None = None) -> Agent:
    config = config_type() if config is None else config
    made = design(spec, config, axis=axis)
    family = make_head(spec, config)
    if reward is not None:
      if made.reward is not None:
        raise ValueError("this algorithm has a reward of its own: rewards.sum adds another one to it")
      made = made._replace(reward=reward)
    memory = make_memory(spec, config, family)
    return agent(made, spec, family, normalize_observations=config.normalize_observations, memory=memory)

  make.__annotations__["config"] = config_type  # for whoever asks what its hyper-parameters are
  return make
