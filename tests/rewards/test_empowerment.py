"""The learned bound on empowerment against the capacity by Blahut and Arimoto, with and without a model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions

from varl import models, networks, rewards
from varl.agents import sac, sac_discrete
from varl.envs.tabular import Tabular
from varl.exact import information, tabular
from varl.types import Batch, Design, Spec

GRID = tabular.gridworld(["S..", "..#", "..."], slip=0.2)
ENV = Tabular(GRID)
STATES, ACTIONS = GRID.reward.shape
SPEC = Spec(STATES, ACTIONS, discrete=True)


def table(*sizes):
  """A network on one-hot inputs side by side whose outputs are a table of all their combinations."""
  *inputs, outputs = sizes

  def apply(params, x):
    parts = jnp.split(x, np.cumsum(inputs)[:-1], axis=-1)
    both = functools.reduce(lambda a, b: (a[..., :, None] * b[..., None, :]).reshape(*a.shape[:-1], -1), parts)
    return both @ params.reshape(-1, outputs)

  return networks.Network(lambda key: 0.01 * jax.random.normal(key, (int(np.prod(sizes)),)), apply)


def made(steps, updates, optimizer=None, **options):
  size = rewards.empowerment_outputs(SPEC, steps)
  return rewards.empowerment(
    SPEC, table(STATES, size), table(STATES, STATES, size), table(STATES, 1),
    optimizer or optax.adam(optax.cosine_decay_schedule(2e-2, updates, 0.01)), steps=steps, **options,
  )  # fmt: skip


@pytest.mark.parametrize(("steps", "given"), [(1, True), (2, True), (1, False)])
def test_the_level_is_the_capacity(steps, given):
  """In every state of a grid with slips and a wall; without a model from rows of another policy than the source."""
  updates, rows = 2_500, 256
  reward = made(steps, updates)
  design = Design(None, None, None, None, model=models.known(ENV.outcome) if given else None)
  step = reward.step(design)
  params = reward.init(jax.random.key(0))
  behaviour = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))

  def batch(key):
    state_key, action_key, next_key = jax.random.split(key, 3)
    obs = jax.nn.one_hot(jax.random.randint(state_key, (rows,), 0, STATES), STATES)
    action = jax.random.categorical(action_key, behaviour, shape=(rows,))
    following, _, _ = jax.vmap(ENV.outcome)(obs, action, jax.random.split(next_key, rows))
    ones = jnp.ones(rows)
    return Batch(obs, action, ones, ones, following, 0.0 * ones, {"log_prob": behaviour[action]})

  def update(state, key):
    batch_key, step_key = jax.random.split(key)
    params, inner, metrics = step.step(*state, batch(batch_key), step_key)
    return (params, inner), metrics

  keys = jax.random.split(jax.random.key(1), updates)
  (params, _), metrics = jax.jit(lambda: jax.lax.scan(update, (params, step.init(params)), keys))()
  exact = np.asarray(information.empowerment(GRID, steps=steps).nats)
  states = jnp.eye(STATES)
  rows_of = Batch(states, jnp.zeros(STATES, int), jnp.zeros(STATES), jnp.ones(STATES), states, jnp.zeros(STATES), {})
  level = np.asarray(reward.value(design, params, rows_of, jax.random.key(0)))
  np.testing.assert_allclose(level, exact, rtol=0.05)
  assert exact.max() - exact.min() > 0.1
  np.testing.assert_allclose(metrics["empowerment_level"][-200:].mean(), exact.mean(), rtol=0.05)
  np.testing.assert_allclose(metrics["empowerment_bound"][-200:].mean(), exact.mean(), rtol=0.05)
  ended = rows_of._replace(discount=jnp.zeros(STATES))
  assert not reward.value(design, params, ended, jax.random.key(0)).any()


def learned_level(reward, source, updates, rows=256):
  """Each state's, after updates from this source on random states in the model itself."""
  step = reward.step(Design(None, None, None, None, model=models.known(ENV.outcome)))
  params = {"empowerment": {**reward.init(jax.random.key(0))["empowerment"], "source": source}}

  def update(state, key):
    state_key, step_key = jax.random.split(key)
    obs = jax.nn.one_hot(jax.random.randint(state_key, (rows,), 0, STATES), STATES)
    zero = jnp.zeros(rows)
    params, inner, _ = step.step(*state, Batch(obs, zero.astype(int), zero, zero + 1, obs, zero, {}), step_key)
    return (params, inner), None

  keys = jax.random.split(jax.random.key(1), updates)
  (params, _), _ = jax.jit(lambda: jax.lax.scan(update, (params, step.init(params)), keys))()
  return np.asarray(params["empowerment"]["level"])[:STATES]


def test_a_sequence_that_the_source_has_given_up_is_met_again():
  """ω begins without one action; what it leads to is found to be worth something where others are drawn, too."""
  updates = 4_000
  exact = np.asarray(information.empowerment(GRID, steps=1).nats)

  def level(explore):
    reward = made(1, updates, explore=explore)
    source = reward.init(jax.random.key(0))["empowerment"]["source"]
    return learned_level(reward, source.reshape(STATES, -1).at[:, 0].set(-10.0).ravel(), updates)

  with_others, alone = level(0.25), level(0.0)
  np.testing.assert_allclose(with_others, exact, rtol=0.05)
  assert np.max((exact - alone) / exact) > 0.1, (alone, exact)


@pytest.mark.parametrize("explore", [0.0, 0.5])
def test_the_level_is_what_any_source_tells(explore):
  """I(a; s') of a source that is held, lopsided, whatever is drawn beside what it says; not the capacity."""
  updates = 2_000
  frozen = optax.multi_transform(
    {"learned": optax.adam(optax.cosine_decay_schedule(2e-2, updates, 0.01)), "held": optax.set_to_zero()},
    {"empowerment": {"source": "held", "decoder": "learned", "level": "learned"}},
  )
  reward = made(1, updates, explore=explore, optimizer=frozen)
  log_source = jnp.log(jnp.array([0.005, 0.095, 0.4, 0.5]))
  level = learned_level(reward, jnp.tile(log_source, STATES), updates)
  told = np.asarray(information.mutual_information(jnp.exp(log_source), tabular.dense(GRID).transition))
  capacity = np.asarray(information.empowerment(GRID, steps=1).nats)
  np.testing.assert_allclose(level, told, rtol=0.05)
  assert (capacity / told).min() > 1.1


def test_a_sequence_is_its_actions_the_first_slowest():
  """The channel of `exact` and the sequences of the source count alike."""
  seen = []

  def outcome(obs, action, key):
    seen.append(action)
    return obs, jnp.zeros(()), jnp.ones(())

  def sample(params, obs, action, key, member):
    seen.append(np.asarray(action))
    return models.known(outcome).sample(params, obs, action, key)

  reward = made(2, 10, explore=0.0)
  model = models.known(outcome)._replace(sample=sample)
  step = reward.step(Design(None, None, None, None, model=model))
  params = reward.init(jax.random.key(0))
  forced = {**params["empowerment"], "source": jnp.zeros((STATES, 16)).at[:, 7].set(1e3).reshape(-1)}
  rows = transitions(0, (4,), SPEC)._replace(obs=jnp.eye(STATES)[:4])
  with jax.disable_jit():
    step.step({"empowerment": forced}, step.init(params), rows, jax.random.key(0))
  actions = [np.unique(x) for x in seen if isinstance(x, np.ndarray)]
  assert [list(x) for x in actions] == [[1], [3]]  # 7 = 1·4 + 3


def mlps(spec, steps):
  size, o = rewards.empowerment_outputs(spec, steps), spec.observation_size
  make = functools.partial(networks.mlp, hidden=(8,))
  return make(o, size), make(2 * o, size), make(o, 1)


@pytest.mark.parametrize("module", [sac, sac_discrete])
def test_it_pays_an_agent(module):
  """As the reward of a design, of continuous and of discrete actions: an update moves it, and rows pay ψ(s')."""
  spec = Spec(3, 2, discrete=module is sac_discrete)
  reward = rewards.empowerment(spec, *mlps(spec, 1), optax.adam(1e-2))
  agent = module.make(spec, module.Config(hidden=(8,)), reward=reward)
  state = agent.init(jax.random.key(0))
  batch = transitions(0, (16,), spec)
  _, _, extras = agent.act(state.params, (), batch.obs, jax.random.key(0))
  new, metrics = jax.jit(agent.update)(state, batch._replace(extras=extras), jax.random.key(1))
  assert {"empowerment_level", "empowerment_bound", "empowerment_loss"} <= metrics.keys()
  before, after = (jax.tree.leaves(s.params["empowerment"]) for s in (state, new))
  assert all((x != y).any() for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: made(0, 1), "steps is a whole number >= 1, got 0"),
    (lambda: made(1, 1, explore=1.0), r"explore lies in \[0, 1\), got 1.0"),
    (lambda: made(7, 1), r"4 \*\* 7 = 16,384 sequences of actions; at most 4,096"),
    (lambda: made(2, 1).step(Design(None, None, None, None)), "followed in a model, and the design has none"),
  ],
)
def test_what_cannot_be_is_refused(build, message):
  with pytest.raises(ValueError, match=message):
    build()


def test_rows_without_their_density_are_refused():
  agent = sac.make(Spec(3, 2), sac.Config(hidden=(8,)), reward=rewards.empowerment(
    Spec(3, 2), *mlps(Spec(3, 2), 1), optax.adam(1e-2)
  ))  # fmt: skip
  state = agent.init(jax.random.key(0))
  with pytest.raises(ValueError, match=r"its extras \[\] lack log_prob"):
    agent.update(state, transitions(0, (8,), Spec(3, 2)), jax.random.key(0))
