"""Capacities known in closed form, empowerment by counting, and what an observation tells by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.exact import information, tabular


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def symmetric(error):
  return np.array([[1 - error, error], [error, 1 - error]])


def test_capacities_of_channels_that_are_known():
  binary = information.channel_capacity(symmetric(0.1))
  np.testing.assert_allclose(binary.nats, 0.368064, atol=1e-6)
  np.testing.assert_allclose(binary.nats, np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9), atol=1e-9)
  np.testing.assert_allclose(binary.inputs, [0.5, 0.5], atol=1e-6)
  z = information.channel_capacity([[1.0, 0.0], [0.5, 0.5]])
  np.testing.assert_allclose(z.nats / np.log(2), 0.321928, atol=1e-6)
  np.testing.assert_allclose(z.inputs, [0.6, 0.4], atol=1e-4)
  erasure = information.channel_capacity([[0.7, 0.3, 0.0], [0.0, 0.3, 0.7]])
  np.testing.assert_allclose(erasure.nats, 0.7 * np.log(2), atol=1e-9)
  np.testing.assert_allclose(information.channel_capacity(np.eye(5)).nats, np.log(5), atol=1e-9)
  np.testing.assert_allclose(information.channel_capacity(np.full((4, 3), 1 / 3)).nats, 0.0, atol=1e-9)


def test_no_inputs_carry_more_than_the_capacity():
  rng = np.random.default_rng(0)
  channel = rng.dirichlet(np.ones(4), size=(3, 6))
  found = information.channel_capacity(channel)
  assert np.all(found.gap <= 1e-10)
  np.testing.assert_allclose(information.mutual_information(found.inputs, channel), found.nats, atol=1e-12)
  tried = rng.dirichlet(np.full(6, 0.5), size=(2_000, 3))
  carried = jax.vmap(lambda p: information.mutual_information(p, channel))(tried)
  assert np.all(carried <= found.nats + 1e-9)


def test_an_input_that_repeats_another_adds_nothing():
  channel = np.concatenate([symmetric(0.2), symmetric(0.2)[:1]])
  np.testing.assert_allclose(
    information.channel_capacity(channel).nats, information.channel_capacity(symmetric(0.2)).nats, atol=1e-9
  )


def test_the_derivative_is_that_of_the_capacity():
  gradient = jax.grad(lambda e: information.channel_capacity(jnp.array([[1 - e, e], [e, 1 - e]])).nats)(0.1)
  np.testing.assert_allclose(gradient, np.log(0.1) - np.log(0.9), rtol=1e-6)
  with jax.debug_nans(True):  # entries of 0
    jax.grad(lambda e: information.channel_capacity(jnp.array([[1.0, 0.0], [e, 1 - e]])).nats)(0.5)


def test_empowerment_of_deterministic_dynamics_counts_states():
  m = tabular.gridworld(["S..", ".#.", "..G"], slip=0.0)
  one, two = information.empowerment(m), information.empowerment(m, steps=2)
  reached = np.zeros((2, 8), int)
  table = np.asarray(tabular.dense(m).transition)
  for state in range(8):
    first = {int(table[state, a].argmax()) for a in range(4)}
    reached[0, state] = len(first)
    reached[1, state] = len({int(table[s, a].argmax()) for s in first for a in range(4)})
  np.testing.assert_allclose(np.exp(one.nats), reached[0], atol=1e-6)
  np.testing.assert_allclose(np.exp(two.nats), reached[1], atol=1e-6)
  assert two.inputs.shape == (8, 16)
  assert reached[1, -1] == 1  # the goal is terminal


def test_empowerment_of_noisy_dynamics_is_the_capacity_of_its_channel():
  m = tabular.random_mdp(jax.random.key(0), 4, 2)
  table = np.asarray(m.transition)
  for state in range(4):
    rows = [table[state, a] @ table[:, b] for a in range(2) for b in range(2)]
    wanted = information.channel_capacity(np.stack(rows))
    np.testing.assert_allclose(information.empowerment(m, steps=2).nats[state], wanted.nats, atol=1e-8)
  slips = [information.empowerment(tabular.gridworld(4, slip=slip)).nats.mean() for slip in (0.0, 0.2, 0.6)]
  assert slips[0] > slips[1] > slips[2]


def test_what_an_observation_tells_is_its_definition():
  rng = np.random.default_rng(3)
  root = rng.normal(size=(3, 3))
  before = information.LinearBelief(jnp.asarray(rng.normal(size=3)), jnp.asarray(root @ root.T + 0.1 * np.eye(3)))
  x, noise = jnp.asarray(rng.normal(size=3)), 0.5
  gain = information.linear_gain(before, x, noise_std=noise)
  divergences = []
  for y in before.mean @ x + np.sqrt(x @ before.covariance @ x + noise**2) * rng.normal(size=400):
    after = information.linear_update(before, x, y, noise_std=noise)
    shift, inverse = after.mean - before.mean, np.linalg.inv(before.covariance)
    trace, dets = np.trace(inverse @ after.covariance), np.linalg.slogdet(before.covariance)[1]
    divergences.append(0.5 * (trace + shift @ inverse @ shift - 3 + dets - np.linalg.slogdet(after.covariance)[1]))
    if len(divergences) == 1:  # the same as least squares on one row more
      precision = inverse + np.outer(x, x) / noise**2
      np.testing.assert_allclose(after.covariance, np.linalg.inv(precision), rtol=1e-8)
      wanted = np.linalg.solve(precision, inverse @ before.mean + x * y / noise**2)
      np.testing.assert_allclose(after.mean, wanted, rtol=1e-8)
  half = 4 * np.std(divergences) / np.sqrt(len(divergences))
  assert abs(np.mean(divergences) - gain) < half
  np.testing.assert_allclose(gain, 0.5 * np.log(1 + x @ before.covariance @ x / noise**2), rtol=1e-12)


def test_bad_input_is_refused():
  for channel, message in (
    ([0.5, 0.5], r"a channel is \[..., inputs, outputs\]; got shape \(2,\)"),
    ([[0.5, 0.4]], "sums from 0.9 to 0.9"),
    ([[1.5, -0.5]], "entries from -0.5"),
  ):
    with pytest.raises(ValueError, match=message):
      information.channel_capacity(channel)
  m = tabular.random_mdp(jax.random.key(0), 100, 10)
  with pytest.raises(ValueError, match=r"10 \*\* 4 sequences from 100 states has 100,000,000 entries"):
    information.empowerment(m, steps=4)
  with pytest.raises(ValueError, match="steps is a whole number >= 1, got 0"):
    information.empowerment(m, steps=0)
