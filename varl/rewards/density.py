"""The price of a model's error: log p/q of what it imagined, by two classifiers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, normalize
from varl.networks import Network, state_action
from varl.step import IMAGINE_STREAM, IMAGINED, descend
from varl.types import Array, Batch, Design, Key, Metrics, Observation, Params, Reward, Spec, TrainStep, Transition

FORMS = ("sample", "divergence")


def log_ratio(
  spec: Spec,
  joint: Network,
  marginal: Network,
  optimizer: optax.GradientTransformation,
  *,
  execute: Callable[[Array], Array] = lambda action: action,
  form: str = "sample",
  weight: float | Array | None = None,
  reward_scale: float | Array = 1.0,
  clip: float | Array = 10.0,
  noise: float | Array = 1.0,
  warm_up: int | Array = 0,
  group: str = "log_ratio",
) -> Reward:
  """The environment's reward, and on imagined rows what the model's dynamics q differ from the real ones p.

    log p/q (s'|s, a) = logit D(s, a, s') - logit D(s, a),    D: the probability that a row is real
    sample:      r̃ = r + w log p/q (s'|s, a)
    divergence:  r̃ = r - w KL(q ‖ p)(s, a),    estimated by the mean of -log p/q over the model's draws

  Maximising E_q[Σ r/α + log p/q - log π] bounds the evidence under the real dynamics from below, so that w = α/c in the
  units of a reward that the value multiplies by c. Both classifiers are needed: real and imagined rows differ in
  (s, a), too, and the second takes that out. They see (s, a, s' - s), each dimension at unit scale by the moments of
  fresh rollouts.

  Args:
    spec: the environment's sizes.
    joint: `[..., 2 o + d] -> [..., 1]`, the logit of D(s, a, s'); d counts discrete actions.
    marginal: `[..., o + d] -> [..., 1]`, the logit of D(s, a).
    optimizer: for both.
    execute: raw action -> executed action, which the classifiers see.
    form: "sample" or "divergence".
    weight: w, in reward per nat; None: α/c, as the bound has it.
    reward_scale: c, as in the design's value.
    clip: log p/q is held within ±clip; the divergence within [0, clip].
    noise: deviation of the noise on the classifiers' inputs while they learn, in units of each dimension's deviation.
      It keeps them from telling few rows apart by heart; 0 is right where rows are many.
    warm_up: fresh rollouts before anything is paid for.
    group: the parameter group's name; beside it "<group>_scale" and "<group>_rollouts".

  Returns:
    A Reward. Metrics: `<group>_accuracy`, the share of rows that D(s, a, s') tells rightly, and
    `<group>_marginal_accuracy` of D(s, a); `<group>_real` and `<group>_imagined`, the mean of log p/q on rows of each
    kind.

  Raises:
    ValueError: an unknown form; a clip, noise or warm-up out of range; in `varl.agent`, a design that imagines nothing.

  Reference: Eysenbach et al. 2020, 2006.13916, section 4: the reward, both classifiers, and the noise on their inputs.
  """
  if form not in FORMS:
    raise ValueError(f"form is one of {', '.join(FORMS)}; got {form!r}")
  checks.arguments(above={"clip": clip}, least={"noise": noise, "warm_up": warm_up})
  scale_group, count_group = f"{group}_scale", f"{group}_rollouts"
  inputs = state_action(spec, execute)
  before = spec.observation_size + spec.action_size

  def seen(obs: Observation, action: Array, next_obs: Observation) -> Array:
    return jnp.concatenate([inputs(obs, action), next_obs - obs], axis=-1)

  def logits(params: Params, x: Array) -> tuple[Array, Array]:
    own = params[group]
    return joint.apply(own["joint"], x)[..., 0], marginal.apply(own["marginal"], x[..., :before])[..., 0]

  def ratio(params: Params, x: Array) -> Array:
    both, of_pairs = logits(params, normalize.apply(params[scale_group], x))
    return both - of_pairs

  def init(key: Key) -> Params:
    joint_key, marginal_key = jax.random.split(key)
    return {
      group: {"joint": joint.init(joint_key), "marginal": marginal.init(marginal_key)},
      scale_group: normalize.init(before + spec.observation_size),
      count_group: jnp.zeros((), jnp.int32),
    }

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    if IMAGINED not in batch.extras:
      return batch.reward
    if form == "sample":
      paid = jnp.clip(ratio(params, seen(batch.obs, batch.action, batch.next_obs)), -clip, clip)
    else:
      model: Any = design.model
      drawn = model.draws(params, batch.obs, batch.action, key, None).next_obs
      each = jax.vmap(lambda next_obs: ratio(params, seen(batch.obs, batch.action, next_obs)))(drawn)
      paid = jnp.clip(jnp.mean(each, axis=0), -clip, 0.0)
    price = design.temperature.value(params) / reward_scale if weight is None else weight
    warm = params[count_group] > warm_up
    # Not a product with the mask: what is far off a real row is never asked for.
    return batch.reward + jnp.where(warm & (batch.extras[IMAGINED] > 0), price * paid, 0.0)

  def step(design: Design) -> TrainStep:
    if design.model is None or design.model.imagine is None:
      raise ValueError("log_ratio tells imagined rows from real ones: the design's model is models.imagined(...)")

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      shared: Any = batch.extras[IMAGINE_STREAM]
      made: Batch = shared[0]
      rows = [normalize.apply(params[scale_group], seen(x.obs, x.action, x.next_obs)) for x in (batch, made)]
      x = jnp.stack(rows)
      share = made.extras[IMAGINED]
      # As much weight on the imagined rows as on the real ones, though some of those are real, too.
      share = jnp.stack([jnp.ones_like(share), share / jnp.maximum(jnp.mean(share), 1.0 / len(share))])
      real = jnp.stack([jnp.ones(len(share[0])), jnp.zeros(len(share[0]))])
      both, of_pairs = logits(params, x + noise * jax.random.normal(key, x.shape, x.dtype))
      cross = optax.sigmoid_binary_cross_entropy(both, real) + optax.sigmoid_binary_cross_entropy(of_pairs, real)
      clean, clean_pairs = logits(params, x)
      means = jnp.mean(share * (clean - clean_pairs), axis=-1)
      return jnp.mean(share * cross), {
        f"{group}_accuracy": jnp.mean(share * ((clean > 0) == (real > 0))),
        f"{group}_marginal_accuracy": jnp.mean(share * ((clean_pairs > 0) == (real > 0))),
        f"{group}_real": means[0],
        f"{group}_imagined": means[1],
      }

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  def observe(params: Params, transitions: Transition, valid: Array, axis: str | None = None) -> Params:
    x = seen(transitions.obs, transitions.action, transitions.next_obs)
    return {
      **params,
      scale_group: normalize.update(params[scale_group], x, valid, axis=axis),
      count_group: optax.safe_increment(params[count_group]),
    }

  own = "it tells real rows from those of the model that it learned beside"
  return Reward(init, value, step, observe, transfer=own)
