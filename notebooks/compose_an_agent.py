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
# # Compose an agent from losses
#
# varl's losses take arrays and return one value per example. This notebook builds soft actor-critic from three of them, trains it in varl's loop, and
# checks one of its equations by hand.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import varl

plt.rcParams.update({"figure.dpi": 80, "figure.figsize": (5, 3), "figure.constrained_layout.use": True})

# %% [markdown]
# ## Losses are equations
#
# $V(s) = \sum_n w_n\,(Q(s,a_n) - \alpha\log\frac{\pi}{p}(a_n|s))$, with two actions of equal weight:

# %%
q = jnp.array([[1.0], [3.0]])  # [n, B]
log_weight = jnp.log(jnp.full((2, 1), 0.5))
log_ratio = jnp.array([[-1.0], [1.0]])
value = varl.losses.soft_value(q, log_weight, log_ratio, alpha=0.5)
assert jnp.allclose(value, 0.5 * (1.0 + 0.5) + 0.5 * (3.0 - 0.5))
value

# %% [markdown]
# ## Networks and a head
#
# A head says what a network's outputs mean: here the mean and deviation of a Gaussian that is squashed to [-1, 1] by tanh.

# %%
env = varl.envs.make("point_mass")
spec = varl.envs.spec(env)
head = varl.policies.tanh_gaussian(spec.action_size)
actor = varl.networks.mlp(spec.observation_size, head.size, hidden=(32, 32))
critic = varl.networks.ensemble(varl.networks.mlp(spec.observation_size + spec.action_size, 1, hidden=(32, 32)), 2)


def q_values(params, obs, raw):
  return critic.apply(params, jnp.concatenate([obs, jnp.tanh(raw)], -1))[..., 0]


def policy(params, obs, key):
  action, log_prob = head.sample_and_log_prob(actor.apply(params["actor"], obs), key, 1)
  return action[0], log_prob[0]


# %% [markdown]
# ## Three losses
#
# Each takes all parameters, a batch and a key, and returns a scalar and metrics.


# %%
def critic_loss(params, batch, key):
  action, log_prob = policy(params, batch.next_obs, key)
  value = q_values(params["target_critic"], batch.next_obs, action).min(0) - jnp.exp(params["temperature"]) * log_prob
  target = varl.losses.discounted_target(batch.reward, batch.discount, value, 0.99)
  return varl.losses.squared_error(q_values(params["critic"], batch.obs, batch.action), target).sum(0).mean(), {}


def actor_loss(params, batch, key):
  action, log_prob = policy(params, batch.obs, key)
  q = q_values(params["critic"], batch.obs, action).min(0)
  return (jnp.exp(params["temperature"]) * log_prob - q).mean(), {}


def temperature_loss(params, batch, key):
  entropy = -policy(params, batch.obs, key)[1].mean()
  return jnp.exp(params["temperature"]) * jax.lax.stop_gradient(entropy + spec.action_size), {"entropy": entropy}


# %% [markdown]
# ## One train step
#
# `joint`: all three read the same old parameters. `chain`: the slow critic then follows the new one. The actor and the temperature name the same noise stream, so
# they see the same actions.

# %%
step = varl.chain(
  varl.joint(
    varl.descend("critic", critic_loss, optax.adam(1e-3)),
    varl.descend("actor", actor_loss, optax.adam(1e-3), stream="policy"),
    varl.descend("temperature", temperature_loss, optax.adam(1e-3), stream="policy"),
  ),
  varl.track("critic", into="target_critic", rate=0.005),
)
step.writes


# %%
def init(key):
  actor_key, critic_key = jax.random.split(key)
  params = {"actor": actor.init(actor_key), "critic": critic.init(critic_key), "temperature": jnp.zeros(())}
  params["target_critic"] = varl.copy(params["critic"])
  return varl.AgentState(params, step.init(params))


def update(state, batch, key):
  params, step_state, metrics = step.step(state.params, state.step, batch, key)
  return varl.AgentState(params, step_state), metrics


agent = varl.Agent(
  spec=spec,
  init=init,
  act=lambda params, carry, obs, key: (policy(params, obs, key)[0], carry, {}),
  mode=lambda params, carry, obs, key: (head.mode(actor.apply(params["actor"], obs)), carry, {}),
  update=update,
  execute=jnp.tanh,
)

# %% [markdown]
# ## Train it
#
# `varl.train` takes the agent where it takes a name.

# %%
run = varl.train(
  agent, env, num_timesteps=8_000, num_envs=8, episode_length=100, warm_up=500, eval_every=1_000, replay_capacity=8_000
)
plt.plot([row["env_steps"] for row in run.metrics], [row["eval/episode_reward"] for row in run.metrics], marker="o")
plt.gca().set(xlabel="environment steps", ylabel="return per episode")
plt.show()

# %%
assert run.metrics[-1]["eval/episode_reward"] > run.metrics[0]["eval/episode_reward"]
