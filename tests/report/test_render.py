"""Episodes as pages: the states of one episode, and what the page holds of them."""

import base64
import hashlib
import html.parser
import importlib.resources
import json
import re
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from varl.envs import toys
from varl.report import render

with warnings.catch_warnings():
  warnings.filterwarnings("ignore", "JAXopt is no longer", DeprecationWarning)
  import brax.base
  import brax.envs
  import brax.io.mjcf
  import brax.kinematics

pytestmark = pytest.mark.filterwarnings(
  "ignore:Brax System:UserWarning", "ignore:Accessing `[a-z]+` directly from `Data`:DeprecationWarning"
)

_PENDULUM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 -1" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="20" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Pendulum(brax.envs.PipelineEnv):
  """A pendulum that turns as it is pushed, done once it is past `limit`; the reward is 1 a step.

  Brax's own system, states and kinematics, but motion by hand: its physics take many seconds to compile.
  """

  def __init__(self, limit=10.0):
    super().__init__(brax.io.mjcf.loads(_PENDULUM), backend="positional", n_frames=2)
    self.limit = limit

  def pipeline_init(self, q, qd):
    x, xd = brax.kinematics.forward(self.sys, q, qd)
    return brax.base.State(q, qd, x, xd, contact=None)

  def pipeline_step(self, pipeline_state, action):
    return self.pipeline_init(pipeline_state.q + 0.05 * action, action)

  def reset(self, rng):
    return self._state(self.pipeline_init(0.1 * jax.random.uniform(rng, (1,)), jnp.zeros(1)), jnp.zeros(()))

  def step(self, state, action):
    return self._state(self.pipeline_step(state.pipeline_state, action), jnp.ones(()))

  def _state(self, pipeline_state, reward):
    done = (jnp.abs(pipeline_state.q[0]) > self.limit).astype(jnp.float32)
    return brax.envs.State(pipeline_state, jnp.concatenate([pipeline_state.q, pipeline_state.qd]), reward, done)


def scripts(page):
  """Every script of a page, as (attributes, text)."""
  found = []

  class Parser(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
      if tag == "script":
        found.append([dict(attributes), ""])

    def handle_data(self, data):
      if self.cdata_elem == "script":
        found[-1][1] += data

  Parser().feed(page)
  return found


def _push(obs, key):
  return jnp.ones(1) * (obs.shape == (2,))


def test_the_states_are_those_of_stepping_by_hand():
  env = Pendulum()
  key = jax.random.key(3)
  states, total = render.episode(env, _push, key, 5)
  assert len(states) == 6
  assert total == 5.0
  state = jax.jit(env.reset)(jax.random.key_data(jax.random.split(key)[0]))
  step = jax.jit(env.step)
  for found in states:
    np.testing.assert_allclose(found.pipeline_state.q, state.pipeline_state.q, rtol=1e-5, atol=1e-6)
    assert found.pipeline_state.x.pos.shape == (1, 3)
    state = step(state, jnp.ones(1))


def test_the_episode_ends_where_it_is_done_with_its_last_state():
  env = Pendulum(limit=1.0)
  states, _ = render.episode(env, _push, jax.random.key(0), 200)
  assert 2 < len(states) < 100
  angles = [float(abs(state.pipeline_state.q[0])) for state in states]
  assert angles[-1] > 1.0
  assert max(angles[:-1]) <= 1.0


def test_an_action_is_held_for_action_repeat_steps():
  env = Pendulum()
  key = jax.random.key(0)

  def by_key(obs, key):
    return jax.random.uniform(key, (1,), minval=-1.0)

  moves = {}
  for repeat in (1, 3):
    states, _ = render.episode(env, by_key, key, 6, action_repeat=repeat)
    moves[repeat] = np.diff([state.pipeline_state.q[0] for state in states]) / 0.05
  act_key = jax.random.split(key)[1]
  fresh = [float(by_key(None, jax.random.fold_in(act_key, time))[0]) for time in range(6)]
  np.testing.assert_allclose(moves[1], fresh, rtol=1e-4)
  np.testing.assert_allclose(moves[3], [fresh[0]] * 3 + [fresh[3]] * 3, rtol=1e-4)


def test_the_page_holds_every_state_and_plays_in_real_time(tmp_path):
  env = Pendulum()
  states, _ = render.episode(env, _push, jax.random.key(0), 7)
  path = render.page(env, states, tmp_path / "pages" / "episode.html")
  page = path.read_text()
  packed = next(text for attributes, text in scripts(page) if attributes.get("id") == "episode")
  system = json.loads(zlib.decompress(base64.b64decode(packed)))
  assert len(system["states"]["x"]) == 8
  assert system["opt"]["timestep"] == pytest.approx(0.02)  # n_frames=2 of 0.01 s
  np.testing.assert_allclose(system["states"]["x"][3]["rot"], states[3].pipeline_state.x.rot, rtol=1e-6)


def test_the_page_needs_no_other_host(tmp_path):
  env = Pendulum()
  states, _ = render.episode(env, _push, jax.random.key(0), 2)
  page = render.page(env, states, tmp_path / "episode.html").read_text()
  addresses = re.findall(r"""\b(?:src|href|action|data)\s*=\s*["']?([^"'\s>]+)""", page) + re.findall(
    r"url\(([^)]*)\)", page
  )
  assert addresses == ["data:,"]
  assert "default-src 'none'" in page  # so that a browser refuses what is not in the page
  modules = {}
  for attributes, text in scripts(page):
    if attributes.get("type") == "importmap":
      modules |= json.loads(text)["imports"]
  sources = [text for attributes, text in scripts(page) if attributes.get("type") == "module"]
  for address in modules.values():
    kind, _, content = address.partition(",")
    assert kind == "data:text/javascript;base64"
    sources.append(base64.b64decode(content).decode())
  imported = {
    name for text in sources for name in re.findall(r"""\b(?:from|import\s*\(?)\s*["']([^"'\n]+)["']""", text)
  }
  assert {"three", "lilgui", "brax/viewer.js", "brax/system.js"} <= imported <= modules.keys()
  for text in sources:
    assert not re.search(r"\b(?:importScripts|sendBeacon|WebSocket|EventSource)\b", text)


def test_vendored_scripts_are_those_that_the_notice_names():
  viewer = importlib.resources.files("varl.report").joinpath("viewer")
  named = dict(
    re.findall(r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", viewer.joinpath("NOTICE.md").read_text(), re.MULTILINE)
  )
  assert set(named) == {file.name for file in viewer.iterdir() if file.name.endswith(".js")}
  for name, digest in named.items():
    assert hashlib.sha256(viewer.joinpath(name).read_bytes()).hexdigest() == digest, name


def test_a_viewer_that_needs_more_than_is_brought_is_refused(monkeypatch):
  monkeypatch.delitem(render._VENDORED, "lilgui")
  with pytest.raises(RuntimeError, match="imports lilgui, which varl does not bring"):
    render._modules()


def test_a_title_is_text(tmp_path):
  env = Pendulum()
  states, _ = render.episode(env, _push, jax.random.key(0), 2)
  page = render.page(env, states, tmp_path / "x.html", title="</title><script>{{episode}}").read_text()
  assert "<title>&lt;/title&gt;&lt;script&gt;{{episode}}</title>" in page


def test_a_page_is_replaced_and_another_file_is_not(tmp_path):
  env = Pendulum()
  states, _ = render.episode(env, _push, jax.random.key(0), 2)
  path = render.page(env, states, tmp_path / "x.html", title="first")
  render.page(env, states, path, title="second")
  assert "<title>second</title>" in path.read_text()
  path.write_bytes(b"\xffnotes")
  with pytest.raises(
    ValueError, match=r"x\.html exists and is no page of varl's; overwrite \(--overwrite\) replaces it"
  ):
    render.page(env, states, path)
  assert path.read_bytes() == b"\xffnotes"
  render.page(env, states, path, title="third", overwrite=True)
  assert "<title>third</title>" in path.read_text()


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.mp4", "x", "x.html.gz", ".html"])
def test_what_is_no_page_is_not_written(name, tmp_path):
  with pytest.raises(ValueError, match=r"rendered as a page FILE\.html, or as a film FILE\.gif or FILE\.mp4, got "):
    render.check_path(tmp_path / name)


def test_a_path_that_cannot_be_a_file(tmp_path):
  (tmp_path / "dir.html").mkdir()
  with pytest.raises(ValueError, match=r"dir\.html is a directory"):
    render.check_path(tmp_path / "dir.html", overwrite=True)
  (tmp_path / "file").touch()
  with pytest.raises(ValueError, match=r"cannot be written: .*file is no directory"):
    render.check_path(tmp_path / "file" / "pages" / "x.html")
  assert render.check_path(tmp_path / "new" / "pages" / "x.html") == tmp_path / "new" / "pages" / "x.html"


def test_a_shape_that_the_viewer_cannot_draw(tmp_path):
  env = Pendulum()
  env.sys = brax.io.mjcf.loads(
    _PENDULUM.replace('type="capsule" fromto="0 0 0 0 0 -1" size="0.05"', 'type="ellipsoid" size="1 2 3"')
  )
  states, _ = render.episode(env, _push, jax.random.key(0), 2)
  with pytest.raises(ValueError, match="viewer cannot draw a shape of Pendulum: MuJoCo's geometry type 4"):
    render.page(env, states, tmp_path / "x.html")
  assert not list(tmp_path.iterdir())


def test_a_wrapped_environment_is_unwrapped(tmp_path):
  class Wrapper(brax.envs.Wrapper):
    pass

  env = Wrapper(Pendulum())
  states, _ = render.episode(env, _push, jax.random.key(0), 2)
  assert render.page(env, states, tmp_path / "x.html").stat().st_size > 1000


def test_what_cannot_be_rendered(tmp_path):
  with pytest.raises(ValueError, match=r"a page is of a Brax environment .*, not of LinearQuadratic"):
    render.page(toys.LinearQuadratic(), [1], tmp_path / "x.html")
  with pytest.raises(ValueError, match="no states"):
    render.page(Pendulum(), [], tmp_path / "x.html")
  with pytest.raises(ValueError, match="episode_length is a whole number >= 1, got 0"):
    render.episode(Pendulum(), _push, jax.random.key(0), 0)
  assert not list(tmp_path.iterdir())
