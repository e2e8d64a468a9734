"""Names: the catalog against Brax, `make`, `register`, and what a mistake is answered with."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from counter import Counter, brax_warnings

from varl.envs import catalog, make, names, register, registry, spec, toys
from varl.envs.trace import trace


@pytest.fixture
def clean_registry(monkeypatch):
  monkeypatch.setattr(registry, "_FACTORIES", {})


def run_python(code, folder):
  """Runs `code` in a new process in `folder`."""
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    [sys.executable, "-W", "ignore::UserWarning", "-c", code],
    capture_output=True, text=True, check=False, cwd=folder, env=environment,
  )  # fmt: skip


def test_importing_is_light_and_making_is_quiet(tmp_path):
  code = (
    "import sys, varl.envs\n"
    "assert not {'jax', 'brax', 'flax'} & set(sys.modules), 'heavy'\n"
    "varl.envs.vectorize\n"
    "assert 'brax' not in sys.modules, 'brax'\n"
    "varl.envs.make('halfcheetah')\n"
    "print('made')\n"
  )
  done = run_python(code, tmp_path)
  assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")
  # MuJoCo keeps a log file of the warnings that it prints itself.
  assert list(tmp_path.iterdir()) == []


def test_other_lines_and_warnings_are_kept(capsys):
  with registry._without_lines("Failed to import warp:"):
    print("Failed to import warp: no such module\nsomething else")
  assert capsys.readouterr().out == "something else\n"


@brax_warnings
def test_the_catalog_lists_what_brax_has():
  make("fast")
  from brax import envs

  assert {name for name, entry in catalog.CATALOG.items() if entry.source == "brax"} == set(envs._envs)


@brax_warnings
@pytest.mark.parametrize("name", catalog.CATALOG)
def test_the_catalog_states_the_true_sizes_and_what_it_lists_keeps_what_tracing_tells(name):
  entry, found = catalog.CATALOG[name], trace(make(name)).spec
  assert (found.observation_size, found.action_size) == (entry.observation_size, entry.action_size)


@brax_warnings
@pytest.mark.parametrize("backend", catalog.BACKENDS)
def test_every_backend_is_the_one_asked_for(backend):
  assert make("reacher", backend).backend == backend


@brax_warnings
def test_the_default_backend_is_generalized():
  assert make("reacher").backend == "generalized"


@brax_warnings
def test_swimmer_swims_as_in_mujoco():
  """Brax's fluid model against MuJoCo's own: the same motion under the same torques."""
  env = make("swimmer")
  state = jax.jit(env.reset)(jax.random.key_data(jax.random.key(0)))
  data = mujoco.MjData(env.sys.mj_model)
  data.qpos[:], data.qvel[:] = state.pipeline_state.q, state.pipeline_state.qd
  step, still = jax.jit(env.step), data.qpos.copy()
  for time in range(40):
    data.ctrl[:] = [np.sin(0.1 * time), -np.sin(0.1 * time)]
    state = step(state, jnp.asarray(data.ctrl, jnp.float32))
    for _ in range(4):
      mujoco.mj_step(env.sys.mj_model, data)
  assert np.abs(data.qpos - still).max() > 0.5
  np.testing.assert_allclose(state.pipeline_state.q, data.qpos, atol=2e-3)
  np.testing.assert_allclose(state.pipeline_state.qd, data.qvel, atol=1e-2)


@pytest.mark.parametrize("name", ["cartpole", "gymnax:Catch-bsuite"])
def test_what_is_not_installed_is_named_with_the_way_to_it(name, monkeypatch):
  assert not catalog.missing(name)
  monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
  assert catalog.missing(name) == "needs gymnax: pip install 'varl[gymnax]'"
  for attempt in (registry.check_name, make):
    with pytest.raises(ValueError, match=rf"environment '{name}' needs gymnax: pip install 'varl\[gymnax\]'"):
      attempt(name)


@pytest.mark.parametrize(
  ("name", "backend", "message"),
  [
    ("inverted_pendulm", None, r"unknown environment 'inverted_pendulm' \(did you mean 'inverted_pendulum'"),
    ("HalfCheetah-v4", None, "did you mean 'halfcheetah'"),
    ("qqq", None, "unknown environment 'qqq'; known are ant, fast"),
    ("ant", "bullet", "ant does not run on backend 'bullet'; it runs on generalized, spring, positional, mjx"),
    ("swimmer", "mjx", "swimmer does not run on backend 'mjx'; it runs on generalized"),
    ("point_mass", "mjx", "point_mass has no physics backend to choose; got backend 'mjx'"),
  ],
)
def test_mistakes(name, backend, message):
  for attempt in (catalog.check_name, registry.check_name, make):
    with pytest.raises(ValueError, match=message):
      attempt(name, backend)


def test_toys_take_their_arguments():
  env = make("linear_quadratic", noise=0.0)
  assert isinstance(env, toys.LinearQuadratic)
  assert env.noise == 0.0
  assert not spec(env).bounded
  assert spec(make("chain")).discrete


def test_an_object_is_returned_as_it_is():
  env = Counter()
  assert make(env) is env
  with pytest.raises(ValueError, match="takes no further arguments; got backend, noise"):
    make(env, "mjx", noise=1.0)
  with pytest.raises(ValueError, match="object is no environment"):
    make(object())


def test_register(clean_registry):
  register("mine", Counter)
  assert "mine" in names()
  assert make("mine", done_at=3).done_at == 3
  with pytest.raises(ValueError, match="did you mean 'mine'"):
    make("mime")
  with pytest.raises(ValueError, match="'mine' exists already; pass overwrite=True"):
    register("mine", Counter)
  with pytest.raises(ValueError, match="'ant' exists already"):
    register("ant", Counter)
  register("mine", toys.PointMass, overwrite=True)
  register("ant", toys.PointMass, overwrite=True)
  assert isinstance(make("mine"), toys.PointMass)
  assert isinstance(make("ant"), toys.PointMass)
  assert names().count("ant") == 1


def test_the_backend_reaches_a_registered_factory(clean_registry):
  seen = []
  register("mine", lambda backend="none": seen.append(backend) or Counter())
  make("mine")
  make("mine", "spring")
  assert seen == ["none", "spring"]


@pytest.mark.parametrize(("name", "factory"), [("", Counter), ("a:b", Counter), (3, Counter), ("fine", Counter())])
def test_register_takes_a_name_and_a_factory(clean_registry, name, factory):
  with pytest.raises(ValueError, match=r"non-empty string without a colon|must be callable"):
    register(name, factory)


def test_module_and_factory():
  assert isinstance(make("varl.envs.toys:PointMass"), toys.PointMass)
  assert make("varl.envs.toys:Chain", length=4).observation_size == 4
  for name in ("no_such_module:f", "varl.envs.toys:Missing", ":f", "varl.envs.toys:"):
    with pytest.raises(ValueError, match="cannot import environment"):
      make(name)
  with pytest.raises(ValueError, match="must name a class or function"):
    make("varl.types:__doc__")
  with pytest.raises(ValueError, match="deque is no environment"):
    make("collections:deque")
