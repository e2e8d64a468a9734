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
# # Swap one axis at a time
#
# An algorithm is prior × posterior × value × temperature. Each is a value that can be replaced. This notebook starts from SAC's design and changes one axis per section.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt

import varl
from varl import components, posteriors, priors, temperatures
from varl.agents import sac

plt.rcParams.update({"figure.dpi": 80, "figure.figsize": (5.5, 3), "figure.constrained_layout.use": True})

env = varl.envs.make("point_mass")
spec = varl.envs.spec(env)
config = sac.Config(hidden=(32, 32), learning_rate=1e-3)
head = components.policy_head(spec, config)
base = sac.design(spec, config)
settings = {
  "num_timesteps": 6_000, "num_envs": 8, "episode_length": 100, "warm_up": 500, "eval_every": 1_000,
  "replay_capacity": 6_000,
}  # fmt: skip
found = {}


def train(name, design):
  found[name] = varl.train(varl.agent(design, spec, head), env, **settings)
  return found[name].metrics[-1]["eval/episode_reward"]


train("SAC", base)

# %% [markdown]
# ## Prior
#
# A fixed distribution of deviation 0.3 in place of the uniform one. Divergence from it is what the policy pays for, so it keeps to small actions where large
# ones earn little.

# %%
narrow = varl.policies.tanh_gaussian(spec.action_size, init_std=0.3)
prior = priors.fixed(narrow, jnp.zeros(narrow.size))
train("fixed prior", base._replace(prior=prior, temperature=temperatures.fixed(0.05)))

# %% [markdown]
# ## Temperature
#
# A constant in place of the entropy target.

# %%
train("constant α", base._replace(temperature=temperatures.fixed(0.05)))

# %% [markdown]
# ## Value
#
# Unregularised policy evaluation: the target leaves the entropy out. With a fixed α this is VIREL at a constant temperature.

# %%
unregularised = components.q_value(spec, config, head, regularised=False)
train("unregularised value", base._replace(value=unregularised, temperature=temperatures.fixed(0.05)))

# %% [markdown]
# ## Posterior
#
# No policy network: 32 proposals per state, weighted by exp(Q/α). This posterior has no parameters and no train step of its own. With a fixed α the design is
# soft Q-learning by importance sampling.

# %%
weighted = posteriors.boltzmann(posteriors.uniform_proposal(head), samples=32)
train("weighted proposals", base._replace(posterior=weighted, temperature=temperatures.fixed(0.05)))

# %% [markdown]
# ## All of them

# %%
for name, run in found.items():
  plt.plot([row["env_steps"] for row in run.metrics], [row["eval/episode_reward"] for row in run.metrics], label=name)
plt.gca().set(xlabel="environment steps", ylabel="return per episode")
plt.legend()
plt.show()

# %%
assert all(run.metrics[-1]["eval/episode_reward"] > run.metrics[0]["eval/episode_reward"] for run in found.values())
