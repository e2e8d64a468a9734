"""One contract for every algorithm, driven by the list of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import DECAY_UPDATES, SOME, build, trainer
from conftest import acted, of_module, prepared, small, transitions

from varl import agents, components
from varl.agents import iterative_sac
from varl.envs import spec, toys

BATCH = 8


@pytest.fixture(scope="module", params=list(agents.AGENTS))
def case(request):
  """(module, agent, environment, its init and update jitted, a batch). The update counts its traces in `traces`."""
  agent, env = build(request.param)
  batch = acted(agent, transitions(0, (BATCH,), agent.spec))
  if agent.on_policy:
    batch = prepared(agent, agent.init(jax.random.key(7)), batch)
  return agents.load(request.param), agent, env, jax.jit(agent.init), counted(agent.update), batch


def counted(fn):
  """`fn` jitted, and how often it was traced."""
  traces = []

  def traced(*args):
    traces.append(1)
    return fn(*args)

  jitted = jax.jit(traced)

  def call(*args):
    return jitted(*args)

  call.traces = traces
  return call


def like(tree):
  return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


def test_an_update_keeps_structure_shapes_and_dtypes_and_changes_something(case):
  _, _, _, init, update, batch = case
  state = init(jax.random.key(0))
  new, metrics = update(state, batch, jax.random.key(1))
  assert like(new) == like(state)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
  assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(state.params), strict=True))
  assert "alpha" in metrics
  assert all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())


def test_learning_rates_decay_over_as_many_updates_as_they_are_told(case):
  """However often an update descends: what has a schedule moves in the last of these updates, and in none after it."""
  _, _, _, init, update, batch = case
  state = init(jax.random.key(0))
  scheduled = {
    group
    for label, own in state.step.items()
    for group in label.split("+")
    if any(is_schedule(x) for x in jax.tree.leaves(own, is_leaf=is_schedule))
  }
  assert scheduled
  for number in range(DECAY_UPDATES + 1):
    new, _ = update(state, batch, jax.random.key(number))
    moved = {group for group in scheduled if differ(new.params[group], state.params[group])}
    assert moved == (scheduled if number < DECAY_UPDATES else set()), number
    state = new


def test_counters_stop_where_32_bits_end(case):
  _, _, _, init, update, batch = case
  full = np.iinfo(np.int32).max
  state = jax.tree.map(lambda x: jnp.full_like(x, full) if x.dtype == jnp.int32 else x, init(jax.random.key(0)))
  new, _ = update(state, batch, jax.random.key(1))
  assert all(np.all(leaf >= 0) for leaf in jax.tree.leaves(new) if leaf.dtype == jnp.int32)


def is_schedule(x):
  return isinstance(x, optax.ScaleByScheduleState)


def differ(a, b):
  return any(np.any(x != y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_no_retrace_on_a_second_call(case):
  _, _, _, init, update, batch = case
  state = init(jax.random.key(0))
  state, _ = update(state, batch, jax.random.key(1))
  update(state, batch, jax.random.key(2))
  assert len(update.traces) == 1


@pytest.mark.parametrize("case", SOME, indirect=True, scope="module")
def test_the_same_under_scan_and_under_vmap_over_seeds(case):
  _, agent, _, init, update, batch = case
  seeds, keys = jax.random.split(jax.random.key(3), 2), jax.random.split(jax.random.key(4), 2)

  def run(seed):
    def one(state, key):
      state, _ = agent.update(state, batch, key)
      return state, state.params

    return jax.lax.scan(one, agent.init(seed), keys)[1]

  together = jax.jit(jax.vmap(run))(seeds)
  for number, seed in enumerate(seeds):
    state = init(seed)
    for count, key in enumerate(keys):
      state, _ = update(state, batch, key)
      one = jax.tree.map(lambda x, at=(number, count): x[at], together)
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), one, state.params)


def test_a_batch_of_other_axes_is_refused(case):
  _, agent, _, init, _, batch = case
  state = init(jax.random.key(0))
  refused = [(1, 1)] if agent.on_policy else [(1, 1), (1,)]
  for extra in refused:
    stacked = jax.tree.map(lambda x, extra=extra: jnp.reshape(x, (*extra, *np.shape(x))), batch)
    with pytest.raises(ValueError, match=r"a batch for this agent is \[B\].*got rewards of shape \(1, "):
      jax.eval_shape(agent.update, state, stacked, jax.random.key(1))


def test_on_policy_is_what_its_config_says(case):
  module, agent, *_ = case
  assert agent.on_policy == issubclass(module.Config, components.OnPolicyConfig)
  assert agent.seeding == agent.on_policy
  assert not module.make(agent.spec, small(module, normalize_observations=False)).seeding


def test_acting(case):
  _, agent, _, init, _, batch = case
  params = init(jax.random.key(0)).params
  shape = batch.action.shape
  carry = agent.carry(BATCH)
  act, mode = jax.jit(agent.act), jax.jit(agent.mode)
  for choose in (act, mode, jax.jit(agent.warm_up) if agent.warm_up else act):
    action, new_carry, extras = choose(params, carry, batch.obs, jax.random.key(0))
    assert action.shape == shape
    assert like(new_carry) == like(carry)
    assert all(len(value) == BATCH for value in extras.values())
  one, two = (act(params, carry, batch.obs, jax.random.key(seed))[0] for seed in (1, 2))
  assert np.any(one != two)
  one, two = (mode(params, carry, batch.obs, jax.random.key(seed))[0] for seed in (1, 2))
  np.testing.assert_array_equal(one, two)
  executed = agent.execute(act(params, carry, batch.obs, jax.random.key(1))[0])
  low, high = (0, agent.spec.action_size - 1) if agent.spec.discrete else (-1.0, 1.0)
  assert np.all((executed >= low) & (executed <= high))


# A planner proposes from one policy in all states, and chooses by the state.
POLICIES = [
  name
  for name in agents.AGENTS
  if not build(name)[0].spec.discrete and not issubclass(agents.load(name).Config, components.PlanConfig)
]


@pytest.mark.parametrize("name", POLICIES)
def test_the_first_policy_of_an_unbounded_action_space_is_the_same_in_every_state(name):
  """Else its noise grows with the state, and can drive a stable problem to infinity before anything is learned."""
  module = agents.load(name)
  fields = {"policy": "gaussian"} if any(f.name == "policy" for f in dataclasses.fields(module.Config)) else {}
  problem = spec(of_module(module, toys.LinearQuadratic()))
  config = small(module, problem, normalize_observations=False, **fields)
  agent = module.make(problem, config)
  params, key = agent.init(jax.random.key(0)).params, jax.random.key(1)
  near, far = (
    agent.act(params, agent.carry(1_000), scale * jnp.ones((1_000, problem.observation_size)), key)[0]
    for scale in (0.1, 1e4)
  )
  np.testing.assert_allclose(near, far, atol=1e-6)
  if fields:
    np.testing.assert_allclose([near.mean(), near.std()], [0.0, getattr(config, "initial_std", 1.0)], atol=0.1)


@pytest.mark.parametrize("name", SOME)
def test_it_runs_in_the_loop_and_repeats_bit_for_bit(name):
  agent, env = build(name)
  run = jax.jit(trainer(agent, env).run)
  with jax.debug_nans(True):  # a healthy run has no NaN, not even as a mean over no update or no episode
    state, metrics = run(jax.random.key(0))
    again, _ = run(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, state.agent, again.agent)
  assert np.isfinite(metrics["eval/episode_reward"]).all()
  assert all(np.isfinite(values).all() for values in metrics.values())
  np.testing.assert_array_equal(metrics["training/updates"], [2, 4] if agent.on_policy else [0, 8])
  if not agent.on_policy:
    assert all(values[0] == 0 for name, values in metrics.items() if name.endswith(("_loss", "alpha")))


@pytest.mark.parametrize("name", SOME)
def test_numeric_hyper_parameters_can_be_mapped_over(name):
  """With results; that every field of every Config can be is in `test_hyperparameters.py`."""
  module, (agent, _) = agents.load(name), build(name)
  batch = acted(agent, transitions(0, (BATCH,), agent.spec))

  field = "learning_rate" if module.name == "bc" else "gamma"  # which discounts nothing

  def params_after(value):
    made = module.make(agent.spec, small(module, **{field: value}))
    state = made.init(jax.random.key(0))
    own = prepared(made, state, batch) if made.on_policy else batch
    return made.update(state, own, jax.random.key(1))[0].params

  after = jax.jit(jax.vmap(params_after))(jnp.float32([0.5, 0.99]))
  assert any(np.any(leaf[0] != leaf[1]) for leaf in jax.tree.leaves(after))


OF_HEADS = (
  components.OnPolicyConfig
  | components.PolicyConfig
  | components.BudgetConfig
  | components.DemonstrationConfig
  | components.DistilledConfig
)


def test_a_policy_network_starts_as_wide_as_it_is_told(case):
  """Every Config with a policy network has `initial_std`; where observations are zero the first network gives it."""
  module, agent, *_ = case
  if not issubclass(module.Config, OF_HEADS):
    assert not hasattr(module.Config, "initial_std") or module.Config is iterative_sac.Config
    return
  # A plan chooses among proposals, and an option is an input of the network beside observations.
  if agent.spec.discrete or issubclass(module.Config, components.PlanConfig) or module.name == "options":
    return

  @jax.jit
  def spread(initial_std):
    made = module.make(agent.spec, small(module, initial_std=initial_std, normalize_observations=False))
    params = made.init(jax.random.key(0)).params
    action = made.act(params, made.carry(4096), jnp.zeros((4096, agent.spec.observation_size)), jax.random.key(1))[0]
    return action[:, -agent.spec.action_size :].std(axis=0)  # an action of two levels begins with its latent

  np.testing.assert_allclose(spread(0.3), jnp.full(agent.spec.action_size, 0.3), rtol=0.05)
  with pytest.raises(ValueError, match=r"initial_std is a finite number > 0, got 0\.0"):
    module.make(agent.spec, module.Config(initial_std=0.0))


def test_config_and_make_say_what_they_refuse(case):
  module, agent, *_ = case
  assert dataclasses.is_dataclass(module.Config)
  with pytest.raises(ValueError, match="learning_rate"):
    module.make(agent.spec, module.Config(learning_rate=float("nan")))
  with pytest.raises(ValueError, match="gamma"):
    module.make(agent.spec, module.Config(gamma=1.1))
