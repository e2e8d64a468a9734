"""Networks: the arithmetic of an MLP, and that an ensemble is its members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl import networks


def test_an_mlp_by_hand():
  network = networks.mlp(2, 1, hidden=(2,), activation="relu")
  params = {
    "params": {
      "Dense_0": {"kernel": jnp.array([[1.0, -1.0], [2.0, 0.5]]), "bias": jnp.array([0.5, 0.0])},
      "Dense_1": {"kernel": jnp.array([[3.0], [-2.0]]), "bias": jnp.array([1.0])},
    }
  }
  assert jax.tree.structure(jax.eval_shape(network.init, jax.random.key(0))) == jax.tree.structure(params)
  # (1, 1): relu(3.5, -0.5) = (3.5, 0) -> 11.5;  (-2, 0): relu(-1.5, 2) = (0, 2) -> -3
  x = np.float32([[1.0, 1.0], [-2.0, 0.0]])
  for run in (lambda f: f, jax.jit):
    np.testing.assert_allclose(run(network.apply)(params, x), [[11.5], [-3.0]], rtol=1e-6)


@pytest.mark.parametrize("activation", sorted(networks.ACTIVATIONS))
def test_activations(activation):
  network = networks.mlp(1, 1, hidden=(1,), activation=activation)
  one = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
  x = np.float32([[-2.0], [0.0], [1.5]])
  expected = networks.ACTIVATIONS[activation](x)
  np.testing.assert_allclose(network.apply({"params": {"Dense_0": one, "Dense_1": one}}, x), expected, rtol=1e-6)
  assert not np.allclose(expected, x)


def test_layer_norm_makes_the_hidden_layer_blind_to_scale():
  plain = networks.mlp(3, 2, hidden=(8,))
  normed = networks.mlp(3, 2, hidden=(8,), layer_norm=True)
  x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  for network, blind in ((plain, False), (normed, True)):
    params = jax.jit(network.init)(jax.random.key(0))
    assert np.allclose(network.apply(params, x), network.apply(params, 100 * x), rtol=1e-2) is blind


def test_leading_axes_are_batches():
  network = networks.mlp(3, 2, hidden=(8, 8))
  params = jax.jit(network.init)(jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
  out = network.apply(params, x)
  assert out.shape == (5, 4, 2)
  np.testing.assert_allclose(out[3, 1], network.apply(params, x[3, 1]), rtol=1e-5, atol=1e-6)
  assert networks.mlp(3, 2, hidden=()).apply(networks.mlp(3, 2, hidden=()).init(jax.random.key(0)), x).shape == (
    5,
    4,
    2,
  )


def test_spectral_layers_stretch_by_1():
  plain = networks.mlp(5, 3, hidden=(8, 8), activation="tanh")
  network = networks.spectral(networks.ensemble(plain, 2), iterations=200)
  params = jax.tree.map(lambda x: 3.0 * x, network.init(jax.random.key(0)))
  x = jax.random.normal(jax.random.key(1), (4, 5))

  def divided(path, leaf):
    return leaf / np.linalg.norm(leaf, ord=2, axis=(-2, -1), keepdims=True) if path[-1].key == "kernel" else leaf

  wanted = networks.ensemble(plain, 2).apply(jax.tree_util.tree_map_with_path(divided, params), x)
  np.testing.assert_allclose(network.apply(params, x), wanted, atol=1e-4)
  assert np.isfinite(network.apply(jax.tree.map(jnp.zeros_like, params), x)).all()
  with pytest.raises(ValueError, match="iterations is a whole number >= 1, got 0"):
    networks.spectral(plain, iterations=0)


def test_an_ensemble_is_its_members():
  network = networks.mlp(3, 1, hidden=(8,))
  ensemble = networks.ensemble(network, 4)
  params = jax.jit(ensemble.init)(jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
  out = np.asarray(jax.jit(ensemble.apply)(params, x))
  assert out.shape == (4, 6, 5, 1)
  for i in range(4):
    member = jax.tree.map(lambda p, i=i: p[i], params)
    np.testing.assert_allclose(out[i], network.apply(member, x), rtol=1e-5, atol=1e-6)
    assert not any(np.allclose(out[i], out[j]) for j in range(i))


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: networks.mlp(0, 1), "inputs is a whole number >= 1, got 0"),
    (lambda: networks.mlp(1, 0), "outputs is a whole number >= 1, got 0"),
    (lambda: networks.mlp(1, 1, hidden=(32, 0)), "each width of hidden is a whole number >= 1, got 0"),
    (lambda: networks.mlp(1, 1, activation="sigmoid"), r"\['elu', 'gelu', 'relu', 'silu', 'tanh'\], got 'sigmoid'"),
    (lambda: networks.ensemble(networks.mlp(1, 1), 0), "size is a whole number >= 1, got 0"),
  ],
)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
