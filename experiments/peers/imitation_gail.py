"""The half of `experiments.peers.gail` that runs in an environment of its own: the GAIL of the package `imitation`.

    python imitation_gail.py SPEC.json

The specification names the demonstrations (NPZ of `varl rollout`), the seed, the settings and the limit of steps. A
line of JSON is printed for each evaluation: seconds of training so far, environment steps, and the mean return.
"""

import json
import pathlib
import sys
import time
import warnings

import gymnasium
import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Transitions
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

warnings.filterwarnings("ignore")


def episode_return(policy, env, seed):
  """The return of one episode of the policy's mode."""
  obs, _ = env.reset(seed=seed)
  total, ended = 0.0, False
  while not ended:
    action, _ = policy.predict(obs, deterministic=True)
    obs, reward, terminated, truncated, _ = env.step(int(action))
    total, ended = total + float(reward), terminated or truncated
  return total


def main():
  spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
  torch.set_num_threads(1)
  torch.manual_seed(spec["seed"])
  rows = np.load(spec["demonstrations"])
  n = len(rows["obs"])
  demonstrations = Transitions(
    obs=rows["obs"].astype(np.float32),
    acts=rows["action"].astype(np.int64),
    infos=np.array([{}] * n),
    next_obs=rows["next_obs"].astype(np.float32),
    dones=rows["discount"] == 0,
  )
  envs = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * spec["num_envs"])
  envs.seed(spec["seed"])
  hidden = list(spec["hidden"])
  learner = PPO(
    "MlpPolicy", envs, n_steps=spec["unroll_length"], batch_size=spec["batch_size"], n_epochs=spec["epochs"],
    learning_rate=spec["learning_rate"], ent_coef=spec["entropy_bonus"], gamma=spec["gamma"], gae_lambda=0.95,
    clip_range=0.2, policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}}, seed=spec["seed"], device="cpu",
  )  # fmt: skip
  discriminator = BasicRewardNet(
    envs.observation_space, envs.action_space, hid_sizes=hidden, normalize_input_layer=RunningNorm
  )
  trainer = GAIL(
    demonstrations=demonstrations, demo_batch_size=spec["batch_size"], venv=envs, gen_algo=learner,
    reward_net=discriminator, allow_variable_horizon=True, log_dir=spec["log"],
    n_disc_updates_per_round=spec["epochs"] * spec["num_envs"] * spec["unroll_length"] // spec["batch_size"],
    disc_opt_kwargs={"lr": spec["reward_learning_rate"]},
  )  # fmt: skip
  evaluated = gymnasium.make("CartPole-v1")
  every, spent = spec["eval_every"], 0.0
  for steps in range(every, spec["limit"] + 1, every):
    start = time.monotonic()
    trainer.train(every)
    spent += time.monotonic() - start
    mean = float(np.mean([episode_return(learner.policy, evaluated, i) for i in range(spec["eval_episodes"])]))
    print(json.dumps({"seconds": spent, "env_steps": steps, "return": mean}), flush=True)
    if mean >= spec["target"]:
      return


if __name__ == "__main__":
  main()
