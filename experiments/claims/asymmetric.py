"""What a critic is worth that sees more than the policy does: the asymmetric actor-critic where observations are noisy.

    python -m experiments.claims.asymmetric           # 3 seeds, about half an hour on one core
    python -m experiments.claims.asymmetric --smoke   # one seed, few steps; prints, and writes nothing

The policy sees the observation plus Gaussian noise, new in every step; the critic sees the same, or beside it the
observation without noise. All else is equal: `sac` and `ppo` by their presets. Writes
`experiments/results/asymmetric.json`: the returns of all evaluations, by seed.
"""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.claims import forms
from varl import envs, presets
from varl.envs import State

RUNS = (("sac", "point_mass", 0.5), ("sac", "inverted_pendulum", 0.1), ("ppo", "inverted_pendulum", 0.1))
"""Algorithm, environment and the noise's standard deviation."""
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
        {**presets.preset(algorithm, env), "preset": False},
      )
      for algorithm, env, deviation in RUNS
      for form, told in FORMS.items()
    ),
  )  # fmt: skip
