"""What a run does beside training: where its rows go, which policy is kept, and when it ends before its last step."""

import math
import os
import pathlib
from typing import Any, NamedTuple

from varl import checks, files

LOGS = ("tensorboard", "wandb", "csv")
UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Watch(NamedTuple):
  """What is asked of a run beside its training.

  Attributes:
    log: where rows go beside `metrics.jsonl` and `metrics.csv`: "tensorboard", "wandb" (Weights & Biases, with
      `varl[wandb]`; its own environment variables say which project, and whether offline), or "csv", nowhere.
    save_best: whether the policy of the highest return so far is kept in `OUT/best`.
    stop_at: the return at which an evaluation ends the run.
    stop_after: the seconds after which it ends, as an interrupted one does.
    profile: a directory for a trace of one call of the trainer, which Perfetto and TensorBoard read.
  """

  log: str = "tensorboard"
  save_best: bool = False
  stop_at: float | None = None
  stop_after: float | None = None
  profile: str | os.PathLike[str] | None = None


def watch(out: pathlib.Path | None, **given: Any) -> Watch:
  """Checks what is asked of a run.

  Args:
    out: the run's directory.
    **given: fields of `Watch`; `stop_after` may be text, as for `duration`.

  Raises:
    ValueError: one is out of range, or needs a directory; W&B is not installed.
  """
  found = Watch(**given)
  if found.log not in LOGS:
    raise ValueError(f"log is one of {', '.join(LOGS)}; got {found.log!r}")
  if found.log == "wandb":
    if out is None:
      raise ValueError('log="wandb" needs out: the run\'s name there is that of its directory')
    try:
      import wandb  # noqa: F401
    except ImportError as error:
      raise ValueError(f'log="wandb" needs Weights & Biases (pip install "varl[wandb]"): {error}') from None
  if found.save_best and out is None:
    raise ValueError("save_best needs out: the best policy is kept in OUT/best")
  if found.stop_at is not None:
    found = found._replace(stop_at=checks.finite("stop_at", found.stop_at))
  if found.stop_after is not None:
    found = found._replace(stop_after=duration(found.stop_after))
  if found.profile is not None and files.as_path(found.profile).is_file():
    raise ValueError(f"profile is a directory, but {found.profile} is a file")
  return found


def duration(given: Any) -> float:
  """Seconds: a number, or one with a unit, such as "90s", "30m", "8h" or "1.5d".

  Raises:
    ValueError: it is neither, or not above 0.
  """
  number, unit = checks.plain(given), 1.0
  if isinstance(given, str):
    text = given.strip().lower()
    number, unit = (text[:-1], UNITS[text[-1]]) if text and text[-1] in UNITS else (text, 1.0)
    try:
      number = float(number)
    except ValueError:
      number = math.nan
  if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
    raise ValueError(f"a time is seconds above 0, or a number with s, m, h or d, such as 8h; got {given!r}")
  return float(number) * unit
