"""Information gain against Bayesian linear regression: beliefs, gains of single rows, and their scale."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import losses, networks, normalize, rewards
from varl.exact import information
from varl.types import Spec, Transition

ARMS, NOISE, PRIOR = 5, 0.5, 0.5
SPEC = Spec(1, ARMS, discrete=True)
LINEAR = networks.Network(lambda key: {"w": jnp.zeros((ARMS, 1))}, lambda params, x: x[..., 1:] @ params["w"])


def reward(**options):
  """Of s' - s = w_a + noise: inputs are one-hot, so that the weights of a Bayesian belief stay independent."""
  return rewards.information_gain(
    SPEC, LINEAR, optax.adam(optax.cosine_decay_schedule(2e-2, 4_000, 1e-3)), prior_std=PRIOR, noise_std=NOISE,
    samples=64, **options,
  )  # fmt: skip


def rows(arms, moved):
  n = len(arms)
  obs = jnp.zeros((n, 1))
  return Transition(
    obs, jnp.asarray(arms, jnp.int32), jnp.zeros(n), jnp.ones(n), jnp.reshape(moved, (n, 1)), jnp.zeros(n), {}
  )


def unit_scale(params, frames):
  """Moments that leave targets as they are."""
  moments = normalize.init(1)._replace(frames=jnp.int32(frames))
  return {**params, "dynamics_scale": moments}


def belief(params, std):
  """The same parameters, with these deviations."""
  return {**params, "dynamics": {**params["dynamics"], "raw_std": jnp.log(jnp.expm1(jnp.asarray(std)))}}


def mean_gain(form, std):
  """The mean over what may be observed, of one row of each arm, by Gauss-Hermite quadrature."""
  made = reward(form=form)
  params = belief(unit_scale(made.init(jax.random.key(0)), 1), std)
  nodes, weights = np.polynomial.hermite_e.hermegauss(9)
  total = 0.0
  for node, weight in zip(nodes, weights / weights.sum(), strict=True):
    moved = node * np.sqrt(np.asarray(std) ** 2 + NOISE**2)
    total = total + weight * made.value(None, params, rows(np.arange(ARMS), moved), jax.random.key(0))
  return np.asarray(total)


def exact_gain(std):
  prior = information.LinearBelief(jnp.zeros(ARMS), jnp.diag(jnp.square(jnp.asarray(std))))
  return [float(information.linear_gain(prior, x, noise_std=NOISE)) for x in jnp.eye(ARMS)]


def test_the_natural_step_is_bayes_rule():
  std = [0.01, 0.1, 0.5, 1.0, 5.0]
  np.testing.assert_allclose(mean_gain("natural", std), exact_gain(std), rtol=1e-4)


def test_the_second_order_step_is_right_where_little_is_learned():
  """σ²/noise² = u: it gives ½ (u + u² + u²/2), the exact gain is ½ log(1 + u): within 5 % below u = .025."""
  std = NOISE * np.sqrt([1e-3, 5e-3, 0.01, 0.02, 1.0])
  got, exact = mean_gain("second_order", std), exact_gain(std)
  np.testing.assert_allclose(got[:4], exact[:4], rtol=0.05)
  assert got[4] > 2 * exact[4]
  u = np.square(std / NOISE)
  np.testing.assert_allclose(got, 0.5 * (u + 1.5 * u**2), rtol=1e-4)


def test_what_is_learned_is_the_posterior_and_its_gain_the_exact_one():
  """1, 2, 5, 10 and 30 rows of the arms: means, deviations and gains are those of Bayesian linear regression."""
  counts = np.array([1, 2, 5, 10, 30])
  arms = np.repeat(np.arange(ARMS), counts)
  moved = np.random.default_rng(0).normal(size=len(arms)) + 0.5
  made = reward(form="natural")
  params = unit_scale(made.init(jax.random.key(0)), len(arms))
  step = made.step(type("D", (), {"axis": None, "terms": ()})())
  batch = rows(arms, moved)

  def update(state, key):
    params, inner, metrics = step.step(*state, batch, key)
    return (params, inner), metrics["dynamics_loss"]

  keys = jax.random.split(jax.random.key(1), 4_000)
  (params, _), _ = jax.jit(lambda: jax.lax.scan(update, (params, step.init(params)), keys))()
  exact = information.LinearBelief(jnp.zeros(ARMS), PRIOR**2 * jnp.eye(ARMS))
  for arm, y in zip(arms, moved, strict=True):
    exact = information.linear_update(exact, jnp.eye(ARMS)[arm], y, noise_std=NOISE)
  np.testing.assert_allclose(params["dynamics"]["mean"], exact.mean, atol=0.02)
  std = jax.nn.softplus(params["dynamics"]["raw_std"])
  np.testing.assert_allclose(std, jnp.sqrt(jnp.diag(exact.covariance)), rtol=0.03)
  wanted = [float(information.linear_gain(exact, x, noise_std=NOISE)) for x in jnp.eye(ARMS)]
  np.testing.assert_allclose(mean_gain("natural", std), wanted, rtol=0.05)


def test_gains_are_paid_in_units_of_the_typical_one():
  made = reward(form="natural", memory=0.5)
  params = made.init(jax.random.key(0))
  rng = np.random.default_rng(1)
  first = rows(rng.integers(0, ARMS, 41), rng.normal(size=41))
  valid = jnp.arange(41) < 21
  params = made.observe(params, first, valid, None)
  paid = np.asarray(made.value(None, params, first, jax.random.key(0)))
  np.testing.assert_allclose(np.median(paid[:21]), 1.0, rtol=1e-5)
  assert made.observe(params, first, jnp.zeros(41, bool), None)["dynamics_median"] == params["dynamics_median"]
  assert float(rewards.information_gain(SPEC, LINEAR, optax.sgd(1.0), clip=0.5).value(
    None, params, first, jax.random.key(0)).max()) == 0.5  # fmt: skip


def test_the_divergence_of_normals_is_numeric():
  mean, std = np.array([0.3, -1.0]), np.array([0.2, 1.5])
  x = np.linspace(-12, 12, 200_001)[:, None]
  density = np.exp(-0.5 * ((x - mean) / std) ** 2) / std / np.sqrt(2 * np.pi)
  ratio = -0.5 * ((x - mean) / std) ** 2 - np.log(std) + 0.5 * ((x - 0.1) / 0.7) ** 2 + np.log(0.7)
  wanted = (density * ratio).sum(axis=0) * (x[1, 0] - x[0, 0])
  np.testing.assert_allclose(losses.normal_divergence(mean, std, 0.1, 0.7), wanted, rtol=1e-4)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"form": "first"}, "form is one of second_order, natural; got 'first'"),
    ({"samples": 0}, "samples is a whole number >= 1, got 0"),
    ({"noise_std": 0.0}, r"noise_std must be above 0, got 0\.0"),
    ({"memory": 1.0}, r"memory lies in \[0, 1\), got 1\.0"),
  ],
)
def test_what_cannot_be_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    rewards.information_gain(SPEC, LINEAR, optax.sgd(1.0), **options)
