"""The probabilistic ensemble against least squares, its spread, its bounds and its two kinds of not knowing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from varl import losses, models, networks, normalize
from varl.models.ensemble import BOOTSTRAP, inputs_of, outputs_of
from varl.types import Design, Spec, Transition

SPEC = Spec(observation_size=3, action_size=2, bounded=False)
STD = np.array([0.3, 0.05, 0.5])
"""Of the three states' noise: one likelihood over targets of such scales must not learn the largest alone."""


def linear_gaussian(rows, seed=0):
  """s' = A s + B a + w, r = 10 s_0 + .5 ε."""
  matrices = np.random.default_rng(7)
  A = 0.9 * np.eye(3) + 0.1 * matrices.normal(size=(3, 3))
  B = matrices.normal(size=(3, 2)) * [1.0, 0.1]
  rng = np.random.default_rng(seed)
  obs, action = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))
  following = obs @ A.T + action @ B.T + STD * rng.normal(size=(rows, 3))
  reward = 10.0 * obs[:, 0] + 0.5 * rng.normal(size=rows)
  arrays = (obs, action, reward, np.ones(rows), following, np.zeros(rows))
  return Transition(*(jnp.asarray(x, jnp.float32) for x in arrays), {})


@functools.cache
def made(updates, hidden=(), rate=3e-2, **options):
  network = networks.mlp(inputs_of(SPEC), outputs_of(SPEC), hidden=hidden, activation="silu")
  optimizer = optax.adam(optax.cosine_decay_schedule(rate, updates))
  model = models.ensemble(SPEC, network, optimizer, **options)
  step = model.step(Design(None, None, None, None, model=model))

  @jax.jit
  def fit(batch, key):
    init_key, record_key, fit_key = jax.random.split(key, 3)
    rows = len(batch.reward)
    params = model.observe(model.init(init_key), batch, jnp.ones(rows, bool), None)
    if model.record is not None:
      batch = batch._replace(extras=model.record(record_key, (rows,)))

    def one(carry, key):
      params, state, metrics = step.step(*carry, batch, key)
      return (params, state), metrics

    (params, _), metrics = jax.lax.scan(one, (params, step.init(params)), jax.random.split(fit_key, updates))
    return params, jax.tree.map(lambda x: x[-1], metrics)

  return model, network, fit


def moments_of(network, params, obs, action):
  """Each member's mean and variance of (s' - s, r) in the environment's units."""
  own = params["model"]
  raw = jax.vmap(network.apply, (0, None))(own["members"], jnp.concatenate([obs, action], -1))
  log_variance = losses.soft_bounds(raw[..., 4:8], own["bounds"]["min"], own["bounds"]["max"])
  scale = params["model_scale"]
  return normalize.invert(scale, raw[..., :4]), jnp.exp(log_variance) * scale.variance


def coefficients(network, params):
  at = jnp.concatenate([jnp.eye(5), jnp.zeros((1, 5))])
  mean, _ = moments_of(network, params, at[:, :3], at[:, 3:])
  return np.asarray(mean[:, :5] - mean[:, 5:])


def test_each_member_is_the_least_squares_fit_of_linear_gaussian_data():
  """Without a bootstrap all members see the same rows: (A, B) and the noise of every dimension, to 2e-3.

  Bounds are held: what pulls learned ones together lifts a variance by .7 %. The coefficients' last digits are those of
  a variance that depends on the state, which likelihood fits and least squares does not.
  """
  rows = linear_gaussian(2000)
  _, network, fit = made(2000, rate=3e-2, members=3, ends="never", bootstrap=False, bounds_weight=0.0)
  params, metrics = fit(rows, jax.random.key(0))
  x = np.concatenate([rows.obs, rows.action, np.ones((2000, 1))], axis=1)
  y = np.concatenate([rows.next_obs - rows.obs, rows.reward[:, None]], axis=1)
  solution = np.linalg.lstsq(x, y, rcond=None)[0]
  unit = np.sqrt(params["model_scale"].variance)
  np.testing.assert_allclose((coefficients(network, params) - solution[:5]) / unit, 0.0, atol=2e-3)
  _, variance = moments_of(network, params, rows.obs, rows.action)
  noise = np.mean((y - x @ solution) ** 2, axis=0)
  np.testing.assert_allclose(np.mean(variance, axis=1), np.broadcast_to(noise, (3, 4)), rtol=2e-3)
  assert metrics["model_spread"] < 1e-3


def test_the_spread_falls_as_one_over_the_root_of_the_rows():
  sizes, spreads = (200, 800, 3200), []
  _, network, fit = made(250, members=10, ends="never")
  for rows in sizes:
    params, _ = fit(linear_gaussian(rows), jax.random.key(rows))
    unit = np.sqrt(params["model_scale"].variance)
    spreads.append(np.sqrt(np.mean(np.square((coefficients(network, params) / unit).std(axis=0)))))
  slope = np.polyfit(np.log(sizes), np.log(spreads), 1)[0]
  assert -0.6 < slope < -0.4


def test_what_is_noisy_and_what_is_unknown_are_told_apart():
  """Two noises on either side, places with and without data: variance tells the one, the members' spread the other."""
  rng = np.random.default_rng(0)
  place = np.where(rng.random(1500) < 0.5, rng.uniform(-2, -1, 1500), rng.uniform(1, 2, 1500))
  obs = np.stack([place, np.zeros_like(place), np.zeros_like(place)], axis=1)
  noise = np.where(place < 0, 0.05, 0.5)
  following = obs + np.stack([np.sin(2 * place) + noise * rng.normal(size=1500), obs[:, 1], obs[:, 2]], axis=1)
  rows = Transition(obs, np.zeros((1500, 2)), np.zeros(1500), np.ones(1500), following, np.zeros(1500), {})
  rows = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), rows)
  _, network, fit = made(800, hidden=(32, 32), rate=1e-2, members=5, ends="never")
  params, _ = fit(rows, jax.random.key(1))
  at = jnp.array([[-1.5, 0, 0], [1.5, 0, 0], [5.0, 0, 0]])
  mean, variance = moments_of(network, params, at, jnp.zeros((3, 2)))
  deviation, spread = np.sqrt(np.mean(variance[..., 0], axis=0)), np.std(mean[..., 0], axis=0)
  np.testing.assert_allclose(deviation[:2], [0.05, 0.5], rtol=0.3)
  assert spread[2] > 5 * spread[:2].max()


def test_a_draw_has_the_members_moments_and_gradients():
  model, network, fit = made(300, members=3, ends="never")
  params, _ = fit(linear_gaussian(500), jax.random.key(0))
  obs, action = jnp.array([0.3, -0.2, 0.1]), jnp.array([0.5, -1.0])
  mean, variance = moments_of(network, params, obs[None], action[None])
  n = 4000
  many = (jnp.broadcast_to(obs, (n, 3)), jnp.broadcast_to(action, (n, 2)))
  for member in (None, 1):
    index = None if member is None else jnp.full(n, member)
    drawn = model.sample(params, *many, jax.random.key(5), index)
    got = np.concatenate([drawn.next_obs - obs, drawn.reward[:, None]], axis=1)
    if member is None:  # dealt out evenly: the mixture
      wanted = np.mean(mean[:, 0], axis=0)
      spread = np.mean(variance[:, 0] + (mean[:, 0] - wanted) ** 2, axis=0)
    else:
      wanted, spread = mean[member, 0], variance[member, 0]
    np.testing.assert_array_less(np.abs(got.mean(0) - wanted), 4 * np.sqrt(spread / n))
    np.testing.assert_allclose(got.var(0), spread, rtol=0.12)
  several = model.draws(params, *many, jax.random.key(6))
  assert several.next_obs.shape == (3, n, 3)
  assert several.discount.shape == (3, n)
  np.testing.assert_allclose(np.mean(several.reward, 1), mean[:, 0, 3], atol=4 * np.sqrt(variance[:, 0, 3].max() / n))
  own = model.draws(params, *many, jax.random.key(7), jnp.full(n, 2))
  assert own.next_obs.shape == (3, n, 3)
  np.testing.assert_allclose(own.reward.mean(), mean[2, 0, 3], atol=4 * np.sqrt(variance[2, 0, 3] / (3 * n)))
  assert abs(np.corrcoef(own.reward[0], own.reward[1])[0, 1]) < 0.1  # independent draws
  slope = jax.jacobian(lambda a, key: model.sample(params, obs[None], a[None], key, jnp.zeros(1, int)).next_obs[0])
  slopes = jax.vmap(slope, (None, 0))(action, jax.random.split(jax.random.key(0), 2000))
  # The deviation's own slope is of mean 0 over the noise.
  np.testing.assert_allclose(np.mean(slopes, 0), coefficients(network, params)[0, 3:, :3].T, atol=5e-3)


def test_log_prob_is_the_density_of_what_is_drawn():
  """∫ q(s', r | s, a) = 1 over the two dimensions of a one-dimensional world, by a grid."""
  spec = Spec(1, 1, bounded=False)
  network = networks.mlp(inputs_of(spec), outputs_of(spec), hidden=(8,))
  model = models.ensemble(spec, network, optax.adam(1e-3), members=2, ends="never")
  params = model.init(jax.random.key(0))
  rows = Transition(*(jax.random.normal(jax.random.key(i), (50, 1)) for i in range(2)), jnp.arange(50.0) / 9,
                    jnp.ones(50), jnp.zeros((50, 1)), jnp.zeros(50), {})  # fmt: skip
  params = model.observe(params, rows, jnp.ones(50, bool), None)
  x, r = jnp.meshgrid(jnp.linspace(-25, 25, 801), jnp.linspace(-25, 35, 801), indexing="ij")
  grid = rows._replace(
    obs=jnp.full((x.size, 1), 0.4), action=jnp.full((x.size, 1), -0.2), reward=r.ravel(),
    discount=jnp.ones(x.size), next_obs=x.ravel()[:, None], truncated=jnp.zeros(x.size),
  )  # fmt: skip
  mass = jnp.sum(jnp.exp(model.log_prob(params, grid))) * (50 / 800) * (60 / 800)
  np.testing.assert_allclose(mass, 1.0, rtol=1e-3)


def test_the_head_for_ends_learns_their_probability():
  rows = linear_gaussian(2000)
  ended = np.random.default_rng(3).random(2000) < 1 / (1 + np.exp(-2 * rows.obs[:, 0]))
  rows = rows._replace(discount=jnp.asarray(1.0 - ended, jnp.float32))
  model, _, fit = made(600, members=3)
  params, _ = fit(rows, jax.random.key(0))
  for place, wanted in ((1.0, 1 / (1 + np.exp(2.0))), (-1.0, 1 / (1 + np.exp(-2.0)))):
    at = jnp.tile(jnp.array([place, 0, 0]), (4000, 1))
    drawn = model.sample(params, at, jnp.zeros((4000, 2)), jax.random.key(1), None)
    np.testing.assert_allclose(drawn.discount, wanted, atol=0.06)
    np.testing.assert_allclose(jnp.mean(drawn.discount), wanted, atol=0.04)


def test_fresh_error_is_of_rows_before_they_are_learned_from_and_chooses_the_elites():
  model, _, fit = made(300, members=4, elites=2, ends="never")
  params, _ = fit(linear_gaussian(500), jax.random.key(0))
  assert model.members == 2
  assert params["model_fresh"]["rollouts"] == 1
  before = params["model_fresh"]["error"]
  fresh = linear_gaussian(64, seed=1)
  after = model.observe(params, fresh, jnp.ones(64, bool), None)
  assert (after["model_fresh"]["error"] < before).all()  # the first error was of networks that had learned nothing
  worst = jax.tree.map(lambda x: x, after)
  worst["model_fresh"] = {**after["model_fresh"], "error": jnp.array([9.0, 0.1, 9.0, 0.2])}
  scrambled = jax.tree.map(lambda x: x, worst)
  scrambled["model"] = {
    **worst["model"],
    "members": jax.tree.map(lambda x: x.at[jnp.array([0, 2])].set(jnp.nan), worst["model"]["members"]),
  }
  drawn = model.draws(scrambled, fresh.obs, fresh.action, jax.random.key(0))
  assert jnp.isfinite(drawn.next_obs).all()  # the two members that are not used are NaN
  nothing = model.observe(params, fresh, jnp.zeros(64, bool), None)
  np.testing.assert_array_equal(nothing["model_fresh"]["error"], before)


def test_bootstrap_counts_are_poisson_and_change_the_loss_alone():
  model, _, _ = made(300, members=4, ends="never")
  counts = model.record(jax.random.key(0), (20_000,))[BOOTSTRAP]
  assert counts.shape == (20_000, 4)
  for k, wanted in enumerate((0.3679, 0.3679, 0.1839, 0.0613)):
    np.testing.assert_allclose(np.mean(counts == k), wanted, atol=0.005)
  model = model.record(jax.random.key(0), ())  # one environment's row
  assert model[BOOTSTRAP].shape == (4,)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"members": 0}, "members is a whole number >= 1, got 0"),
    ({"elites": 6}, "elites is a whole number in .1, 6., got 6"),
    ({"elites": 0}, "elites is a whole number in .1, 6., got 0"),
    ({"ends": "sometimes"}, "ends is a function or one of learned, never; got 'sometimes'"),
    ({"log_variance": (1.0, -1.0)}, r"min < max, got \(1.0, -1.0\)"),
    ({"memory": 1.0}, r"memory lies in \[0, 1\), got 1.0"),
  ],
)
def test_bad_arguments(options, message):
  network = networks.mlp(inputs_of(SPEC), outputs_of(SPEC), hidden=())
  with pytest.raises(ValueError, match=message):
    models.ensemble(SPEC, network, optax.adam(1e-3), **options)
