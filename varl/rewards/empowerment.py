"""Empowerment: what an agent can make of its future, by a variational bound on the capacity of its actions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses, policies
from varl.networks import Network
from varl.step import descend
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Reward, Spec, TrainStep


def empowerment(
  spec: Spec,
  source: Network,
  decoder: Network,
  level: Network,
  optimizer: optax.GradientTransformation,
  *,
  steps: int = 1,
  clip: float | Array = 10.0,
  explore: float | Array = 0.25,
  group: str = "empowerment",
) -> Reward:
  """The empowerment of the state that a step leads to, paid in place of the environment's reward.

    E_n(s) = max_ω I(a_1..a_n; s_n | s) = max_{ω, q} E[log q(a_1..a_n | s, s_n) - log ω(a_1..a_n | s)]
    L = -log q_β(a_1..a_n | s, s_n) + ½ (sg(log q - ψ(s)) - log ω(a_1..a_n | s))² + ½ ω/β (sg(log q - log ω) - ψ(s))²
    q ∝ q_β ω/β,    r = m ψ(s')

  Actions are chosen before any is taken. The first square's minimum under any β is ω ∝ exp(E[log q]), the step of
  Blahut and Arimoto; the second's is ψ = E_ω[log q - log ω], a bound on the capacity for any ω and q, and the capacity
  where they are the best. With a model in the design (`design.model`) sequences are drawn from ω and followed in it; of
  discrete ones a share ε at random, β = (1 - ε) ω + ε/N, since one that ω has given up, before q knew what it leads to,
  would not be met again. q_β learns what is drawn, each as often as it comes, and q is as sure of rare sequences as of
  others. Without a model they are single actions of the batch, β is known of those alone, as their density when they
  were taken, and q learns itself, -ω/β log q in place of -log q_β.

  Args:
    spec: the environment's sizes.
    source: ω, `[..., o] -> [..., outputs_of(spec, steps)]`.
    decoder: q, `[..., 2 o] -> [..., outputs_of(spec, steps)]`, of s and s_n.
    level: ψ, `[..., o] -> [..., 1]`.
    optimizer: for the three of them.
    steps: n.
    clip: ψ is paid within [0, clip].
    explore: ε in [0, 1), of discrete sequences in a model.
    group: the parameter group's name.

  Returns:
    A Reward. Continuous sequences have a tanh-Gaussian source and decoder on bounded spaces, Gaussian ones on others,
    for which ψ is a bound. Metrics: `<group>_level`, the mean of ψ; `<group>_bound`, the mean of log q - log ω;
    `<group>_loss`.

  Raises:
    ValueError: fewer than one step, more than 4,096 discrete sequences, a concrete ε out of range; in `varl.agent`,
      several steps without a model; at the update, without a model, rows without "log_prob".

  Reference: Mohamed and Rezende 2015, 1509.08731, Eq. 5 and Eq. 10-12; Gregor, Rezende, Wierstra 2016, 1611.07507.
  """
  head = _head(spec, steps)
  checks.share("explore", explore, upper_open=True)

  def init(key: Key) -> Params:
    keys = jax.random.split(key, 3)
    return {group: {"source": source.init(keys[0]), "decoder": decoder.init(keys[1]), "level": level.init(keys[2])}}

  def levels(params: Params, obs: Observation) -> Array:
    own: Any = params[group]
    return level.apply(own["level"], obs)[..., 0]

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    return batch.discount * jnp.clip(levels(params, batch.next_obs), 0.0, clip)

  def drawn(of_source: Array, key: Key) -> tuple[Array, Array, Array]:
    """Sequences `[B]` or `[B, n d]` of β, log ω/β of all of them `[B, N]` or 0, and ω/β of those drawn `[B]`."""
    source_key, which_key, random_key = jax.random.split(key, 3)
    sequence = head.sample_and_log_prob(of_source, source_key, 1)[0][0]
    rows = of_source.shape[:-1]
    if not spec.discrete or head.uniform is None or head.uniform_log_prob is None:
      return sequence, jnp.zeros((), of_source.dtype), jnp.ones(rows, of_source.dtype)
    at_random = jax.random.bernoulli(which_key, explore, rows)
    sequence = jnp.where(at_random, head.uniform(random_key, rows), sequence)
    given_up = jnp.log(explore) + head.uniform_log_prob - jax.nn.log_softmax(of_source)
    log_ratio = -jnp.logaddexp(jnp.log1p(-explore), given_up)
    return sequence, log_ratio, jnp.exp(jnp.take_along_axis(log_ratio, sequence[..., None], axis=-1)[..., 0])

  def single(sequence: Array) -> list[Array]:
    """The actions of `[B]` or `[B, n d]`, the first action first."""
    if spec.discrete:
      return [sequence // spec.action_size**k % spec.action_size for k in reversed(range(steps))]
    return jnp.split(sequence, steps, axis=-1)

  def followed(design: Design, params: Params, obs: Observation, sequence: Array, key: Key) -> Array:
    model: Any = design.model
    alive = jnp.ones(obs.shape[0], obs.dtype)
    for action, now in zip(single(sequence), jax.random.split(key, steps), strict=True):
      model_key, end_key = jax.random.split(now)
      found = model.sample(params, obs, action, model_key, None)
      obs = jnp.where(alive[:, None] > 0, found.next_obs, obs)  # what has ended stays where it is
      alive = alive * jax.random.bernoulli(end_key, found.discount).astype(alive.dtype)
    return obs

  def step(design: Design) -> TrainStep:
    if design.model is None and steps > 1:
      raise ValueError(f"sequences of {steps} actions are followed in a model, and the design has none; or steps=1")

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      own: Any = params[group]
      of_source = source.apply(own["source"], batch.obs)
      if design.model is not None:
        draw_key, model_key = jax.random.split(key)
        sequence, log_ratio, weight = drawn(jax.lax.stop_gradient(of_source), draw_key)
        last = jax.lax.stop_gradient(followed(design, params, batch.obs, sequence, model_key))
        log_source = head.log_prob(of_source, sequence)
        seen = jnp.ones_like(weight)
      else:
        if "log_prob" not in batch.extras:
          raise ValueError(
            f"empowerment without a model weighs the batch's actions by their density when they were taken, and its "
            f"extras {sorted(batch.extras)} lack log_prob"
          )
        sequence, last = batch.action, batch.next_obs
        log_source = head.log_prob(of_source, sequence)
        now = jnp.exp(jnp.clip(log_source - batch.extras["log_prob"], -clip, clip))
        log_ratio = jnp.zeros(())
        seen = weight = jax.lax.stop_gradient(now / losses.batch_mean(now, design.axis))
      of_decoder = decoder.apply(own["decoder"], jnp.concatenate([batch.obs, last], axis=-1))
      fixed = jax.lax.stop_gradient(head.log_prob(of_decoder + log_ratio, sequence))
      psi = levels(params, batch.obs)
      decoding = -seen * head.log_prob(of_decoder, sequence)
      choosing = losses.squared_error(log_source, fixed - jax.lax.stop_gradient(psi))
      valuing = weight * losses.squared_error(psi, fixed - jax.lax.stop_gradient(log_source))
      return jnp.mean(decoding + choosing + valuing), {
        f"{group}_level": jnp.mean(psi),
        f"{group}_bound": jnp.mean(weight * (fixed - log_source)),
      }

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  return Reward(init, value, step)


def outputs_of(spec: Spec, steps: int = 1) -> int:
  """How many outputs `empowerment`'s source and decoder have.

  Raises:
    ValueError: as `empowerment`.
  """
  return _head(spec, steps).size


def _head(spec: Spec, steps: int) -> policies.Head:
  steps = checks.whole("steps", steps)
  if spec.discrete:
    count = spec.action_size**steps
    if count > 4_096:
      raise ValueError(f"{spec.action_size} ** {steps} = {count:,} sequences of actions; at most 4,096")
    return policies.categorical(count)
  size = steps * spec.action_size
  return policies.tanh_gaussian(size) if spec.bounded else policies.gaussian(size)
