"""A policy with two levels: what it pays, against the closed form of linear-Gaussian levels; its latent's way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varl
from varl import memory, policies, posteriors, priors
from varl.agents import hdp
from varl.envs import spec as spec_of
from varl.envs import toys
from varl.exact import linear_quadratic
from varl.loop import rollout
from varl.networks import Network
from varl.types import Design, Spec, Transition

K, D, N = 2, 2, 200_000


def constant(outputs):
  """A network of no parameters."""
  return Network(lambda key: (), lambda params, x: jnp.broadcast_to(outputs, (*x.shape[:-1], len(outputs))))


def affine(gain, offset, rho):
  """Of [.., z]: mean gain z + offset, and these deviations' outputs."""

  def apply(params, x):
    mean = x[..., -K:] @ gain.T + offset
    return jnp.concatenate([mean, jnp.broadcast_to(rho, mean.shape)], axis=-1)

  return Network(lambda key: (), apply)


def level(seed):
  rng = np.random.default_rng(seed)
  return (
    rng.normal(size=K),
    rng.uniform(0.3, 1.0, K),
    rng.normal(size=(D, K)),
    rng.normal(size=D),
    rng.uniform(0.3, 1, D),
  )


def raw(std):
  """The output that `policies.gaussian` makes this deviation of."""
  return np.log(np.expm1(std - 1e-3)) - np.log(np.expm1(1.0 - 1e-3))


def test_it_pays_for_both_levels_and_their_excess_is_the_closed_forms():
  latent, head = policies.gaussian(K), policies.gaussian(D)
  made = {}
  for name, seed in (("policy", 0), ("prior", 1)):
    mean, std, gain, offset, noise = level(seed)
    made[name] = {
      "upper": constant(jnp.asarray(np.concatenate([mean, raw(std)]), jnp.float32)),
      "lower": affine(jnp.asarray(gain, jnp.float32), jnp.asarray(offset, jnp.float32), jnp.asarray(raw(noise))),
      "exact": linear_quadratic.Level(mean, np.diag(std**2), gain, offset, np.diag(noise**2)),
    }
  design = {}
  for shared in (True, False):
    lower = made["policy"]["lower"]
    posterior = posteriors.hierarchical(
      made["policy"]["upper"], latent, lower, head, None, size=K, sees=lambda obs: obs[..., :1], shared=shared
    )
    prior = priors.hierarchical(
      latent, size=K, sees=lambda obs: obs[..., :1], upper=made["prior"]["upper"],
      lower=None if shared else made["prior"]["lower"], head=head, optimizer=0,
    )  # fmt: skip
    design[shared] = Design(prior, posterior, None, None)
  exact = linear_quadratic.two_levels(made["policy"]["exact"], made["prior"]["exact"])
  zero = jnp.zeros(N)
  batch = Transition(jnp.zeros((N, 1 + K)), jnp.zeros((N, K + D)), zero, zero, jnp.zeros((N, 1 + K)), zero, {})
  paid = {}
  for shared, of in design.items():
    params = {**of.posterior.init(jax.random.key(0)), "target_prior": {"upper": (), "lower": ()}}
    drawn = of.posterior.particles(of, params, batch, jax.random.key(1))
    paid[shared] = float(jnp.mean(drawn.log_ratio))
    error = 4.0 * float(jnp.std(drawn.log_ratio)) / N**0.5
    np.testing.assert_allclose(paid[shared], exact.upper + (0.0 if shared else exact.lower), atol=error)
  assert exact.gap > 0.1
  assert paid[False] > exact.marginal
  np.testing.assert_allclose(exact.upper + exact.lower - exact.marginal, exact.gap, rtol=1e-10)


def test_a_shared_lower_level_costs_what_the_marginal_does_where_it_is_invertible():
  """Without noise the action tells the latent: nothing is left of the gap."""
  mean, std, gain, offset, _ = level(2)
  other = level(3)
  tiny = 1e-12 * np.eye(D)
  q = linear_quadratic.Level(mean, np.diag(std**2), gain, offset, tiny)
  p = linear_quadratic.Level(other[0], np.diag(other[1] ** 2), gain, offset, tiny)
  found = linear_quadratic.two_levels(q, p)
  np.testing.assert_allclose([found.lower, found.gap], 0.0, atol=1e-5)
  np.testing.assert_allclose(found.marginal, found.upper, rtol=1e-5)


def test_the_latents_prior_goes_on_from_the_one_before():
  prior = priors.hierarchical(policies.gaussian(K), size=K, sees=lambda obs: obs[..., :1], correlation=0.8)
  obs = jnp.array([[0.0, 1.0, -2.0]])
  action = jnp.array([[[0.5, 0.5, 9.0, 9.0]]])
  expected = sum(
    -0.5 * ((0.5 - 0.8 * before) / 0.6) ** 2 - np.log(0.6) - 0.5 * np.log(2 * np.pi) for before in (1.0, -2.0)
  )
  np.testing.assert_allclose(prior.log_prob({}, obs, action), [[expected]], rtol=1e-5)
  assert prior.step is None


def test_the_latent_is_remembered_and_the_environment_does_not_get_it():
  env = toys.PointMass()
  agent = hdp.make(spec_of(env), hdp.Config(hidden=(8,), latent=3, withheld=1, normalize_observations=False))
  batch = varl.envs.vectorize(env, 4, episode_length=3)
  params = agent.init(jax.random.key(0)).params
  state = rollout.init(batch, agent, jax.random.key(1))
  for warm_up in (False, True):
    _, rows, _, _ = rollout.unroll(batch, agent, params, state, jax.random.key(2), 5, warm_up=warm_up)
    kept = np.asarray(rows.extras[memory.MEMORY])
    np.testing.assert_array_equal(kept[[0, 3]], 0.0)  # the first steps of two episodes
    np.testing.assert_array_equal(kept[[1, 2, 4]], np.asarray(rows.action)[[0, 1, 3], :, :3])
  assert agent.execute(rows.action).shape == (5, 4, 2)


FORMS = ({}, {"upper_prior": "learned"}, {"shared_lower": False}, {"upper_prior": "learned", "shared_lower": False})


@pytest.mark.parametrize("fields", FORMS)
def test_what_the_prior_does_not_see_does_not_move_it(fields):
  spec = Spec(4, 2)
  design = hdp.design(spec, hdp.Config(hidden=(8,), latent=2, withheld=2, **fields))
  params = hdp.make(spec, hdp.Config(hidden=(8,), latent=2, withheld=2, **fields)).init(jax.random.key(0)).params
  obs, action = jax.random.normal(jax.random.key(1), (5, 6)), jax.random.normal(jax.random.key(2), (1, 5, 4))
  slope = np.asarray(jax.grad(lambda obs: design.prior.log_prob(params, obs, action).sum())(obs))
  np.testing.assert_array_equal(slope[:, 2:4], 0.0)
  learned = bool(fields)
  assert (np.abs(slope[:, :2]).max() > 0) == learned
  assert ("target_prior" in params) == learned


def test_bad_settings():
  with pytest.raises(ValueError, match="hdp needs continuous actions"):
    hdp.make(Spec(4, 2, discrete=True), hdp.Config(withheld=1))
  for fields, message in (
    ({"upper_prior": "none"}, "upper_prior is ar1 or learned; got 'none'"),
    ({"correlation": 1.0}, r"correlation lies in \(-1, 1\), got 1.0"),
    ({"latent": 0}, "latent"),
    ({"withheld": 0}, "no context"),
  ):
    with pytest.raises(ValueError, match=message):
      hdp.make(Spec(4, 2), dataclasses.replace(hdp.Config(withheld=1), **fields))
