"""Episodes as moving pictures, GIF or MP4, of every environment that can be drawn."""

import ctypes.util
import io
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from varl import checks, files
from varl.report import plots, render

ENDINGS = (".gif", ".mp4")
MAX_FPS = 30.0
MAX_WIDTH = 4096
STEP_SECONDS = 0.05
"""How long a step of an environment lasts that does not say so by `dt`."""


def check(
  path: str | os.PathLike[str], *, overwrite: bool = False, width: int = 480, fps: float | None = None
) -> pathlib.Path:
  """Checks that an episode can be written there, as a page or as a film.

  Args:
    path: the file.
    overwrite: whether any file may be replaced, and not only a page that varl wrote.
    width: pixels of a film.
    fps: pictures a second; None: in real time.

  Returns:
    The path.

  Raises:
    ValueError: its name ends in neither .html, .gif nor .mp4, it is a directory or lies in a file, or another file has
      the name; MP4 without ffmpeg; or a width or a number of pictures out of range.
  """
  path = files.as_path(path)
  if path.suffix.lower() not in ENDINGS:
    return render.check_path(path, overwrite=overwrite)
  render.check_place(path)
  files.check_new(path, overwrite=overwrite)
  checks.whole("width", width, least=16, below=MAX_WIDTH + 1)
  if fps is not None and not 0 < checks.finite("fps", fps) <= 60:
    raise ValueError(f"fps, pictures a second, lies in (0, 60], got {fps}")
  if path.suffix.lower() == ".mp4":
    _ffmpeg()
  return path


def choose_opengl(path: str | os.PathLike[str]) -> None:
  """Lets MuJoCo draw a film without a display, by EGL where that is there and nobody said otherwise (`MUJOCO_GL`).

  It has to be said before MuJoCo is first imported, so that commands say it and functions do not.
  """
  headless = sys.platform == "linux" and not os.environ.get("DISPLAY")
  if headless and files.as_path(path).suffix.lower() in ENDINGS and ctypes.util.find_library("EGL"):
    os.environ.setdefault("MUJOCO_GL", "egl")


def can_draw(env: Any) -> bool:
  """Whether some state of the environment can be drawn: by its own `draw`, or by MuJoCo."""
  inner = render.innermost(env)
  return callable(getattr(inner, "draw", None)) or _physics(inner) is not None


def frames(env: Any, states: Sequence[Any], *, width: int = 480, height: int = 480) -> Iterator[Any]:
  """Draws states, one after the other, each `uint8[height, width, 3]`.

  An environment that has a method `draw(axes, state)` draws itself, into matplotlib axes: varl's toys and grids, and
  gymnax's classics. Brax's and MuJoCo Playground's are drawn by MuJoCo.

  Args:
    env: the environment, or what wraps it.
    states: of it, as host arrays; `render.episode` returns them.
    width, height: pixels.

  Raises:
    ValueError: the environment cannot be drawn, or MuJoCo finds no OpenGL to draw with.
  """
  if not can_draw(env):
    raise ValueError(
      f"{type(render.innermost(env)).__name__} cannot be drawn: an environment has a method draw(axes, state), into "
      "matplotlib axes, or is Brax's or Playground's"
    )
  width, height = checks.whole("width", width), checks.whole("height", height)
  inner = render.innermost(env)
  if callable(getattr(inner, "draw", None)):
    return _drawn(env, states, width, height)
  return _rendered(inner, [render.resolve(env, state)[1] for state in states], width, height)


def write(pictures: Iterator[Any], path: str | os.PathLike[str], fps: float) -> pathlib.Path:
  """Writes pictures `uint8[height, width, 3]` as GIF or, by the file's name, MP4.

  Args:
    pictures: one or more, all of one size.
    path: the file; its directory is created where it does not exist.
    fps: pictures a second.

  Returns:
    The path.

  Raises:
    ValueError: no picture, a file of another name, or as in `check` of a path that may be replaced.
    OSError: the file cannot be written.
  """
  path = check(path, overwrite=True, fps=fps)
  if path.suffix.lower() not in ENDINGS:
    raise ValueError(f"a film is FILE.gif or FILE.mp4, got {str(path)!r}")
  first = next(pictures, None)
  if first is None:
    raise ValueError("there are no states to draw")
  made = _gif if path.suffix.lower() == ".gif" else _mp4
  content = made(first, pictures, fps)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(path, content)
  return path


def thinned(states: Sequence[Any], dt: float | None, fps: float | None = None) -> tuple[list[Any], float]:
  """Those of the states that a film in real time shows, and how many a second.

  Args:
    states: one every `dt` seconds.
    dt: None: `STEP_SECONDS`.
    fps: pictures a second; None: one a state, but at most `MAX_FPS`.
  """
  every = dt or STEP_SECONDS
  if fps is None:
    fps = min(1.0 / every, MAX_FPS)
  shown = [round(index / (fps * every)) for index in range(int((len(states) - 1) * every * fps + 1e-6) + 1)]
  shown = [at for at in shown if at < len(states)]
  if states and shown[-1] != len(states) - 1:  # the end is what one looks for
    shown.append(len(states) - 1)
  return [states[at] for at in shown], fps


def _drawn(env: Any, states: Sequence[Any], width: int, height: int) -> Iterator[Any]:
  import numpy as np

  axes = plots.canvas(size=(width / 100, height / 100))
  figure = axes.figure
  figure.set_dpi(100)
  for state in states:
    axes.clear()
    inner, own = render.resolve(env, state)
    inner.draw(axes, own)
    figure.canvas.draw()
    yield np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _physics(inner: Any) -> str | None:
  """Who simulates it: "brax", "playground", or None."""
  if hasattr(inner, "sys") and hasattr(inner, "pipeline_step"):
    return "brax"
  return "playground" if hasattr(inner, "mj_model") and hasattr(inner, "render") else None


def _rendered(inner: Any, states: list[Any], width: int, height: int) -> Iterator[Any]:
  import numpy as np

  try:
    if _physics(inner) == "brax":
      import brax.io.image

      made = brax.io.image.render_array(inner.sys, [state.pipeline_state for state in states], height, width)
    else:
      made = inner.render(states, height=height, width=width)
  except Exception as error:
    raise ValueError(
      f"MuJoCo cannot draw here ({type(error).__name__}: {' '.join(str(error).split())[:160]}): it needs OpenGL, on a "
      "machine without a display MUJOCO_GL=egl or MUJOCO_GL=osmesa; a page FILE.html of a Brax environment needs none"
    ) from error
  return iter([np.asarray(picture, np.uint8)[..., :3] for picture in made])


def _gif(first: Any, rest: Iterator[Any], fps: float) -> bytes:
  from PIL import Image

  def small(picture: Any) -> Any:
    return Image.fromarray(picture).quantize(64, dither=Image.Dither.NONE)

  content = io.BytesIO()
  small(first).save(
    content, format="GIF", save_all=True, append_images=(small(picture) for picture in rest),
    duration=max(20, round(100 / fps) * 10), loop=0, optimize=False,
  )  # fmt: skip
  return content.getvalue()


def _mp4(first: Any, rest: Iterator[Any], fps: float) -> bytes:
  import tempfile

  height, width = (2 * (side // 2) for side in first.shape[:2])  # which the encoder needs even
  with tempfile.TemporaryDirectory() as folder:
    made = pathlib.Path(folder) / "film.mp4"
    command = [
      _ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
      "-r", f"{fps:g}", "-i", "-", "-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(made),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
      assert running.stdin is not None
      assert running.stderr is not None
      try:
        running.stdin.write(first[:height, :width].tobytes())
        for picture in rest:
          running.stdin.write(picture[:height, :width].tobytes())
      except BrokenPipeError:
        pass  # what it says is read below
      running.stdin.close()
      said = running.stderr.read().decode(errors="replace")
    if running.returncode:
      raise ValueError(f"ffmpeg made no film: {' '.join(said.split())[:200]}")
    return made.read_bytes()


def _ffmpeg() -> str:
  """The encoder's path.

  Raises:
    ValueError: there is none.
  """
  if found := shutil.which("ffmpeg"):
    return found
  try:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())
  except (ImportError, RuntimeError):
    raise ValueError("MP4 needs ffmpeg on the path (or pip install imageio-ffmpeg); FILE.gif needs nothing") from None
