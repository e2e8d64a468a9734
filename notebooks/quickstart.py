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
# ---

# %% [markdown]
# # Quickstart
#
# Train soft actor-critic on a small task, look at what it reports, use its policy, and swap one part of it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import varl

plt.rcParams.update({"figure.dpi": 80, "figure.figsize": (5, 3), "figure.constrained_layout.use": True})

# %% [markdown]
# ## Train
#
# `point_mass` is a damped mass on a plane that is pushed to the origin. The environment is written in JAX, so acting, learning and evaluating are one
# compiled program. Compiling takes most of the time here.

# %%
task = {
  "num_timesteps": 6_000, "num_envs": 8, "hidden": (32, 32), "learning_rate": 1e-3, "eval_every": 1_000,
  "replay_capacity": 6_000,
}  # fmt: skip
run = varl.train("sac", "point_mass", preset=False, warm_up=500, episode_length=100, **task)
run.metrics[-1]["eval/episode_reward"]

# %% [markdown]
# `run.metrics` has one row per evaluation: what `metrics.csv` holds where `out=` names a directory.

# %%
steps = [row["env_steps"] for row in run.metrics]
fig, axes = plt.subplots(1, 2, figsize=(8, 2.6))
axes[0].plot(steps, [row["eval/episode_reward"] for row in run.metrics], marker="o")
axes[0].set(xlabel="environment steps", ylabel="return per episode")
axes[1].plot(steps[1:], [row["training/alpha"] for row in run.metrics[1:]], marker="o")
axes[1].set(xlabel="environment steps", ylabel="temperature α")
plt.show()

# %%
assert run.metrics[-1]["eval/episode_reward"] > run.metrics[0]["eval/episode_reward"]

# %% [markdown]
# ## Act
#
# The policy takes observations as the environment gives them, one or a batch, and goes through `jit` and `vmap`.

# %%
obs = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]])  # positions and velocities
jax.jit(run.policy)(obs, jax.random.key(0))

# %% [markdown]
# The mass at (1, 0) is pushed to the left, the one at (0, -1) upwards.

# %%
env = varl.envs.make("point_mass")
state = jax.jit(env.reset)(jax.random.key_data(jax.random.key(1)))


@jax.jit
def episode(state):
  def step(state, key):
    state = env.step(state, run.policy(state.obs, key))
    return state, state.obs

  return jax.lax.scan(step, state, jax.random.split(jax.random.key(2), 100))[1]


path = episode(state)
plt.plot(path[:, 0], path[:, 1])
plt.plot(0, 0, "k+")
plt.gca().set(aspect="equal", title="one episode, seen from above")
plt.show()

# %% [markdown]
# ## Another algorithm
#
# Algorithms have names, and settings have the same names in Python and on the command line. `varl list` prints them all. On-policy algorithms learn from
# rollouts: `epochs` passes over each.

# %%
other = varl.train("mpo", "point_mass", preset=False, warm_up=500, episode_length=100, **task)
for name, found in (("sac", run), ("mpo", other)):
  plt.plot(
    [row["env_steps"] for row in found.metrics], [row["eval/episode_reward"] for row in found.metrics], label=name
  )
plt.gca().set(xlabel="environment steps", ylabel="return per episode")
plt.legend()
plt.show()
