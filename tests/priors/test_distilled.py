"""A prior that sees a part: its fit against the exact mixture, by visits, and what it may be kept from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions

from varl import losses, networks, policies, posteriors, priors, temperatures, values
from varl.agents import distral, iadp
from varl.types import VISIT, Design, Particles, Posterior, Spec

HEAD = policies.categorical(3)
SPEC = Spec(5, 3, discrete=True, context=2)  # three states, two tasks


def test_it_becomes_the_mixture_by_visits():
  """Two tasks in three states, whose policies and visits are given: π_0(a|s) = Σ_i d_i(s) π_i(a|s)/Σ_i d_i(s)."""
  rng = np.random.default_rng(0)
  policy = rng.dirichlet(np.ones(3), size=(2, 3))  # [task, state, action]
  visits = rng.uniform(0.1, 2.0, size=(2, 3))
  obs = jnp.stack([jnp.concatenate([jnp.eye(3)[s], jnp.eye(2)[k]]) for k in range(2) for s in range(3)])

  def particles(design, params, batch, key):
    log_policy = jnp.log(jnp.asarray(policy.reshape(6, 3))).T
    action = policies.every_action(3, (6,))
    return Particles(action, log_policy, log_policy - design.prior.log_prob(params, batch.obs, action))

  table = networks.mlp(3, 3, hidden=())
  prior = priors.distilled(table, HEAD, optax.adam(0.05), sees=priors.all_but_last(SPEC), share=0.4, tau=1.0)
  posterior = Posterior(None, particles, lambda *_: (), None, None, lambda batch: ())
  design = Design(prior, posterior, None, temperatures.fixed(0.1))
  step = prior.step(design)
  params = prior.init(jax.random.key(0))
  batch = transitions(0, (6,), SPEC)._replace(obs=obs, extras={VISIT: jnp.asarray(visits.ravel(), jnp.float32)})

  def update(state, key):
    params, inner, metrics = step.step(*state, batch, key)
    return (params, inner), metrics

  keys = jax.random.split(jax.random.key(1), 1_000)
  (params, _), metrics = jax.jit(lambda: jax.lax.scan(update, (params, step.init(params)), keys))()
  mixture = (visits[..., None] * policy).sum(axis=0) / visits.sum(axis=0)[:, None]
  actions = policies.every_action(3, (6,))
  got = jnp.exp(prior.log_prob(params, obs, actions) / 0.4).T
  np.testing.assert_allclose(got, np.tile(mixture, (2, 1)), atol=2e-3)
  # The mean divergence from it is the information about the task, weighed by visits.
  kl = (policy * np.log(policy / mixture)).sum(axis=-1)
  np.testing.assert_allclose(metrics["divergence"][-1], (visits * kl).sum() / visits.sum(), rtol=1e-2)
  drawn = jnp.exp(jax.nn.log_softmax(prior.log_prob(params, obs, actions) / 0.4, axis=0))[:, 0]
  proposed = prior.proposal(params, obs[:1], jax.random.key(0), 20_000)[:, 0]
  np.testing.assert_allclose(np.bincount(proposed, minlength=3) / 20_000, drawn, atol=0.02)


def test_two_columns_are_their_sum_and_the_prior_one_of_them():
  sees = priors.all_but_last(SPEC)
  shared, own = networks.mlp(3, 3, hidden=()), networks.mlp(5, 3, hidden=())
  both = priors.two_columns(shared, own, sees=sees, share=0.25, beta=2.0)
  prior = priors.column(shared, HEAD, sees=sees, share=0.25)
  params = {"actor": both.init(jax.random.key(0))}
  obs = transitions(0, (7,), SPEC).obs
  log_prior = jax.nn.log_softmax(shared.apply(params["actor"]["shared"], obs[:, :3]))
  wanted = 0.25 * log_prior + 2.0 * own.apply(params["actor"]["own"], obs)
  np.testing.assert_allclose(both.apply(params["actor"], obs), wanted, rtol=1e-5)
  actions = policies.every_action(3, (7,))
  np.testing.assert_allclose(prior.log_prob(params, obs, actions), 0.25 * log_prior.T, rtol=1e-5)
  assert prior.step is None
  # The policy's loss differentiates the prior's column.
  posterior = posteriors.enumerated(both, HEAD, optax.sgd(1.0))
  critic = networks.action_out(networks.ensemble(networks.mlp(5, 3, hidden=()), 1))
  value = values.q_value(critic, optax.sgd(0.0))
  design = Design(prior, posterior, value, temperatures.fixed(0.5))
  params |= value.init(jax.random.key(1))
  step = posterior.step(design)
  new, _, _ = step.step(params, step.init(params), transitions(1, (16,), SPEC), jax.random.key(2))
  moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), new["actor"]["shared"], params["actor"]["shared"])
  assert all(x > 1e-4 for x in jax.tree.leaves(moved))


def test_visits_are_discounts_since_the_episode_began():
  agent = distral.make(SPEC, distral.Config(hidden=(8,), gamma=0.5))
  params, carry = agent.init(jax.random.key(0)).params, agent.carry(2)
  obs = transitions(0, (2,), SPEC).obs
  for t in range(3):
    _, carry, extras = agent.act(params, carry, obs, jax.random.key(t))
    np.testing.assert_allclose(extras[VISIT], 0.5**t)
  _, _, extras = agent.warm_up(params, agent.carry(2), obs, jax.random.key(0))
  np.testing.assert_allclose(extras[VISIT], 1.0)


def test_the_mean_by_visits():
  x, d = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 0.0, 3.0])
  np.testing.assert_allclose(losses.visited_mean(x, d), 13.0 / 4.0)
  np.testing.assert_allclose(losses.visited_mean(x, None), 7.0 / 3.0, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(lambda d: losses.visited_mean(x, d))(d), 0.0)


@pytest.mark.parametrize("module", [distral, iadp])
def test_a_prior_that_sees_all_or_nothing_is_refused(module):
  for spec, withheld in ((Spec(4, 2), 0), (Spec(4, 2), 4)):
    with pytest.raises(ValueError, match=rf"kept from at least one and not from all, got withheld={withheld}"):
      module.make(spec, module.Config(hidden=(8,), withheld=withheld))
  module.make(Spec(4, 2), module.Config(hidden=(8,), withheld=1))
  module.make(Spec(4, 2, context=2), module.Config(hidden=(8,)))


def test_what_else_cannot_be_is_refused():
  with pytest.raises(ValueError, match="two_columns are of discrete actions"):
    distral.make(Spec(4, 2, context=1), distral.Config(form="two_columns"))
  with pytest.raises(ValueError, match="form is one of separate, two_columns; got '3'"):
    distral.make(SPEC, distral.Config(form="3"))
  with pytest.raises(ValueError, match=r"lies in \(0, 1\], got 0\.0"):
    priors.distilled(networks.mlp(3, 3), HEAD, optax.sgd(1.0), sees=priors.all_but_last(SPEC), share=0.0)


def test_a_default_that_sees_all_that_matters_costs_nothing():
  """The last entry is noise: a policy under its default policy alone comes to it, and the divergence goes to 0."""
  spec = Spec(3, 3, discrete=True)
  agent = iadp.make(spec, iadp.Config(
    hidden=(16,), withheld=1, temperature=0.5, learning_rate=3e-3, prior_tau=0.05, normalize_observations=False,
  ))  # fmt: skip
  state = agent.init(jax.random.key(0))

  def update(state, key):
    rows_key, noise_key, update_key = jax.random.split(key, 3)
    seen = jax.nn.one_hot(jax.random.randint(rows_key, (64,), 0, 2), 2)
    obs = jnp.concatenate([seen, jax.random.normal(noise_key, (64, 1))], axis=-1)
    action = jax.random.randint(rows_key, (64,), 0, 3)
    reward = (action == seen[:, 1].astype(int)).astype(float)
    rows = {"obs": obs, "action": action, "reward": reward, "discount": jnp.zeros(64), "next_obs": obs}
    batch = transitions(0, (64,), spec)._replace(**rows)
    return agent.update(state, batch, update_key)

  _, metrics = jax.jit(lambda: jax.lax.scan(update, state, jax.random.split(jax.random.key(1), 1_500)))()
  divergence = np.asarray(metrics["divergence"])
  assert divergence[-200:].mean() < 0.02
  assert divergence[:400].max() > 0.05
