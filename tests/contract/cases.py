"""What the contract's tests share: every algorithm small, on the toy problem whose actions it takes."""

from conftest import PROBLEMS, problems, small

from varl import agents
from varl.envs import spec
from varl.loop.settings import Settings
from varl.loop.trainer import make_trainer

CONTINUOUS, DISCRETE = PROBLEMS
DECAY_UPDATES = 3


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
