"""The reward that explains an expert best."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from varl import checks
from varl.exact.inverse.expert import Demonstrations, counts, occupancy
from varl.exact.inverse.likelihood import expected_log_likelihood, reward_gradient
from varl.exact.tabular import MDP, SoftSolution, soft_value_iteration
from varl.types import Array, Scalar


class Fit(NamedTuple):
  """A recovered reward.

  Attributes:
    psi: its parameters, `[F]` or as the reward function takes them.
    reward: r_ψ, `[S, A]`.
    log_policy: its soft-optimal policy, `[S, A]` or `[H, S, A]`.
    objective: `[iterations + 1]`, the penalised objective from the start on; NaN beyond `steps`.
    gradient: `[iterations + 1]`, the largest absolute entry of its gradient; NaN beyond `steps`.
    steps: the number of steps taken.
  """

  psi: Any
  reward: Array
  log_policy: Array
  objective: Array
  gradient: Array
  steps: Array


def fit(
  m: MDP,
  features: Array | Callable[[Any], Array],
  expert: Demonstrations | Array,
  *,
  temperature: Array | float,
  horizon: int | None = None,
  log_prior: Array | float | None = None,
  initial: Any = None,
  l2: Array | float = 0.0,
  optimizer: optax.GradientTransformation | None = None,
  iterations: int = 200,
  tolerance: float | None = None,
) -> Fit:
  """The reward whose soft-optimal policy explains the expert best.

    max_ψ  L(ψ) - l2/2 ‖ψ‖²

  What L is depends on how the expert is given:
  - expected features `[F]`: L = 1/c (ψ·f_E - E[V_0(s_0)]), up to a constant the expected log-likelihood, and concave.
    At the optimum the policy has the expert's feature expectations (with l2 = 0). With the empirical expectations of
    finitely many demonstrations this is Ziebart's algorithm.
  - an occupancy `[S, A]` or `[H, S, A]`: the expected log-likelihood under it.
  - demonstrations: the mean of their `log_likelihood` with the MDP's γ. Where dynamics are deterministic and they
    last to the horizon or a terminal state, it is the first form from their own first states; otherwise it need not
    be concave.

  An expert that never takes some action is matched by a reward at infinity only: give it l2 > 0. Rich features leave
  the reward ambiguous (potential shaping, for one); L-BFGS on linear features moves ψ in the span of the gradients
  only, so that from 0 what changes no likelihood stays 0.

  Args:
    m: the MDP; its reward is ignored.
    features: `[S, A, F]` for r_ψ = f·ψ, or a function ψ -> `[S, A]`.
    expert: as above.
    temperature: c, reward per nat.
    horizon: H, or None for an infinite one (discount < 1).
    log_prior: None for the uniform prior, or an array broadcast to `[S, A]`.
    initial: ψ to start from, any pytree; None for 0, with linear features only.
    l2: the penalty's weight, in units of L.
    optimizer: any of optax; None for L-BFGS with its line search.
    iterations: the most steps to take.
    tolerance: stops once no entry of the gradient exceeds it; None for eps^(2/3) of the dtype (2e-5 in float32).

  Returns:
    The fit. Jittable and vmappable (with `horizon`, `optimizer`, `iterations` static).

  Raises:
    ValueError: a reward function without initial parameters or with expected features, arrays of the wrong shape,
      iterations below 1.

  Reference: Ziebart et al. 2008, section "Learning from demonstrated behavior"; Ziebart 2010, chapter 9.
  """
  iterations = checks.whole("iterations", iterations)
  if callable(features):
    if initial is None:
      raise ValueError("a reward function needs initial parameters")
    reward_of: Callable[[Any], Array] = features
  else:
    if features.ndim != 3 or features.shape[:2] != m.reward.shape:
      raise ValueError(f"features must be [S, A, F] with [S, A] = {m.reward.shape}, got {features.shape}")
    initial = jnp.zeros(features.shape[-1], m.reward.dtype) if initial is None else initial
    reward_of = partial(jnp.matmul, features, precision=jax.lax.Precision.HIGHEST)

  def solve(reward: Array) -> SoftSolution:
    return soft_value_iteration(
      m._replace(reward=reward), temperature=temperature, horizon=horizon, log_prior=log_prior
    )

  shape = m.reward.shape if horizon is None else (horizon, *m.reward.shape)
  target, weights = jnp.zeros(()), jnp.zeros(shape)
  matching = not isinstance(expert, Demonstrations) and expert.ndim == 1
  if isinstance(expert, Demonstrations):
    weights = counts(m, expert, horizon=horizon)
  elif not matching:
    weights = expert
    if weights.shape != shape:
      raise ValueError(f"the expert's occupancy must be {shape}, got {weights.shape}")
  else:
    target = expert
    if callable(features):
      raise ValueError("expected features go with features, not with a reward function: give an occupancy")
    if target.shape != features.shape[-1:]:
      raise ValueError(f"the expected features must be {features.shape[-1:]}, got {target.shape}")

  def loss(psi: Any) -> Scalar:
    """-L + l2/2 ‖ψ‖². Its slope in the reward is the forward pass, put in by hand: no gradient of the backward pass."""
    reward = reward_of(psi)
    fixed = jax.lax.stop_gradient(reward)
    solution = solve(fixed)
    if matching:
      first = solution.value if horizon is None else solution.value[0]
      start = jnp.sum(jnp.where(m.terminal, 0.0, m.initial * first))
      level = -start / temperature
      visited = occupancy(m, solution.log_policy, horizon=horizon)
      slope = -(visited if horizon is None else visited.sum(0)) / temperature
    else:
      level = expected_log_likelihood(solution.log_policy, weights)
      slope = reward_gradient(m, solution.log_policy, weights, temperature=temperature)
    objective = jax.lax.stop_gradient(level) + jnp.vdot(jax.lax.stop_gradient(slope), reward - fixed)
    if matching:
      objective += jnp.vdot(target, psi) / temperature
    return 0.5 * l2 * optax.tree.norm(psi, squared=True) - objective

  optimizer = optax.with_extra_args_support(optax.lbfgs() if optimizer is None else optimizer)
  value_and_grad = jax.value_and_grad(loss)

  def largest(tree: Any) -> Array:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]))

  def step(carry: Any) -> Any:
    psi, state, value, grad, history, taken = carry
    updates, state = optimizer.update(grad, state, psi, value=value, grad=grad, value_fn=loss)
    psi = optax.apply_updates(psi, updates)
    value, grad = value_and_grad(psi)
    taken += 1
    return psi, state, value, grad, history.at[:, taken].set(jnp.stack([-value, largest(grad)])), taken

  value, grad = value_and_grad(initial)
  limit = jnp.finfo(value.dtype).eps ** (2 / 3) if tolerance is None else tolerance
  history = jnp.full((2, iterations + 1), jnp.nan, value.dtype).at[:, 0].set(jnp.stack([-value, largest(grad)]))
  psi, _, _, _, history, taken = jax.lax.while_loop(
    lambda carry: (carry[-1] < iterations) & (largest(carry[3]) > limit),
    step,
    (initial, optimizer.init(initial), value, grad, history, jnp.int32(0)),
  )
  reward = reward_of(psi)
  return Fit(psi, reward, solve(reward).log_policy, history[0], history[1], taken)
