"""Where adversarial imitation and IQ-Learn end: closed forms, stationarity, and the bias of what is paid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import losses
from varl.exact import inverse, tabular

C = 0.5


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def stay_or_exit():
  """One live state: action 0 stays, action 1 ends."""
  transition = np.zeros((2, 2, 2))
  transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 1] = 1.0
  return tabular.mdp(transition, np.zeros((2, 2)), discount=0.9, initial=[1.0, 0.0], terminal=[False, True])


def expert(m, seed=1):
  return jax.nn.log_softmax(jax.random.normal(jax.random.key(seed), m.reward.shape))


def test_the_best_discriminator_is_the_share_of_the_experts_occupancy():
  m = tabular.random_mdp(jax.random.key(0), 4, 3, terminal=1)
  one, two = (inverse.occupancy(m, expert(m, seed)) for seed in (1, 2))
  shares = [np.asarray(x / x.sum()) for x in (one, two)]
  found = jax.nn.sigmoid(inverse.optimal_logit(one, two))
  np.testing.assert_allclose(found[:3], shares[0][:3] / (shares[0] + shares[1])[:3], rtol=1e-9)

  # It minimises the cross-entropy, to first order and among others.
  def loss(logit):
    return -np.sum(shares[0] * jax.nn.log_sigmoid(logit)) - np.sum(shares[1] * jax.nn.log_sigmoid(-logit))

  best = inverse.optimal_logit(one, two)
  rng = np.random.default_rng(0)
  assert all(loss(best + 0.1 * rng.normal(size=best.shape)) > loss(best) for _ in range(50))
  only = inverse.optimal_logit(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
  np.testing.assert_array_equal(only, [[np.log(2.0), -np.inf]])


@pytest.mark.parametrize(("form", "stays"), [("softplus", 0.998), ("log", 0.172), ("log_odds", 0.71)])
def test_what_a_form_pays_for_survival_biases_imitation_and_absorbing_states_mend_it(form, stays):
  """An expert who stays with probability .7; the temperature is .05."""
  m, log_expert = stay_or_exit(), jnp.log(jnp.array([[0.7, 0.3], [0.5, 0.5]]))
  plain = inverse.adversarial_fixed_point(m, log_expert, form=form, temperature=0.05)
  assert plain.residual < 1e-10
  np.testing.assert_allclose(np.exp(plain.log_policy[0, 0]), stays, atol=0.005)
  endless, log_prior = inverse.absorbing(m)
  log_expert = jnp.where(jnp.isfinite(log_prior), log_expert, -jnp.inf).at[1, 0].set(0.0)
  mended = inverse.adversarial_fixed_point(endless, log_expert, form=form, temperature=0.05, log_prior=log_prior)
  assert mended.residual < 1e-10
  np.testing.assert_allclose(np.exp(mended.log_policy[0, 0]), 0.70, atol=0.01)
  np.testing.assert_allclose(np.exp(mended.log_policy[1]), [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("form", ["softplus", "log_odds"])
def test_a_fixed_point_is_the_soft_optimum_of_what_its_own_discriminator_pays(form):
  m = tabular.random_mdp(jax.random.key(0), 5, 3)
  log_expert = expert(m)
  found = inverse.adversarial_fixed_point(m, log_expert, form=form, temperature=0.2)
  logit = inverse.optimal_logit(inverse.occupancy(m, log_expert), inverse.occupancy(m, found.log_policy))
  np.testing.assert_allclose(found.reward, losses.payoff(logit, form), atol=1e-9)
  again = tabular.soft_value_iteration(m._replace(reward=found.reward), temperature=0.2, log_prior=0.0)
  np.testing.assert_allclose(again.log_policy, found.log_policy, atol=1e-8)
  # Where nothing ends, the temperature alone keeps it from the expert.
  gaps = [
    np.abs(
      np.exp(inverse.adversarial_fixed_point(m, log_expert, form=form, temperature=c).log_policy) - np.exp(log_expert)
    ).max()
    for c in (0.2, 0.02)
  ]
  assert gaps[1] < 0.2 * gaps[0]


def test_iq_learn_ends_at_its_closed_form_and_comes_to_the_expert_as_one_over_alpha():
  m = tabular.random_mdp(jax.random.key(0), 4, 3, terminal=1)
  log_expert = expert(m)
  occupied = inverse.occupancy(m, log_expert)
  gaps = []
  for alpha in (1.0, 10.0, 100.0):
    found = inverse.iq_learn(m, occupied, regularisation=alpha, temperature=C)
    ratio = inverse.occupancy(m, found.log_policy)[:3] / occupied[:3]
    np.testing.assert_allclose(found.reward[:3], 2 * alpha * (1 - ratio), atol=1e-5)
    soft = tabular.soft_value_iteration(m._replace(reward=found.reward), temperature=C, log_prior=0.0)
    np.testing.assert_allclose(soft.log_policy[:3], found.log_policy[:3], atol=1e-8)
    gaps.append(np.abs(np.exp(found.log_policy) - np.exp(log_expert))[:3].max())
  np.testing.assert_allclose(gaps[1] / gaps[2], 10.0, rtol=0.1)
  assert gaps[2] < 1e-3


def test_bad_input_is_refused():
  m = stay_or_exit()
  log_expert = jnp.log(jnp.full((2, 2), 0.5))
  for call, message in (
    (lambda: inverse.adversarial_fixed_point(m, log_expert, form="kl", temperature=1.0), "form is one of"),
    (
      lambda: inverse.adversarial_fixed_point(m, log_expert[0], form="log", temperature=1.0),
      r"shape \(2, 2\); got \(2,\)",
    ),
    (
      lambda: inverse.iq_learn(m, jnp.ones((3, 2)), regularisation=1.0, temperature=1.0),
      r"shape \(2, 2\); got \(3, 2\)",
    ),
    (lambda: inverse.iq_learn(m, jnp.eye(2), regularisation=1.0, temperature=1.0), "it never takes 1 in state 0"),
    (
      lambda: inverse.iq_learn(m, jnp.ones((2, 2)), regularisation=0.0, temperature=1.0),
      "regularisation must be above 0",
    ),
    (lambda: inverse.iq_learn(m, jnp.ones((2, 2)), regularisation=1.0, temperature=0.0), "temperature"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
