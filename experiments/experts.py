"""Experts to be imitated: runs of a preset whose return is an expert's."""

import pathlib
from typing import Any, NamedTuple

import varl
from varl.demonstrations import Demonstrations


class Expert(NamedTuple):
  """Of an environment.

  Attributes:
    algorithm: whose preset it is trained by.
    least: the return below which it is no expert, gymnasium's own threshold where there is one.
  """

  algorithm: str
  least: float


EXPERTS = {
  "cartpole": Expert("ppo", 475.0),
  "pendulum": Expert("sac", -200.0),
  "inverted_pendulum": Expert("sac", 950.0),
  "reacher": Expert("sac", -60.0),
}


def trained(env: str, out: pathlib.Path, episodes: int) -> tuple[Any, Demonstrations]:
  """An expert's run, which is written to `out`, and demonstrations of it.

  Raises:
    RuntimeError: it has come out below `Expert.least`, so that nothing could be learned from imitating it.
  """
  algorithm, least = EXPERTS[env]
  run = varl.train(algorithm, env, out=out)
  shown = varl.rollout(out, episodes=episodes)
  if (mean := float(shown.returns.mean())) < least:
    raise RuntimeError(f"{algorithm} on {env} has a return of {mean:.0f}, below an expert's {least:.0f}")
  return run, shown
