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
# # Planning as inference: from weights to particles
#
# The variational posterior over actions is $\pi(a|s) \propto p(a|s)\,e^{Q(s,a)/\alpha}$. A planner draws from it without a
# network: it proposes futures, weighs them by what they gain, and takes the first action of one of them. This notebook
# goes there in four steps, each held against an exact answer.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import varl
from varl import components, models, policies, posteriors, priors, temperatures
from varl.agents import smcp
from varl.envs import spec, toys
from varl.exact import linear_quadratic, tabular
from varl.types import Design, Outcome, Posterior, Transition

plt.rcParams.update({"figure.dpi": 110, "figure.constrained_layout.use": True, "axes.titlesize": 10})

# %% [markdown]
# ## 1. Which weight?
#
# A particle takes actions $a_t \sim \pi$ and moves by the dynamics. There are three candidates for what a step
# multiplies its weight by, $e^{\Delta}$, with everything in units of $\alpha$:
#
# | | $\Delta - \log p + \log \pi$ | converges to |
# |---|---|---|
# | expected | $r + \mathbb E V(s') - V(s)$ | the variational posterior |
# | sampled | $r + V_o(s') - V_o(s)$ | the optimistic posterior $p(a \mid \mathcal O)$ |
# | mixed | $r + V(s') - \log \mathbb E\,e^{V(s)}$ | neither, where the world is noisy |
#
# `tabular.planning_limit` computes where each goes with infinitely many particles, by enumeration.


# %%
def process(noise):
  """Two actions from a start: a sure 1, or a step into states worth 0 and 3 whose odds are noise : 1 - noise."""
  transition = np.zeros((4, 2, 4))
  transition[0, 0, 1], transition[0, 1, 2:] = 1.0, [noise, 1.0 - noise]
  transition[[1, 2, 3], :, [1, 2, 3]] = 1.0
  reward = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [3.0, 3.0]])
  return tabular.mdp(transition, reward, discount=0.95, initial=[1.0, 0.0, 0.0, 0.0])


STEPS, UNIFORM = 2, np.full((4, 2), -np.log(2.0))
noises = np.linspace(0.0, 1.0, 21)
limits = {weight: [] for weight in ("expected", "sampled", "mixed")}
posterior = {"variational": [], "optimistic": []}
for noise in noises:
  m = process(noise)
  for weight, found in limits.items():
    at = tabular.planning_limit(m, UNIFORM, temperature=1.0, horizon=STEPS, weight=weight)
    found.append(float(jnp.exp(at.log_policy[0, 1])))
  for name, solve in (("variational", tabular.soft_value_iteration), ("optimistic", tabular.message_passing)):
    posterior[name].append(float(jnp.exp(solve(m, temperature=1.0, horizon=STEPS).log_policy[0, 0, 1])))

np.testing.assert_allclose(limits["expected"], posterior["variational"], atol=1e-5)
np.testing.assert_allclose(limits["sampled"], posterior["optimistic"], atol=1e-5)

figure, axes = plt.subplots(figsize=(5.5, 3))
axes.plot(noises, posterior["variational"], "k", label="variational posterior")
axes.plot(noises, posterior["optimistic"], "k--", label="optimistic posterior")
for (weight, found), mark in zip(limits.items(), "ox+", strict=True):
  axes.plot(noises, found, mark, label=f"particles, {weight}")
axes.set(xlabel="probability of the bad state", ylabel="probability of the gamble")
axes.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# The optimistic posterior gambles far more: given that all went well, the good state was reached. Planning by SAC's
# posterior needs the first weight.
#
# ## 2. Particles with a known model
#
# `posteriors.smc` is such a planner as a posterior: give it a policy that proposes, and the design a model. Here the
# world is a scalar regulator, $x' = x + u/2 + .3\varepsilon$, with reward $-(x^2 + u^2/5)/2$ and prior $u \sim N(0, 1)$
# over eight steps, whose two posteriors are Gaussians in closed form.

# %%
STEPS, NOISE, HEAD = 8, 0.3, policies.gaussian(1)
regulator = linear_quadratic.linear_quadratic(
  [[1.0]], [[0.5]], [[0.5]], [[0.1]], noise_covariance=[[NOISE**2]], discount=0.5
)
regulator = regulator._replace(discount=jnp.ones(()))


def world(target):
  """The design, the exact V of (x, t), and the exact mean of the first action at x = 1."""
  exact = linear_quadratic.finite_horizon(
    regulator, temperature=1.0, horizon=STEPS, target=target, prior_covariance=[[1.0]]
  )
  P, c = jnp.append(exact.P[:, 0, 0], 0.0), jnp.append(exact.constant, 0.0)

  def value(design, params, obs, key):
    time = obs[:, 1].astype(int)
    return -(P[time] * obs[:, 0] ** 2 + c[time])

  def outcome(obs, action, key, noise=None):
    noise = NOISE * jax.random.normal(key) if noise is None else noise
    following = jnp.array([obs[0] + 0.5 * action[0] + noise, obs[1] + 1.0])
    return following, -0.5 * (obs[0] ** 2 + 0.2 * action[0] ** 2), jnp.ones(())

  def both(params, obs, action, key, member):  # V is quadratic: two points of the noise give its expectation
    found = [jax.vmap(lambda o, a, w=w: outcome(o, a, None, w))(obs, action) for w in (NOISE, -NOISE)]
    return Outcome(*jax.tree.map(lambda *x: jnp.stack(x), *found))

  model = models.known(outcome)._replace(draws=both)
  design = Design(priors.fixed(HEAD, jnp.zeros(HEAD.size)), None, None, temperatures.fixed(1.0), model=model)
  return design, value, float(-exact.gain[0, 0, 0])


def wide(design, params, carry, obs, key):
  """A proposal that is neither prior nor posterior."""
  mean = -0.3 * obs[:, :1]
  action = mean + 1.3 * jax.random.normal(key, mean.shape)
  log_prob = -0.5 * ((action - mean) / 1.3) ** 2 - jnp.log(1.3) - 0.5 * jnp.log(2.0 * jnp.pi)
  return action, carry, {"log_prob": log_prob[:, 0]}


def plans(target, particles, count=256, seed=0):
  """The weighted first actions `[particles, count]` of so many plans from x = 1."""
  design, value, _ = world(target)
  proposal = Posterior(lambda key: {}, None, None, wide, wide, lambda batch: ())
  planner = posteriors.smc(
    proposal, particles=particles, horizon=STEPS, gamma=1.0, target=target, value=value, infer=True
  )
  obs, zeros = jnp.tile(jnp.array([[1.0, 0.0]]), (count, 1)), jnp.zeros(count)
  batch = Transition(obs, zeros, zeros, zeros, obs, zeros, {})
  found = jax.jit(functools.partial(planner.particles, design, {}, batch))(jax.random.key(seed))
  return np.asarray(found.action[..., 0]), np.exp(np.asarray(found.log_weight))


grid = np.linspace(-3.5, 2.5, 300)
figure, axes = plt.subplots(1, 2, figsize=(10, 3))
for target, color in (("variational", "C0"), ("optimistic", "C1")):
  action, weight = plans(target, 1024)
  axes[0].hist(action.ravel(), bins=80, weights=weight.ravel(), density=True, color=color, alpha=0.4, label=target)
  exact = world(target)[2]
  sizes, errors = (16, 64, 256), []
  for size in sizes:
    action, weight = plans(target, size, seed=size)
    errors.append(np.sqrt(np.mean((np.sum(weight * action, axis=0) - exact) ** 2)))
  axes[1].loglog(sizes, errors, "o-", color=color, label=target)
  scaled = np.sqrt(sizes) * errors
  print(f"{target:12} exact mean {exact:.3f}, √N · error {np.round(scaled, 2)}")
  assert scaled[1:].max() < 1.5 * scaled[1:].min()
axes[1].loglog(sizes, 1.5 / np.sqrt(sizes), "k:", label="1/√N")
axes[0].set(xlabel="first action", ylabel="density", title="first actions by their weights")
axes[1].set(xlabel="particles", ylabel="error of the mean", title="error over 256 plans")
for ax in axes:
  ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## 3. What planning is worth
#
# With an exact proposal all weights are equal, and planning adds nothing. With a weak one it adds much. Here is a point
# mass, an untrained policy and an untrained critic, and the true dynamics as the model: all that the planner knows
# beyond its proposal are `horizon` steps of the world.

# %%
env = toys.PointMass()
config = smcp.Config(hidden=(32, 32), adapt_temperature=False, initial_temperature=0.02, normalize_observations=False)


def returns(particles, horizon, episodes=64):
  """Mean return of 40 steps, acting by the plans."""
  chosen = {"particles": particles, "horizon": horizon, "value_samples": 2, "gamma": 0.95}
  own = smcp.Config(**{**config.__dict__, **chosen})
  design = smcp.design(spec(env), own, model=models.known(env.outcome))
  agent = varl.agent(design, spec(env), components.policy_head(spec(env), own), normalize_observations=False)
  params = agent.init(jax.random.key(0)).params

  @jax.jit
  def run(key):
    reset_key, act_key = jax.random.split(key)
    state = jax.vmap(env.reset)(jax.random.key_data(jax.random.split(reset_key, episodes)))

    def step(state, key):
      action, _, _ = agent.act(params, agent.carry(episodes), state.obs, key)
      state = jax.vmap(env.step)(state, agent.execute(action))
      return state, state.reward

    _, rewards = jax.lax.scan(step, state, jax.random.split(act_key, 40))
    return rewards.sum(axis=0).mean()

  return float(run(jax.random.key(1)))


horizons = (1, 8)
table = {1: 2 * [returns(1, 1)], **{n: [returns(n, h) for h in horizons] for n in (16, 64)}}
print("particles  " + "".join(f"{f'horizon {h}':>12}" for h in horizons))
for n, row in table.items():
  print(f"{n:9}  " + "".join(f"{value:12.2f}" for value in row))
assert table[64][1] > table[1][1] + 3.0
assert table[64][1] > table[64][0]

figure, axes = plt.subplots(figsize=(5, 2.8))
for n, row in table.items():
  axes.plot(horizons, row, "o-", label=f"{n} particles")
axes.set(xlabel="horizon", ylabel="return of 40 steps", title="an untrained policy under the planner")
axes.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# One particle is the proposal itself. More particles and a longer horizon make a policy of nothing but the model and the
# reward; an untrained critic at the end of each plan costs less, the later it comes.
#
# **To try.** `varl train smcp --env inverted_pendulum` learns policy, critic and model beside the planner;
# `training/plan_improvement` says what the planner still adds. `target="optimistic"` plans as if luck could be chosen.
