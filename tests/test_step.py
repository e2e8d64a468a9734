"""The train-step transformer against hand-written updates, and under every JAX transform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions
from jax.sharding import PartitionSpec as P

from experiments.peers import sac_by_hand
from varl import step as steps
from varl.agents import sac
from varl.step import assign, chain, copy, descend, every, joint, repeat, share, stream_key, track


def quadratic(group, target=0.0):
  """½ Σ (x - target)² of one group: its gradient is x - target."""

  def loss(params, batch, key):
    return 0.5 * jnp.sum(jnp.square(params[group] - target)), {}

  return loss


def noisy(group):
  """A loss with gradient ε in x, ε drawn from the key, which it reports."""

  def loss(params, batch, key):
    noise = jax.random.normal(key, params[group].shape)
    return jnp.sum(params[group] * noise), {f"{group}_noise": noise[0]}

  return loss


def small():
  return {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, -1.0]), "c": jnp.array([0.5, 0.25])}


def run(step, params, *, updates=1, batch=None, seed=0):
  """Parameters, state and metrics after some updates, each with its own key."""
  state, update, metrics = step.init(params), jax.jit(step.step), {}
  for key in jax.random.split(jax.random.key(seed), updates):
    params, state, metrics = update(params, state, batch, key)
  return params, state, metrics


def assert_same(a, b):
  """The same structure, and the same bits."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b, *, atol, rtol=0.0):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=rtol), a, b)


# Against hand-written updates


def test_joint_is_the_simultaneous_sac_update(spec):
  config = sac.Config(hidden=(32, 32), learning_rate=1e-3, normalize_observations=False)
  agent, optimizer = sac.make(spec, config), optax.adam(1e-3)
  state = jax.jit(agent.init)(jax.random.key(0))
  params = expected = state.params
  opt = {name: optimizer.init(params[name]) for name in sac_by_hand.LEARNED}
  update, manual = jax.jit(agent.update), jax.jit(functools.partial(sac_by_hand.update, optimizer=optimizer))
  for i in range(3):
    batch, key = transitions(i, (16,), spec), jax.random.key(10 + i)
    state, _ = update(state, batch, key)
    expected, opt = manual(expected, opt, batch, key)
  # Three steps of Adam at 1e-3 move the parameters by 3e-3: an error in a loss would show.
  assert_close(state.params, expected, atol=1e-6)
  for group, least in {"critic": 1e-3, "actor": 1e-3, "temperature": 1e-3, "target_critic": 1e-6}.items():
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), state.params[group], params[group])
    assert min(jax.tree.leaves(moved)) > least, group


def test_joint_reads_old_parameters_and_chain_new_ones():
  def toward(group):  # x <- x - ½ (x - group)
    return lambda params, batch, key: (0.5 * jnp.sum((params["a"] - jax.lax.stop_gradient(params[group])) ** 2), {})

  first, second = descend("b", quadratic("b"), optax.sgd(1.0)), descend("a", toward("b"), optax.sgd(0.5))
  a, b = small()["a"], small()["b"]
  assert_same(run(joint(first, second), small())[0], {**small(), "a": a - 0.5 * (a - b), "b": 0 * b})
  assert_same(run(chain(first, second), small())[0], {**small(), "a": 0.5 * a, "b": 0 * b})
  assert_same(run(joint(second, first), small())[0], run(joint(first, second), small())[0])
  assert_same(run(chain(second, first), small())[0], {**small(), "a": a - 0.5 * (a - b), "b": 0 * b})


def test_chain_is_the_manual_sequence():
  double = assign("c", lambda params, batch, key: (2 * params["a"], {"double": params["a"][0]}))
  parts = (descend("a", noisy("a"), optax.adam(0.1)), double, track("c", into="b", rate=0.25))
  params, state, metrics = run(chain(*parts), small(), updates=3)

  expected, states = small(), [part.init(small()) for part in parts]
  for key in jax.random.split(jax.random.key(0), 3):
    for i, part in enumerate(parts):
      expected, states[i], _ = part.step(expected, states[i], None, key)
  assert_close(params, expected, atol=1e-6)
  assert_close(state, states[0], atol=1e-6)
  assert set(metrics) == {"a_loss", "a_grad_norm", "a_noise", "double"}
  np.testing.assert_allclose(metrics["double"], params["a"][0])


def test_descend_of_several_groups_reports_their_joint_norm():
  def loss(params, batch, key):
    return jnp.sum(3.0 * params["a"]) + jnp.sum(4.0 * params["b"]) + jnp.sum(params["c"]), {}

  params, _, metrics = run(descend(("a", "b"), loss, optax.sgd(0.1)), small())
  assert_close(params, {"a": small()["a"] - 0.3, "b": small()["b"] - 0.4, "c": small()["c"]}, atol=1e-6)
  np.testing.assert_allclose(metrics["a+b_grad_norm"], np.sqrt(2 * 9 + 2 * 16), rtol=1e-6)
  np.testing.assert_allclose(metrics["a+b_loss"], 9.0 + 8.0 + 0.75, rtol=1e-6)


def test_assign_keeps_the_dtype_and_lets_no_gradient_through():
  params = {"x": jnp.float32(2.0), "half": jnp.ones(2, jnp.bfloat16)}
  write = assign("half", lambda params, batch, key: (jnp.full(2, 3.0) * params["x"], {}))
  assert write.step(params, write.init(params), None, jax.random.key(0))[0]["half"].dtype == jnp.bfloat16

  def after(x):
    return write.step({**params, "x": x}, {}, None, jax.random.key(0))[0]["half"].astype(jnp.float32).sum()

  assert jax.grad(after)(jnp.float32(2.0)) == 0.0


def test_track_is_polyak_averaging_and_rate_one_a_copy():
  a, b = small()["a"], small()["b"]
  np.testing.assert_allclose(run(track("a", into="b", rate=0.1), small())[0]["b"], 0.9 * b + 0.1 * a, rtol=1e-6)
  np.testing.assert_array_equal(run(track("a", into="b"), small())[0]["b"], a)


# Noise streams


def test_adding_a_loss_leaves_the_noise_of_the_others():
  alone = run(joint(descend("a", noisy("a"), optax.sgd(0.1))), small(), updates=2)
  first = run(
    joint(descend("b", noisy("b"), optax.sgd(0.1)), descend("a", noisy("a"), optax.sgd(0.1))), small(), updates=2
  )
  last = run(
    chain(descend("a", noisy("a"), optax.sgd(0.1)), descend("b", noisy("b"), optax.sgd(0.1))), small(), updates=2
  )
  for other in (first, last):
    np.testing.assert_array_equal(alone[0]["a"], other[0]["a"])
    assert not np.array_equal(other[2]["a_noise"], other[2]["b_noise"])
  np.testing.assert_array_equal(first[0]["b"], last[0]["b"])


def test_a_shared_stream_is_one_draw():
  def both(**streams):
    return joint(*(descend(g, noisy(g), optax.sgd(0.1), stream=streams.get(g)) for g in ("a", "b")))

  metrics = run(both(a="shared", b="shared"), small())[2]
  np.testing.assert_array_equal(metrics["a_noise"], metrics["b_noise"])
  key = jax.random.split(jax.random.key(0), 1)[0]
  np.testing.assert_array_equal(metrics["a_noise"], jax.random.normal(stream_key(key, "shared"), (2,))[0])
  assert run(both(a="shared"), small())[2]["b_noise"] != metrics["b_noise"]
  # The default stream is the name.
  named = run(descend("a", noisy("a"), optax.sgd(0.1), name="shared"), small())[2]
  np.testing.assert_array_equal(named["a_noise"], metrics["a_noise"])


# Cadence


def test_every_updates_each_nth_call_only():
  step = every(3, descend("a", quadratic("a"), optax.sgd(0.5)))
  params, state = small(), step.init(small())
  update, seen = jax.jit(step.step), []
  for _ in range(7):
    params, state, metrics = update(params, state, None, jax.random.key(0))
    seen.append((float(params["a"][0]), float(metrics["a_loss"])))
  assert [x for x, _ in seen] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
  assert [loss for _, loss in seen] == [0.0, 0.0, 2.5, 0.0, 0.0, 0.625, 0.0]
  assert step.writes == ("a",)


def test_every_moves_the_optimizer_only_when_it_runs():
  step = every(2, descend("a", quadratic("a"), optax.adam(0.1)))
  _, state, _ = run(step, small(), updates=5)
  assert int(optax.tree_utils.tree_get(state["a"], "count")) == 2
  assert_same(
    run(every(1, descend("a", noisy("a"), optax.adam(0.1))), small(), updates=2)[0],
    run(descend("a", noisy("a"), optax.adam(0.1)), small(), updates=2)[0],
  )


def test_repeat_is_the_step_again_and_again_with_fresh_noise():
  once = descend("a", noisy("a"), optax.adam(0.1))
  params, state = small(), once.init(small())
  new, _, metrics = jax.jit(repeat(3, once).step)(params, state, None, jax.random.key(4))
  values = []
  for key in jax.random.split(jax.random.key(4), 3):
    params, state, one = once.step(params, state, None, key)
    values.append(one["a_loss"])
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), new, params)
  np.testing.assert_allclose(metrics["a_loss"], np.mean(values), rtol=1e-6)
  assert repeat(3, once).writes == once.writes
  for n in (0, 1.5, True):
    with pytest.raises(ValueError, match="n is a whole number >= 1"):
      repeat(n, once)


def test_a_hard_copy_every_nth_call():
  step = chain(descend("a", quadratic("a"), optax.sgd(0.5)), every(2, track("a", into="b")))
  np.testing.assert_array_equal(run(step, small(), updates=3)[0]["b"], small()["a"] / 4)


# Bad arguments


def bad_rate(rate):
  return lambda: track("a", into="b", rate=rate)


def of(group, **kwargs):
  return descend(group, quadratic("a"), optax.sgd(0.1), **kwargs)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: joint(of("a", name="x"), of("a", name="y")), r"\['a'\] would be written twice"),
    (lambda: joint(of("a"), track("b", into="a", name="slow")), r"\['a'\] would be written twice"),
    (lambda: joint(of(("a", "b")), chain(of("b"), of("c"))), r"\['b'\] would be written twice"),
    (lambda: joint(of("a"), of("b", name="a")), r"\['a'\] stand twice"),
    (lambda: chain(of("a"), of("a")), r"\['a'\] stand twice"),
    (lambda: chain(of("a"), every(2, of("a"))), r"\['a'\] stand twice"),
    (lambda: chain(), "at least one step"),
    (lambda: joint(), "at least one step"),
    (lambda: of(()), "one or more different groups"),
    (lambda: of(("a", "a")), "one or more different groups"),
    (lambda: track("a", into="a"), "'a' for both"),
    (bad_rate(0.0), r"\(0, 1\], got 0.0"),
    (bad_rate(1.5), r"\(0, 1\], got 1.5"),
    (bad_rate(float("nan")), r"\(0, 1\], got nan"),
    (lambda: every(0, of("a")), "n is a whole number >= 1, got 0"),
    (lambda: every(-1, of("a")), "n is a whole number >= 1, got -1"),
    (lambda: every(1.5, of("a")), "n is a whole number >= 1, got 1.5"),
    (lambda: every(True, of("a")), "n is a whole number >= 1, got True"),
    (lambda: of("missing").init(small()), r"needs the parameter groups \['missing'\].*\['a', 'b', 'c'\]"),
    (lambda: track("a", into="missing").init(small()), r"\['missing'\]"),
    (lambda: assign("missing", lambda *a: ({}, {})).init(small()), r"\['missing'\]"),
    (lambda: joint(of("a"), of("missing")).init(small()), r"\['missing'\]"),
  ],
)
def test_bad_arguments_say_what_came(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_two_losses_with_one_metric_are_an_error():
  def loss(params, batch, key):
    return jnp.sum(params["a"]), {"shared": jnp.sum(params["a"])}

  step = joint(descend("a", loss, optax.sgd(0.1)), descend("b", loss, optax.sgd(0.1)))
  with pytest.raises(ValueError, match=r"\['shared'\]"):
    step.step(small(), step.init(small()), None, jax.random.key(0))


# What a step leaves alone


@pytest.mark.parametrize(
  ("axis", "own"), [("value", {"critic", "target_critic"}), ("posterior", {"actor"}), ("temperature", {"temperature"})]
)
def test_each_axis_changes_its_own_groups_and_no_bit_of_the_others(spec, config, agent_init, batch, axis, own):
  design = sac.design(spec, config)
  params = agent_init(jax.random.key(0)).params
  step = getattr(design, axis).step(design)
  new, _, metrics = jax.jit(step.step)(params, step.init(params), batch, jax.random.key(1))
  assert set(step.writes) == own
  for group in params.keys() - own:
    assert_same(params[group], new[group])
  for group in own:
    changed = jax.tree.map(lambda x, y: not np.array_equal(x, y), params[group], new[group])
    assert any(jax.tree.leaves(changed)), group
  assert metrics[f"{next(iter(own - {'target_critic'}))}_grad_norm"] > 0


def signature(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


def test_structure_shape_and_dtype_are_kept(agent, agent_init, batch):
  state = agent_init(jax.random.key(0))
  after = jax.eval_shape(agent.update, state, batch, jax.random.key(1))[0]
  assert signature(after) == signature(jax.eval_shape(lambda x: x, state))

  mixed = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2), "c": jnp.zeros((), jnp.int32)}
  step = chain(
    descend("a", lambda params, batch, key: (jnp.sum(params["a"] ** 2).astype(jnp.float32), {}), optax.adam(0.1)),
    assign("c", lambda params, batch, key: (params["c"] + 1.0, {})),
    every(2, track("a", into="b", rate=0.5)),
  )
  start = (mixed, step.init(mixed))
  assert signature(jax.eval_shape(step.step, *start, None, jax.random.key(0))[:2]) == signature(start)


# Under JAX's transforms


def test_the_second_call_does_not_retrace(agent, agent_init, spec):
  traces = []

  @jax.jit
  def update(state, batch, key):
    traces.append(None)
    return agent.update(state, batch, key)

  state = agent_init(jax.random.key(0))
  for i in range(3):
    state, _ = update(state, jax.device_put(transitions(i, (16,), spec)), jax.random.key(i))
  assert len(traces) == 1


def test_scan_is_the_python_loop(agent, agent_init, agent_update, spec):
  state = agent_init(jax.random.key(0))
  batches, keys = transitions(3, (5, 16), spec), jax.random.split(jax.random.key(1), 5)

  @jax.jit
  def scanned(state):
    return jax.lax.scan(lambda s, x: agent.update(s, *x), state, (batches, keys))

  scan_state, scan_metrics = scanned(state)
  metrics = []
  for i in range(5):
    state, new = agent_update(state, jax.tree.map(lambda x, i=i: x[i], batches), keys[i])
    metrics.append(new)
  assert_close(scan_state, state, atol=1e-6)
  assert_close(scan_metrics, jax.tree.map(lambda *x: jnp.stack(x), *metrics), atol=1e-5, rtol=1e-5)


def test_vmap_over_seeds_is_separate_runs(agent, agent_init, agent_update, batch):
  keys = jax.random.split(jax.random.key(0), 3)
  states = [agent_init(key) for key in keys]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
  together, _ = jax.jit(jax.vmap(agent.update, in_axes=(0, None, 0)))(stacked, batch, keys)
  for i, state in enumerate(states):
    apart, _ = agent_update(state, batch, keys[i])
    assert_close(jax.tree.map(lambda x, i=i: x[i], together), apart, atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_averages_gradients_to_those_of_the_global_batch(mesh, check_vma):
  rng = np.random.default_rng(0)
  params = {"w": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), "b": jnp.zeros(2), "slow": jnp.zeros((3, 2))}
  batch = (rng.normal(size=(64, 3)).astype(np.float32), rng.normal(size=(64, 2)).astype(np.float32))

  def loss(params, batch, key):
    x, y = batch
    error = jnp.tanh(x @ params["w"] + params["b"]) - y
    return jnp.mean(jnp.square(error)), {}

  def make(axis):
    return chain(
      # With rate 1 the change of the parameters is the gradient.
      joint(descend(("w", "b"), loss, optax.sgd(1.0), axis=axis), track("w", into="slow", rate=0.5)),
      every(1, descend("w", loss, optax.adam(0.01), name="again", axis=axis)),
    )

  single, parallel = make(None), make("devices")
  key = jax.random.key(0)
  expected = jax.jit(single.step)(params, single.init(params), batch, key)
  sharded = jax.shard_map(
    parallel.step, mesh=mesh, in_specs=(P(), P(), P("devices"), P()), out_specs=P(), check_vma=check_vma
  )
  actual = jax.jit(sharded)(params, parallel.init(params), batch, key)
  assert_close(actual, expected, atol=1e-6)
  assert float(expected[2]["w+b_grad_norm"]) > 0.1


@pytest.mark.parametrize("check_vma", [True, False])
def test_sac_on_eight_equal_shards_is_sac_on_one_device(mesh, spec, config, agent_init, agent_update, batch, check_vma):
  parallel = sac.make(spec, config, axis="devices")
  state, key = agent_init(jax.random.key(0)), jax.random.key(1)
  # Each device gets the same rows and the same key, so that the mean over devices is one device's own result.
  rows = jax.tree.map(lambda x: np.concatenate([x] * 8), batch)
  update = jax.jit(
    jax.shard_map(parallel.update, mesh=mesh, in_specs=(P(), P("devices"), P()), out_specs=P(), check_vma=check_vma)
  )
  assert_close(update(state, rows, key), agent_update(state, batch, key), atol=1e-5)


def test_targets_are_real_copies_and_the_state_can_be_donated(agent, agent_init, agent_update, batch):
  def pointers(tree):
    return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]

  group = {"w": jnp.ones(3)}
  assert_same(copy(group), group)
  assert set(pointers(copy(group))).isdisjoint(pointers(group))

  state, update = agent_init(jax.random.key(0)), jax.jit(agent.update, donate_argnums=0)
  assert len(set(pointers(state))) == len(pointers(state))
  assert_same(state.params["critic"], state.params["target_critic"])
  expected = agent_update(agent_update(state, batch, jax.random.key(1))[0], batch, jax.random.key(2))[0]
  first, _ = update(state, batch, jax.random.key(1))
  assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
  assert_close(update(first, batch, jax.random.key(2))[0], expected, atol=1e-6)


def test_stream_keys_depend_on_the_name_alone():
  key = jax.random.key(0)
  names = ("critic", "actor", "posterior", steps.POSTERIOR_STREAM)
  data = [tuple(np.asarray(jax.random.key_data(stream_key(key, n)))) for n in names]
  assert len(set(data)) == 3
  assert data[2] == data[3]


@pytest.fixture
def draws(monkeypatch):
  """Counts the calls of `jax.random.normal`."""
  calls, real = [], jax.random.normal

  def counted(*args, **kwargs):
    calls.append(args)
    return real(*args, **kwargs)

  monkeypatch.setattr(jax.random, "normal", counted)
  return calls


def test_share_draws_once_and_changes_no_number(batch, draws):
  def noise(params, batch, key):
    return jax.random.normal(key, (3,))

  def loss(params, batch, key):
    drawn = batch.extras["noise"] if "noise" in batch.extras else noise(params, batch, key)
    return jnp.sum(sum(params.values()) * drawn), {}

  plain = joint(*(descend(name, loss, optax.sgd(0.1), stream="noise") for name in "abc"))
  shared = share("noise", noise, plain)
  assert (shared.writes, shared.names) == (plain.writes, plain.names)
  params, key = {name: jnp.ones(3) for name in "abc"}, jax.random.key(0)
  expected = plain.step(params, plain.init(params), batch, key)
  assert len(draws) == 3
  assert_same(shared.step(params, shared.init(params), batch, key), expected)
  assert len(draws) == 4
  assert batch.extras == {}


def test_an_update_draws_the_posterior_once(agent, agent_init, batch, draws):
  """One draw at the states for policy and temperature, one at the next states for the target."""
  jax.eval_shape(lambda *arguments: agent.update(*arguments), agent_init(jax.random.key(0)), batch, jax.random.key(0))
  assert len(draws) == 2
