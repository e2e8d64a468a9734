"""A normalising flow as a policy: a density by quadrature, its inverse, its samples, and what it can do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import policies
from varl.agents import mpo, sac, trpo
from varl.types import Spec


def outputs_of(head, seed=0, scale=0.3, batch=()):
  return scale * jax.random.normal(jax.random.key(seed), (*batch, head.size))


@pytest.mark.parametrize("squashed", [True, False])
@pytest.mark.parametrize("d", [1, 2])
def test_its_density_integrates_to_one(d, squashed):
  head = policies.flow(d, squashed=squashed)
  for seed in range(2):
    outputs = outputs_of(head, seed, scale=0.2)
    # Over raw actions, which the executed ones' density is brought to by the determinant of tanh.
    points = np.linspace(-16.0, 16.0, 900 if d == 2 else 20_000)
    grid = jnp.asarray(np.stack(np.meshgrid(*[points] * d), axis=-1).reshape(-1, d), jnp.float32)
    log_density = jax.jit(head.log_prob)(outputs, grid) + squashed * policies.tanh_log_det(grid).sum(axis=-1)
    mass = np.exp(np.asarray(log_density, np.float64)).sum() * (points[1] - points[0]) ** d
    np.testing.assert_allclose(mass, 1.0, atol=1e-3)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_samples_have_the_density_that_is_asked_for(d):
  head = policies.flow(d)
  outputs = outputs_of(head, batch=(4,))
  action, log_prob = head.sample_and_log_prob(outputs, jax.random.key(1), 6)
  assert (action.shape, log_prob.shape) == ((6, 4, d), (6, 4))
  np.testing.assert_allclose(head.log_prob(outputs, action), log_prob, atol=2e-3)
  assert head.mode(outputs).shape == (4, d)
  # The mode is the likeliest of draws: no less likely than what the middle of the noise becomes.
  _, middle = head.transform(outputs, jnp.zeros((1, 4, d)))
  assert (head.log_prob(outputs, head.mode(outputs)) >= middle[0] - 1e-3).all()


def test_its_log_determinant_is_that_of_the_jacobian():
  head = policies.flow(3, squashed=False, init_std=0.7)
  outputs, noise = outputs_of(head), jax.random.normal(jax.random.key(2), (3,))

  def forward(noise):
    return head.transform(outputs, noise[None])[0][0]

  wanted = jnp.linalg.slogdet(jax.jacobian(forward)(noise))[1]
  _, log_prob = head.transform(outputs, noise[None])
  base = jnp.sum(-0.5 * noise**2 - 0.5 * jnp.log(2 * jnp.pi))
  np.testing.assert_allclose(log_prob[0], base - wanted, rtol=1e-4)


def test_at_zero_outputs_it_is_the_plain_gaussian():
  head, gaussian = policies.flow(2, init_std=0.6), policies.tanh_gaussian(2, init_std=0.6)
  action = jax.random.normal(jax.random.key(0), (50, 2))
  np.testing.assert_allclose(
    head.log_prob(jnp.zeros(head.size), action), gaussian.log_prob(jnp.zeros(4), action), rtol=1e-4
  )
  plain = policies.flow(2, squashed=False)
  np.testing.assert_allclose(plain.mode(jnp.zeros(plain.size)), 0.0, atol=1e-6)
  drawn, _ = head.sample_and_log_prob(jnp.zeros(head.size), jax.random.key(1), 20_000)
  np.testing.assert_allclose(drawn.std(axis=0), 0.6, rtol=0.03)


def test_it_fits_two_modes_which_a_gaussian_cannot():
  """By maximum likelihood of a mixture of two Gaussians on a diagonal: within .15 nats of its entropy."""
  head = policies.flow(2, squashed=False, largest=1.0)
  centre = jnp.array([1.5, 1.5])

  def draw(key, n=256):
    side, noise = jax.random.split(key)
    sign = jnp.where(jax.random.bernoulli(side, 0.5, (n, 1)), 1.0, -1.0)
    return sign * centre + 0.3 * jax.random.normal(noise, (n, 2))

  optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 2_000, 0.05))

  def update(state, key):
    outputs, inner = state
    slope = jax.grad(lambda o: -jnp.mean(head.log_prob(o, draw(key))))(outputs)
    updates, inner = optimizer.update(slope, inner)
    return (optax.apply_updates(outputs, updates), inner), None

  start = outputs_of(head, scale=0.1)
  keys = jax.random.split(jax.random.key(3), 2_000)
  (outputs, _), _ = jax.jit(lambda: jax.lax.scan(update, (start, optimizer.init(start)), keys))()
  test = draw(jax.random.key(9), 20_000)
  parts = [jnp.square((test - sign * centre) / 0.3) for sign in (1.0, -1.0)]
  each = [jnp.sum(-0.5 * part - jnp.log(0.3) - 0.5 * jnp.log(2 * jnp.pi), axis=-1) for part in parts]
  exact = jnp.mean(jnp.logaddexp(*each) - jnp.log(2.0))
  found = jnp.mean(head.log_prob(outputs, test))
  covariance = np.cov(np.asarray(test).T)
  gaussian = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
  assert exact - found < 0.15
  assert exact - gaussian > 0.4
  drawn, _ = head.sample_and_log_prob(outputs, jax.random.key(5), 5_000)
  share = float(jnp.mean(drawn.sum(axis=-1) > 0))
  assert 0.4 < share < 0.6


def test_it_is_a_policy_of_soft_actor_critic():
  spec = Spec(3, 2)
  agent = sac.make(spec, sac.Config(hidden=(8,), policy="flow"))
  state = agent.init(jax.random.key(0))
  obs = jnp.ones((5, 3))
  action, _, extras = agent.act(state.params, (), obs, jax.random.key(1))
  assert action.shape == (5, 2)
  assert np.isfinite(extras["log_prob"]).all()
  unbounded = sac.make(Spec(3, 2, bounded=False), sac.Config(hidden=(8,), policy="flow"))
  action, _, _ = unbounded.act(unbounded.init(jax.random.key(0)).params, (), 1e3 * obs, jax.random.key(1))
  assert np.abs(action).max() < 10  # its last layer starts at zero


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: policies.flow(0), "action_size is a whole number >= 1, got 0"),
    (lambda: policies.flow(2, init_std=0.0), r"flow needs a finite init_std above 0, got 0\.0"),
    (lambda: mpo.make(Spec(3, 2), mpo.Config(policy="flow")), "a flow has no divergence in closed form"),
    (lambda: trpo.make(Spec(3, 2), trpo.Config(policy="flow")), "a flow has no divergence in closed form"),
    (lambda: sac.make(Spec(3, 2), sac.Config(policy="flow", moment_penalty=0.1)), "moment_penalty is of a Gaussian's"),
    (lambda: policies.flow(2).distribution(jnp.zeros(3)), "no mean or deviation in closed form"),
  ],
)
def test_what_a_flow_cannot_do_is_refused(build, message):
  with pytest.raises(ValueError, match=message):
    build()
