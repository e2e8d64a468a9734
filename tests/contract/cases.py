"""What the contract's tests share: every algorithm small, on the toy problem whose actions it takes."""

import pytest
from conftest import PROBLEMS, problems, small

from varl import agents
from varl.envs import spec
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer

CONTINUOUS, DISCRETE = PROBLEMS
DECAY_UPDATES = 3


ALIKE = (
  "sac_v1", "virel", "sql_discrete", "rerpi", "reinforce", "maxent_pg", "erpg", "kl_pg", "svg_mpo", "smc_mpo", "airl",
  "maxent_irl", "iq_learn", "vime", "iadp", "diayn", "hdp",
)  # fmt: skip
"""Algorithms that differ from another one by their losses alone."""

SOME = [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in agents.AGENTS]
"""All algorithms, for what is of how an agent is built and not of its losses: those `ALIKE` with `-m slow`."""


def build(name):
  """The algorithm with small networks and rates that fall to 0, and its problem."""
  module = agents.load(name)
  config = small(module, decay_updates=DECAY_UPDATES)
  continuous, discrete = problems(module)
  try:
    return module.make(spec(continuous), config), continuous
  except ValueError:
    return module.make(spec(discrete), config), discrete


def trainer(agent, env, **settings):
  """A loop of two epochs of 32 steps. From replay, in the first no update is made and no episode ends."""
  source = {"epochs": 1, "unroll_length": 4} if agent.on_policy else {"updates_per_env_step": 0.25, "warm_up": 32}
  return make_trainer(
    env,
    agent,
    Settings(
      **dict(
        num_timesteps=64, num_envs=4, episode_length=9, batch_size=8, replay_capacity=64, eval_every=32,
        eval_episodes=2, **source,
      ) | settings
    ),
  )  # fmt: skip
