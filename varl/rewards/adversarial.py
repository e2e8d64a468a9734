"""Rewards of a classifier that tells the policy's rows from an expert's: GAIL, FAIRL and AIRL."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.demonstrations import Demonstrations
from varl.networks import Network
from varl.rewards.rows import (
  absorbing_steps,
  check_absorbing,
  expert_rows,
  inputs_of,
  mean_of_visits,
  steepness,
  told_apart,
)
from varl.step import descend
from varl.types import Array, Batch, Design, Key, Metrics, Params, Reward, Spec, TrainStep

ENTROPIES = ("agent", "reward")


def gail(
  spec: Spec,
  network: Network,
  optimizer: optax.GradientTransformation,
  demonstrations: Demonstrations,
  *,
  execute: Callable[[Array], Array] = lambda action: action,
  squashed: bool = True,
  form: str = "log_odds",
  gamma: float | Array = 0.99,
  absorbing: bool = True,
  state_only: bool = False,
  penalty: float | Array = 10.0,
  clip: float | Array = 10.0,
  group: str = "discriminator",
) -> Reward:
  """Generative adversarial imitation: a discriminator D(s, a) of the expert's rows pays the policy.

    L = -E_expert[log D] - E_policy[log(1 - D)] + λ E[(‖∇_x l(x̂)‖ - 1)²],   l: the logit of D
    r(s, a) = `losses.payoff`(l(s, a), form)

  x̂ lies between a row of the expert and one of the policy. Where an episode ends by itself, its absorbing state is
  visited for the γ/(1 - γ) steps that discounting leaves: such visits are rows of D's, and the step that ended is paid
  for them, r + γ/(1 - γ) r(absorbing). Without them "softplus" pays for survival and "log" for an end, whatever the
  expert did. Entropy is the agent's own affair: this reward holds none.

  Args:
    spec: the environment's sizes.
    network: `[..., inputs + 1] -> [..., 1]`, the logit of D of the observation, the executed action (one-hot where it
      is discrete; none with `state_only`) and a mark that is 1 in the absorbing state.
    optimizer: for the network.
    demonstrations: the expert's.
    execute: raw action -> executed action.
    squashed: whether the policy squashes its raw actions.
    form: of the payoff: "softplus" (GAIL), "log", "log_odds" or "forward" (FAIRL).
    gamma: γ, the discount a step, below 1 with absorbing states.
    absorbing: whether ends are states that one stays in; where episodes end by the time limit alone, there are none.
    state_only: whether D sees no action.
    penalty: λ; 0: none.
    clip: the logit that is paid is held within ±clip.
    group: the parameter group's name.

  Returns:
    A Reward. Metrics: `<group>_accuracy`, the share of rows that D tells rightly; `<group>_expert` and
    `<group>_policy`, the mean logit on rows of each kind; `<group>_steepness`, the mean of (‖∇‖ - 1)²;
    `<group>_paid`, the mean of what the policy's rows are paid.

  Raises:
    ValueError: an unknown form, a number out of range.

  Reference: Ho and Ermon 2016, 1606.03476, Eq. 17 and Algorithm 1; the penalty and the absorbing states: Kostrikov et
    al. 2019, 1809.02925, section 4; "forward": Ghasemipour et al. 2019, 1911.02256, section 3.
  """
  losses.payoff(jnp.zeros(()), form)
  check_absorbing(gamma, absorbing)
  checks.arguments(above={"clip": clip}, least={"penalty": penalty})
  inputs = inputs_of(spec, execute, state_only=state_only)

  def logits(params: Params, x: Array) -> Array:
    return network.apply(params[group], inputs.marked(x))[..., 0]

  def of_end(params: Params) -> Array:
    return network.apply(params[group], inputs.end())[0]

  def pay(logit: Array) -> Array:
    return losses.payoff(jnp.clip(logit, -clip, clip), form)

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    reward = pay(logits(params, inputs.of(batch.obs, batch.action)))
    return reward + absorbing_steps(batch.discount, gamma) * pay(of_end(params)) if absorbing else reward

  def step(design: Design) -> TrainStep:
    return _told_apart(
      design,
      optimizer,
      functools.partial(expert_rows, demonstrations, squashed=squashed),
      seen=lambda rows: inputs.of(rows.obs, rows.action),
      logit=lambda params, x, rows: logits(params, x),
      slope=logits,
      of_end=of_end,
      value=value,
      visits=functools.partial(mean_of_visits, gamma=gamma, absorbing=absorbing),
      penalty=penalty,
      clip=clip,
      group=group,
    )

  return Reward(lambda key: {group: network.init(key)}, value, step)


def airl(
  spec: Spec,
  network: Network,
  shaping: Network,
  optimizer: optax.GradientTransformation,
  demonstrations: Demonstrations,
  *,
  execute: Callable[[Array], Array] = lambda action: action,
  squashed: bool = True,
  entropy: str = "agent",
  gamma: float | Array = 0.99,
  absorbing: bool = True,
  state_only: bool = False,
  penalty: float | Array = 0.0,
  clip: float | Array = 10.0,
  group: str = "discriminator",
) -> Reward:
  """Adversarial inverse reinforcement learning: a discriminator that is made of a reward and the policy's density.

    f(s, a, s') = g(s, a) + γ m h(s') - h(s),    log D - log(1 - D) = f - log π(a|s)
    paid: f, where the agent adds the entropy itself; f - log π(a|s), where it does not

  Under deterministic dynamics a g of the state alone comes to the expert's reward up to a constant. Under stochastic
  ones it does not: f sees the s' that was drawn, and the expert did not know it. Temperature 1 is f's own unit: an
  agent that adds entropy needs α = 1.

  Args:
    spec, optimizer, demonstrations, execute, squashed, gamma, absorbing, group: as in `gail`; h is 0 in the absorbing
      state.
    network: g, as the network of `gail`.
    shaping: h, `[..., o] -> [..., 1]`.
    entropy: "agent" or "reward": who adds it.
    state_only: whether g sees no action.
    penalty: λ, of the gradient of f with respect to (s, a, s'); 0: none, as the paper has it.
    clip: what is paid is held within ±clip.

  Returns:
    A Reward, its metrics those of `gail`, whose `transfer` is g alone.

  Raises:
    ValueError: an unknown `entropy`, a number out of range; in `varl.agent`, a posterior without a density.

  Reference: Fu et al. 2018, 1710.11248, Eq. 4 and Algorithm 1.
  """
  if entropy not in ENTROPIES:
    raise ValueError(f"entropy is {' or '.join(ENTROPIES)}; got {entropy!r}")
  check_absorbing(gamma, absorbing)
  checks.arguments(above={"clip": clip}, least={"penalty": penalty})
  inputs, pairs = (inputs_of(spec, execute, state_only=only) for only in (state_only, False))
  size = spec.observation_size

  def of_rows(params: Params, x: Array, discount: Array) -> Array:
    """f at (s, a, s'), joined `[..., o + d + o]`."""
    own = params[group]
    g = network.apply(own["reward"], inputs.marked(x[..., : inputs.size]))[..., 0]
    here, there = (shaping.apply(own["shaping"], at)[..., 0] for at in (x[..., :size], x[..., pairs.size :]))
    return g + gamma * discount * there - here

  def of_end(params: Params) -> Array:
    return network.apply(params[group]["reward"], inputs.end())[0]

  def joined(batch: Batch) -> Array:
    return jnp.concatenate([pairs.of(batch.obs, batch.action), batch.next_obs], axis=-1)

  def log_prob(design: Design, params: Params, batch: Batch) -> Array:
    density: Any = design.posterior.log_prob
    return jax.lax.stop_gradient(density(params, batch.obs, batch.action[None])[0])

  def init(key: Key) -> Params:
    reward_key, shaping_key = jax.random.split(key)
    return {group: {"reward": network.init(reward_key), "shaping": shaping.init(shaping_key)}}

  def with_end(params: Params, reward: Array, discount: Array) -> Array:
    reward, end = (jnp.clip(x, -clip, clip) for x in (reward, of_end(params)))
    return reward + absorbing_steps(discount, gamma) * end if absorbing else reward

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    reward = of_rows(params, joined(batch), batch.discount)
    if entropy == "reward":
      reward = reward - log_prob(design, params, batch)
    return with_end(params, reward, batch.discount)

  def transfer(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    seen = inputs.marked(inputs.of(batch.obs, batch.action))
    return with_end(params, network.apply(params[group]["reward"], seen)[..., 0], batch.discount)

  def step(design: Design) -> TrainStep:
    if design.posterior.log_prob is None:
      raise ValueError("airl needs a policy with a density, such as posteriors.direct; this posterior has none")

    return _told_apart(
      design,
      optimizer,
      functools.partial(expert_rows, demonstrations, squashed=squashed),
      seen=joined,
      logit=lambda params, x, rows: of_rows(params, x, rows.discount) - log_prob(design, params, rows),
      slope=lambda params, x: of_rows(params, x, jnp.ones(())),
      of_end=of_end,
      value=value,
      visits=functools.partial(mean_of_visits, gamma=gamma, absorbing=absorbing),
      penalty=penalty,
      clip=clip,
      group=group,
    )

  return Reward(init, value, step, transfer=transfer)


def _told_apart(
  design: Design,
  optimizer: optax.GradientTransformation,
  draw: Callable[..., Batch],
  *,
  seen: Callable[[Batch], Array],
  logit: Callable[[Params, Array, Batch], Array],
  slope: Callable[[Params, Array], Array],
  of_end: Callable[[Params], Array],
  value: Callable[[Design, Params, Batch, Key], Array],
  visits: Callable[..., Array],
  penalty: float | Array,
  clip: float | Array,
  group: str,
) -> TrainStep:
  """The discriminator's step: it tells as many rows of the expert's from the batch's.

  Args:
    design, optimizer, penalty, clip, group: as in `gail`.
    draw: the expert's rows.
    seen: what of a row the penalty moves between.
    logit: of rows, given what is seen of them.
    slope: the function whose gradient the penalty is of.
    of_end: the logit in the absorbing state.
    value: what the rows are paid.
    visits: the mean over rows and the visits of the absorbing state.
  """

  def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
    rows_key, mix_key = jax.random.split(key)
    sources = {"expert": draw(params, rows_key, len(batch.reward), axis=design.axis), "policy": batch}
    x = {name: seen(rows) for name, rows in sources.items()}
    loss, metrics = told_apart(
      {name: logit(params, x[name], rows) for name, rows in sources.items()},
      of_end(params),
      {name: functools.partial(visits, discount=rows.discount, axis=design.axis) for name, rows in sources.items()},
      clip=clip,
      group=group,
    )
    steep = steepness(functools.partial(slope, params), mix_key, x["expert"], x["policy"])
    if not isinstance(penalty, int | float) or penalty:  # the gradient of a gradient, where it counts
      loss = loss + penalty * steep
    paid = jnp.mean(value(design, params, batch, key))
    return loss, {**metrics, f"{group}_steepness": steep, f"{group}_paid": paid}

  return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)
