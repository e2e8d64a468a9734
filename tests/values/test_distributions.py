"""Critics of distributions: a return that is known, through `values.q_value`, and what is read from an ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import losses, networks, policies, posteriors, priors, temperatures, values
from varl.agents import mpo, sac, sac_v1, svg
from varl.types import Batch, Design, Spec

GAMMA, ROWS = 0.5, 64
RATE = optax.cosine_decay_schedule(2e-2, 2_000, 0.01)


def design(returns, *, pessimism="min", members=2):
  """One state and two actions that are alike, of which the posterior takes each with probability one half."""
  head = policies.categorical(2)
  size = 2 * (1 if returns is None else returns.size)
  table = networks.Network(
    lambda key: 0.1 * jax.random.normal(key, (size,)), lambda p, x: jnp.broadcast_to(p, (*x.shape[:-1], size))
  )
  critic = networks.action_out(networks.ensemble(table, members), outputs=None if returns is None else returns.size)
  value = values.q_value(
    critic,
    optax.adam(RATE),
    gamma=GAMMA,
    tau=0.1,
    pessimism=pessimism,
    regularised=False,
    returns=returns,
  )
  acting = networks.Network(lambda key: {}, lambda params, x: jnp.zeros((*x.shape[:-1], 2)))
  posterior = posteriors.enumerated(acting, head, optax.sgd(0.0))
  return Design(priors.uniform(head), posterior, value, temperatures.fixed(0.3)), critic


def batch():
  """Half of the rows pay 1, half 0; the episode goes on."""
  obs = jnp.ones((ROWS, 1))
  action = jnp.arange(ROWS) // 2 % 2
  paid = (jnp.arange(ROWS) % 2).astype(float)
  return Batch(obs, action, paid, jnp.ones(ROWS), obs, jnp.zeros(ROWS), {})


def learned(made, updates=2_000):
  step = made.value.step(made)
  params = {**made.value.init(jax.random.key(0)), "actor": {}}

  def update(state, key):
    params, inner, metrics = step.step(*state, batch(), key)
    return (params, inner), metrics["target_q"]

  keys = jax.random.split(jax.random.key(1), updates)
  (params, _), targets = jax.jit(lambda: jax.lax.scan(update, (params, step.init(params)), keys))()
  return params, targets


KINDS = {
  "categorical": (values.categorical(0.0, 2.0, 21), 0.01),
  "hl_gauss": (values.hl_gauss(0.0, 2.0, 41), 0.01),
  # Of 40 atoms in the target a quantile is any point between two, which are 1/20 apart.
  "quantile": (values.quantile(20, kappa=0.0), 0.05),
}


@pytest.mark.parametrize("pessimism", ["min", 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_a_uniform_return_is_one(kind, pessimism):
  """γ = ½ and a fair Bernoulli reward: the return is uniform on [0, 2]."""
  returns, tolerance = KINDS[kind]
  made, critic = design(returns, pessimism=pessimism)
  params, targets = learned(made)
  obs, actions = jnp.ones((1, 1)), jnp.array([[0], [1]])
  np.testing.assert_allclose(made.value.q(params, obs, actions), 1.0, atol=tolerance)
  np.testing.assert_allclose(made.value.q_target(params, obs, actions), 1.0, atol=tolerance)
  np.testing.assert_allclose(targets[-100:], 1.0, atol=tolerance)
  prediction, y = made.value.backup(made, params, batch(), jax.random.key(0))
  assert prediction.shape == (2, ROWS)
  np.testing.assert_allclose(prediction, 1.0, atol=tolerance)
  np.testing.assert_allclose(jnp.mean(y), 1.0, atol=tolerance)
  outputs = critic.apply(params["critic"], obs, actions)
  assert outputs.shape == (2, 2, 1, returns.size)
  if kind == "quantile":
    np.testing.assert_allclose(outputs[..., 0, :].mean(axis=(0, 1)), (np.arange(20) + 0.5) / 10, atol=0.08)
  if kind == "categorical":  # inner atoms share the mass evenly; the outer ones have half of it
    p = np.asarray(returns.atoms(outputs)[1]).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(p[1:-1], 1 / 20, atol=4e-3)
    np.testing.assert_allclose(p[[0, -1]], 1 / 40, atol=4e-3)


def test_a_mixture_over_actions_and_members_has_the_means_that_numbers_have():
  rng = np.random.default_rng(0)
  z, p = jnp.asarray(rng.normal(size=(3, 4, 5, 7))), jnp.asarray(rng.dirichlet(np.ones(7), size=(3, 4, 5)))
  log_weight = jnp.log(jnp.asarray(rng.dirichlet(np.ones(4), size=5))).T
  log_ratio = jnp.asarray(rng.normal(size=(4, 5)))
  means = jnp.sum(z * p, axis=-1)
  for pessimism in ("min", 0.0, 0.7):
    one, its = values.distributions.pessimistic(z, p, pessimism)
    np.testing.assert_allclose(its.sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(one * its, axis=-1), losses.pessimistic(means, pessimism), atol=1e-5)
    joined, weights = values.distributions.following(one, its, log_weight, log_ratio, 0.3)
    assert joined.shape == weights.shape == (5, 4 * one.shape[-1])
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    wanted = losses.soft_value(losses.pessimistic(means, pessimism), log_weight, log_ratio, 0.3)
    np.testing.assert_allclose(jnp.sum(joined * weights, axis=-1), wanted, atol=1e-5)


def test_what_the_policy_improves_is_the_mean_of_the_worst_share():
  outputs = jnp.array([[3.0, -1.0, 2.0, 0.0]])
  np.testing.assert_allclose(values.quantile(4).value(outputs), 1.0)
  np.testing.assert_allclose(values.quantile(4, risk=0.5).value(outputs), -0.5)
  np.testing.assert_allclose(values.quantile(4, risk=jnp.asarray(1.0)).value(outputs), 1.0, rtol=1e-6)
  even = jnp.zeros((1, 5))
  np.testing.assert_allclose(values.categorical(0.0, 4.0, 5, risk=0.4).value(even), 0.5, rtol=1e-6)


def test_a_cautious_policy_leaves_the_gamble():
  """A gamble of mean 1.2 that may pay 0, and 1 for sure: the mean prefers the gamble, its worse half does not."""

  def worth(risk):
    returns = values.categorical(0.0, 2.4, 25, risk=risk)
    grid = jnp.linspace(0.0, 2.4, 25)
    gamble = jnp.where((grid == grid[0]) | (grid == grid[-1]), 0.0, -50.0)
    sure = jnp.where(jnp.abs(grid - 1.0) < 0.01, 0.0, -50.0)
    return returns.value(jnp.stack([gamble, sure]))

  np.testing.assert_allclose(worth(1.0), [1.2, 1.0], atol=1e-5)
  np.testing.assert_allclose(worth(0.5), [0.0, 1.0], atol=1e-5)


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: values.categorical(1.0, 1.0), r"low < high, got 1\.0 and 1\.0"),
    (lambda: values.quantile(1), "count is a whole number >= 2, got 1"),
    (lambda: values.quantile(5, risk=0.0), r"risk lies in \(0, 1\], got 0\.0"),
    (lambda: values.quantile(5, kappa=-1.0), "kappa must be at least 0"),
    (lambda: sac.Config(critic="c51"), r"critic is one of \['scalar', .*got 'c51'"),
    (lambda: sac.Config(critic="categorical"), "return_low and return_high, in scaled reward; got None and None"),
    (lambda: sac.Config(critic="categorical", return_low=1.0, return_high=0.0), "low < high"),
    (lambda: sac.Config(critic="hl_gauss", return_low=0.0, return_high=1.0, atoms=5), "5 bins leave none"),
    (lambda: sac.Config(risk=0.5), "a scalar critic has none"),
    (lambda: sac_v1.Config(critic="quantile"), "critic='quantile' needs separate_value=False"),
    (lambda: mpo.Config(critic="quantile", correction="retrace"), "without a correction or an expansion"),
    (lambda: svg.Config(critic="quantile", expansion="mve"), "without a correction or an expansion"),
  ],
)
def test_what_cannot_be_is_refused(build, message):
  with pytest.raises(ValueError, match=message):
    {sac.Config: sac, sac_v1.Config: sac_v1, mpo.Config: mpo, svg.Config: svg}[type(config := build())].make(
      Spec(3, 2), config
    )
