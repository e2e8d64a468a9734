"""Where one observation does not say enough: policies that remember, and the same ones that do not.

    python -m experiments.claims.memory           # 3 seeds, about twenty minutes on one core
    python -m experiments.claims.memory --smoke   # one seed, few steps; prints, and writes nothing

`inverted_pendulum_positions` (Brax's inverted pendulum without its velocities) by the presets of `sac` and `ppo`, and
bsuite's memory chain of gymnax (a bit is shown at the start of an episode, and asked for at its end) by `ppo`: each
with its memory and with `memory=0`, all else the same. Writes `experiments/results/memory.json`: the returns of all
evaluations, by seed.
"""

from typing import Any

from experiments.claims import forms

CHAIN = {
  "num_timesteps": 400_000, "num_envs": 64, "unroll_length": 32, "memory_length": 32, "batch_size": 512, "epochs": 4,
  "hidden": (64, 64), "learning_rate": 1e-3, "temperature": 0.01, "episode_length": 100, "eval_every": 40_960,
  "eval_episodes": 256, "memory": 32,
}  # fmt: skip
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
  "sac on positions": ("sac", "inverted_pendulum_positions", {}),
  "ppo on positions": ("ppo", "inverted_pendulum_positions", {}),
  "ppo on the memory chain": ("ppo", "gymnax:MemoryChain-bsuite", CHAIN),
}


if __name__ == "__main__":
  forms.main(
    "memory", __doc__,
    (
      (name, {"env": env}, form, (algorithm, env), {**fields, **own})
      for name, (algorithm, env, fields) in RUNS.items()
      for form, own in {"memory": {}, "no memory": {"memory": 0}}.items()
    ),
  )  # fmt: skip
