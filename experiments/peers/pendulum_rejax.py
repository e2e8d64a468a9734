"""rejax' SAC and PPO on Pendulum-v1, in an environment that has rejax: `experiments/peers/pendulum.py` starts it.

python pendulum_rejax.py SPEC.json
"""

import json
import sys
import time

import jax
from rejax import PPO, SAC
from rejax.evaluate import evaluate


def main() -> None:
  with open(sys.argv[1]) as file:
    spec = json.load(file)
  shared = {
    "env": "Pendulum-v1", "total_timesteps": spec["num_timesteps"], "eval_freq": spec["num_timesteps"],
    "gamma": spec["gamma"], "learning_rate": spec["learning_rate"], "num_envs": spec["num_envs"],
    "skip_initial_evaluation": True, "normalize_observations": True,
  }  # fmt: skip
  if spec["algorithm"] == "sac":
    algorithm = SAC.create(
      **shared, buffer_size=spec["replay_capacity"], fill_buffer=spec["warm_up"], batch_size=spec["batch_size"],
      num_epochs=spec["num_envs"], target_update_freq=1, polyak=(1 - spec["tau"]) ** spec["num_envs"],
      hidden_layer_sizes=spec["hidden"],
    )  # fmt: skip
  else:
    algorithm = PPO.create(
      **shared, num_steps=spec["unroll_length"], num_epochs=spec["epochs"],
      num_minibatches=spec["num_envs"] * spec["unroll_length"] // spec["batch_size"], clip_eps=spec["clip"],
      ent_coef=0.0, agent_kwargs={"activation": "swish", "hidden_layer_sizes": spec["hidden"]},
    )  # fmt: skip
  algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: state.global_step)
  key = jax.random.PRNGKey(spec["seed"])
  begun = time.perf_counter()
  train = jax.jit(algorithm.train).lower(key).compile()
  compiled = time.perf_counter() - begun
  begun = time.perf_counter()
  state, steps = jax.block_until_ready(train(key))
  seconds = time.perf_counter() - begun
  act = algorithm.make_act(state)
  returns = evaluate(act, jax.random.PRNGKey(1), algorithm.env, algorithm.env_params, spec["episodes"])[1]
  found = {"steps_per_second": int(steps[-1]) / seconds, "return": float(returns.mean()), "compiled": compiled}
  print(json.dumps({**found, "jax": jax.__version__}))


if __name__ == "__main__":
  main()
