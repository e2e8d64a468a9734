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
# # When a run goes wrong
#
# Three runs with one thing wrong in each, what their metrics show, and what mends them.

# %%
import matplotlib.pyplot as plt

import varl

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})

SETTINGS = {
  "num_timesteps": 6_000, "num_envs": 8, "episode_length": 100, "warm_up": 500, "eval_every": 1_000, "hidden": (32, 32),
  "learning_rate": 1e-3, "replay_capacity": 6_000,
}  # fmt: skip


def train(**changes):
  return varl.train("sac", "point_mass", preset=False, **{**SETTINGS, **changes})


def show(runs, *metrics):
  _, axes = plt.subplots(1, len(metrics), figsize=(4 * len(metrics), 2.8), squeeze=False)
  for ax, metric in zip(axes[0], metrics, strict=True):
    for name, run in runs.items():
      rows = [row for row in run.metrics if metric in row]
      ax.plot([row["env_steps"] for row in rows], [row[metric] for row in rows], marker="o", label=name)
    ax.set(xlabel="environment steps", title=metric)
  axes[0][0].legend()
  plt.show()


good = train()

# %% [markdown]
# ## The temperature is far too high for the rewards
#
# α stays at 10 return per nat. The policy's entropy stays near its largest value, and the return near that of random actions.

# %%
hot = train(adapt_temperature=False, initial_temperature=10.0)
show({"adapted": good, "α = 10": hot}, "eval/episode_reward", "training/entropy", "training/alpha")
assert hot.metrics[-1]["training/entropy"] > good.metrics[-1]["training/entropy"]
assert hot.metrics[-1]["eval/episode_reward"] < good.metrics[-1]["eval/episode_reward"]

# %% [markdown]
# Mend it with `adapt_temperature`, a lower `initial_temperature`, or a larger `reward_scale`: only their ratio counts.
#
# ## Learning is too fast
#
# With a learning rate of 0.3 the first updates throw the networks far off: the critic's loss starts high. It falls later, but the policy no longer learns: the actor's gradient
# is small and the return stays where it was.

# %%
fast = train(learning_rate=0.3)
show({"0.001": good, "0.3": fast}, "eval/episode_reward", "training/critic_loss", "training/actor_grad_norm")
first, last = fast.metrics[1], fast.metrics[-1]
assert first["training/critic_loss"] > 10 * good.metrics[1]["training/critic_loss"]
assert last["training/actor_grad_norm"] < 0.5 * good.metrics[-1]["training/actor_grad_norm"]
assert last["eval/episode_reward"] < good.metrics[-1]["eval/episode_reward"] - 20

# %% [markdown]
# Mend it with a lower `learning_rate`; `max_grad_norm` bounds single steps.
#
# ## Too few updates
#
# One update per 64 environment steps. Nothing diverges; the curves are those of a shorter run.

# %%
slow = train(updates_per_env_step=1 / 64, unroll_length=8)
show({"1/4 update per step": good, "1/64": slow}, "eval/episode_reward", "training/updates", "training/entropy")
assert slow.metrics[-1]["training/updates"] < good.metrics[-1]["training/updates"]

# %% [markdown]
# Mend it with a larger `updates_per_env_step`. The guide "Debugging by metrics" has more of these.
