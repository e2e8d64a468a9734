"""What a critic is worth that sees more than the policy does: the asymmetric actor-critic where observations are noisy.

    python -m experiments.claims.asymmetric           # 3 seeds, about twenty minutes on one core
    python -m experiments.claims.asymmetric --smoke   # one seed, few steps; prints, and writes nothing

The policy sees the observation plus Gaussian noise, new in every step; the critic sees the same, or beside it the
observation without noise. All else is equal: `sac` and `ppo` by their presets where they have one. Writes
`experiments/results/asymmetric.json`: the returns of all evaluations, by seed.
"""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.claims import forms
from varl import envs, presets
from varl.envs import State

POINT_MASS = {
  "num_timesteps": 40_000, "num_envs": 16, "updates_per_env_step": 0.5, "batch_size": 128, "hidden": [64, 64],
  "learning_rate": 1e-3, "warm_up": 1_000, "episode_length": 100, "eval_every": 4_000,
}  # fmt: skip
RUNS = (
  ("sac", "point_mass", 0.5, POINT_MASS),
  ("sac", "inverted_pendulum", 0.1, presets.preset("sac", "inverted_pendulum")),
  ("ppo", "inverted_pendulum", 0.1, presets.preset("ppo", "inverted_pendulum")),
)
"""Algorithm, environment, the noise's standard deviation, and settings."""
FORMS = {"the policy's observation": False, "the observation without noise, too": True}


class Noisy(envs.Wrapper):
  """An environment seen through noise of a standard deviation; `told`: all but the policy sees the truth beside it."""

  def __init__(self, env: Any, deviation: float, told: bool):
    super().__init__(env, (1 + told) * env.observation_size)
    self.deviation, self.privileged = deviation, env.observation_size if told else 0

  def reset(self, rng: jax.Array) -> State:
    own, key = jax.random.split(jax.random.wrap_key_data(rng))
    return self.through(self.env.reset(jax.random.key_data(own)), key)

  def step(self, state: State, action: jax.Array) -> State:
    own, key = state.data
    return self.through(self.env.step(own, action), jax.random.wrap_key_data(key))

  def through(self, own: Any, key: jax.Array) -> State:
    now, later = jax.random.split(key)
    seen = own.obs + self.deviation * jax.random.normal(now, own.obs.shape)
    obs = jnp.concatenate([seen, own.obs]) if self.privileged else seen
    return super().seen(own).replace(obs=obs, data=(own, jax.random.key_data(later)))

  def inner(self, state: State) -> tuple[Any, Any]:
    return self.env, state.data[0]


if __name__ == "__main__":
  forms.main(
    "asymmetric", __doc__,
    (
      (
        f"{algorithm}, {env}", {"noise": deviation}, form, (algorithm, Noisy(envs.make(env), deviation, told)),
        {**settings, "preset": False},
      )
      for algorithm, env, deviation, settings in RUNS
      for form, told in FORMS.items()
    ),
  )  # fmt: skip
