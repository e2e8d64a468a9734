"""One batch on one device and spread over eight is one update, for every algorithm: same metrics, same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import expert, problems, small, transitions
from jax.sharding import PartitionSpec as P

from varl import agents
from varl.envs import spec, toys
from varl.loop.trainer import AXIS
from varl.step import SIDE
from varl.types import SideBatch

BATCH = 64


def build(name, axis=None):
  """The algorithm with small networks, for the toy problem whose actions it takes.

  Of a model there is one member, all of whose episodes go on, of demonstrations one row, and no row is drawn by its
  place in the batch.
  """
  module = agents.load(name)
  alone = {"members": 1, "model_ends": "never", "real_share": 1.0, "resample_below": 0.0}
  if hasattr(module.Config, "demonstrations"):
    alone["demonstrations"] = expert(spec(toys.PointMass()), rows=1)
  continuous, discrete = problems(module)
  config = small(module, **{field: value for field, value in alone.items() if hasattr(module.Config, field)})
  try:
    return module.make(spec(continuous), config, axis=axis)
  except ValueError:
    return module.make(spec(discrete), config, axis=axis)


def batch_for(agent, state):
  """Rows that differ from device to device, with all that an update reads."""
  batch = jax.tree.map(jnp.asarray, transitions(0, (BATCH,), agent.spec))
  place = jnp.repeat(jnp.linspace(-1.0, 1.0, 8), BATCH // 8)
  batch = batch._replace(obs=batch.obs + place[:, None], reward=batch.reward + 3.0 * place)
  action, _, extras = agent.act(state.params, agent.carry(BATCH), batch.obs, jax.random.key(1))
  batch = batch._replace(action=action)
  if agent.on_policy:
    log_prob = extras["log_prob"] + 0.3 * jax.random.normal(jax.random.key(2), (BATCH,))
    one_step = jax.tree.map(lambda x: x[None], batch._replace(extras=extras))
    extras = jax.tree.map(lambda x: x[0], agent.prepare(state, one_step, jax.random.key(3)).extras)
    return batch._replace(
      extras={**extras, "log_prob": log_prob, "advantage": batch.reward, "value_target": 2.0 * batch.reward}
    )
  if agent.side_batch:
    return batch._replace(extras={SIDE: SideBatch(batch, jnp.int32(10**6))})
  return batch


@pytest.fixture
def one_noise(monkeypatch):
  """Noise `[n, B, d]` that is the same in every row of a batch, so that it is the same however the rows are spread."""

  def in_every_row(draw):
    def drawn(key, shape, *args, **kwargs):
      if draw is uniform:  # of points between rows [B, 1]
        return jnp.broadcast_to(draw(key, (), *args, **kwargs), shape)
      if len(shape) == 2 and draw is normal:  # of a model's outcome [B, d]
        return jnp.broadcast_to(draw(key, shape[1:], *args, **kwargs), shape)
      narrow = (shape[0], *(1,) * (len(shape) - 2), *shape[1:][-1:])
      return jnp.broadcast_to(draw(key, narrow, *args, **kwargs), shape)

    return drawn

  normal, uniform = jax.random.normal, jax.random.uniform
  for name in ("normal", "gumbel", "logistic", "uniform"):
    monkeypatch.setattr(jax.random, name, in_every_row(getattr(jax.random, name)))


@pytest.mark.parametrize("name", list(agents.AGENTS))
def test_eight_devices_report_and_learn_what_one_does(name, mesh, request):
  one, eight = build(name), build(name, AXIS)
  state = jax.jit(one.init)(jax.random.key(0))
  batch = batch_for(one, state)
  request.getfixturevalue("one_noise")
  rows = jax.tree.map(lambda x: P(AXIS) if jnp.ndim(x) else P(), batch)
  spread = jax.shard_map(eight.update, mesh=mesh, in_specs=(P(), rows, P()), out_specs=(P(), P()), check_vma=False)
  wanted, metrics = jax.jit(one.update)(state, batch, jax.random.key(3))
  got, spread_metrics = jax.jit(spread)(state, batch, jax.random.key(3))
  assert spread_metrics.keys() == metrics.keys()
  imagined = {metric for metric in metrics if metric.startswith("imagined_")}  # from rows drawn by their place
  for metric, value in ((metric, metrics[metric]) for metric in metrics.keys() - imagined):
    np.testing.assert_allclose(spread_metrics[metric], value, rtol=1e-3, atol=1e-5, err_msg=metric)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), got.params, wanted.params)
