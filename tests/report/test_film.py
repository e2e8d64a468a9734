"""Episodes as moving pictures: what is drawn, in which time, and what cannot be."""

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from varl.envs import Asymmetric, MultiDiscrete, Partial, State, Tasks, make, tabular, tasks, toys, with_skill
from varl.envs.classics import DRAWINGS
from varl.report import film, render


def first(env):
  return jax.device_get(env.reset(jax.random.key_data(jax.random.key(0))))


def picture(env, state, **size):
  return next(film.frames(env, [state], **size))


@pytest.mark.parametrize(
  "env",
  [
    toys.PointMass(), toys.MultiGoal(), toys.Chain(4), tabular.gridworld(["S.#", "..G"]), tasks.gridworlds(3),
    with_skill(toys.PointMass(), 2), Partial(toys.PointMass(), (0, 1)),
    Tasks([toys.PointMass((1.0, 0.0)), toys.PointMass()]).only(1),
  ],
  ids=lambda env: type(env).__name__,
)  # fmt: skip
def test_a_step_is_seen(env):
  action = jnp.int32(1) if getattr(env, "discrete", False) else jnp.ones(env.action_size)

  def policy(obs, key):
    return action

  states, _ = render.episode(env, policy, jax.random.key(1), 4)
  shown = list(film.frames(env, states, width=120, height=120))
  assert len(shown) == len(states)
  for each in shown:
    assert each.shape == (120, 120, 3)
    assert each.dtype == np.uint8
  assert (shown[0] != shown[-1]).any()
  assert (shown[0] < 250).mean() > 0.001  # not empty


def test_the_mass_is_where_it_is():
  env = toys.PointMass()
  dark = []
  for x in (-1.0, 1.0):
    state = State(obs=np.array([x, 0.5, 0.0, 0.0]), reward=0.0, done=0.0)
    blue = picture(env, state, width=200, height=200).astype(int)
    where = np.argwhere((blue[..., 2] - blue[..., 0]) > 60)
    dark.append(where.mean(axis=0))
  assert dark[0][1] < 80 < 120 < dark[1][1]
  assert all(where[0] < 95 for where in dark)  # above the middle


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_the_classics(name):
  pytest.importorskip("gymnax")
  env = make(f"gymnax:{name}")
  state = first(env)
  assert (picture(env, state) < 250).mean() > 0.001
  assert film.can_draw(env)
  assert 0.0 < env.dt <= 0.2


def test_a_pendulum_points_where_gymnax_says():
  pytest.importorskip("gymnax")
  env = make("pendulum")
  state = first(env)
  inner, stream = state.data
  heights = []
  for angle in (0.0, np.pi):
    shown = picture(env, state.replace(data=(inner.replace(theta=np.float32(angle)), stream)))
    orange = (shown[..., 0].astype(int) - shown[..., 2]) > 100
    heights.append(np.argwhere(orange)[:, 0].mean())
  assert heights[0] < 220 < 260 < heights[1]  # the angle 0 is upright, where cos is 1


def test_real_time():
  states = list(range(101))  # 100 steps of .01 s: a second
  shown, fps = film.thinned(states, 0.01)
  assert fps == 30.0
  assert len(shown) == 31
  assert (shown[0], shown[-1]) == (0, 100)
  shown, fps = film.thinned(states, 0.1)
  assert fps == 10.0
  assert shown == states
  shown, fps = film.thinned(states, 0.1, fps=20)  # more pictures than states
  assert (len(shown), fps) == (201, 20)
  assert film.thinned([7], None)[0] == [7]


def test_a_film_holds_every_picture(tmp_path):
  pictures = [np.full((40, 60, 3), 5 * shade, np.uint8) for shade in range(12)]
  path = film.write(iter(pictures), tmp_path / "films" / "x.gif", 10.0)
  read = Image.open(io.BytesIO(path.read_bytes()))
  assert read.n_frames == 12
  assert read.size == (60, 40)
  assert read.info["duration"] == 100
  assert read.info["loop"] == 0
  read.seek(7)
  assert abs(int(np.asarray(read.convert("RGB"))[0, 0, 0]) - 35) <= 4


def test_an_mp4_is_one_where_there_is_an_encoder(tmp_path):
  path = tmp_path / "x.mp4"
  if shutil.which("ffmpeg") is None and importlib.util.find_spec("imageio_ffmpeg") is None:
    with pytest.raises(ValueError, match=r"MP4 needs ffmpeg on the path .*; FILE\.gif needs nothing"):
      film.check(path)
    return
  pictures = [np.full((41, 61, 3), 20 * shade, np.uint8) for shade in range(12)]
  assert film.write(iter(pictures), path, 10.0).read_bytes()[4:8] == b"ftyp"


def test_what_is_no_film(tmp_path):
  for name in ("x.png", "x", "x.avi"):
    with pytest.raises(ValueError, match=r"a page FILE\.html, or as a film FILE\.gif or FILE\.mp4, got"):
      film.check(tmp_path / name)
  (tmp_path / "x.gif").write_bytes(b"mine")
  with pytest.raises(ValueError, match="exists already"):
    film.check(tmp_path / "x.gif")
  assert film.check(tmp_path / "x.gif", overwrite=True).read_bytes() == b"mine"
  with pytest.raises(ValueError, match=r"width is a whole number in \[16, 4097\), got 3"):
    film.check(tmp_path / "y.gif", width=3)
  with pytest.raises(ValueError, match=r"lies in \(0, 60\], got 90"):
    film.check(tmp_path / "y.gif", fps=90.0)
  with pytest.raises(ValueError, match="no states to draw"):
    film.write(iter([]), tmp_path / "y.gif", 10.0)
  assert not (tmp_path / "y.gif").exists()
  with pytest.raises(ValueError, match=r"LinearQuadratic cannot be drawn: .* draw\(axes, state\)"):
    film.frames(toys.LinearQuadratic(), [])
  assert not film.can_draw(MultiDiscrete(tabular.random_mdp(), (2, 2)))


def test_asymmetric_environments_are_drawn_as_what_they_wrap():
  class Told(toys.PointMass):
    observation_size = {"state": (2,), "privileged_state": (4,)}  # noqa: RUF012

    def reset(self, rng):
      own = super().reset(rng)
      return own.replace(obs={"state": own.obs[:2], "privileged_state": own.obs})

    def draw(self, axes, state):
      toys.PointMass().draw(axes, state.replace(obs=state.obs["privileged_state"]))

  env = Asymmetric(Told())
  assert (picture(env, first(env)) < 250).mean() > 0.001


BRAX = """
import sys, jax, jax.numpy as jnp, numpy as np
from varl import envs
from varl.report import film
film.choose_opengl("x.gif")
env = envs.make("inverted_pendulum")
first = env.reset(jax.random.PRNGKey(0))
places = [env.pipeline_init(jnp.array([x, 0.0]), jnp.zeros(2)) for x in (0.0, 0.8)]
states = [first.replace(pipeline_state=jax.device_get(place)) for place in places]
try:
  one, other = film.frames(env, states, width=64, height=48)
except ValueError as error:
  print("refused", error)
else:
  print("drawn", one.shape, int(np.abs(one.astype(int) - other).max()))
"""


def test_brax_is_drawn_where_there_is_opengl():
  """In a process of its own, for MuJoCo chooses once how it draws."""
  environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "DISPLAY")}
  done = subprocess.run([sys.executable, "-W", "ignore", "-c", BRAX], env=environment, capture_output=True, text=True)
  said = done.stdout.splitlines()[-1] if done.stdout else done.stderr
  if film.ctypes.util.find_library("EGL"):
    kind, shape, apart = re.fullmatch(r"(drawn) (\(48, 64, 3\)) (\d+)", said).groups()
    assert (kind, int(apart) > 30) == ("drawn", True), (said, shape)
  else:
    assert re.fullmatch(r"refused MuJoCo cannot draw here \(.*\): it needs OpenGL, .*MUJOCO_GL=egl.*", said), said


def test_a_film_without_a_display_is_drawn_by_egl(monkeypatch):
  monkeypatch.setattr(film.sys, "platform", "linux")
  monkeypatch.setattr(film.ctypes.util, "find_library", lambda name: f"lib{name}.so")
  for display, path, said, expected in (
    (None, "x.gif", None, "egl"), (None, "x.html", None, None), (":0", "x.gif", None, None),
    (None, "x.mp4", "osmesa", "osmesa"),
  ):  # fmt: skip
    for name, value in (("DISPLAY", display), ("MUJOCO_GL", said)):
      monkeypatch.delenv(name, raising=False)
      if value is not None:
        monkeypatch.setenv(name, value)
    film.choose_opengl(path)
    assert film.os.environ.get("MUJOCO_GL") == expected
  monkeypatch.delenv("MUJOCO_GL", raising=False)
