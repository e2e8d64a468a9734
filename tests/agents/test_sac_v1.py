"""Soft actor-critic, version 1: one update of its state value by hand, and what it has in common with `sac`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions

from varl import losses, networks, policies, posteriors, priors, temperatures, values
from varl.agents import sac, sac_v1
from varl.networks import Network
from varl.types import Design, Particles, Posterior, Spec, Transition, Value

SPEC = Spec(3, 2)


def linear(members, inputs):
  """w_i · x; without members, one such function."""
  shape = (members, inputs) if members else (inputs,)
  product = "ei,...i->e..." if members else "i,...i->..."
  return Network(lambda key: jnp.ones(shape), lambda params, x: jnp.einsum(product, params, x)[..., None])


def two_actions(design, params, batch, key):
  """Actions 0 and 2, equally likely, with log-ratios 4 and 3, wherever."""
  shape = (2, len(batch.obs))
  action = jnp.broadcast_to(jnp.float32([0.0, 2.0])[:, None, None], (*shape, 1))
  ratio = jnp.broadcast_to(jnp.float32([4.0, 3.0])[:, None], shape)
  return Particles(action, jnp.full(shape, -jnp.log(2.0)), ratio)


@pytest.fixture(scope="module", params=[True, False])
def by_hand(request):
  """(regularised, value, its design, parameters, a batch)."""
  value = values.state_value(
    networks.action_in(linear(2, 3), lambda a: a),
    linear(0, 2),
    optax.sgd(1.0),
    gamma=0.5,
    tau=0.5,
    regularised=request.param,
    reward_scale=3.0,
  )
  params = value.init(jax.random.key(0))
  params["critic"] = params["critic"].at[1, 1].set(2.0)
  params["target_value"] = params["target_value"].at[1].set(3.0)
  posterior = Posterior(None, two_actions, None, None, None, None)
  obs = np.float32([[0.0, 1.0]])
  one = np.ones(1, np.float32)
  batch = Transition(obs, np.float32([[5.0]]), one, one, obs, 0 * one, {})
  return request.param, value, Design(None, posterior, value, temperatures.fixed(0.5)), params, batch


def test_one_update_by_hand(by_hand):
  """Q_1 = s_1 + s_2 + a, Q_2 = Q_1 + s_2, V = s_1 + s_2 and V̄ = V + 2 s_2, at s = s' = (0, 1).

  y = 3·1 + ½ V̄(s') = 4.5, against Q_1(s, 5) = 6 and Q_2(s, 5) = 7.
  V's target is E[min Q] - α E[log_ratio] = (1 + 3)/2 - ½ (4 + 3)/2 = 0.25, or 2 without entropy, against 1.
  """
  regularised, value, design, params, batch = by_hand
  step = value.step(design)
  new, _, metrics = jax.jit(step.step)(params, step.init(params), batch, jax.random.key(0))
  np.testing.assert_allclose(metrics["target_q"], 4.5, rtol=1e-6)
  np.testing.assert_allclose(metrics["critic_loss"], 0.5 * (1.5**2 + 2.5**2), rtol=1e-6)
  np.testing.assert_allclose(new["critic"], [[1, 1 - 1.5, 1 - 7.5], [1, 2 - 2.5, 1 - 12.5]], rtol=1e-5)
  v_target = 0.25 if regularised else 2.0
  np.testing.assert_allclose(metrics["value_loss"], 0.5 * (1 - v_target) ** 2, rtol=1e-5)
  np.testing.assert_allclose(metrics["v"], 1.0)
  # The old critic made V's target, and the slow copy follows the new V.
  np.testing.assert_allclose(new["value"], [1.0, v_target], rtol=1e-5)
  np.testing.assert_allclose(new["target_value"], [1.0, (3 + v_target) / 2], rtol=1e-5)
  ended = batch._replace(discount=0 * batch.discount)
  _, _, metrics = jax.jit(step.step)(params, step.init(params), ended, jax.random.key(0))
  np.testing.assert_allclose(metrics["target_q"], 3.0)


def test_the_backup_is_of_the_live_value_and_without_entropy(by_hand):
  _, value, design, params, batch = by_hand
  prediction, y = value.backup(design, params, batch, jax.random.key(0))
  np.testing.assert_allclose(prediction, [[6.0], [7.0]])
  np.testing.assert_allclose(y, [3.0 + 0.5 * 1.0])


def test_q_is_the_pessimistic_live_one(by_hand):
  _, value, _, params, batch = by_hand
  for q in (value.q, value.q_target):
    np.testing.assert_allclose(q(params, batch.obs, batch.action[None]), [[6.0]])


def test_value_and_policy_use_one_draw():
  """V's target is the very sample of Q - α log π that the policy's loss is the mean of."""
  head = policies.tanh_gaussian(1)
  posterior = posteriors.direct(networks.mlp(2, 2, hidden=(8,)), head, optax.sgd(0.1), samples=2)
  # V = 0 for good: its loss is ½ (Q - α log π)².
  zero = Network(lambda key: jnp.zeros(2), lambda params, x: 0.0 * (x @ params)[..., None])
  critic = networks.action_in(networks.ensemble(networks.mlp(3, 1, hidden=(8,)), 2), head.execute)
  value = values.state_value(critic, zero, optax.sgd(0.1))
  design = Design(priors.uniform(head), posterior, value, temperatures.fixed(0.5))
  params = jax.jit(lambda key: {**value.init(key), **posterior.init(key)})(jax.random.key(1))
  batch = transitions(0, (1,), Spec(2, 1))
  metrics = {}
  for axis in (value, posterior):
    step = axis.step(design)
    metrics |= jax.jit(step.step)(params, step.init(params), batch, jax.random.key(3))[2]
  np.testing.assert_allclose(metrics["value_loss"], 0.5 * metrics["actor_loss"] ** 2, rtol=1e-5)


def test_without_its_state_value_it_is_sac_at_a_fixed_temperature():
  shared = {"hidden": (8,), "reward_scale": 2.0}
  ours = sac_v1.make(SPEC, sac_v1.Config(**shared, temperature=0.3, separate_value=False))
  theirs = sac.make(SPEC, sac.Config(**shared, adapt_temperature=False, initial_temperature=0.3))
  batch = transitions(0, (8,), SPEC)
  results = [jax.jit(agent.update)(agent.init(jax.random.key(0)), batch, jax.random.key(1)) for agent in (ours, theirs)]
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *results)


def test_the_moment_penalty():
  """(1² + 1²)/2 + (2² + 0²)/2 = 3, and its gradient reaches the policy: μ ← μ - w 2μ where Q and α are 0."""
  np.testing.assert_allclose(losses.moment_penalty(jnp.float32([1.0, 2.0]), jnp.float32([np.e, 1.0])), 3.0, rtol=1e-6)
  head = policies.gaussian(1, min_std=0.0)
  outputs = Network(lambda key: jnp.float32([0.5, 0.0]), lambda params, x: jnp.broadcast_to(params, (len(x), 2)))
  value = Value(None, lambda params, obs, action: 0.0 * action[..., 0], None, None)
  posterior = posteriors.direct(outputs, head, optax.sgd(1.0), moment_penalty=0.1)
  step = posterior.step(Design(priors.uniform(head), posterior, value, temperatures.fixed(0.0)))
  params = posterior.init(jax.random.key(0))
  new, _, _ = jax.jit(step.step)(params, step.init(params), transitions(0, (4,), Spec(2, 1)), jax.random.key(0))
  np.testing.assert_allclose(new["actor"], [0.5 - 0.1 * 2 * 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"temperature": 0.0}, "temperature is a finite number > 0"),
    ({"reward_scale": -1.0}, "reward_scale"),
    ({"moment_penalty": -1.0}, "moment_penalty"),
    ({"tau": 0.0}, "tau"),
    ({"pessimism": "max"}, "pessimism"),
    ({"policy": "beta"}, "policy is one of"),
  ],
)
def test_a_bad_config_is_an_error(change, message):
  with pytest.raises(ValueError, match=message):
    sac_v1.make(SPEC, sac_v1.Config(**change))


def test_what_does_not_fit_is_an_error():
  with pytest.raises(ValueError, match="unbounded"):
    sac_v1.make(Spec(2, 3, bounded=False))
  critic = networks.action_in(linear(2, 3), lambda a: a)
  with pytest.raises(ValueError, match="different groups, got 'critic' for both"):
    values.state_value(critic, linear(0, 2), optax.sgd(0.1), state_group="critic")
  with pytest.raises(ValueError, match=r"gamma lies in \[0, 1\), got 1.0"):
    values.state_value(critic, linear(0, 2), optax.sgd(0.1), gamma=1.0)
