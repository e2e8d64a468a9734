"""A reward learned under one dynamics, of use under another: agents trained anew on it, and policies moved over.

    python -m experiments.claims.moved_reward           # 3 seeds, about half an hour on one core
    python -m experiments.claims.moved_reward --smoke   # one seed, few steps; prints, and writes nothing

CartPole; eleven episodes of a PPO expert's, of which every 20th row is kept. `airl` with a reward of the state alone,
and `gail`, learn from them as CartPole is. Then the pole is five times as long, or the cart's force acts the other way,
and each algorithm's policy is moved over as it is, and its reward trains a new `sac_discrete` there, beside one that is
paid the true reward. Returns are of 32 episodes of up to 500 steps, 500 the most. Writes
`experiments/results/moved_reward.json`.
"""

import json
import pathlib
import tempfile
from typing import Any

import jax

import varl
from experiments import experts
from experiments.claims import script

ENV, LENGTH = "gymnax:CartPole-v1", 500
DYNAMICS: dict[str, dict[str, float]] = {
  "as it is": {},
  "pole of 5 times the length": {"length": 2.5},
  "force the other way": {"force_mag": -10.0},
}
LEARNING: dict[str, Any] = {
  "num_timesteps": 20_000, "num_envs": 8, "updates_per_env_step": 1.0, "batch_size": 128, "hidden": (128, 128),
  "learning_rate": 1e-3, "warm_up": 1_000, "eval_every": 2_000, "replay_capacity": 100_000, "episode_length": LENGTH,
}  # fmt: skip
IMITATING: dict[str, dict[str, Any]] = {"airl": {"state_only": True}, "gail": {}}
# AIRL's reward is in nats of the policy that it was learned with; of the others' the temperature is found.
AGAIN: dict[str, dict[str, Any]] = {"airl": {"adapt_temperature": False, "initial_temperature": 1.0}, "gail": {}}


def last(run: Any) -> float:
  """The mean return of a run's last three evaluations."""
  returns = [row["eval/episode_reward"] for row in run.metrics][-3:]
  return float(sum(returns) / len(returns))


def moved(run: Any, env: Any) -> float:
  """The return of a run's policy in another environment."""
  evaluate = varl.evaluator(env, run.policy.agent, episodes=32, episode_length=LENGTH)
  return float(jax.jit(evaluate)(run.policy.params, jax.random.key(1))["eval/episode_reward"])


def main() -> None:
  asked = script.ask(__doc__, range(3))
  learning = {**LEARNING, **({"num_timesteps": 2_000} if asked.smoke else {})}
  worlds = {name: varl.envs.make(ENV, **changed) for name, changed in DYNAMICS.items()}
  found: dict[str, dict[str, list[float]]] = {name: {} for name in worlds}

  def add(world: str, what: str, value: float) -> None:
    found[world].setdefault(what, []).append(round(value, 2))
    print(json.dumps({"dynamics": world, "what": what, "return": found[world][what]}), flush=True)

  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    expert, demonstrations = experts.trained("cartpole", folder / "expert", 11)
    for world, env in worlds.items():
      add(world, "the expert's policy, moved over", moved(expert, env))
    for seed in asked.seeds:
      for world, env in worlds.items():
        add(world, "sac_discrete on the true reward", last(varl.train("sac_discrete", env, seed=seed, **learning)))
      for algorithm, own in IMITATING.items():
        out = folder / f"{algorithm}-{seed}"
        settings = {**learning, **own, "demonstrations": demonstrations, "subsample": 20}
        run = varl.train(algorithm, worlds["as it is"], out=out, seed=seed, **settings)
        for world, env in worlds.items():
          add(world, f"{algorithm}'s policy, moved over", moved(run, env))
          again = varl.train("sac_discrete", env, reward=out, seed=seed, **{**learning, **AGAIN[algorithm]})
          add(world, f"sac_discrete on {algorithm}'s reward", last(again))
  if not asked.recorded:
    return
  body = {
    "seeds": asked.seeds, "expert": float(demonstrations.returns.mean()), "returns": found,
  }  # fmt: skip
  script.write("moved_reward", body)


if __name__ == "__main__":
  main()
