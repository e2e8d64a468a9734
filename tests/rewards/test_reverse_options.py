"""The reverse model of options: its windows, when it is paid, and the gap that it leaves of the enumerated bound."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import networks, policies, rewards, temperatures
from varl.exact import options as exact
from varl.exact import tabular
from varl.types import Design, Spec, Transition

STATES, ACTIONS, OPTIONS, T = 2, 2, 2, 4
SPEC = Spec(STATES, ACTIONS, discrete=True)
HEAD = policies.categorical(ACTIONS)


def reverse(direction="backward", window=1, network=None, optimizer=None, spec=SPEC, **options):
  size = rewards.window_size(spec, OPTIONS, window, direction)
  network = networks.mlp(size, OPTIONS, hidden=(64,)) if network is None else network
  optimizer = optax.adam(1e-2) if optimizer is None else optimizer
  return rewards.reverse_options(
    spec, HEAD, network, optimizer, count=OPTIONS, window=window, direction=direction, **options
  )


def rollout(states, actions, chosen, *, discount=None, truncated=None, states_count=STATES):
  """Of integers `[T + 1, N]`, `[T, N]`, `[T, N]`."""
  states, actions, chosen = (jnp.asarray(x) for x in (states, actions, chosen))
  zero = jnp.zeros(actions.shape)
  before = jnp.concatenate([jnp.full_like(chosen[:1], OPTIONS), chosen[:-1]])
  extras = {policies.OPTION: chosen, policies.PREVIOUS: before, "log_options": jnp.zeros((*chosen.shape, OPTIONS))}
  one_hot = jax.nn.one_hot(states, states_count)
  return Transition(
    one_hot[:-1], actions, zero, zero + 1.0 if discount is None else jnp.asarray(discount), one_hot[1:],
    zero.at[-1].set(1.0) if truncated is None else jnp.asarray(truncated), extras,
  )  # fmt: skip


def paths(m, policy):
  """Every trajectory with its options, and its probability."""
  found = []
  for s in itertools.product(range(STATES), repeat=T + 1):
    for a in itertools.product(range(ACTIONS), repeat=T):
      world = float(m.initial[s[0]])
      for t in range(T):
        world *= float(m.transition[s[t], a[t], s[t + 1]])
      for o in itertools.product(range(OPTIONS), repeat=T):
        weight, stay = world, 0.0
        for t in range(T):
          weight *= (stay * (t > 0 and o[t] == o[t - 1]) + (1 - stay) * policy.option[s[t], o[t]]) * policy.action[
            s[t], o[t], a[t]
          ]
          stay = policy.continuation
        found.append((s, a, o, weight))
  s, a, o, weight = (np.asarray(x) for x in zip(*found, strict=True))
  np.testing.assert_allclose(weight.sum(), 1.0, rtol=1e-5)
  return s.T, a.T, o.T, weight


@pytest.mark.parametrize(("direction", "window"), [("forward", 1), ("backward", 1)])
def test_a_learned_reverse_model_leaves_the_exact_gap(direction, window):
  m = tabular.random_mdp(jax.random.key(3), STATES, ACTIONS, discount=1.0)
  m = jax.tree.map(np.asarray, m._replace(transition=tabular.dense(m).transition))
  rng = np.random.default_rng(0)
  policy = exact.OptionPolicy(
    rng.dirichlet(np.ones(OPTIONS), STATES), rng.dirichlet(0.5 * np.ones(ACTIONS), (STATES, OPTIONS)), 0.6
  )
  s, a, o, weight = paths(m, policy)
  best = exact.option_bound(m, policy, horizon=T, window=window, direction=direction)
  full = exact.option_bound(m, policy, horizon=T, window=None, direction=direction)
  assert best.gap > 0.01

  updates = 2_000
  # An observation holds the time as well: what an option is likely to be is not the same at each step.
  timed = Spec(STATES * (T + 1), ACTIONS, discrete=True)
  schedule = optax.cosine_decay_schedule(1e-2, updates)
  made = reverse(direction, window, optimizer=optax.adam(schedule), spec=timed)
  params = made.init(jax.random.key(0))
  design = Design(None, None, None, temperatures.fixed(1.0))
  rows = rollout(s + STATES * np.arange(T + 1)[:, None], a, o, states_count=timed.observation_size)
  rows = rows._replace(extras={**rows.extras, **made.prepare(design, params, rows, jax.random.key(0))})
  step = made.step(design)

  @jax.jit
  def learn(params):
    def one(carry, key):
      chosen = jax.random.choice(key, len(weight), (512,), p=jnp.asarray(weight, jnp.float32))
      batch = jax.tree.map(lambda x: x[:, chosen].reshape(-1, *x.shape[2:]), rows)
      return step.step(*carry, batch, key)[:2], None

    return jax.lax.scan(one, (params, step.init(params)), jax.random.split(jax.random.key(1), updates))[0][0]

  params = learn(params)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
  told = np.asarray(made.value(design, params, flat, None), np.float64).reshape(T, -1).sum(axis=0)
  # The posterior of the options of each trajectory, of which the full window's bound is made.
  key = np.unique(np.concatenate([s, a]).T, axis=0, return_inverse=True)[1]
  posterior = weight / np.bincount(key, weights=weight)[key]
  sure = weight > 0
  gap = float(np.sum(weight[sure] * (np.log(posterior[sure]) - told[sure])))
  np.testing.assert_allclose(full.gap, 0.0, atol=1e-9)
  assert best.gap <= gap + 1e-4
  np.testing.assert_allclose(gap, best.gap, rtol=0.05)


def windows(made, rows):
  return np.asarray(made.prepare(None, None, rows, None)["window"])


def test_a_window_holds_its_episode_and_nothing_beyond():
  rng = np.random.default_rng(1)
  s, a, o = (rng.integers(0, 2, (n, 3)) for n in (6, 5, 5))
  discount = np.ones((5, 3), np.float32)
  discount[1, 0] = 0.0  # the first environment's episode ends after its second step
  rows = rollout(s, a, o, discount=discount, truncated=np.zeros((5, 3), np.float32))
  one = np.eye(2)
  forward = windows(reverse("forward", 1), rows)
  # [option before | s_t a_t 1 | s_{t+1} a_{t+1} 1]
  np.testing.assert_array_equal(forward[0, 1, :2], 0.0)
  np.testing.assert_array_equal(forward[2, 1, :2], one[o[1, 1]])
  np.testing.assert_array_equal(forward[0, 0, 2:7], [*one[s[0, 0]], *one[a[0, 0]], 1])
  np.testing.assert_array_equal(forward[0, 0, 7:], [*one[s[1, 0]], *one[a[1, 0]], 1])
  np.testing.assert_array_equal(forward[1, 0, 7:], 0.0)  # beyond the end
  np.testing.assert_array_equal(forward[1, 1, 7:], [*one[s[2, 1]], *one[a[2, 1]], 1])
  np.testing.assert_array_equal(forward[4, :, 7:], 0.0)  # beyond the rollout
  backward = windows(reverse("backward", 2), rows)
  # [option after | s_{t+1} | s_t a_t 1 | s_{t-1} a_{t-1} 1 | s_{t-2} ...]
  np.testing.assert_array_equal(backward[0, 0, :2], one[o[1, 0]])
  np.testing.assert_array_equal(backward[1, 0, :2], 0.0)  # none after the end
  np.testing.assert_array_equal(backward[4, :, :2], 0.0)
  np.testing.assert_array_equal(backward[3, 1, 2:4], one[s[4, 1]])
  np.testing.assert_array_equal(backward[3, 1, 9:14], [*one[s[2, 1]], *one[a[2, 1]], 1])
  np.testing.assert_array_equal(backward[3, 0, 9:14], [*one[s[2, 0]], *one[a[2, 0]], 1])
  np.testing.assert_array_equal(backward[3, 0, 14:], 0.0)  # of the episode before
  np.testing.assert_array_equal(backward[2, 0, 9:], 0.0)
  np.testing.assert_array_equal(backward[0, :, 9:], 0.0)


@pytest.mark.parametrize("steps", [0, 1, 3, 9])
def test_what_is_paid_later_has_the_same_discounted_sum(steps):
  rng = np.random.default_rng(2)
  x, gamma = rng.normal(size=(6, 4)), 0.9
  ended = rng.uniform(size=(6, 4)) < 0.3
  moved = np.asarray(rewards.delayed(jnp.asarray(x), jnp.asarray(ended), steps, gamma))
  for i in range(4):
    start = 0
    for t in range(6):
      if ended[t, i] or t == 5:
        weights = gamma ** np.arange(t + 1 - start)
        np.testing.assert_allclose(weights @ moved[start : t + 1, i], weights @ x[start : t + 1, i], rtol=1e-5)
        np.testing.assert_allclose(moved[start : min(start + steps, t), i], 0.0, atol=1e-7)
        start = t + 1


def test_what_it_pays():
  made, window = reverse(weight=2.0, reward_scale=4.0, gamma=0.5), 1
  params = made.init(jax.random.key(0))
  design = Design(None, None, None, temperatures.fixed(0.3))
  rng = np.random.default_rng(3)
  rows = rollout(*(rng.integers(0, 2, (n, 3)) for n in (T + 1, T, T)))
  rows = rows._replace(reward=jnp.asarray(rng.normal(size=(T, 3))))
  rows = rows._replace(extras={**rows.extras, **made.prepare(design, params, rows, None)})
  size = rewards.window_size(SPEC, OPTIONS, window, "backward")
  logits = networks.mlp(size, OPTIONS, hidden=(64,)).apply(params["reverse"], rows.extras["window"])
  own = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(rows.extras["option"])[..., None], -1)
  own = 0.15 * own[..., 0]
  expected = np.asarray(rows.reward).copy()
  expected[1:] += own[:-1] / 0.5  # with the option after, which it is given
  expected[-1] += own[-1]
  np.testing.assert_allclose(made.value(design, params, rows, None), expected, rtol=1e-5)


def test_bad_arguments():
  with pytest.raises(ValueError, match="direction is one of backward, forward; got 'sideways'"):
    reverse("sideways")
  with pytest.raises(ValueError, match="window is a whole number >= 0, got -1"):
    reverse(window=-1, network=networks.mlp(1, 2))
  made = reverse()
  rows = rollout(*(np.zeros((n, 1), int) for n in (T + 1, T, T)))
  with pytest.raises(ValueError, match="prepared rollouts"):
    made.value(Design(None, None, None, temperatures.fixed(0.3)), made.init(jax.random.key(0)), rows, None)
