"""Distral's fixed point: monotone, the same by gradients of one objective, and what fails where it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from varl.exact import information, tabular

KL, ENT = 0.2, 0.1


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def tasks(seed=0, count=3):
  found = [tabular.random_mdp(jax.random.key(seed * 100 + i), 5, 3, discount=0.9) for i in range(count)]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_never_falls(seed):
  found = tabular.distral(tasks(seed), divergence=KL, entropy=ENT, iterations=200)
  objective = np.asarray(found.objective)
  assert (np.diff(objective) >= -1e-12 * np.abs(objective[:-1])).all()
  assert objective[-1] > objective[0] + 1e-3
  np.testing.assert_allclose(jnp.exp(found.log_prior[-1]).sum(axis=-1), 1.0, rtol=1e-12)
  mixed = jnp.einsum("ks,ksa->sa", found.visits, jnp.exp(found.log_policy)) / found.visits.sum(axis=0)[:, None]
  np.testing.assert_allclose(jnp.exp(found.log_prior[-1]), mixed, atol=1e-6)


def test_the_policies_are_the_softmax_of_q_under_the_prior():
  found = tabular.distral(tasks(), divergence=KL, entropy=ENT, iterations=100)
  share, beta = KL / (KL + ENT), 1.0 / (KL + ENT)
  wanted = jax.nn.softmax(share * found.log_prior[-1] + beta * found.q)
  np.testing.assert_allclose(jnp.exp(found.log_policy), wanted, atol=1e-10)


def test_a_mixture_without_visits_falls():
  """It is no maximum of the objective: in some processes it lowers it, and ends lower."""
  fell = []
  for seed in range(8):
    best = tabular.distral(tasks(seed), divergence=KL, entropy=ENT, iterations=100).objective
    plain = tabular.distral(tasks(seed), divergence=KL, entropy=ENT, iterations=100, weighted=False).objective
    fell.append(bool((np.diff(plain) < -1e-9).any()))
    assert plain[-1] <= best[-1] + 1e-9
  assert any(fell)


def test_without_entropy_the_prior_narrows():
  found = tabular.distral(tasks(), divergence=KL, entropy=0.0, iterations=2_000)
  kept = tabular.distral(tasks(), divergence=KL, entropy=ENT, iterations=2_000)
  assert jnp.exp(found.log_prior[-1]).min() < 1e-12
  assert jnp.exp(kept.log_prior[-1]).min() > 1e-7


def test_two_columns_meet_the_same_fixed_point():
  """π_i ∝ exp(α h + β f_i), π_0 = softmax(h): the best of J over h and f is the iteration's end."""
  problems = tasks()
  share, beta = KL / (KL + ENT), 1.0 / (KL + ENT)

  def objective(columns):
    h, f = columns
    log_prior = share * jax.nn.log_softmax(h)

    def one(m, own):
      log_policy = jax.nn.log_softmax(log_prior + beta * own)
      worth = tabular.policy_evaluation(m, log_policy, temperature=KL + ENT, log_prior=log_prior)
      return jnp.sum(m.initial * worth.value)

    return jnp.sum(jax.vmap(one)(problems, f))

  def loss(flat):
    return -objective((flat[:15].reshape(5, 3), flat[15:].reshape(3, 5, 3)))

  exact = tabular.distral(problems, divergence=KL, entropy=ENT, iterations=2_000)
  # The iteration's end, written as two columns, is stationary in both.
  fixed = np.concatenate([np.ravel(exact.log_prior[-1]), np.ravel(exact.q)])
  np.testing.assert_allclose(-loss(fixed), exact.objective[-1], rtol=1e-10)
  assert jnp.abs(jax.grad(loss)(fixed)).max() < 1e-6
  # From all alike the columns climb to it, and no higher; the last of the way, where actions are rare, is long.
  climb = jax.jit(jax.value_and_grad(loss))
  ends = optimize.minimize(climb, np.zeros(60), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5_000})
  assert 0.0 <= float(exact.objective[-1]) + ends.fun + 1e-9 < 1e-4 * float(exact.objective[-1])
  moved = fixed + 0.3 * np.random.default_rng(0).normal(size=60)
  ends = optimize.minimize(climb, moved, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5_000})
  np.testing.assert_allclose(-ends.fun, exact.objective[-1], rtol=1e-6)


def test_the_divergence_from_the_best_prior_is_the_information_about_the_task():
  found = tabular.distral(tasks(), divergence=KL, entropy=ENT, iterations=2_000)
  kl = jnp.sum(jnp.exp(found.log_policy) * (found.log_policy - found.log_prior[-1]), axis=-1)
  weight = found.visits / found.visits.sum(axis=0)
  of_states = information.mutual_information(weight.T, jnp.moveaxis(jnp.exp(found.log_policy), 0, 1))
  np.testing.assert_allclose(jnp.sum(weight * kl, axis=0), of_states, atol=1e-6)
  worse = jnp.log(jnp.full((5, 3), 1 / 3))
  kl = jnp.sum(jnp.exp(found.log_policy) * (found.log_policy - worse), axis=-1)
  assert (jnp.sum(weight * kl, axis=0) > of_states).all()


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"divergence": 0.0}, "divergence must be above 0, got 0.0"),
    ({"entropy": -1.0}, "entropy must be at least 0, got -1.0"),
    ({"iterations": 0}, "iterations is a whole number >= 1, got 0"),
  ],
)
def test_what_cannot_be_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    tabular.distral(tasks(), **{"divergence": KL, "entropy": ENT, **given})
  with pytest.raises(ValueError, match=r"rewards \[K, S, A\], got \(5, 3\)"):
    tabular.distral(jax.tree.map(lambda x: x[0], tasks()), divergence=KL, entropy=ENT)
