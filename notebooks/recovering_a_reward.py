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
# # Recovering what an expert wanted
#
# An expert is seen to act; its reward is not. Maximum-entropy inverse reinforcement learning takes it for soft-optimal,
# $\pi(a|s) \propto e^{(Q(s,a) - V(s))/c}$, and looks for the reward under which its actions are most likely. Three times:
# on a grid, where everything is exact; on a linear-quadratic problem, where the answer is two matrices; and with a network
# in a continuous world.

# %%
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import varl
from varl.envs import toys
from varl.exact import inverse, linear_quadratic, tabular
from varl.types import Batch

plt.rcParams.update({"figure.dpi": 110, "figure.constrained_layout.use": True, "axes.titlesize": 10})

# %% [markdown]
# ## 1. A grid: every state has a reward of its own
#
# The expert walks to the goal and keeps away from the pit. One feature for each state is enough to write any reward of
# states, and the expert's discounted visits are known, so that nothing is estimated.

# %%
layout = ["S....", ".#.#.", "...P.", ".#...", "....G"]
grid = tabular.gridworld(layout, slip=0.1, discount=0.9, step=-0.02)
states, actions = grid.reward.shape
options = {"temperature": 0.1, "log_prior": 0.0}
expert = tabular.soft_value_iteration(grid, **options)
features = jnp.broadcast_to(jnp.eye(states)[:, None], (states, actions, states))
fit = jax.jit(lambda: inverse.fit(grid, features, inverse.occupancy(grid, expert.log_policy), l2=1e-4, **options))()
learned = tabular.soft_value_iteration(grid._replace(reward=fit.reward), **options)
distance = 0.5 * jnp.abs(jnp.exp(learned.log_policy) - jnp.exp(expert.log_policy)).sum(axis=-1)
visits = tabular.visitation(grid, expert.log_policy) * (1.0 - grid.terminal)
off = float(jnp.sum(visits * distance) / jnp.sum(visits))
print(f"total variation to the expert's policy, over its visits: {off:.4f}")
assert off < 0.02


# %%
def on_grid(values):
  picture = np.full((len(layout), len(layout[0])), np.nan)
  cells = [(i, j) for i, row in enumerate(layout) for j, cell in enumerate(row) if cell != "#"]
  for (i, j), value in zip(cells, np.asarray(values), strict=True):
    picture[i, j] = value
  return picture


figure, panels = plt.subplots(1, 3, figsize=(9.0, 3.0))
shown = {
  "what moves pay, best action": jnp.max(grid.reward, axis=1),
  "recovered reward of the state": fit.psi,
  "how often the expert is there": visits,
}
for panel, (title, values) in zip(panels, shown.items(), strict=True):
  image = panel.imshow(on_grid(values), cmap="viridis")
  figure.colorbar(image, ax=panel, shrink=0.8)
  panel.set_title(title)
  panel.set_xticks([])
  panel.set_yticks([])
plt.show()

# %% [markdown]
# The policy is the expert's. The reward is not the one that was used, and need not be: a potential of states changes no
# soft-optimal policy, and what the expert never visits says little. `rewards.airl` looks for the part that outlives the
# dynamics.
#
# ## 2. Linear-quadratic: two matrices
#
# $r = -(s^\top Q s + a^\top R a)$ and the soft-optimal policy is Gaussian in closed form, differentiable in the problem.
# The likelihood of demonstrated actions is climbed by its gradient.

# %%
truth = linear_quadratic.random(jax.random.key(3), 2, 2, discount=0.9, noise=0.2)
alpha = 0.3
best = linear_quadratic.soft(truth, temperature=alpha)
key_states, key_actions = jax.random.split(jax.random.key(0))
seen = jax.random.normal(key_states, (4_000, 2))
noise = jax.random.multivariate_normal(key_actions, jnp.zeros(2), best.covariance, (4_000,))
done = -seen @ best.gain.T + noise


def problem(roots):
  """Any pair of positive definite matrices, from any numbers."""
  q, r = (root @ root.T + 1e-3 * jnp.eye(2) for root in roots)
  return truth._replace(Q=q, R=r)


def loss(roots):
  found = linear_quadratic.soft(problem(roots), temperature=alpha)
  residual = done + seen @ found.gain.T
  precision = jnp.linalg.inv(found.covariance)
  likelihood = -0.5 * jnp.einsum("bi,ij,bj->b", residual, precision, residual) + 0.5 * jnp.linalg.slogdet(precision)[1]
  return -jnp.mean(likelihood)


optimizer = optax.adam(0.03)
roots = (jnp.eye(2), 0.5 * jnp.eye(2))


def update(state, _):
  roots, inner = state
  value, slope = jax.value_and_grad(loss)(roots)
  updates, inner = optimizer.update(slope, inner)
  return (optax.apply_updates(roots, updates), inner), value


(roots, _), losses = jax.jit(lambda: jax.lax.scan(update, (roots, optimizer.init(roots)), None, length=1_500))()
found = problem(roots)
print(
  "R  true", np.asarray(truth.R, float).round(3).tolist(), " recovered", np.asarray(found.R, float).round(3).tolist()
)
print(
  "Q  true", np.asarray(truth.Q, float).round(3).tolist(), " recovered", np.asarray(found.Q, float).round(3).tolist()
)


# %%
def paid(problem, s, a):
  return -(jnp.einsum("bi,ij,bj->b", s, problem.Q, s) + jnp.einsum("bi,ij,bj->b", a, problem.R, a))


first, second, at = (jax.random.normal(key, (1_000, 2)) for key in jax.random.split(jax.random.key(7), 3))
pairs = [paid(p, at, first) - paid(p, at, second) for p in (truth, found)]
alike = float(jnp.mean((pairs[0] > 0) == (pairs[1] > 0)))
print(f"1,000 pairs of actions that the recovered reward ranks as the true one: {100 * alike:.1f} %")
assert alike > 0.95
gain = linear_quadratic.soft(found, temperature=alpha).gain
assert float(jnp.linalg.norm(gain - best.gain) / jnp.linalg.norm(best.gain)) < 0.05

# %% [markdown]
# ## 3. A network, in a continuous world
#
# The expert is a soft actor-critic that pushes a mass to a goal. `maxent_irl` sees ten of its episodes, and acts in the
# world; the reward is a network of states and actions, and moves by
# $\mathbb{E}_\pi[\nabla r_\psi] - \mathbb{E}_E[\nabla r_\psi]$ while the agent follows it.

# %%
folder = tempfile.mkdtemp()
goal = (0.5, -0.5)
world = toys.PointMass(goal=goal)
short = {"num_envs": 8, "episode_length": 50, "batch_size": 64, "hidden": (32, 32), "learning_rate": 3e-3}
quick = {**short, "updates_per_env_step": 0.5, "warm_up": 400, "eval_every": 2_000}
teacher = varl.train("sac", world, num_timesteps=6_000, out=f"{folder}/expert", **quick)
demonstrations = varl.rollout(f"{folder}/expert", env=world, episodes=10, stochastic=True)
imitator = varl.train(
  "maxent_irl", world, num_timesteps=6_000, out=f"{folder}/irl", demonstrations=demonstrations, reward_hidden=(32, 32),
  reward_learning_rate=1e-3, absorbing=False, initial_temperature=1.0, replay_capacity=4_000, **quick,
)  # fmt: skip
returns = {
  name: run.metrics[-1]["eval/episode_reward"] for name, run in {"expert": teacher, "imitator": imitator}.items()
}
print({name: round(value, 2) for name, value in returns.items()})

# %% [markdown]
# What the network pays for standing still, over the plane: it has never been told where the goal is.

# %%
reward = varl.load_reward(f"{folder}/irl")
line = np.linspace(-1.0, 1.0, 41)
plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
obs = jnp.concatenate([plane, jnp.zeros_like(plane)], axis=-1)
zero = jnp.zeros(len(obs))
rows = Batch(obs, jnp.zeros((len(obs), 2)), zero, zero + 1.0, obs, zero, {})
params = reward.init(jax.random.key(0))
learned = np.asarray(reward.value(None, params, rows, jax.random.key(0))).reshape(41, 41)
true = -np.minimum(np.linalg.norm(plane - np.array(goal), axis=1), 2.0).reshape(41, 41) / 2.0

figure, panels = plt.subplots(1, 2, figsize=(8.0, 3.4), sharey=True)
for panel, (title, values) in zip(panels, {"the world's reward": true, "recovered": learned}.items(), strict=True):
  image = panel.pcolormesh(line, line, values, cmap="viridis", shading="nearest")
  figure.colorbar(image, ax=panel, shrink=0.8)
  panel.plot(*goal, "r*", markersize=12)
  panel.set_title(title)
  panel.set_aspect("equal")
plt.show()
correlation = float(np.corrcoef(true.ravel(), learned.ravel())[0, 1])
print(f"correlation over the plane: {correlation:.2f}")
assert correlation > 0.3

# %% [markdown]
# **To try.** `algorithm="airl"` with `state_only=True`; fewer demonstrations; a reward learned here and paid in a world
# with another goal side: `varl.train("sac", other, reward=f"{folder}/irl")`.
