"""The reward that maximum-entropy inverse reinforcement learning infers from demonstrations."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.demonstrations import Demonstrations
from varl.networks import Network
from varl.rewards.rows import absorbing_steps, check_absorbing, expert_rows, inputs_of, mean_of_visits
from varl.step import descend
from varl.types import Array, Batch, Design, Key, Metrics, Params, Reward, Spec, TrainStep

WEIGHTS = ("none", "importance")


def maxent_irl(
  spec: Spec,
  network: Network,
  optimizer: optax.GradientTransformation,
  demonstrations: Demonstrations,
  *,
  execute: Callable[[Array], Array] = lambda action: action,
  squashed: bool = True,
  weights: str = "none",
  gamma: float | Array = 0.99,
  absorbing: bool = True,
  state_only: bool = False,
  decay: float | Array = 1e-3,
  clip: float | Array = 10.0,
  group: str = "reward",
) -> Reward:
  """A network's reward under which the expert's demonstrations are most likely, the policy being soft-optimal for it.

    ∇_ψ L = E_expert[∇_ψ r_ψ(s, a)] - E_policy[∇_ψ r_ψ(s, a)]

  It is the gradient of the likelihood where the policy is the soft-optimal one of the present reward at temperature 1;
  the agent that learns from it makes it so, one update of each at a time. The policy's rows come from the batch. Those
  of older policies are brought nearer to the present one by `weights="importance"`: each counts by
  w ∝ π(a|s)/β(a|s), its action's density now over that when it was taken.

  Args:
    spec, optimizer, demonstrations, execute, squashed, gamma, absorbing, state_only, group: as in `rewards.gail`.
    network: r_ψ, as the network of `rewards.gail`.
    weights: of the policy's rows: "none" or "importance".
    decay: times the mean of r_ψ² over all rows is taken off L: with demonstrations that the policy's rows never equal,
      r_ψ would grow without end.
    clip: what is paid is held within ±clip.

  Returns:
    A Reward. Metrics: `<group>_expert` and `<group>_policy`, the mean of r_ψ on rows of each kind, whose difference is
    what is left to learn; `<group>_paid`, the mean of what the policy's rows are paid; with weights,
    `<group>_effective`, their effective share of the rows.

  Raises:
    ValueError: an unknown `weights`, a number out of range; in `varl.agent`, weights with a posterior without density.

  Reference: Wulfmeier et al. 2015, 1507.04888, section 3 (the gradient, for networks); Finn et al. 2016, 1603.00448,
    section 4 (a policy in place of the partition function, importance weights).
  """
  if weights not in WEIGHTS:
    raise ValueError(f"weights is {' or '.join(WEIGHTS)}; got {weights!r}")
  check_absorbing(gamma, absorbing)
  checks.arguments(above={"clip": clip}, least={"decay": decay})
  inputs = inputs_of(spec, execute, state_only=state_only)

  def rewards(params: Params, batch: Batch) -> Array:
    return network.apply(params[group], inputs.marked(inputs.of(batch.obs, batch.action)))[..., 0]

  def of_end(params: Params) -> Array:
    return network.apply(params[group], inputs.end())[0]

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    reward, end = (jnp.clip(x, -clip, clip) for x in (rewards(params, batch), of_end(params)))
    return reward + absorbing_steps(batch.discount, gamma) * end if absorbing else reward

  def importance(design: Design, params: Params, batch: Batch) -> Array:
    """`[B]`, of mean 1 over the whole batch."""
    density = design.posterior.log_prob
    assert density is not None
    now = density(params, batch.obs, batch.action[None])[0]
    weight = jnp.exp(jnp.clip(now - batch.extras["log_prob"], -10.0, 10.0))
    return jax.lax.stop_gradient(weight / losses.batch_mean(weight, design.axis))

  def step(design: Design) -> TrainStep:
    if weights == "importance" and design.posterior.log_prob is None:
      raise ValueError("importance weights need a policy with a density, such as posteriors.direct")

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      n = len(batch.reward)
      expert = expert_rows(demonstrations, params, key, n, squashed=squashed, axis=design.axis)
      visits = functools.partial(mean_of_visits, gamma=gamma, absorbing=absorbing, axis=design.axis)
      end, means, squares, metrics = of_end(params), {}, jnp.zeros(()), {}
      for name, rows in {"expert": expert, "policy": batch}.items():
        mean = functools.partial(visits, discount=rows.discount)
        reward = rewards(params, rows)
        squares = squares + 0.5 * mean(jnp.square(reward), jnp.square(end))
        if weights == "importance" and name == "policy":
          weight = importance(design, params, batch)
          metrics[f"{group}_effective"] = 1.0 / losses.batch_mean(jnp.square(weight), design.axis)
          reward = weight * reward
        means[name] = mean(reward, end)
      metrics |= {f"{group}_{name}": mean for name, mean in means.items()}
      metrics[f"{group}_paid"] = jnp.mean(value(design, params, batch, key))
      return means["policy"] - means["expert"] + decay * squares, metrics

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  return Reward(lambda key: {group: network.init(key)}, value, step)
