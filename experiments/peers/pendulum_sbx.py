"""sbx' SAC on Gymnasium's Pendulum-v1, in an environment that has sbx: `experiments/peers/pendulum.py` starts it.

python pendulum_sbx.py SPEC.json
"""

import json
import sys
import time

import jax
from sbx import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy


class Clock(BaseCallback):
  """Seconds from the step at which everything is compiled, twice the warm-up, to the last."""

  def __init__(self, start: int):
    super().__init__()
    self.start, self.begun, self.at = start, 0.0, 0

  def _on_step(self) -> bool:
    if not self.begun and self.num_timesteps >= self.start:
      self.begun, self.at = time.perf_counter(), self.num_timesteps
    return True


def main() -> None:
  with open(sys.argv[1]) as file:
    spec = json.load(file)
  env = make_vec_env("Pendulum-v1", n_envs=spec["num_envs"], seed=spec["seed"])
  model = SAC(
    "MlpPolicy", env, learning_rate=spec["learning_rate"], buffer_size=spec["replay_capacity"],
    learning_starts=spec["warm_up"], batch_size=spec["batch_size"], tau=spec["tau"], gamma=spec["gamma"], train_freq=1,
    gradient_steps=spec["num_envs"], policy_kwargs={"net_arch": spec["hidden"]}, seed=spec["seed"],
  )  # fmt: skip
  clock = Clock(2 * spec["warm_up"])
  model.learn(spec["num_timesteps"], callback=clock)
  seconds = time.perf_counter() - clock.begun
  own = make_vec_env("Pendulum-v1", n_envs=spec["num_envs"], seed=10_000)
  mean, _ = evaluate_policy(model, own, n_eval_episodes=spec["episodes"], deterministic=False)
  print(
    json.dumps(
      {"steps_per_second": (model.num_timesteps - clock.at) / seconds, "return": float(mean), "jax": jax.__version__}
    )
  )


if __name__ == "__main__":
  main()
