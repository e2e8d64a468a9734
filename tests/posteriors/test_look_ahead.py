"""The look-ahead of a policy network against exact values: the same mean for every H, and the exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import models, networks, policies, posteriors, priors, temperatures
from varl.envs import toys
from varl.exact import linear_quadratic as lq
from varl.types import Design, Transition, Value

ALPHA, STD, GAMMA = 0.3, 0.4, 0.9
PROBLEM = lq.random(jax.random.key(300), 2, 1, discount=GAMMA, noise=0.2)
GAIN = lq.soft(PROBLEM, temperature=ALPHA).gain + jnp.array([[0.2, -0.2]])
EXACT = lq.evaluate(PROBLEM, GAIN, [[STD**2]], temperature=ALPHA)
HEAD = policies.gaussian(1, init_std=STD)
NETWORK = networks.Network(
  lambda key: {"gain": GAIN}, lambda params, obs: jnp.concatenate([-obs @ params["gain"].T, 0.0 * obs[..., :1]], -1)
)


def q(params, obs, action):
  return lq.q(PROBLEM, EXACT, jnp.broadcast_to(obs, (*action.shape[:-1], 2)), action)


def outcome(obs, action, key):
  env = toys.LinearQuadratic(
    PROBLEM.A, PROBLEM.B, PROBLEM.Q, PROBLEM.R, noise=jnp.sqrt(PROBLEM.noise[0, 0])
  )  # fmt: skip
  return env.outcome(obs, action, key)


def design(horizon, model=True, **options):
  value = Value(lambda key: {}, q, q, lambda design: None)
  posterior = posteriors.direct(NETWORK, HEAD, optax.sgd(1.0), look_ahead=horizon, gamma=GAMMA, **options)
  known = models.known(outcome) if model else None
  return Design(priors.uniform(HEAD), posterior, value, temperatures.fixed(ALPHA), model=known)


def batch(rows):
  zeros = jnp.zeros(rows)
  obs = jnp.tile(jnp.array([[1.0, -0.5], [0.3, 0.8]]), (rows // 2, 1))
  return Transition(obs, zeros[:, None], zeros, zeros + 1.0, obs, zeros, {})


def expected(gain, horizon):
  """The loss: minus the value of N(-K s, σ²) for H + 1 steps and of the fixed policy after them."""
  P, constant = EXACT.P, EXACT.constant
  entropy = 0.5 * jnp.log(2.0 * jnp.pi * jnp.e * STD**2)
  for _ in range(horizon + 1):
    closed = PROBLEM.A - PROBLEM.B @ gain
    noise = GAMMA * jnp.trace(P @ PROBLEM.noise)
    spread = STD**2 * jnp.trace(PROBLEM.R + GAMMA * PROBLEM.B.T @ P @ PROBLEM.B)
    constant = GAMMA * constant + noise + spread - ALPHA * entropy
    P = PROBLEM.Q + gain.T @ PROBLEM.R @ gain + GAMMA * closed.T @ P @ closed
  obs = batch(2).obs
  return jnp.mean(jnp.sum(obs @ P * obs, axis=-1)) + constant


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_the_expansion_has_the_exact_mean_and_the_exact_gradient(horizon):
  """Within four standard errors, over 40 updates of 4,000 states each."""
  made = design(horizon)
  step = made.posterior.step(made)
  params = made.posterior.init(jax.random.key(0))

  @jax.jit
  @jax.vmap
  def update(key):
    new, _, metrics = step.step(params, step.init(params), batch(4_000), key)
    return params["actor"]["gain"] - new["actor"]["gain"], metrics["actor_loss"]

  slope, loss = update(jax.random.split(jax.random.key(horizon), 40))
  for got, wanted, limit in (
    (slope, jax.grad(expected)(GAIN, horizon), 0.01),
    (loss, expected(GAIN, horizon), 0.02),
  ):
    error = np.std(got, axis=0) / np.sqrt(len(got))
    assert (error < limit).all()
    np.testing.assert_array_less(np.abs(np.mean(got, axis=0) - wanted), 4 * error + 1e-4)
  # The mean is the same for every H; the gradient is not, since the policy of more steps is varied.
  np.testing.assert_allclose(expected(GAIN, horizon), expected(GAIN, 0), rtol=1e-4)


def test_the_gradients_differ_by_more_than_the_test_can_miss():
  slopes = [np.asarray(jax.grad(expected)(GAIN, horizon)) for horizon in (0, 1, 3)]
  assert np.abs(slopes[1] - slopes[0]).max() > 0.2
  assert np.abs(slopes[2] - slopes[1]).max() > 0.2


def test_after_an_end_nothing_counts():
  """A model that ends at once: Q_H is the reward of one step for every H."""
  ends = models.known(lambda obs, action, key: (obs + 1.0, 3.0 - 0.0 * action[0], jnp.zeros(())))
  for horizon in (1, 3):
    made = design(horizon)._replace(model=ends)
    step = made.posterior.step(made)
    params = made.posterior.init(jax.random.key(0))
    _, _, metrics = step.step(params, step.init(params), batch(4), jax.random.key(1))
    np.testing.assert_allclose(metrics["q"], 3.0, rtol=1e-6)


def test_the_gradient_sees_what_leads_to_an_end():
  """Each step pays 1 and is survived with a probability that the action decides; Q is 0, so that it ends in nothing."""
  outcome = lambda obs, action, key: (obs, jnp.ones(()), jax.nn.sigmoid(action[0]))  # noqa: E731
  found = {}
  for name, model in (
    ("decided", outcome),
    ("constant", lambda obs, action, key: (obs, jnp.ones(()), jnp.full((), 0.5))),
  ):
    made = design(2)
    nothing = lambda params, obs, action: jnp.zeros(action.shape[:-1])  # noqa: E731
    made = made._replace(model=models.known(model), value=made.value._replace(q=nothing))
    step = made.posterior.step(made)
    params = made.posterior.init(jax.random.key(0))
    new, _, _ = step.step(params, step.init(params), batch(2_000), jax.random.key(1))
    found[name] = np.abs(params["actor"]["gain"] - new["actor"]["gain"]).max()
  assert found["constant"] < 1e-6
  assert found["decided"] > 0.02


def test_bad_arguments():
  for wrong in (-1, 1.5, True):
    with pytest.raises(ValueError, match="look_ahead is a whole number >= 0"):
      design(wrong)
  made = design(2, model=False)
  step = made.posterior.step(made)
  params = made.posterior.init(jax.random.key(0))
  with pytest.raises(ValueError, match="a look-ahead needs a model"):
    step.step(params, step.init(params), batch(2), jax.random.key(0))
