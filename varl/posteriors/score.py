"""Posteriors that learn from the actions taken and their advantages: policy gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from varl import checks, losses
from varl.step import POSTERIOR_STREAM, descend, stream_key
from varl.types import Array, ArrayTree, Batch, Design, Key, Metrics, Params, Particles, Posterior, State, TrainStep

SURROGATES = ("score", "ratio", "clip")


def score(
  policy: Posterior,
  optimizer: optax.GradientTransformation,
  *,
  surrogate: str = "score",
  clip: float | Array = 0.2,
  divergence: bool = False,
  standardise: bool = True,
  group: str = "actor",
) -> Posterior:
  """A parametric policy whose E-step follows a policy gradient, from the advantages of an on-policy value.

    L(s, a) = surrogate(log π(a|s), log β(a|s), A) + α KL(π(·|s) ‖ p(·|s))

  The surrogate is `losses.score_function` (REINFORCE), `losses.importance_ratio`, or `losses.clipped_ratio` (PPO). The
  second term is there with `divergence`, and is differentiated through the policy's own particles and not by score:
  with a uniform prior it is the entropy bonus, with the previous policy as prior the penalty on the step. Where the
  divergence is in the returns instead (`values.lambda_value(regularised=True)`), the score function of these is the
  whole gradient.

  Metrics: `entropy`, `advantage_std`, `policy_ratio` (mean of |ρ - 1|); `clipped` (share of rows) with "clip".

  Args:
    policy: `posteriors.direct` for continuous or `posteriors.enumerated` for discrete actions; its step is replaced.
    optimizer: for its parameters.
    surrogate: "score", "ratio" or "clip".
    clip: c of "clip".
    divergence: whether the loss has the second term.
    standardise: whether advantages are centred and divided by their deviation, in each batch.
    group: the policy's parameter group.

  Raises:
    ValueError: an unknown surrogate, a concrete clip that is not positive, or a policy without a density; at the
      update, a batch without advantages.
  """
  if surrogate not in SURROGATES:
    raise ValueError(f"surrogate is one of {', '.join(SURROGATES)}; got {surrogate!r}")
  checks.arguments(above={"clip": clip})
  _, evaluate = _densities(policy)

  def step(design: Design) -> TrainStep:
    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
      advantage = advantages(batch, standardise, design.axis)
      drawn, log_prob = evaluate(design, params, batch, key)
      behaviour = batch.extras["log_prob"]
      metrics = {
        "advantage_std": losses.batch_std(batch.extras["advantage"], design.axis),
        "policy_ratio": jnp.mean(jnp.abs(jnp.exp(log_prob - behaviour) - 1.0)),
      }
      if surrogate == "score":
        value = losses.score_function(log_prob, advantage)
      elif surrogate == "ratio":
        value = losses.importance_ratio(log_prob, behaviour, advantage)
      else:
        value, clipped = losses.clipped_ratio(log_prob, behaviour, advantage, clip)
        metrics["clipped"] = jnp.mean(clipped)
      if divergence:
        price = design.temperature.value(params)
        value = value + losses.expected_divergence(
          jnp.zeros_like(drawn.log_ratio), drawn.log_weight, drawn.log_ratio, price
        )
      metrics["entropy"] = _entropy(design, params, batch, drawn)
      return jnp.mean(value), metrics

    return descend(group, loss, optimizer, stream=POSTERIOR_STREAM, axis=design.axis, terms=design.terms)

  return policy._replace(step=step)


def natural(
  policy: Posterior,
  divergence: Callable[[ArrayTree, ArrayTree, Array], Array],
  *,
  max_kl: float | Array = 0.01,
  damping: float | Array = 0.1,
  iterations: int = 10,
  backtracks: int = 10,
  standardise: bool = True,
  group: str = "actor",
) -> Posterior:
  """A parametric policy whose E-step is the largest natural-gradient step within a trust region (1502.05477, TRPO).

    maximise E[ρ A]  subject to  E[KL(π_old(·|s) ‖ π_θ(·|s))] <= δ

  The direction solves (F + damping) x = g by conjugate gradients, F the Hessian of the KL at π_old and g the gradient
  of E[ρ A]; its length is √(2δ / xᵀ(F + damping)x), halved until the surrogate has risen and the measured KL is within
  δ; after `backtracks` halvings without success nothing moves. π_old is the policy as it is before the update: with one
  pass over the rollout in one batch, the one that acted.

  Metrics: `policy_kl` (measured after the step), `policy_step` (its share of the full one, 0 where none was taken),
  `surrogate_gain`, `entropy`.

  Args:
    policy: as in `score`; its step is replaced.
    divergence: `(old, new, obs [B, o]) -> [B]`, KL(π_old ‖ π_new) of two of the policy's parameter trees.
    max_kl: δ, in nats.
    damping: added to F's diagonal.
    iterations: of conjugate gradients.
    backtracks: halvings of the step, at most.
    standardise: as in `score`.
    group: the policy's parameter group.

  Raises:
    ValueError: a concrete bound that is not positive, no iteration, or a policy without a density.

  Reference: Schulman et al. 2015, 1502.05477, Eq. 14 and appendix C.
  """
  checks.arguments(above={"max_kl": max_kl})
  iterations, backtracks = checks.whole("iterations", iterations), checks.whole("backtracks", backtracks, least=0)
  density, _ = _densities(policy)

  def step(design: Design) -> TrainStep:
    def mean(tree: Any) -> Any:
      return tree if design.axis is None else jax.lax.pmean(tree, design.axis)

    def run(params: Params, state: State, batch: Batch, key: Key) -> tuple[Params, State, Metrics]:
      old = params[group]
      advantage = advantages(batch, standardise, design.axis)

      def surrogate(own: ArrayTree) -> Array:
        log_prob = density({**params, group: own}, batch.obs, batch.action)
        return -jnp.mean(losses.importance_ratio(log_prob, batch.extras["log_prob"], advantage))

      def kl(own: ArrayTree) -> Array:
        return jnp.mean(divergence(jax.lax.stop_gradient(old), own, batch.obs))

      def fisher(x: ArrayTree) -> ArrayTree:
        product = mean(jax.jvp(jax.grad(kl), (old,), (x,))[1])
        return jax.tree.map(lambda p, v: p + damping * v, product, x)

      before, ascent = mean(jax.value_and_grad(surrogate)(old))
      direction, _ = jax.scipy.sparse.linalg.cg(fisher, ascent, maxiter=iterations)
      curvature = _dot(direction, fisher(direction))
      # No gradient, no step: the direction is then zero, whatever it is divided by.
      length = jnp.sqrt(2.0 * max_kl / jnp.where(curvature > 0, curvature, jnp.inf))

      def moved(share: Array) -> ArrayTree:
        return jax.tree.map(lambda w, x: (w + share * length * x).astype(w.dtype), old, direction)

      def fits(share: Array) -> Array:
        gain, distance = mean((surrogate(moved(share)) - before, kl(moved(share))))
        return (gain > 0) & (distance <= max_kl)

      def shorter(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        share, tries, _ = carry
        return share / 2.0, tries + 1, fits(share / 2.0)

      one = jnp.ones(())
      share, _, found = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[1] < backtracks), shorter, (one, jnp.int32(0), fits(one))
      )
      share = jnp.where(found, share, 0.0)
      new = moved(share)
      drawn = policy.particles(design, params, batch, stream_key(key, POSTERIOR_STREAM))
      metrics = {
        "policy_kl": kl(new),
        "policy_step": share,
        "surrogate_gain": surrogate(new) - before,
        "entropy": _entropy(design, params, batch, drawn),
      }
      return {**params, group: new}, state, mean(metrics)

    return TrainStep(lambda params: {}, run, (group,), (group,))

  return policy._replace(step=step)


def advantages(batch: Batch, standardise: bool, axis: str | None) -> Array:
  """The batch's advantages `[B]`, as they came or standardised.

  Raises:
    ValueError: it has none.
  """
  if "advantage" not in batch.extras or "log_prob" not in batch.extras:
    raise ValueError(
      "a policy gradient needs the advantages of an on-policy value (values.lambda_value) and the log-probabilities of "
      f"the policy that acted, but the batch's extras are {sorted(batch.extras)}"
    )
  advantage = batch.extras["advantage"]
  return losses.standardised(advantage, axis) if standardise else advantage


def _densities(policy: Posterior) -> Any:
  """`log_prob` and `evaluate` of a policy that has them."""
  if policy.log_prob is None or policy.evaluate is None:
    raise ValueError("a policy gradient needs a policy with a density; use posteriors.direct or posteriors.enumerated")
  return policy.log_prob, policy.evaluate


def _entropy(design: Design, params: Params, batch: Batch, drawn: Particles) -> Array:
  """Of the policy at the batch's states, from its own particles."""
  log_prob = drawn.log_ratio + design.prior.log_prob(params, batch.obs, drawn.action)
  return -jnp.mean(jnp.sum(jnp.exp(drawn.log_weight) * log_prob, axis=0))


def _dot(a: ArrayTree, b: ArrayTree) -> Array:
  return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)), jnp.zeros(()))
