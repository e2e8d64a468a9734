"""An agent of one's own, as a user would write it: a linear actor that climbs a linear critic."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

import varl


@dataclasses.dataclass(frozen=True)
class Config:
  """Of the linear actor."""

  rate: float = 1e-2
  noise: float = 0.3
  scales: tuple[float, ...] = (1.0,)


def make(spec: varl.Spec, config: Config, *, axis: str | None = None) -> varl.Agent:
  """A linear actor and critic."""

  def features(obs, action):
    return jnp.concatenate([obs, action, obs * action.sum(-1, keepdims=True), action**2], axis=-1)

  def q(params, obs, action):
    return features(obs, action) @ params["critic"]

  def critic_loss(params, batch, key):
    return jnp.square(q(params, batch.obs, jnp.tanh(batch.action)) - batch.reward).mean(), {}

  def actor_loss(params, batch, key):
    action = jnp.tanh(batch.obs @ params["actor"])
    return -q(params, batch.obs, action).mean() * config.scales[0], {"spread": jnp.abs(action).mean()}

  step = varl.joint(
    varl.descend("critic", critic_loss, optax.adam(config.rate), axis=axis),
    varl.descend("actor", actor_loss, optax.adam(config.rate), axis=axis),
  )

  def init(key):
    size = 2 * spec.observation_size + 2 * spec.action_size
    params = {
      "critic": jnp.zeros(size),
      "actor": 0.1 * jax.random.normal(key, (spec.observation_size, spec.action_size)),
    }
    return varl.AgentState(params, step.init(params))

  def act(params, carry, obs, key):
    mean = obs @ params["actor"]
    return mean + config.noise * jax.random.normal(key, mean.shape), carry, {}

  def mode(params, carry, obs, key):
    return obs @ params["actor"], carry, {}

  def update(state, batch, key):
    params, step_state, metrics = step.step(state.params, state.step, batch, key)
    return varl.AgentState(params, step_state), metrics

  return varl.Agent(spec, init, act, mode, update, execute=jnp.tanh)


def without_axis(spec: varl.Spec) -> varl.Agent:
  """The same for one device, its hyper-parameters fixed."""
  return make(spec, Config(rate=0.1))
