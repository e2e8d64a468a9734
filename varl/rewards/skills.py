"""Skills without a reward: what a state tells of the skill that led there."""

import jax
import jax.numpy as jnp
import optax

from varl.networks import Network
from varl.step import descend
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Reward, Spec, TrainStep


def skills(spec: Spec, network: Network, optimizer: optax.GradientTransformation, *, group: str = "skills") -> Reward:
  """How well the state that a step leads to tells the skill that was drawn for the episode: DIAYN.

    r = log q(z|s') - log p(z),   p(z) = 1/n,    L = -log q(z|s')

  Its mean is a bound on the mutual information I(z; s'), tight where q is the posterior of z. Paid to an agent that
  maximises entropy, the sum is I(z; s') + H(a|s, z). p(z) stays uniform: learned, it collapses to the few skills that
  are told best at first.

  Args:
    spec: the environment's sizes; its context is the skill, one-hot (`envs.with_skill`).
    network: q, `[..., o - n] -> [..., n]`, logits, of a state without its skill.
    optimizer: for it.
    group: the parameter group's name.

  Returns:
    A Reward. Metrics: `<group>_loss`; `<group>_accuracy`, the share of rows whose skill q tells rightly;
    `<group>_information`, the mean of log q - log p in nats, at most log n.

  Raises:
    ValueError: an environment without skills.

  Reference: Eysenbach et al. 2018, 1802.06070, Eq. 2-3; Gregor, Rezende, Wierstra 2016, 1611.07507.
  """
  n = skill_count(spec)

  def log_posterior(params: Params, batch: Batch) -> Array:
    """log q(z|s') of the row's own skill, and of all `[..., n]`."""
    return jax.nn.log_softmax(network.apply(params[group], batch.next_obs[..., :-n]))

  def of_skill(log_q: Array, obs: Observation) -> Array:
    return jnp.sum(jnp.where(obs[..., -n:] > 0.5, log_q, 0.0), axis=-1)

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    return of_skill(log_posterior(params, batch), batch.obs) + jnp.log(float(n))

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      log_q = log_posterior(params, batch)
      own = of_skill(log_q, batch.obs)
      told = jnp.argmax(log_q, axis=-1) == jnp.argmax(batch.obs[..., -n:], axis=-1)
      return -jnp.mean(own), {
        f"{group}_accuracy": jnp.mean(told.astype(own.dtype)),
        f"{group}_information": jnp.mean(own) + jnp.log(float(n)),
      }

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  return Reward(lambda key: {group: network.init(key)}, value, step)


def skill_count(spec: Spec) -> int:
  """n, how many skills an environment has: the length of its context.

  Raises:
    ValueError: fewer than two.
  """
  if spec.context < 2:
    raise ValueError(
      "skills are told apart, and there are at least two of them; the environment's context is "
      f"{spec.context} (envs.with_skill gives it one)"
    )
  return spec.context
