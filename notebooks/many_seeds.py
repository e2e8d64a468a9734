# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3

# %% [markdown]
# # Many seeds in one program
#
# A whole training run is a pure function of its key. `jax.vmap` trains several seeds, or a grid of numeric hyper-parameters, in one compiled program.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import varl
from varl.agents import sac

plt.rcParams.update({"figure.dpi": 80, "figure.figsize": (5.5, 3), "figure.constrained_layout.use": True})

env = varl.envs.make("point_mass")
spec = varl.envs.spec(env)
settings = varl.Settings(
  num_timesteps=5_000,
  num_envs=8,
  episode_length=100,
  warm_up=500,
  eval_every=1_000,
  replay_capacity=5_000,
  eval_episodes=8,
)

# %% [markdown]
# Build agent and trainer inside the function. What is passed in may then be traced.


# %%
def run(key, learning_rate):
  agent = sac.make(spec, sac.Config(learning_rate=learning_rate, hidden=(32, 32)))
  _, metrics = varl.make_trainer(env, agent, settings).run(key)
  return metrics["eval/episode_reward"]  # [evaluations]


seeds = jax.random.split(jax.random.key(0), 3)
rates = jnp.array([1e-4, 1e-3])
grid = jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))
returns = grid(seeds, rates)
returns.shape  # rates, seeds, evaluations

# %%
steps = settings.steps_per_iteration * settings.iterations_per_epoch * np.arange(1, returns.shape[-1] + 1)
for rate, curves in zip(rates, returns, strict=True):
  line = plt.plot(steps, curves.mean(0), label=f"{rate:.0e}")[0]
  plt.fill_between(steps, curves.min(0), curves.max(0), alpha=0.2, color=line.get_color())
plt.gca().set(xlabel="environment steps", ylabel="return per episode, mean and range over seeds")
plt.legend(title="learning rate")
plt.show()

# %% [markdown]
# One run of the grid is the run by itself: the program is the same function, mapped.

# %%
alone = jax.jit(run)(seeds[1], rates[1])
np.testing.assert_allclose(alone[-1], returns[1, 1, -1], rtol=0.2)
