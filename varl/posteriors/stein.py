"""The Boltzmann policy of the value by a sampler network, trained by amortised Stein variational gradient descent."""

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.networks import Network
from varl.policies import Head
from varl.posteriors.boltzmann import Proposal, best, boltzmann, log_det, raw_log_density
from varl.step import assign, chain, descend
from varl.types import (
  Array,
  Batch,
  Carry,
  Design,
  Extras,
  Key,
  Metrics,
  Observation,
  Params,
  Posterior,
  TrainStep,
)

MIN_LOG_DET = -20.0
"""Under log |det ∂u/∂ξ|: where a network of flat pieces maps a whole region to one action, its density is infinite."""


def stein(
  network: Network,
  head: Head,
  optimizer: optax.GradientTransformation,
  start: Proposal,
  *,
  action_size: int,
  particles: int = 32,
  value_samples: int = 50,
  act_samples: int = 64,
  start_updates: int | Array = 10_000,
  group: str = "sampler",
) -> Posterior:
  """A sampler u = f_φ(ξ; s), ξ ~ N(0, I), of the Boltzmann policy (1702.08165, section 3.3 and appendix C).

  Its E-step draws K particles a state in two sets of one half each, and moves those of the second along
  `losses.stein_direction`, whose expectation is over the first. Scores are those of the raw action (`losses.stein`).

  For the value, f proposes actions under its own density (appendix C.2)

    log q(a|s) = log N(ξ; 0, I) - log |det ∂u/∂ξ| - log |det ∂g/∂u|,   a = g(u),

  which is right where f is one-to-one in ξ. Nothing makes it so, but f = ξ + h_φ(s, ξ) starts so, and what starts so
  tends to stay so. That form is not the paper's: a ReLU network alone may well learn the same actions from ξ and from
  -ξ, and then every value comes out too high by α log 2. Before the sampler has learned, its proposals are of no use:
  for the first `start_updates` updates, `start` proposes.

  `act` is one pass of f. `mode` climbs to the highest Q/α + log p (`boltzmann.best`) from `act_samples` draws, which
  are always the same.

  Args:
    network: h, `[obs, ξ] [..., o + d] -> [..., d]`.
    head: the action space.
    optimizer: for the network's parameters.
    start: what proposes actions for the value, at first.
    action_size: d.
    particles: K, even.
    value_samples: proposals a state for the value.
    act_samples: draws a state that `mode` starts from.
    start_updates: updates for which `start` proposes.
    group: the parameter group's name; "<group>_updates" counts its updates.

  Raises:
    ValueError: particles that are not two sets of at least two, or fewer than one proposal.
  """
  value_samples, act_samples = checks.whole("value_samples", value_samples), checks.whole("act_samples", act_samples)
  action_size, particles = checks.whole("action_size", action_size), checks.whole("particles", particles)
  if particles < 4 or particles % 2:
    raise ValueError(f"particles come in two equal sets of at least two, got particles={particles}")
  counter = f"{group}_updates"

  def sample(params: Params, obs: Observation, noise: Array) -> Array:
    obs = jnp.broadcast_to(obs, (*noise.shape[:-1], obs.shape[-1]))
    return noise + network.apply(params[group], jnp.concatenate([obs, noise], axis=-1))

  def draw_noise(key: Key, n: int, obs: Observation) -> Array:
    return jax.random.normal(key, (n, *jnp.shape(obs)[:-1], action_size))

  def propose(design: Design, params: Params, obs: Observation, key: Key, n: int) -> tuple[Array, Array]:
    noise = draw_noise(key, n, obs)

    def column(unit: Array) -> tuple[Array, Array]:
      return jax.jvp(lambda x: sample(params, obs, x), (noise,), (jnp.broadcast_to(unit, noise.shape),))

    raw, columns = jax.vmap(column, out_axes=(None, -1))(jnp.eye(action_size))  # columns: [n, B, d, d]
    stretch = jnp.maximum(jnp.linalg.slogdet(columns)[1], MIN_LOG_DET)
    log_noise = -0.5 * jnp.sum(jnp.square(noise) + jnp.log(2.0 * jnp.pi), axis=-1)
    return raw, log_noise - stretch - log_det(head, raw)

  def started(design: Design, params: Params, obs: Observation, key: Key, n: int) -> tuple[Array, Array]:
    early = params[counter] < start_updates
    return jax.lax.cond(early, lambda: start(design, params, obs, key, n), lambda: propose(design, params, obs, key, n))

  weighed = boltzmann(started, samples=value_samples)

  def init(key: Key) -> Params:
    return {group: network.init(key), counter: jnp.zeros((), jnp.int32)}

  def act(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    return sample(params, obs, draw_noise(key, 1, obs))[0], carry, {}

  def mode(design: Design, params: Params, carry: Carry, obs: Observation, key: Key) -> tuple[Array, Carry, Extras]:
    action = sample(params, obs, draw_noise(jax.random.key(0), act_samples, obs))
    return best(design, params, obs, action), carry, {}

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      raw = sample(params, batch.obs, draw_noise(key, particles, batch.obs))
      fixed, updated = jax.lax.stop_gradient(raw[: particles // 2]), raw[particles // 2 :]

      def density(action: Array) -> Array:
        return jnp.sum(raw_log_density(design, params, head, batch.obs, action))

      direction = losses.stein_direction(fixed, jax.grad(density)(fixed), updated)
      metrics = {
        "stein_norm": jnp.mean(jnp.linalg.norm(direction, axis=-1)),
        "sampler_std": jnp.mean(jnp.std(raw, axis=0)),
      }
      return jnp.mean(losses.stein_surrogate(updated, direction)), metrics

    def count(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      return optax.safe_increment(params[counter]), {}

    return chain(descend(group, loss, optimizer, axis=design.axis, terms=design.terms), assign(counter, count))

  return Posterior(init, weighed.particles, weighed.draw, act, mode, lambda batch: (), step)
