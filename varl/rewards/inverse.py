"""The reward that maximum-entropy inverse reinforcement learning infers from demonstrations."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.demonstrations import Demonstrations
from varl.networks import Network
from varl.policies import Head
from varl.rewards.rows import absorbing_steps, check_absorbing, expert_rows, inputs_of, mean_of_visits
from varl.step import descend
from varl.types import Array, Batch, Design, Key, Metrics, Params, Reward, Spec, TrainStep

WEIGHTS = ("none", "importance", "fusion")


def maxent_irl(
  spec: Spec,
  network: Network,
  optimizer: optax.GradientTransformation,
  demonstrations: Demonstrations,
  *,
  execute: Callable[[Array], Array] = lambda action: action,
  squashed: bool = True,
  weights: str = "none",
  behaviour: tuple[Head, Network] | None = None,
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
  of older policies are brought nearer to the present one by weights:

    importance:  w ∝ π(a|s)/β(a|s),  the action's density now over that when it was taken
    fusion:      w ∝ π(a|s)/(½ β(a|s) + ½ b(a|s)),  over as many rows of the expert's as of the policy's

  With "fusion" the expert's rows are in the policy's expectation, too: of actions, its estimate covers what only the
  expert does, where the policy has no row to lower r_ψ at. b is the likeliest density of the demonstrations' actions,
  learned beside r_ψ; of the expert's actions, which replay has no density of, β is π, and no weight exceeds 2.

  Args:
    spec, optimizer, demonstrations, execute, squashed, gamma, absorbing, state_only, group: as in `rewards.gail`.
    network: r_ψ, as the network of `rewards.gail`.
    weights: of the policy's rows: "none", "importance" or "fusion".
    behaviour: with "fusion", b: a head of raw actions and its network, `[..., o] -> [..., head.size]`.
    decay: times the mean of r_ψ² over all rows is taken off L: with demonstrations that the policy's rows never equal,
      r_ψ would grow without end.
    clip: what is paid is held within ±clip.

  Returns:
    A Reward. Metrics: `<group>_expert` and `<group>_policy`, the mean of r_ψ on rows of each kind, whose difference is
    what is left to learn; `<group>_paid`, the mean of what the policy's rows are paid; with weights,
    `<group>_effective`, their effective share of the rows; with "fusion", `<group>_behaviour`, the mean of log b on the
    expert's rows.

  Raises:
    ValueError: an unknown `weights`, "fusion" without a behaviour, a number out of range; in `varl.agent`, weights with
      a posterior without density.

  Reference: Wulfmeier et al. 2015, 1507.04888, section 3 (the gradient, for networks); Finn et al. 2016, 1603.00448,
    section 4 (a policy in place of the partition function; importance weights; demonstrations among the samples).
  """
  if weights not in WEIGHTS:
    raise ValueError(f"weights is one of {', '.join(WEIGHTS)}; got {weights!r}")
  if (behaviour is not None) != (weights == "fusion"):
    raise ValueError(f'a behaviour is given with weights="fusion", and with no other; got {weights=!r}, {behaviour=!r}')
  check_absorbing(gamma, absorbing)
  checks.arguments(above={"clip": clip}, least={"decay": decay})
  inputs = inputs_of(spec, execute, state_only=state_only)

  def init(key: Key) -> Params:
    own = {"reward": network.init(key)}
    if behaviour is not None:
      own["behaviour"] = behaviour[1].init(jax.random.fold_in(key, 1))
    return {group: own}

  def rewards(params: Params, batch: Batch) -> Array:
    return network.apply(params[group]["reward"], inputs.marked(inputs.of(batch.obs, batch.action)))[..., 0]

  def of_end(params: Params) -> Array:
    return network.apply(params[group]["reward"], inputs.end())[0]

  def value(design: Design, params: Params, batch: Batch, key: Key) -> Array:
    reward, end = (jnp.clip(x, -clip, clip) for x in (rewards(params, batch), of_end(params)))
    return reward + absorbing_steps(batch.discount, gamma) * end if absorbing else reward

  def of_behaviour(params: Params, batch: Batch) -> Array:
    assert behaviour is not None
    head, net = behaviour
    return head.log_prob(net.apply(params[group]["behaviour"], batch.obs), batch.action)

  def weight(design: Design, params: Params, batch: Batch, taken: Array | None) -> Array:
    """w of each row, `[B]`, whose action had log-density `taken`; None: that of the policy now."""
    density = design.posterior.log_prob
    assert density is not None
    now = density(params, batch.obs, batch.action[None])[0]
    sampled = now if taken is None else taken
    if behaviour is not None:
      sampled = jnp.logaddexp(sampled, of_behaviour(params, batch)) - jnp.log(2.0)
    return jax.lax.stop_gradient(jnp.exp(jnp.clip(now - sampled, -10.0, 10.0)))

  def step(design: Design) -> TrainStep:
    if weights != "none" and design.posterior.log_prob is None:
      raise ValueError(f"{weights} weights need a policy with a density, such as posteriors.direct")

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      n, end = len(batch.reward), of_end(params)
      expert = expert_rows(demonstrations, params, key, n, squashed=squashed, axis=design.axis)
      rows = {"expert": expert, "policy": batch}
      reward = {name: rewards(params, of) for name, of in rows.items()}
      mean = {
        name: functools.partial(
          mean_of_visits, discount=of.discount, gamma=gamma, absorbing=absorbing, axis=design.axis
        )
        for name, of in rows.items()
      }
      squares = 0.5 * sum(mean[name](jnp.square(reward[name]), jnp.square(end)) for name in rows)
      shown = {name: mean[name](reward[name], end) for name in rows}
      metrics = {f"{group}_{name}": value for name, value in shown.items()}
      metrics[f"{group}_paid"] = jnp.mean(value(design, params, batch, key))
      expected, likelihood = shown["policy"], jnp.zeros(())
      if weights != "none":
        weighed = {"policy": weight(design, params, batch, batch.extras["log_prob"])}
        if behaviour is not None:
          weighed["expert"] = weight(design, params, expert, None)
          likelihood = jnp.mean(of_behaviour(params, expert))
          metrics[f"{group}_behaviour"] = likelihood
        whole = losses.batch_mean(jnp.stack([*weighed.values()]), design.axis)
        each = [mean[name](w / whole * reward[name], end) for name, w in weighed.items()]
        expected = sum(each, jnp.zeros(())) / len(each)
        squared = losses.batch_mean(jnp.square(jnp.stack([*weighed.values()]) / whole), design.axis)
        metrics[f"{group}_effective"] = 1.0 / squared
      return expected - shown["expert"] + decay * squares - likelihood, metrics

    return descend(group, loss, optimizer, axis=design.axis, terms=design.terms)

  return Reward(init, value, step)
