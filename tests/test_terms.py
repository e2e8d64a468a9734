"""Terms in the losses of a design's gradient steps: against an update by hand, and under every transform."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import transitions
from jax.sharding import PartitionSpec as P

import varl
from experiments.peers import sac_by_hand
from varl import optimizers, policies
from varl.agents import sac, trpo, vmpo
from varl.networks import Network
from varl.step import POSTERIOR_STREAM, chain, descend, every, joint, repeat, share, stream_key, track
from varl.types import Spec, Term

CONFIG = sac.Config(hidden=(8, 8), learning_rate=1e-3, max_grad_norm=0.5, normalize_observations=False)
DEMONSTRATIONS = (np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4), np.float32([[0.9, -0.4]] * 5))


def cloning(design):
  """-log π of demonstrations, which reports the mean density."""
  obs, action = DEMONSTRATIONS

  def loss(params, batch, key):
    log_prob = design.posterior.log_prob(params, varl.scaled(params, obs), jnp.arctanh(action))
    return -jnp.mean(log_prob), {"cloning_density": jnp.mean(jnp.exp(log_prob))}

  return loss


def cloned(spec, config, weight):
  """SAC with the term, as an agent."""
  design = sac.design(spec, config)
  posterior = varl.with_term(design.posterior, cloning(design), name="cloning", weight=weight)
  head, normalize = policies.tanh_gaussian(spec.action_size), config.normalize_observations
  return varl.agent(design._replace(posterior=posterior), spec, head, normalize_observations=normalize)


def updates(agent, spec, n=3):
  state, update = jax.jit(agent.init)(jax.random.key(0)), jax.jit(agent.update)
  for i in range(n):
    state, metrics = update(state, transitions(i, (16,), spec), jax.random.key(10 + i))
  return state, metrics


def test_sac_with_a_term_is_the_update_of_the_summed_loss_by_hand(spec):
  weight, optimizer = 3.0, optimizers.adam(CONFIG.learning_rate, max_grad_norm=CONFIG.max_grad_norm)
  state, metrics = updates(cloned(spec, CONFIG, weight), spec)
  obs, action = DEMONSTRATIONS

  def density(actor):
    mean, rho = jnp.split(sac_by_hand._dense(actor, obs), 2, axis=-1)
    std, raw = 1e-3 + jax.nn.softplus(rho + sac_by_hand._SHIFT), jnp.arctanh(action)
    normal = -0.5 * ((raw - mean) / std) ** 2 - jnp.log(std) - 0.5 * np.log(2 * np.pi)
    return (normal - jnp.log(1 - action**2)).sum(-1)

  def actor_loss(actor, params, batch, key):
    raw, log_prob = sac_by_hand._policy(actor, batch.obs, jax.random.normal(stream_key(key, "posterior"), (16, 2)))
    q = sac_by_hand._q(params["critic"], batch.obs, raw).min(0)
    return (jnp.exp(params["temperature"]) * log_prob - q).mean() - weight * density(actor).mean()

  @jax.jit
  def by_hand(params, opt, batch, key):
    # Everything but the actor, whose gradient is the sum's: clipped, and scaled by Adam, as one.
    new, new_opt = sac_by_hand.update(params, opt, batch, key, optimizer=optimizer)
    grads = jax.grad(actor_loss)(params["actor"], params, batch, key)
    change, new_opt["actor"] = optimizer.update(grads, opt["actor"])
    return {**new, "actor": optax.apply_updates(params["actor"], change)}, new_opt, optax.tree.norm(grads)

  params = jax.jit(sac.make(spec, CONFIG).init)(jax.random.key(0)).params
  opt = {name: optimizer.init(params[name]) for name in sac_by_hand.LEARNED}
  for i in range(3):
    before = params
    params, opt, norm = by_hand(params, opt, transitions(i, (16,), spec), jax.random.key(10 + i))
  assert norm > CONFIG.max_grad_norm  # so that clipping the sum is not clipping the parts
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), state.params, params)
  np.testing.assert_allclose(metrics["actor_grad_norm"], norm, rtol=1e-4)
  np.testing.assert_allclose(metrics["cloning_loss"], -density(before["actor"]).mean(), rtol=1e-4)
  np.testing.assert_allclose(metrics["cloning_density"], jnp.exp(density(before["actor"])).mean(), rtol=1e-4)
  plain, _ = updates(sac.make(spec, CONFIG), spec)
  assert max(np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (plain.params, params)), strict=True)) > 1e-3


def test_a_weight_of_zero_changes_nothing_and_still_reports(spec):
  """But for rounding: XLA may fuse the shared forward pass in another way where its result is reported, too."""
  plain, expected = updates(sac.make(spec, CONFIG), spec)
  state, metrics = updates(cloned(spec, CONFIG, 0.0), spec)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, state, plain)
  assert {"cloning_loss", "cloning_density"} == metrics.keys() - expected.keys()
  jax.tree.map(close, {name: metrics[name] for name in expected}, expected)


def test_the_actor_goes_to_the_demonstrations_as_the_weight_grows(spec):
  """One program for all weights; what the policy's means miss the demonstrated actions by falls with the weight."""
  batch = transitions(0, (16,), spec)

  @jax.jit
  @jax.vmap
  def miss(weight):
    agent = cloned(spec, dataclasses.replace(CONFIG, max_grad_norm=0.0, learning_rate=3e-3), weight)

    def one(state, key):
      return agent.update(state, batch, key)[0], ()

    state, _ = jax.lax.scan(one, agent.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 400))
    mean = agent.mode(state.params, (), DEMONSTRATIONS[0], jax.random.key(0))[0]
    return jnp.abs(jnp.tanh(mean) - DEMONSTRATIONS[1]).mean()

  missed = np.asarray(miss(jnp.float32([0.0, 0.03, 0.3, 3.0, 30.0])))
  assert (np.diff(missed) < 0).all(), missed
  assert missed[0] > 0.3
  assert missed[-1] < 0.05


def test_a_term_sees_scaled_observations_and_can_scale_its_own(spec):
  """The moments are those of frames with mean 5 and deviation 3; the term's metrics say what it saw."""
  seen = np.random.default_rng(0).normal(5.0, 3.0, (64, 4)).astype(np.float32)
  design = sac.design(spec, dataclasses.replace(CONFIG, normalize_observations=True))

  def loss(params, batch, key):
    own = varl.scaled(params, seen)
    return jnp.zeros(()), {"of_batch": batch.obs.mean(), "of_own": own.mean(), "deviation": own.std()}

  posterior = varl.with_term(design.posterior, loss, name="nothing")
  agent = varl.agent(design._replace(posterior=posterior), spec, policies.tanh_gaussian(2))
  frames = transitions(0, (64,), spec)._replace(obs=seen, next_obs=seen)
  state = agent.observe(agent.init(jax.random.key(0)), frames, jnp.ones(64, bool))
  _, metrics = agent.update(state, frames, jax.random.key(0))
  for name in ("of_batch", "of_own"):
    np.testing.assert_allclose(metrics[name], 0.0, atol=1e-5)
  np.testing.assert_allclose(metrics["deviation"], 1.0, rtol=1e-4)
  np.testing.assert_array_equal(varl.scaled({}, seen), seen)


# The step itself


def small():
  return {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, -1.0])}


def square(params, batch, key):
  return 0.5 * jnp.sum(jnp.square(params["a"])), {}


def noise(params, batch, key):
  drawn = jax.random.normal(key, (2,))
  return jnp.sum(params["a"] * drawn), {"drawn": drawn[0]}


def of(term=noise, **change):
  fields = {"name": "noise", "loss": term, "weight": 2.0, "into": "a", "stream": "noise", **change}
  return descend("a", square, optax.sgd(1.0), terms=[Term(**fields)])


def test_the_noise_of_a_term_is_of_its_stream(batch):
  key = jax.random.key(3)
  for stream in ("noise", "another"):
    new, _, metrics = of(stream=stream).step(small(), {"a": (optax.EmptyState(),) * 2}, None, key)
    drawn = jax.random.normal(stream_key(key, stream), (2,))
    np.testing.assert_allclose(new["a"], -2.0 * drawn, atol=1e-6)
    np.testing.assert_allclose(metrics["noise_loss"], jnp.sum(small()["a"] * drawn), rtol=1e-6)
    np.testing.assert_allclose(metrics["a_loss"], 2.5 + 2.0 * metrics["noise_loss"], rtol=1e-6)


def test_a_term_of_the_posteriors_stream_sees_the_actions_that_the_update_shares(spec):
  design = sac.design(spec, CONFIG)

  def loss(params, batch, key):
    drawn = design.posterior.particles(design, params, batch, key)
    return jnp.zeros(()), {"own_entropy": -jnp.mean(drawn.log_ratio)}

  for stream, equal in ((POSTERIOR_STREAM, True), ("elsewhere", True)):  # shared: whatever the key
    posterior = varl.with_term(design.posterior, loss, name="look", stream=stream)
    agent = varl.agent(design._replace(posterior=posterior), spec, policies.tanh_gaussian(2))
    _, metrics = updates(agent, spec, 1)
    assert (metrics["own_entropy"] == metrics["entropy"]) == equal
  # By the step alone nothing is shared, and the stream decides.
  for stream, equal in ((POSTERIOR_STREAM, True), ("elsewhere", False)):
    step = varl.with_term(design.posterior, loss, name="look", stream=stream).step(design)
    params = sac.make(spec, CONFIG).init(jax.random.key(0)).params
    metrics = step.step(params, step.init(params), transitions(0, (16,), spec), jax.random.key(0))[2]
    assert (abs(metrics["own_entropy"] - metrics["entropy"]) < 1e-5) == equal


def test_every_combinator_keeps_what_it_says_of_its_losses():
  plain, other = of(), descend("b", lambda params, batch, key: (jnp.sum(params["b"]), {}), optax.sgd(0.1))
  for step in (
    chain(plain, other, track("a", into="b", name="slow")),
    joint(plain, other),
    every(2, joint(plain, other)),
    repeat(3, joint(plain, other)),
    share("x", lambda params, batch, key: 0, joint(plain, other)),
  ):
    assert (step.descends, step.terms) == (("a", "b"), ("noise",))
  assert (track("a", into="b").descends, of(into="b").terms) == ((), ())


@pytest.mark.parametrize("check_vma", [True, False])
def test_on_several_devices_the_gradient_is_that_of_the_whole_batch(mesh, check_vma):
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(64, 2)).astype(np.float32)

  def loss(params, batch, key):
    return jnp.mean(jnp.square(batch - params["a"])), {}

  def term(params, batch, key):
    return jnp.mean(jnp.exp(batch @ params["a"])), {"largest": jnp.mean(batch[:, 0])}

  def make(axis):
    return descend("a", loss, optax.sgd(1.0), axis=axis, terms=[Term("extra", term, 0.3, "a", "extra")])

  key = jax.random.key(0)
  expected = make(None).step(small(), make(None).init(small()), rows, key)
  mapped = jax.shard_map(
    make("devices").step, mesh=mesh, in_specs=(P(), P(), P("devices"), P()), out_specs=P(), check_vma=check_vma
  )
  got = jax.jit(mapped)(small(), make(None).init(small()), rows, key)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), got, expected)


def test_dtypes_are_kept_where_a_term_has_more_digits():
  with jax.enable_x64(True):
    params = {"a": jnp.array([1.0, 2.0], jnp.float32)}
    step = of(lambda params, batch, key: (jnp.sum(params["a"].astype(jnp.float64)), {}), weight=np.float64(0.5))
    state = step.init(params)
    new, _, metrics = jax.jit(step.step)(params, state, None, jax.random.key(0))
    assert new["a"].dtype == jnp.float32
    np.testing.assert_array_equal(new["a"], [-0.5, -0.5])
    assert metrics["noise_loss"] == 3.0


# What is refused


def constant(outputs):
  return Network(lambda key: jnp.zeros(outputs), lambda params, x: jnp.broadcast_to(params, (*x.shape[:-1], outputs)))


def nothing(params, batch, key):
  return jnp.zeros(()), {}


def glue(design, spec=None):
  return varl.agent(design, Spec(4, 2) if spec is None else spec, policies.tanh_gaussian(2))


def with_prior(**given):
  design = vmpo.design(Spec(4, 2), vmpo.Config(hidden=(8,)))
  return glue(design._replace(prior=varl.with_term(design.prior, nothing, name="extra", **given)))


def untold(design):
  """A posterior whose step was written without terms."""
  step = descend("actor", nothing, optax.sgd(0.1))
  return design.posterior._replace(step=lambda design: step)


SAC = sac.design(Spec(4, 2), CONFIG)
TRPO = trpo.design(Spec(4, 2), trpo.Config(hidden=(8,)))


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: varl.with_term(SAC.prior, nothing, name="x"), "a term 'x' joins a loss, but this prior learns nothing"),
    (lambda: varl.with_term(SAC.value, nothing, name="x", weight=np.inf), "the weight of a term is finite, got inf"),
    (
      lambda: glue(TRPO._replace(posterior=varl.with_term(TRPO.posterior, nothing, name="x"))),
      r"the gradient steps of this posterior are \[\]: \['actor'\] are none",
    ),
    (with_prior, r"of this prior are \['actor', 'actor_bounds'\]: say which one the term 'extra' joins by `into`"),
    (lambda: with_prior(into="critic"), r"the term 'extra' joins 'critic', but the gradient steps of this prior are"),
    (
      lambda: glue(SAC._replace(posterior=varl.with_term(untold(SAC), nothing, name="x"))),
      r"'actor' takes no terms: it is made without `descend\(..., terms=design.terms\)`",
    ),
    (
      lambda: glue(SAC._replace(value=varl.with_term(varl.with_term(SAC.value, nothing, name="x"), nothing, name="x"))),
      r"the terms of one loss have different names.*got \('x', 'x'\)",
    ),
    (lambda: of(name="a"), r"another than its own 'a'; got \('a',\)"),
    (lambda: glue(SAC._replace(terms=(Term("x", nothing, 1.0, "actor", "x"),))), r"varl.with_term\(design.posterior"),
  ],
)
def test_a_term_that_finds_no_loss_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize("into", ["actor", "actor_bounds"])
def test_one_of_several_gradient_steps_is_chosen_by_name(into):
  assert with_prior(into=into).spec == Spec(4, 2)


@pytest.mark.parametrize(
  ("loss", "message"),
  [
    (lambda params, batch, key: params["a"].sum(), r"'x' returns \(scalar, metrics\), the metrics a dict; got \w+"),
    (lambda params, batch, key: (params["a"].sum(), 3), r"the metrics a dict; got \(\w+, int\)"),
    (lambda params, batch, key: (params["a"], {}), r"the loss of 'x' is a scalar, .* mean .*; got shape \(2,\)"),
  ],
)
def test_a_loss_that_is_none_says_what_it_gave(loss, message):
  for step in (descend("a", loss, optax.sgd(0.1), name="x"), of(loss, name="x")):
    with pytest.raises(ValueError, match=message):
      step.step(small(), step.init(small()), None, jax.random.key(0))


def test_a_counter_among_the_arrays_that_are_descended_is_refused():
  params = {"a": {"w": jnp.zeros(2), "count": jnp.int32(0)}}
  with pytest.raises(
    ValueError, match=r"step 'a' descends on arrays of floating point, but \['a'\]\['count'\] is int32"
  ):
    descend("a", square, optax.sgd(0.1)).init(params)


def test_a_metric_that_the_loss_has_already_is_refused():
  step = of(lambda params, batch, key: (jnp.zeros(()), {"noise_loss": jnp.zeros(())}), name="noise")
  step.step(small(), step.init(small()), None, jax.random.key(0))
  step = descend("a", noise, optax.sgd(0.1), terms=[Term("x", noise, 1.0, "a", "x")])
  with pytest.raises(ValueError, match=r"two steps report the metrics \['drawn'\]"):
    step.step(small(), step.init(small()), None, jax.random.key(0))
