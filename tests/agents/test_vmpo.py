"""V-MPO: its weights and losses against closed forms and an independent implementation, also over several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax
from conftest import transitions
from jax.sharding import PartitionSpec as P

from varl import duals, losses, posteriors, temperatures
from varl.agents import vmpo
from varl.types import Design, Spec, Transition

ADVANTAGE = jnp.float32([0.5, -1.0, 2.0, 0.1, 1.0, -3.0, 0.2])


def test_the_weights_are_a_softmax_of_the_better_half():
  log_weight, log_count = losses.top_weights(ADVANTAGE, 0.7)
  wanted = np.exp(np.array([0.5, 2.0, 1.0]) / 0.7)
  np.testing.assert_allclose(
    jnp.exp(log_weight), [wanted[0], 0, wanted[1], 0, wanted[2], 0, 0] / wanted.sum(), rtol=1e-5
  )
  np.testing.assert_allclose(log_count, np.log(3), rtol=1e-6)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_losses_together_are_an_independent_implementations(share):
  """rlax's `vmpo_loss` and its gradients, on random inputs."""
  rng = np.random.default_rng(1)
  log_prob, advantage = jnp.float32(rng.normal(size=(2, 40)))
  kl = jnp.float32(rng.uniform(0.0, 0.2, (2, 40)))
  epsilon, budgets = 0.1, (0.02, 0.005)

  def theirs(log_prob, kl, eta, alphas):
    constraints = [
      (kl[i], rlax.LagrangePenalty(alpha=alphas[i], epsilon=jnp.float32(budgets[i]), per_dimension=False))
      for i in range(2)
    ]
    price = rlax.LagrangePenalty(alpha=eta, epsilon=jnp.float32(epsilon))
    return jnp.mean(rlax.vmpo_loss(log_prob, advantage, price, constraints, top_k_fraction=share)[0])

  def dual(eta, measured):
    """A loss with our multiplier's gradient, at the value of the dual function that it belongs to."""
    log_weight, log_count = losses.top_weights(advantage, eta, share=share)
    top = jax.nn.logsumexp(jnp.where(jnp.isfinite(log_weight), advantage / eta, -jnp.inf)) - log_count
    step = eta * (epsilon - measured)
    return step + jax.lax.stop_gradient(eta * (epsilon + top) - step)

  def ours(log_prob, kl, eta, alphas):
    constant = jax.lax.stop_gradient
    log_weight, log_count = losses.top_weights(advantage, constant(eta), share=share)
    weight = jnp.exp(log_weight)
    measured = jnp.sum(jnp.where(weight > 0, weight * (log_weight + log_count), 0.0))
    trust_region = sum(constant(alphas[i]) * kl[i] + alphas[i] * constant(budgets[i] - kl[i]) for i in range(2))
    likelihood = losses.weighted_likelihood(log_prob[None], (log_weight + jnp.log(40.0))[None])
    return jnp.mean(likelihood + trust_region) + dual(eta, constant(measured))

  inputs = (log_prob, kl, jnp.float32(0.7), jnp.float32([1.5, 40.0]))
  value, slopes = jax.value_and_grad(ours, (0, 1, 2, 3))(*inputs)
  wanted, wanted_slopes = jax.value_and_grad(theirs, (0, 1, 2, 3))(*inputs)
  np.testing.assert_allclose(value, wanted, rtol=1e-5)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), slopes, wanted_slopes)


def taken_design(axis=None):
  temperature = temperatures.kl_budget(duals.dual(0.7, transform="softplus"), optax.sgd(1.0), 0.1)
  return Design(None, posteriors.taken(), None, temperature, axis)


def batch_of(advantage):
  n = len(advantage)
  nothing, obs = jnp.zeros(n), jnp.zeros((n, 1))
  return Transition(obs, jnp.arange(n), nothing, nothing, obs, nothing, {"advantage": advantage})


def test_the_kl_budget_descends_the_dual_of_the_advantages():
  design = taken_design()
  params = design.temperature.init(jax.random.key(0))
  step = design.temperature.step(design)
  new, _, metrics = step.step(params, step.init(params), batch_of(ADVANTAGE), jax.random.key(0))

  def dual(raw):
    eta = jax.nn.softplus(raw)
    top = jnp.float32([0.5, 2.0, 1.0])
    return eta * 0.1 + eta * (jax.nn.logsumexp(top / eta) - jnp.log(3.0))

  np.testing.assert_allclose(
    params["temperature"] - new["temperature"], jax.grad(dual)(params["temperature"]), rtol=1e-4
  )
  weight = jax.nn.softmax(jnp.float32([0.5, 2.0, 1.0]) / 0.7)
  np.testing.assert_allclose(metrics["effective_samples"] * 7, 1 / jnp.sum(weight**2), rtol=1e-4)
  np.testing.assert_allclose(metrics["kl"], jnp.sum(weight * jnp.log(3 * weight)), rtol=1e-4)


def test_the_better_half_is_of_all_devices(mesh):
  """8 devices of 4 rows: weights and the temperature's step are those of 32 rows on one."""
  advantage = jax.random.normal(jax.random.key(2), (32,)) + jnp.repeat(jnp.arange(8.0), 4)

  def run(design, advantage):
    params = design.temperature.init(jax.random.key(0))
    batch = batch_of(advantage)
    drawn = design.posterior.particles(design, params, batch, jax.random.key(0))
    step = design.temperature.step(design)
    new, _, metrics = step.step(params, step.init(params), batch, jax.random.key(0))
    return jnp.exp(drawn.log_weight[0]), new, metrics["kl"]

  split = jax.shard_map(
    functools.partial(run, taken_design("devices")),
    mesh=mesh,
    in_specs=P("devices"),
    out_specs=(P("devices"), P(), P()),
    check_vma=False,
  )
  got, wanted = jax.jit(split)(advantage), jax.jit(functools.partial(run, taken_design()))(advantage)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), got, wanted)
  assert (got[0][:4] == 0).all()  # the first device has nothing in the better half


def test_the_particles_are_the_actions_taken():
  design = taken_design()
  params = design.temperature.init(jax.random.key(0))
  drawn = design.posterior.particles(design, params, batch_of(ADVANTAGE), jax.random.key(0))
  np.testing.assert_array_equal(drawn.action, jnp.arange(7)[None])
  np.testing.assert_allclose(jnp.exp(drawn.log_weight).mean(), 1.0, rtol=1e-6)
  assert np.isfinite(drawn.log_ratio).all()


def test_what_is_refused():
  for make in (lambda: posteriors.taken(share=0.0), lambda: losses.top_weights(ADVANTAGE, 1.0, share=1.5)):
    with pytest.raises(ValueError, match=r"share lies in \(0, 1\], got"):
      make()
  design = taken_design()
  with pytest.raises(ValueError, match="no advantages"):
    design.posterior.particles(design, {}, batch_of(ADVANTAGE)._replace(extras={}), jax.random.key(0))
  with pytest.raises(ValueError, match="acting_by_prior"):
    posteriors.taken().act(None, {}, (), jnp.zeros((1, 1)), jax.random.key(0))
  for change in ({"share": 0.0}, {"epsilon": 0.0}, {"epsilon_mean": -1.0}, {"lam": 1.5}):
    with pytest.raises(ValueError, match=next(iter(change))):
      vmpo.make(Spec(3, 2), vmpo.Config(**change))


def test_a_budget_that_so_few_rows_cannot_reach_is_refused_with_the_largest():
  spec = Spec(4, 2)
  batch = transitions(0, (8,), spec)
  batch = batch._replace(extras={name: batch.reward for name in ("log_prob", "advantage", "value_target")})

  def update(**given):
    agent = vmpo.make(spec, vmpo.Config(hidden=(8,), **given))
    jax.eval_shape(lambda: agent.update(agent.init(jax.random.key(0)), batch, jax.random.key(1)))

  with pytest.raises(
    ValueError, match=r"epsilon must be below log 4 = 1\.38629.* share of 0\.5 of a batch of 8.*got 1\.4"
  ):
    update(epsilon=1.4)
  with pytest.raises(ValueError, match=r"epsilon must be below log 2 = 0\.693147"):
    update(epsilon=0.7, share=0.25)
  update(epsilon=1.3)


def test_the_likelihood_is_of_the_whole_policy_or_of_its_parts():
  """At the slow copy the two have one gradient; away from it they differ."""
  spec = Spec(3, 2)
  obs = jax.random.normal(jax.random.key(0), (16, 3))
  advantage = jax.random.normal(jax.random.key(1), (16,))
  nothing = jnp.zeros(16)
  action = jax.random.normal(jax.random.key(2), (16, 2))
  extras = {"advantage": advantage, "log_prob": nothing, "value_target": nothing}
  batch = Transition(obs, action, nothing, nothing, obs, nothing, extras)
  losses_after = []
  for decoupled in (False, True):
    agent = vmpo.make(spec, vmpo.Config(hidden=(8,), decoupled=decoupled, target_every=10))
    state = agent.init(jax.random.key(3))
    seen = []
    for _ in range(3):
      state, metrics = jax.jit(agent.update)(state, batch, jax.random.key(4))
      seen.append(float(metrics["actor_grad_norm"]))
    losses_after.append(seen)
  np.testing.assert_allclose(losses_after[0][0], losses_after[1][0], rtol=1e-4)
  assert abs(losses_after[0][2] - losses_after[1][2]) > 1e-6
