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
# # An environment of your own
#
# An environment is an object with `reset`, `step`, `observation_size` and `action_size`, as in Brax, for *one* environment. varl makes batches, time limits and resets of it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import varl

plt.rcParams.update({"figure.dpi": 80, "figure.figsize": (5.5, 3), "figure.constrained_layout.use": True})

# %% [markdown]
# A boat crosses a river with a current. Landing at the far bank ends the episode and pays the more the closer to the pier it is; the motor costs.


# %%
class River:
  """A boat at (x, y); action: thrust along both, in [-2, 2]."""

  observation_size, action_size = 2, 2
  action_bounds = (-2.0, 2.0)

  def reset(self, rng):
    """At the near bank, somewhere along it."""
    x = jax.random.uniform(jax.random.wrap_key_data(rng), minval=-1.0, maxval=1.0)
    return varl.envs.State(obs=jnp.array([x, 0.0]), reward=jnp.zeros(()), done=jnp.zeros(()))

  def step(self, state, action):
    """The current is strongest in the middle of the river."""
    x, y = state.obs
    x = jnp.clip(x + 0.1 * action[0] + 0.3 * jnp.sin(jnp.pi * y), -3.0, 3.0)
    y = jnp.clip(y + 0.1 * action[1], 0.0, 1.0)
    landed = y >= 0.95
    reward = 10.0 * landed * jnp.exp(-jnp.square(x)) - 0.02 * jnp.sum(jnp.square(action)) - 0.1
    return state.replace(obs=jnp.stack([x, y]), reward=reward, done=landed.astype(jnp.float32))


# %% [markdown]
# `done` means that the episode ended by itself. Time limits are the loop's: `episode_length`. There, values bootstrap on the true next observation.
#
# `check` runs the environment and says which contracts it keeps.

# %%
print(varl.envs.check(River()))

# %% [markdown]
# A step costs about 0.1 here. At the default temperature of 1 a nat of entropy is worth ten steps, and drifting at random forever pays more than landing. So the temperature
# starts at 0.1.

# %%
run = varl.train(
  "sac", River(), num_timesteps=16_000, num_envs=8, episode_length=60, warm_up=1_000, eval_every=2_000,
  hidden=(32, 32), learning_rate=1e-3, replay_capacity=16_000, initial_temperature=0.1,
)  # fmt: skip
plt.plot([row["env_steps"] for row in run.metrics], [row["eval/episode_reward"] for row in run.metrics], marker="o")
plt.gca().set(xlabel="environment steps", ylabel="return per episode")
plt.show()

# %%
assert run.metrics[-1]["eval/episode_reward"] > 5.0

# %% [markdown]
# The learned policy steers against the current before it reaches the middle.

# %%
env = River()


@jax.jit
def crossing(key):
  def step(state, key):
    new = env.step(state, run.policy(state.obs, key))
    return new, (state.obs, new.done)

  first = env.reset(jax.random.key_data(key))
  return jax.lax.scan(step, first, jax.random.split(key, 30))[1]


for seed in range(5):
  path, done = crossing(jax.random.key(seed))
  end = int(jnp.argmax(done)) + 1
  plt.plot(path[:end, 0], path[:end, 1])
plt.plot([-0.3, 0.3], [1, 1], "k", linewidth=4)
plt.gca().set(xlabel="along the river", ylabel="across", title="five crossings; the pier is black")
plt.show()

# %% [markdown]
# Give it a name, and the command line's settings apply to it:

# %%
varl.envs.register("river", River)
"river" in varl.envs.names()
