"""Langevin chains: moments of known densities, the bias of unadjusted ones, acceptance in theory, and the posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from varl import losses, policies, posteriors, priors, temperatures
from varl.posteriors.langevin import ACCEPTANCE
from varl.types import Design, Value

CHAINS = 2_000


def run(log_density, start, key, *, step, moves, adjusted=True):
  """Many chains side by side: their ends, and the share of moves that an adjusted one takes."""

  def look(x):
    return jax.vmap(jax.grad(log_density))(x), jax.vmap(log_density)(x)

  def move(state, key):
    x, slope, at = state
    noise_key, take_key = jax.random.split(key)
    to = losses.langevin_move(x, slope, step, jax.random.normal(noise_key, x.shape))
    to_slope, to_at = look(to)
    accepted = losses.langevin_acceptance(x, slope, at, to, to_slope, to_at, step)
    taken = jnp.log(jax.random.uniform(take_key, at.shape)) < accepted if adjusted else jnp.ones(at.shape, bool)
    chosen = jax.tree.map(
      lambda new, old: jnp.where(taken[:, None] if new.ndim == 2 else taken, new, old),
      (to, to_slope, to_at), (x, slope, at),
    )  # fmt: skip
    return chosen, jnp.mean(jnp.exp(accepted))

  scan = jax.jit(lambda: jax.lax.scan(move, (start, *look(start)), jax.random.split(key, moves)))
  (x, _, _), acceptance = scan()
  return np.asarray(x, np.float64), float(acceptance[moves // 2 :].mean())


def test_an_adjusted_chain_has_a_gaussians_moments():
  mean, cov = np.array([0.5, -1.0]), np.array([[1.0, 0.6], [0.6, 0.8]])
  precision = jnp.asarray(np.linalg.inv(cov), jnp.float32)
  start = 0.1 * jax.random.normal(jax.random.key(0), (CHAINS, 2))
  x, acceptance = run(
    lambda u: -0.5 * (u - mean) @ precision @ (u - mean), start, jax.random.key(1), step=0.15, moves=300
  )
  assert 0.4 < acceptance < 0.95
  error = np.sqrt(np.diag(cov) / CHAINS)
  assert (np.abs(x.mean(axis=0) - mean) < 3 * error).all()
  products = (x - mean)[:, :, None] * (x - mean)[:, None]
  assert (np.abs(products.mean(axis=0) - cov) < 3 * products.std(axis=0) / np.sqrt(CHAINS)).all()


@pytest.mark.parametrize("step", [0.1, 0.5])
def test_an_unadjusted_chain_is_too_wide_by_what_theory_says(step):
  """N(0, 1): x' = (1 - ε) x + √(2ε) ξ has the variance 2ε/(1 - (1 - ε)²) = 1/(1 - ε/2); adjusted it is 1."""
  start = jax.random.normal(jax.random.key(0), (CHAINS, 1))
  target = 1.0 / (1.0 - step / 2.0)
  x, _ = run(lambda u: -0.5 * jnp.sum(u**2), start, jax.random.key(2), step=step, moves=200, adjusted=False)
  assert abs(x.var() - target) < 3 * target * np.sqrt(2.0 / CHAINS)
  assert step < 0.3 or abs(x.var() - 1.0) > 3 * np.sqrt(2.0 / CHAINS)
  x, _ = run(lambda u: -0.5 * jnp.sum(u**2), start, jax.random.key(2), step=step, moves=200)
  assert abs(x.var() - 1.0) < 3 * np.sqrt(2.0 / CHAINS)


def test_the_weights_of_two_modes_are_theirs():
  """.3 N(-1, .5²) + .7 N(1.2, .6²), from the wrong side: chains cross, and divide as the density does."""

  def log_density(u):
    logits = jnp.log(jnp.array([0.3, 0.7])) - jnp.log(jnp.array([0.5, 0.6]))
    return jax.nn.logsumexp(logits - 0.5 * ((u[0] - jnp.array([-1.0, 1.2])) / jnp.array([0.5, 0.6])) ** 2)

  exact = integrate.quad(lambda u: np.exp(float(log_density(jnp.array([u])))), -8.0, 0.0)[0]
  exact /= integrate.quad(lambda u: np.exp(float(log_density(jnp.array([u])))), -8.0, 8.0)[0]
  x, _ = run(log_density, -1.0 + jnp.zeros((CHAINS, 1)), jax.random.key(3), step=0.2, moves=600)
  assert abs((x < 0).mean() - exact) < 3 * np.sqrt(exact * (1 - exact) / CHAINS)


@pytest.mark.parametrize("length", [1.0, 1.65, 2.2])
def test_acceptance_in_many_dimensions_is_near_theory(length):
  """d independent dimensions of N(0, 1), 2ε = ℓ²/d^⅓: acceptance 2 Φ(-ℓ³ K/2), K = ¼ (Roberts and Rosenthal 1998)."""
  d = 400
  step = length**2 / d ** (1 / 3) / 2.0
  start = jax.random.normal(jax.random.key(0), (150, d))
  _, acceptance = run(lambda u: -0.5 * jnp.sum(u**2), start, jax.random.key(4), step=step, moves=40)
  np.testing.assert_allclose(acceptance, 2.0 * jax.scipy.special.ndtr(-(length**3) / 8.0), atol=0.03)


def test_the_step_size_finds_the_acceptance_that_explores_fastest():
  log_step = jnp.log(jnp.array([1e-4, 10.0]))
  for _ in range(400):  # acceptance falls with the step: exp(-ε)
    log_step = losses.langevin_step_size(log_step, -jnp.exp(log_step), 0.2)
  np.testing.assert_allclose(jnp.exp(-jnp.exp(log_step)), 0.574, atol=5e-3)


HEAD = policies.tanh_gaussian(1)


def design(**options):
  """Q(s, a) = 2 s a on [-1, 1], α = .5."""
  q = lambda params, obs, a: 2.0 * obs[..., 0] * jnp.tanh(a[..., 0])  # noqa: E731
  posterior = posteriors.langevin(posteriors.uniform_proposal(HEAD), HEAD, action_size=1, **options)
  return Design(priors.uniform(HEAD), posterior, Value(None, q, q, None), temperatures.fixed(0.5))


def test_the_posterior_samples_the_boltzmann_policy_and_carries_on():
  """Density ∝ exp(4 s a) on [-1, 1]: mean coth(4 s) - 1/(4 s); from its proposals, and from another state's action."""
  made = design(steps=40, step_size=0.3)
  act = jax.jit(lambda carry, obs, key: made.posterior.act(made, {}, carry, obs, key))
  carry = made.posterior.carry(CHAINS)
  assert carry["fresh"].all()
  for index, s in enumerate((1.0, -0.5)):
    raw, carry, extras = act(carry, jnp.full((CHAINS, 1), s), jax.random.key(index))
    action = np.tanh(np.asarray(raw, np.float64))
    exact = 1.0 / np.tanh(4.0 * s) - 1.0 / (4.0 * s)
    assert abs(action.mean() - exact) < 3 * action.std() / np.sqrt(CHAINS)
    assert not carry["fresh"].any()
    np.testing.assert_array_equal(carry["action"], raw)
    assert 0.3 < extras[ACCEPTANCE].mean() < 1.0
  # One step from a far action leaves its mark: the chain did go on from it.
  short = design(steps=1, step_size=1e-4, adaptation=0.0)
  held = {**short.posterior.carry(3), "action": jnp.full((3, 1), 0.7), "fresh": jnp.zeros(3, bool)}
  raw, _, _ = short.posterior.act(short, {}, held, jnp.ones((3, 1)), jax.random.key(0))
  np.testing.assert_allclose(raw, 0.7, atol=0.1)


def test_the_carried_step_adapts():
  made = design(steps=50, step_size=1e-3, adaptation=0.3)
  _, carry, _ = made.posterior.act(made, {}, made.posterior.carry(8), jnp.ones((8, 1)), jax.random.key(0))
  assert (carry["log_step"] > np.log(1e-2)).all()
  held = design(steps=50, step_size=1e-3, adaptation=0.0)
  _, carry, _ = held.posterior.act(held, {}, held.posterior.carry(8), jnp.ones((8, 1)), jax.random.key(0))
  np.testing.assert_allclose(carry["log_step"], np.log(1e-3), rtol=1e-6)


def test_what_cannot_be_is_refused():
  with pytest.raises(ValueError, match="steps is a whole number >= 1, got 0"):
    design(steps=0)
  with pytest.raises(ValueError, match=r"step_size must be above 0, got 0\.0"):
    design(step_size=0.0)
  with pytest.raises(ValueError, match=r"adaptation must be at least 0, got -1"):
    design(adaptation=-1.0)
