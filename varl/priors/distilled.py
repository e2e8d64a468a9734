"""A prior that several tasks share, or that sees a part: what posteriors have in common."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.networks import Network
from varl.policies import Head
from varl.step import POSTERIOR_STREAM, chain, copy, descend, track
from varl.types import VISIT, Array, Batch, Design, Key, Metrics, Observation, Params, Prior, Spec, TrainStep


def all_but_last(spec: Spec, withheld: int = 0) -> Callable[[Observation], Observation]:
  """What is left of observations without their last entries, `[..., o] -> [..., o - withheld]`.

  Args:
    spec: the environment's sizes.
    withheld: how many entries; 0: the context (`Spec.context`).

  Raises:
    ValueError: none are withheld, or all are.
  """
  withheld = checks.whole("withheld", withheld, least=0)
  count = withheld or spec.context
  if not 0 < count < spec.observation_size:
    context = "" if withheld else ", and the environment has no context (envs.Tasks gives it one)"
    raise ValueError(
      f"a prior that is kept from some of {spec.observation_size} entries of the observation is kept from at least one "
      f"and not from all, got withheld={withheld}{context}"
    )
  return lambda obs: obs[..., :-count]


def distilled(
  network: Network,
  head: Head,
  optimizer: optax.GradientTransformation,
  *,
  sees: Callable[[Observation], Observation],
  share: float | Array = 1.0,
  tau: float | Array = 0.005,
  group: str = "prior",
) -> Prior:
  """A policy network that sees a part of the observation, fitted to the posterior's actions everywhere.

    log p(a|s) = α log π̄_0(a|sees(s)),    L = -Σ_b d_b Σ_n w_n log π_0(a_n|sees(s_b)) / Σ_b d_b

  Its best is the mixture of the posteriors of all states that it cannot tell apart, by how often they are visited; the
  mean KL to it then is the mutual information between the action and what it does not see. `log_prob` is of the slow
  copy π̄_0. d is the discounted visitation γ^t of each row, where `posteriors.discounting` records it; else 1.

  Args:
    network: `sees(obs) [..., v] -> outputs [..., head.size]`.
    head: what the outputs mean.
    optimizer: for the network.
    sees: of the observation; `all_but_last`.
    share: α in (0, 1], c_KL/(c_KL + c_Ent) of Distral: 1 pays for divergence alone, less than 1 for negative entropy,
      too.
    tau: the rate at which the slow copy follows.
    group: the parameter group's name; its copy is "target_<group>".

  Returns:
    A Prior. Metrics: `<group>_loss`, the cross-entropy; `divergence`, the mean of log π - log π̄_0 in nats.

  Raises:
    ValueError: a concrete share outside (0, 1].

  Reference: Teh et al. 2017, 1707.04175, Eq. 1 and 7; Galashov et al. 2019, 1905.01240, section 3.
  """
  checks.share("share", share, lower_open=True)
  target = f"target_{group}"

  def outputs(params: Params, obs: Observation, source: str) -> Array:
    return network.apply(params[source], sees(obs))

  def init(key: Key) -> Params:
    params = network.init(key)
    return {group: params, target: copy(params)}

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      drawn = design.posterior.particles(design, params, batch, key)
      weight = jax.lax.stop_gradient(jnp.exp(drawn.log_weight))
      action = jax.lax.stop_gradient(drawn.action)
      fitted = head.log_prob(outputs(params, batch.obs, group), action)
      cross = -jnp.sum(weight * fitted, axis=0)
      slow = head.log_prob(outputs(params, batch.obs, target), action)
      # log_ratio is log π - α log π̄_0.
      log_ratio = drawn.log_ratio - (1.0 - share) * slow
      kl = losses.visited_mean(jnp.sum(weight * log_ratio, axis=0), batch.extras.get(VISIT), design.axis)
      mean = losses.visited_mean(cross, batch.extras.get(VISIT), design.axis)
      return mean, {"divergence": jax.lax.stop_gradient(kl)}

    own = descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)
    return chain(own, track(group, into=target, rate=tau))

  return Prior(
    init=init,
    log_prob=lambda params, obs, action: share * head.log_prob(outputs(params, obs, target), action),
    proposal=lambda params, obs, key, n: head.sample_and_log_prob(outputs(params, obs, target), key, n)[0],
    step=step,
    mode=lambda params, obs: head.mode(outputs(params, obs, target)),
  )


def column(
  network: Network,
  head: Head,
  *,
  sees: Callable[[Observation], Observation],
  share: float | Array,
  group: str = "actor",
) -> Prior:
  """The prior of a two-column policy (`two_columns`): it is a part of the posterior's own network, and learns with it.

    log p(a|s) = α log π_0(a|sees(s)),   π_0 = softmax(h)

  Args:
    network: h, `sees(obs) [..., v] -> logits [..., A]`.
    head, sees, share: as in `distilled`.
    group: the posterior's parameter group.

  Raises:
    ValueError: a concrete share outside (0, 1].

  Reference: Teh et al. 2017, 1707.04175, Eq. 8 and section 3.2.
  """
  checks.share("share", share, lower_open=True)

  def outputs(params: Params, obs: Observation) -> Array:
    own: dict[str, Array] = params[group]
    return network.apply(own["shared"], sees(obs))

  return Prior(
    init=lambda key: {},
    log_prob=lambda params, obs, action: share * head.log_prob(outputs(params, obs), action),
    proposal=lambda params, obs, key, n: head.sample_and_log_prob(outputs(params, obs), key, n)[0],
    mode=lambda params, obs: head.mode(outputs(params, obs)),
  )


def two_columns(
  shared: Network,
  own: Network,
  *,
  sees: Callable[[Observation], Observation],
  share: float | Array,
  beta: float | Array,
) -> Network:
  """A policy network of two columns: logits α h(sees(s)) + β f(s), for `posteriors.enumerated` beside `column`.

  Its loss differentiates the prior's column as well, which is then the distillation: the gradient of -c_KL E[log π_0]
  is that of the cross-entropy.

  Args:
    shared: h. own: f, `obs [..., o] -> [..., A]`.
    sees, share: as in `distilled`; α.
    beta: β = 1/(c_KL + c_Ent).

  Reference: Teh et al. 2017, 1707.04175, Eq. 8.
  """

  def init(key: Key) -> dict[str, object]:
    keys = jax.random.split(key)
    return {"shared": shared.init(keys[0]), "own": own.init(keys[1])}

  def apply(params: dict[str, Array], obs: Array) -> Array:
    return share * jax.nn.log_softmax(shared.apply(params["shared"], sees(obs))) + beta * own.apply(params["own"], obs)

  return Network(init, apply)
