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
# # Options that stay alive
#
# A policy over options is a mixture: which option acted is not seen, and is summed out. A *reverse model*
# $\tilde q(o_t|\cdot)$, which tells from the trajectory which one it was, makes a bound of that sum that can be sampled:
#
# $$\mathbb{E}\Big[\sum_t r_t - \alpha \log\frac{\pi(a_t|s_t,o_t)}{p(a_t)} - b\,\alpha \log\frac{\pi(o_t|s_t,o_{t-1})}{\tilde q(o_t|\cdot)}\Big]$$
#
# First exactly, in a process that is small enough to enumerate; then learned.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import varl
from varl import agents, policies
from varl.envs import tabular as grids
from varl.exact import options as exact
from varl.exact import tabular

plt.rcParams.update({"figure.dpi": 110, "figure.constrained_layout.use": True, "axes.titlesize": 10})

# %% [markdown]
# ## 1. What a window tells
#
# Two states, two actions, two options, four steps: every trajectory with every sequence of options. The posterior of the
# options factors forward in time, where only the *future* of a step says more of its option than the option before does,
# and backward, where only the *past* does. The gap of the bound is what the window leaves out.

# %%
process = tabular.random_mdp(jax.random.key(3), 2, 2, discount=0.9)
rng = np.random.default_rng(0)
policy = exact.OptionPolicy(rng.dirichlet(np.ones(2), 2), rng.dirichlet([0.5, 0.5], (2, 2)), 0.6)
forms = {
  "forward, future": {"direction": "forward"},
  "forward, past": {"direction": "forward", "past": True},
  "backward, past": {"direction": "backward"},
}
gaps = {
  name: [exact.option_bound(process, policy, horizon=4, window=window, **form).gap for window in range(4)]
  for name, form in forms.items()
}
figure, axes = plt.subplots(figsize=(5, 3))
for name, values in gaps.items():
  axes.plot(range(4), values, marker="o", label=name)
axes.set(xlabel="window K (steps)", ylabel="gap of the bound (nats)", xticks=range(4))
axes.legend(frameon=False)
plt.show()
assert abs(gaps["forward, future"][-1]) < 1e-6
assert abs(gaps["backward, past"][-1]) < 1e-6
assert np.ptp(gaps["forward, past"]) < 1e-6 < gaps["forward, past"][0]

# %% [markdown]
# ## 2. Learned, in four rooms
#
# The evidence of the mixture is largest where the policy is soft-optimal, whatever its options do: at $b = 1$ nothing asks
# for options that differ. With $b > 1$ each nat that a trajectory tells of them is paid for. `option_information` is
# $I(o; a|s)$ of options drawn by how often each acts: 0 where all do the same.

# %%
layout = ["SSS#SSS", "SSSSSSS", "SSS#SSS", "#S###S#", "SSS#SSS", "SSSSSSG", "SSS#SSS"]
env = grids.gridworld(layout)
settings = varl.Settings(
  num_timesteps=98_304, num_envs=32, unroll_length=64, batch_size=256, epochs=8, episode_length=60, eval_every=8_192,
  eval_episodes=8,
)  # fmt: skip
module = agents.load("options")
shared = {
  "hidden": (32, 32),
  "activation": "tanh",
  "learning_rate": 2e-3,
  "temperature": 1e-3,
  "choice": "uniform",
  "continuation": 0.9,
}
runs = {"without a reverse model": {"reverse": "none"}, "b = 1": {}, "b = 100": {"information_weight": 100.0}}
found = {}
for name, own in runs.items():
  config = module.Config(**shared, **own)
  agent = module.make(varl.envs.spec(env), config)
  state, metrics = jax.jit(varl.make_trainer(env, agent, settings).run)(jax.random.key(0))
  found[name] = config, state.agent.params, {key: np.asarray(value) for key, value in metrics.items()}

figure, axes = plt.subplots(figsize=(5, 3))
for name, (_, _, metrics) in found.items():
  axes.plot(metrics["env_steps"][1:], metrics["training/option_information"][1:] / np.log(4), label=name)
axes.set(xlabel="environment steps", ylabel="information / log 4", ylim=(0, 1))
axes.legend(frameon=False)
plt.show()
last = {name: float(metrics["training/option_information"][-1] / np.log(4)) for name, (*_, metrics) in found.items()}
print({name: round(value, 3) for name, value in last.items()})
assert last["b = 100"] > 0.3 > 10 * last["without a reverse model"]

# %% [markdown]
# What each option does in each cell, where it is paid to be told apart:

# %%
config, params, _ = found["b = 100"]
design = module.design(varl.envs.spec(env), config)
cells = [(y, x) for y, row in enumerate(layout) for x, mark in enumerate(row) if mark != "#"]
arrows = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}
figure, every = plt.subplots(1, 4, figsize=(9, 2.6))
obs = np.eye(len(cells), dtype=np.float32)
for option, axes in enumerate(every):
  batch = varl.Batch(
    obs, np.zeros(len(cells), int), *[np.zeros(len(cells))] * 2, obs, np.zeros(len(cells)),
    {policies.OPTION: np.full(len(cells), option)},
  )  # fmt: skip
  log_prob = np.stack(
    [
      design.posterior.evaluate(design, params, batch._replace(action=np.full(len(cells), a)), None)[1]
      for a in range(4)
    ]
  )
  best, sure = log_prob.argmax(axis=0), np.exp(log_prob.max(axis=0))
  x, y = np.array([cell[1] for cell in cells]), np.array([cell[0] for cell in cells])
  u, v = np.array([arrows[a] for a in best]).T
  axes.quiver(x, y, u, v, sure, angles="xy", scale_units="xy", scale=1.4, pivot="mid", cmap="viridis", clim=(0.25, 1))
  axes.set(title=f"option {option}", xlim=(-0.6, 6.6), ylim=(6.6, -0.6), xticks=[], yticks=[], aspect="equal")
plt.show()
