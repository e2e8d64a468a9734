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
# # Control as inference, exactly
#
# A finite Markov decision process, a prior policy $p(a|s)$, and at every step an event $\mathcal O_t$ with
#
# $$p(\mathcal O_t \mid s_t, a_t) = e^{r(s_t, a_t)/c}.$$
#
# Control is the question: *given that all events happened, what was done?* On finite problems it has exact answers,
# three of them worth telling apart. The temperature $c$ is in reward per nat; values are in units of reward.
#
# | | backup | what is inferred |
# |---|---|---|
# | message passing | $Q = r + c\log \mathbb E\,e^{V'/c},\; V = c\log\sum_a p\,e^{Q/c}$ | actions **and dynamics** |
# | soft value iteration | $Q = r + \mathbb E V',\; V = c\log\sum_a p\,e^{Q/c}$ | actions, dynamics held |
# | hard value iteration | $Q = r + \mathbb E V',\; V = \max_a Q$ | the limit $c \to 0$ of the second |
#
# References: Levine 2018 (1805.00909), sections 2.3-3.2; Ziebart et al. 2008, Eq. 4 and 6.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from varl.exact import inverse, tabular

plt.rcParams.update({"figure.dpi": 110, "figure.constrained_layout.use": True, "axes.titlesize": 10})

# %% [markdown]
# ## 1. A walk along a cliff
#
# From S to G; a move slips to one of its sides with probability 0.2. Every move costs 1, the goal pays 20, a pit costs
# 20. Rewards are paid *in* a cell, when it is left: $r(s)$. (Paid on arrival, $r(s,a)$ would already be the mean over
# where a move leads, and inference could no longer be optimistic about it.)

# %%
LAYOUT = [
  "........",
  "........",
  "S......G",
  "PPPPPPPP",
]
SHAPE = (len(LAYOUT), len(LAYOUT[0]))
MARKS = np.array([list(row) for row in LAYOUT]).ravel()
HORIZON = 40


def cliff(slip, *, goal=20.0, pit=-20.0, step=-1.0):
  """The grid with rewards by cell; goal and pits lead to one more state, the end."""
  grid = tabular.gridworld(LAYOUT, slip=slip)
  cells = len(MARKS)
  last = (MARKS == "G") | (MARKS == "P")
  successor = np.where(last[:, None, None], cells, grid.successor)
  reward = np.where(MARKS == "G", goal, np.where(MARKS == "P", pit, step))
  return tabular.mdp(
    np.concatenate([grid.transition, grid.transition[-1:]]),
    np.repeat(np.append(reward, 0.0)[:, None], 4, axis=1),
    discount=1.0,
    initial=np.append(MARKS == "S", 0.0),
    terminal=np.arange(cells + 1) == cells,
    successor=np.concatenate([successor, successor[-1:]]),
  )


def log_greedy(actions, n=4):
  return jnp.where(jax.nn.one_hot(actions, n) > 0, 0.0, -jnp.inf)


def falls(m, log_policy):
  """The probability that the policy ever enters a pit, under the true dynamics."""
  return tabular.visitation(m, log_policy, horizon=HORIZON)[:, :-1][:, MARKS == "P"].sum()


def worth(m, log_policy):
  """The expected sum of rewards."""
  return m.initial @ tabular.policy_evaluation(m, log_policy, horizon=HORIZON).value[0]


# %%
m, c = cliff(slip=0.2), 1.0
messages = tabular.message_passing(m, temperature=c, horizon=HORIZON)
soft = tabular.soft_value_iteration(m, temperature=c, horizon=HORIZON)
hard = tabular.hard_value_iteration(m, horizon=HORIZON)
policies = {
  "message passing": (messages.value[0], messages.log_policy),
  "soft value iteration": (soft.value[0], soft.log_policy),
  "hard value iteration": (hard.value[0], log_greedy(hard.policy)),
}


def show(axes, value, log_policy, title, low, high):
  """A heat map of V at t = 0 with the mean move of the policy in each cell."""
  image = axes.imshow(np.asarray(value[:-1]).reshape(SHAPE), cmap="viridis", vmin=low, vmax=high)
  y, x = np.divmod(np.arange(len(MARKS)), SHAPE[1])
  moves = np.exp(log_policy[:-1]) @ np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])
  free = ~np.isin(MARKS, ["G", "P"])
  axes.quiver(x[free], y[free], *moves[free].T, color="w", pivot="mid", angles="xy", scale=1.6, scale_units="xy")
  for cell in np.flatnonzero(MARKS != "."):
    axes.text(x[cell] - 0.4, y[cell] - 0.25, MARKS[cell], color="w", fontsize=8)
  axes.set(title=title, xticks=[], yticks=[])
  return image


figure, axes = plt.subplots(1, 3, figsize=(12, 2.4))
for ax, (name, (value, log_policy)) in zip(axes, policies.items(), strict=True):
  image = show(ax, value, log_policy[0], f"{name}: V, policy at t = 0", -20, 20)
figure.colorbar(image, ax=axes, label="reward")
plt.show()

# %% [markdown]
# Message passing walks along the edge: given that all went well, no move slipped into a pit, so the edge is no danger.
# It infers the *posterior dynamics*
#
# $$p(s'|s, a, \mathcal O) \propto P(s'|s, a)\, e^{V'(s')/c}$$
#
# and is right about them in the world it was told of. In the world as it is, its policy falls.

# %%
print(f"{'':22}{'P(fall)':>9}{'return':>9}")
for name, (_, log_policy) in policies.items():
  print(f"{name:22}{falls(m, log_policy):9.3f}{worth(m, log_policy):9.2f}")

believed = np.exp(messages.log_marginals[:, :-1])[:, MARKS == "P"].sum()
print(f"\nP(fall | O), what message passing believes of itself: {believed:.1e}")

edge = int(np.ravel_multi_index((SHAPE[0] - 2, 3), SHAPE))
print("\nfrom the edge, moving right:  ahead, into the pit, away from it")
print("  the dynamics      ", np.round(m.transition[edge, 1], 4))
print("  given O           ", np.round(np.exp(messages.log_dynamics[0, edge, 1]), 4))

assert falls(m, messages.log_policy) > 2 * falls(m, soft.log_policy)
assert worth(m, soft.log_policy) <= worth(m, log_greedy(hard.policy)) + 1e-3
assert believed < 1e-3

# %% [markdown]
# Without slip there is nothing to be optimistic about, and the first two rows of the table are one.

# %%
still = cliff(slip=0.0)
of_messages = tabular.message_passing(still, temperature=c, horizon=HORIZON).value
of_soft = tabular.soft_value_iteration(still, temperature=c, horizon=HORIZON).value
print(f"largest difference of V without slip: {jnp.abs(of_messages - of_soft).max():.1e}")
assert jnp.abs(of_messages - of_soft).max() < 1e-3

# %% [markdown]
# ## 2. The lottery
#
# A safe arm pays 1; a ticket pays 4 with probability 0.2, else nothing. With a uniform prior and $c = 1$,
#
# $$Q_{\text{messages}}(\text{ticket}) = \log(0.2\,e^4 + 0.8) = 2.46 > 1, \qquad
#   Q_{\text{soft}}(\text{ticket}) = 0.2 \cdot 4 = 0.8 < 1.$$
#
# "Given that I was paid well, did I buy a ticket?" is not the question that a buyer asks.


# %%
@jax.jit
@jax.vmap
def ticket(temperature):
  """Q(ticket) and π(ticket), by both."""
  game = tabular.lottery()
  found = (f(game, temperature=temperature, horizon=2) for f in (tabular.message_passing, tabular.soft_value_iteration))
  return [(one.q[0, 0, 1], jnp.exp(one.log_policy[0, 0, 1])) for one in found]


temperatures = jnp.geomspace(0.1, 30.0, 100)
(q_messages, p_messages), (q_soft, p_soft) = ticket(temperatures)
at_one = [np.asarray(x) for x in ticket(jnp.ones(1))]
print(f"c = 1   Q(ticket): {at_one[0][0, 0]:.3f} and {at_one[1][0, 0]:.3f}")
print(f"c = 1   π(ticket): {at_one[0][1, 0]:.3f} and {at_one[1][1, 0]:.3f}")
np.testing.assert_allclose([at_one[0][0, 0], at_one[1][0, 0]], [np.log(0.2 * np.exp(4) + 0.8), 0.8], rtol=1e-5)

figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for ax, both, label in zip(axes, [(q_messages, q_soft), (p_messages, p_soft)], ["Q(ticket)", "π(ticket)"], strict=True):
  for values, name in zip(both, ["message passing", "soft value iteration"], strict=True):
    ax.semilogx(temperatures, values, label=name)
  ax.set(xlabel="temperature c (reward per nat)", ylabel=label)
axes[0].axhline(1.0, color="0.6", linestyle=":", label="safe arm")
axes[1].axhline(0.5, color="0.6", linestyle=":", label="prior")
for ax in axes:
  ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# As $c \to 0$ message passing tends to $\max_{s'}$: it takes any chance of the jackpot for certain. As $c \to \infty$
# $c\log\mathbb E\,e^{x/c} \to \mathbb E x$, and the two agree.
#
# ## 3. The temperature, and the gap of the bound
#
# For a policy $\pi$ with the dynamics held, $q(\tau) = \rho\prod \pi P$, and
#
# $$\log p(\mathcal O) = \underbrace{\mathbb E_q \sum_t \big[r/c - \log \tfrac{\pi}{p}\big]}_{\text{ELBO}(\pi)}
#   + \mathrm{KL}\big(q(\tau)\,\|\,p(\tau|\mathcal O)\big).$$
#
# Soft value iteration maximises the ELBO. What is left of the gap is the price of leaving the dynamics alone. One
# `vmap` over temperatures:


# %%
@jax.jit
@jax.vmap
def sweep(c):
  soft = tabular.soft_value_iteration(m, temperature=c, horizon=HORIZON)
  messages = tabular.message_passing(m, temperature=c, horizon=HORIZON)
  bound = lambda log_policy: tabular.elbo(m, log_policy, temperature=c, horizon=HORIZON)  # noqa: E731
  states = tabular.visitation(m, soft.log_policy, horizon=HORIZON)[:, :-1]
  entropy = -jnp.sum(jnp.exp(soft.log_policy) * soft.log_policy, -1)[:, :-1]
  return {
    "entropy": jnp.sum(states * entropy) / jnp.sum(states),
    "return, soft": worth(m, soft.log_policy),
    "return, messages": worth(m, messages.log_policy),
    "evidence": c * messages.log_evidence,
    "bound, soft": c * bound(soft.log_policy),
    "bound, messages": c * bound(messages.log_policy),
  }


temperatures = jnp.geomspace(0.3, 30.0, 60)
found = {name: np.asarray(values) for name, values in sweep(temperatures).items()}
scale = 1e-3 * np.abs(found["evidence"]).max()
assert (found["bound, messages"] <= found["bound, soft"] + scale).all()
assert (found["bound, soft"] <= found["evidence"] + scale).all()

figure, axes = plt.subplots(1, 3, figsize=(12, 2.9))
axes[0].semilogx(temperatures, found["entropy"])
axes[0].axhline(np.log(4), color="0.6", linestyle=":")
axes[0].set(ylabel="nats", title="entropy of the soft policy where it goes")
for name in ("return, soft", "return, messages"):
  axes[1].semilogx(temperatures, found[name], label=name.split(", ")[1])
axes[1].axhline(worth(m, log_greedy(hard.policy)), color="0.6", linestyle=":", label="optimum")
axes[1].set(ylabel="reward", title="expected return, true dynamics")
for name in ("evidence", "bound, soft", "bound, messages"):
  axes[2].semilogx(temperatures, found[name], label=name)
axes[2].set(ylabel="reward", title="c · evidence and c · ELBO")
for ax in axes:
  ax.set(xlabel="temperature c (reward per nat)")
for ax in axes[1:]:
  ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 4. Backwards: which reward explains these actions?
#
# Maximum-entropy inverse reinforcement learning takes the expert for soft-optimal with $r_\psi = f\cdot\psi$, dynamics
# held, and maximises the likelihood of what it does. The gradient is a difference of feature expectations,
#
# $$c\,\nabla_\psi L = \mathbb E_{\text{expert}}\sum_t f(s_t, a_t) - \mathbb E_{\pi_\psi}\sum_t f(s_t, a_t),$$
#
# the second by one forward pass of the state visitation. Here: an open grid with three patches of reward, features
# one-hot in the cell, 2,000 demonstrations of 12 steps from random cells.

# %%
SIZE, STEPS = 7, 12
grid = tabular.gridworld(["S" * SIZE] * SIZE, slip=0.1, discount=1.0)
truth = np.zeros((SIZE, SIZE))
truth[1, 1], truth[5, 5], truth[2, 5] = 1.0, 0.6, -1.0
truth = truth.ravel()
features = jnp.broadcast_to(jnp.eye(SIZE**2)[:, None, :], (SIZE**2, 4, SIZE**2))
options = {"temperature": 0.5, "horizon": STEPS}


def solve(reward):
  return tabular.soft_value_iteration(grid._replace(reward=reward), **options).log_policy


log_expert = solve(features @ truth)
seen = inverse.sample_demonstrations(jax.random.key(0), grid, log_expert, 2_000, STEPS)
target = inverse.empirical_feature_expectations(grid, seen, features)
fit = jax.jit(lambda target: inverse.fit(grid, features, target, l2=1e-3, **options))
recovered = fit(target)

# %%
# All demonstrations last equally long, so a constant added to every cell changes no policy: take the median for 0.
psi = np.asarray(recovered.psi) - np.median(recovered.psi)
figure, axes = plt.subplots(1, 3, figsize=(11, 2.9))
low, high = -1.2, 1.2
count = np.asarray(target).reshape(SIZE, SIZE)
for ax, image, title in zip(axes[:2], (truth, psi), ("the reward", "the reward recovered"), strict=True):
  shown = ax.imshow(image.reshape(SIZE, SIZE), cmap="RdBu", vmin=low, vmax=high)
  ax.set(title=title, xticks=[], yticks=[])
figure.colorbar(shown, ax=axes[:2])
figure.colorbar(axes[2].imshow(count, cmap="viridis"), ax=axes[2])
axes[2].set(title="visits per demonstration: all that was seen", xticks=[], yticks=[])
plt.show()

mismatch = inverse.feature_expectations(grid, recovered.log_policy, features, horizon=STEPS) - target
paid = grid._replace(reward=features @ truth)
returns = [
  float(paid.initial @ tabular.policy_evaluation(paid, x, horizon=STEPS).value[0])
  for x in (log_expert, recovered.log_policy, jnp.full((SIZE**2, 4), -jnp.log(4.0)))
]
print(f"L-BFGS steps: {recovered.steps}   largest feature mismatch: {jnp.abs(mismatch).max():.4f} visits")
print(f"correlation with the true map: {np.corrcoef(psi, truth)[0, 1]:.3f}")
print("return under the true reward: expert {:.3f}, recovered {:.3f}, uniform {:.3f}".format(*returns))
assert np.corrcoef(psi, truth)[0, 1] > 0.9
assert abs(returns[0] - returns[1]) < 0.1 * abs(returns[0] - returns[2])

# %% [markdown]
# **To try.** Give `fit` the demonstrations themselves (`inverse.fit(grid, features, seen, ...)`): under slip the
# gradient of their likelihood is not the feature mismatch, as the module's docstring derives. Set `slip=0.0`: it is.
# Take `c = 0.05` for the expert: it hardly ever leaves its way, and the map is guessed where nobody goes.
