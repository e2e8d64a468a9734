"""Posteriors that search for each state's policy: by gradient ascent, or by the cross-entropy method."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import checks, policies
from varl.networks import Network
from varl.policies import Head
from varl.posteriors import objective
from varl.step import POSTERIOR_STREAM, descend
from varl.types import (
  Array,
  ArrayTree,
  Batch,
  Design,
  Key,
  Metrics,
  Observation,
  Params,
  Particles,
  Posterior,
  TrainStep,
)


class Found(NamedTuple):
  """What a search came to, all of it constant.

  Attributes:
    outputs: λ, `[B, head.size]`.
    noise: that of the particles, `[M, B, *]`.
    search: that of the search, as it was drawn.
  """

  outputs: Array
  noise: Array
  search: ArrayTree


def gradient(
  head: Head,
  *,
  steps: int = 50,
  learning_rate: float | Array = 0.05,
  samples: int = 10,
  start: Array | None = None,
  network: Network | None = None,
  optimizer: optax.GradientTransformation | None = None,
  through: bool = False,
  target: bool = True,
  group: str = "actor",
) -> Posterior:
  """Adam on λ, the head's outputs, in every state by itself: what iterative inference is compared with (2010.10670).

    λ ← λ + Adam(∇_λ J̃(s, λ)),  `steps` times, J̃ estimated with M fresh reparameterised actions each time

  Without a network λ starts from `start` and nothing is learned: pure gradient-based inference. With one, λ starts
  from network(s): semi-amortised inference. Its E-step descends -J̃(s, network(s)), as `direct` does; or, with
  `through`, -J̃ of the refined λ, differentiated through the steps (Kim et al. 2018).

  The particles are constants in the network's parameters: they are drawn from the refined λ.

  Args:
    head: what λ means.
    steps: Adam steps a state.
    learning_rate: of these steps, in units of λ.
    samples: M, actions a state, in each J̃ and as particles.
    start: λ_0 where there is no network; by default 0.
    network: `obs [..., o] -> outputs [..., head.size]`.
    optimizer: for the network's parameters.
    through: whether the E-step differentiates through the steps.
    target: whether J̃ is that of the slow critic, or of the learning one.
    group: the parameter group's name.

  Raises:
    ValueError: fewer than one step or sample, a network without optimizer or the reverse, `through` or no `start` with
      the other's kind of start, discrete actions, or a start of another shape.

  Reference: Marino et al. 2020, 2010.10670; Kim et al. 2018, 1802.02550, Algorithm 1, with Adam in
    place of momentum.
  """
  steps, samples = checks.whole("steps", steps), checks.whole("samples", samples)
  if (network is None) != (optimizer is None):
    raise ValueError("an amortised start needs both network and optimizer; a fixed one neither")
  if network is None and through:
    raise ValueError("through=True differentiates into the start's network, but there is none")
  if network is not None and start is not None:
    raise ValueError("the start is either given by start or by network, not by both")
  objective.check_reparameterised("gradient", head)
  origin = objective.start_from(head, start)
  adam = optax.adam(learning_rate)

  def noise_for(key: Key, shape: tuple[int, ...]) -> Array:
    noise = head.noise(key, steps * samples, shape)
    return noise.reshape(steps, samples, *noise.shape[1:])

  def begin(params: Params, obs: Observation) -> Array:
    if network is None:
      return jnp.broadcast_to(origin, (*obs.shape[:-1], head.size))
    return network.apply(params[group], obs)

  def refine(design: Design, params: Params, obs: Observation, outputs: Array, noise: Array) -> Array:
    climb = objective.ascent(design, head, jax.lax.stop_gradient(params), target=target)

    def one(state: tuple[Array, optax.OptState], noise: Array) -> tuple[tuple[Array, optax.OptState], None]:
      outputs, moments = state
      _, slope = climb(obs, outputs, noise)
      updates, moments = adam.update(-slope, moments)
      return (optax.apply_updates(outputs, updates), moments), None

    (outputs, _), _ = jax.lax.scan(one, (outputs, adam.init(outputs)), noise)
    return outputs

  def infer(design: Design, params: Params, obs: Observation, noise: Array) -> Array:
    params = jax.lax.stop_gradient(params)
    return refine(design, params, obs, begin(params, obs), noise)

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> Found:
    search_key, key = jax.random.split(key)
    shape = batch.obs.shape[:-1]
    search = noise_for(search_key, shape)
    outputs = infer(design, params, batch.obs, search)
    return Found(outputs, head.noise(key, samples, shape), search if through else ())

  def found_for(design: Design, params: Params, batch: Batch, key: Key) -> Found:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    return draw(design, params, batch, key) if shared is None else shared

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    found = found_for(design, params, batch, key)
    return objective.particles(design, head, params, batch.obs, found.outputs, found.noise)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      found = found_for(design, params, batch, key)
      outputs = begin(params, batch.obs)
      if through:
        outputs = refine(design, params, batch.obs, outputs, found.search)
      constant = jax.lax.stop_gradient(params)
      value = objective.estimate(design, head, constant, batch.obs, outputs, found.noise, target=target)
      refined = objective.particles(design, head, constant, batch.obs, found.outputs, found.noise)
      log_prob = refined.log_ratio + design.prior.log_prob(params, batch.obs, refined.action)
      return -jnp.mean(value), {"entropy": -jnp.mean(log_prob), "objective": jnp.mean(value)}

    assert optimizer is not None  # checked above: it comes with the network
    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  return Posterior(
    lambda key: {} if network is None else {group: network.init(key)},
    particles,
    draw,
    *objective.acting(head, noise_for, infer),
    lambda batch: (),
    None if network is None else step,
  )


def cem(
  head: Head,
  *,
  iterations: int = 3,
  population: int = 100,
  elites: int = 10,
  samples: int = 10,
  over: str = "actions",
  start: Array | None = None,
  spread: float = 1.0,
  min_std: float = 1e-3,
  target: bool = True,
) -> Posterior:
  """The cross-entropy method in every state by itself: draw a population, refit a Gaussian to the best, repeat.

    x_i ~ N(m, diag(v)),   (m, v) ← mean and variance of the `elites` best x_i

  Over "actions" x is a raw action, its score is Q(s, x) + α log p(x|s), and the policy is N(m, v) itself: its variance
  is what the search left, and shrinks to the floor with the iterations. Over "parameters" x is λ, its score J̃(s, λ)
  with the same M actions' noise for the whole population, and the policy is the head at m: this optimises the entropy
  too, and so finds what `gradient` finds, without a gradient. Nothing is learned.

  Args:
    head: what λ means.
    iterations: refits a state.
    population: candidates a refit.
    elites: the best of them that are kept.
    samples: actions a state: as particles, and in each J̃ over "parameters".
    over: "actions" or "parameters".
    start: the head's outputs at which the search starts; by default 0. Over "actions" its policy is the first N(m, v).
    spread: the deviation of the first population over "parameters".
    min_std: the floor under the search's deviation.
    target: whether the score is by the slow critic, or by the learning one.

  Raises:
    ValueError: a count below 1, more elites than population, an unknown `over`, a deviation that is not positive,
      discrete actions, or a start of another shape.

  Reference: Rubinstein & Kroese 2004, The Cross-Entropy Method, Algorithm 4.2, without smoothing.
  """
  iterations, samples = checks.whole("iterations", iterations), checks.whole("samples", samples)
  population = checks.whole("population", population)
  elites = checks.whole("elites", elites, below=population + 1)
  if over not in ("actions", "parameters"):
    raise ValueError(f"cem searches over 'actions' or 'parameters', got {over!r}")
  if not (spread > 0 and min_std > 0):
    raise ValueError(f"cem needs positive deviations, got spread={spread}, min_std={min_std}")
  objective.check_reparameterised("cem", head)
  origin = objective.start_from(head, start)
  family = by_moments(head) if over == "actions" else head

  def noise_for(key: Key, shape: tuple[int, ...]) -> tuple[Array, Array]:
    search_key, key = jax.random.split(key)
    if over == "actions":
      search = head.noise(search_key, iterations * population, shape)
      return search.reshape(iterations, population, *search.shape[1:]), jnp.zeros(iterations)
    search = jax.random.normal(search_key, (iterations, population, *shape, head.size))
    noise = head.noise(key, iterations * samples, shape)
    return search, noise.reshape(iterations, samples, *noise.shape[1:])

  def score(design: Design, params: Params, obs: Observation, candidates: Array, noise: Array) -> Array:
    """`[population, B]`."""
    if over == "parameters":
      return jax.vmap(lambda x: objective.estimate(design, head, params, obs, x, noise, target=target))(candidates)
    q = (design.value.q_target if target else design.value.q)(params, obs, candidates)
    return q + design.temperature.value(params) * design.prior.log_prob(params, obs, candidates)

  def infer(design: Design, params: Params, obs: Observation, noise: tuple[Array, Array]) -> Array:
    params = jax.lax.stop_gradient(params)

    def refit(state: tuple[Array, Array], noise: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
      mean, std = state
      candidates = mean + std * noise[0]
      scores = score(design, params, obs, candidates, noise[1])
      _, best = jax.lax.top_k(jnp.moveaxis(scores, 0, -1), elites)
      kept = jnp.take_along_axis(candidates, jnp.moveaxis(best, -1, 0)[..., None], axis=0)
      return (jnp.mean(kept, axis=0), jnp.maximum(jnp.std(kept, axis=0), min_std)), None

    shape = obs.shape[:-1]
    if over == "actions":
      first = head.distribution(origin)
      mean, std = first.mean(), first.stddev()
    else:
      mean, std = origin, jnp.full(head.size, spread)
    wide = (jnp.broadcast_to(mean, (*shape, *mean.shape)), jnp.broadcast_to(std, (*shape, *std.shape)))
    (mean, std), _ = jax.lax.scan(refit, wide, noise)
    return jnp.concatenate([mean, jnp.log(std)], axis=-1) if over == "actions" else mean

  def draw(design: Design, params: Params, batch: Batch, key: Key) -> Found:
    search_key, key = jax.random.split(key)
    shape = batch.obs.shape[:-1]
    outputs = infer(design, params, batch.obs, noise_for(search_key, shape))
    return Found(outputs, head.noise(key, samples, shape), ())

  def particles(design: Design, params: Params, batch: Batch, key: Key) -> Particles:
    shared: Any = batch.extras.get(POSTERIOR_STREAM)
    found = draw(design, params, batch, key) if shared is None else shared
    return objective.particles(design, family, params, batch.obs, found.outputs, found.noise)

  return Posterior(lambda key: {}, particles, draw, *objective.acting(family, noise_for, infer), lambda batch: (), None)


def by_moments(head: Head) -> Head:
  """A Gaussian head's own family with outputs (μ, log σ) of the raw action, and so without a floor under σ."""

  def moments(outputs: Array) -> tuple[Array, Array]:
    loc, log_std = jnp.split(outputs, 2, axis=-1)
    return loc, log_std

  def log_det(raw: Array) -> Array:
    """log |d execute(u)/du|: by how much the density of the executed action differs from the raw one's."""
    zeros = jnp.zeros(head.size)
    return head.distribution(zeros).log_prob(raw) - head.log_prob(zeros, raw)

  def distribution(outputs: Array) -> object:
    loc, log_std = moments(outputs)
    return policies.normal(loc, jnp.exp(log_std))

  def transform(outputs: Array, noise: Array) -> tuple[Array, Array]:
    loc, log_std = moments(outputs)
    raw = loc + jnp.exp(log_std) * noise
    log_prob = jnp.sum(-0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2.0 * math.pi), axis=-1)
    return raw, log_prob - log_det(raw)

  return head._replace(
    distribution=distribution,
    transform=transform,
    sample_and_log_prob=lambda outputs, key, n: transform(outputs, head.noise(key, n, outputs.shape[:-1])),
    log_prob=lambda outputs, action: policies.normal(*_exp_last(moments(outputs))).log_prob(action) - log_det(action),
    mode=lambda outputs: moments(outputs)[0],
  )


def _exp_last(moments: tuple[Array, Array]) -> tuple[Array, Array]:
  return moments[0], jnp.exp(moments[1])
