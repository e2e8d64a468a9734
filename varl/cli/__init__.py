"""The command line: `varl train | sweep | resume | eval | rollout | render | export | plot | compare | report | map |
list | presets | check-env | doctor`.

Parsing comes first and imports nothing heavy: a mistyped name is answered at once.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from varl import __version__
from varl.checks import nearest
from varl.cli import comparisons, listings, runs, training
from varl.cli.shared import HELP
from varl.flags import Parser

SYNONYMS = {
  "train": ("run", "fit", "learn", "start"),
  "sweep": ("population", "tune", "search", "grid", "multirun"),
  "resume": ("continue", "restart", "extend", "restore"),
  "eval": ("evaluate", "evaluation", "test", "score"),
  "rollout": ("collect", "demonstrate", "demonstrations", "demos", "sample", "generate"),
  "render": ("play", "show", "view", "watch", "visualize", "visualise", "video", "record", "enjoy"),
  "export": ("save", "convert", "onnx", "deploy", "serve", "freeze"),
  "plot": ("curve", "curves", "draw", "graph", "chart"),
  "compare": ("comparison", "diff", "versus", "vs", "table", "stats"),
  "map": ("maps", "heatmap", "landscape", "values"),
  "report": ("page", "summary", "dashboard", "html"),
  "list": ("ls", "envs", "environments", "algorithms", "algos", "agents"),
  "presets": ("preset", "config", "configs", "settings", "defaults", "hyperparameters"),
  "doctor": ("info", "env", "diagnose", "devices", "versions"),
  "--help": ("help",),
  "--version": ("version",),
}
"""What a command is called elsewhere."""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit status: 0, 1 a failure, 2 bad input, 124, 130 or 143 a run that was stopped."""
  if argv is None and "" not in sys.path:
    sys.path.insert(0, "")  # as under `python -m varl`: package.module:factory of the working directory
  argv = list(sys.argv[1:] if argv is None else argv)
  warnings.showwarning = _show_warning
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
      stream.reconfigure(errors="replace")  # an encoding without Greek letters is no reason to fail
  try:
    try:
      return _run(argv)
    finally:
      if sys.stdout is not None:
        sys.stdout.flush()  # here, where a pipe that is closed can still be answered
  except BrokenPipeError:  # whoever read the output has seen enough, as in `varl list | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    return 1
  except ValueError as error:
    return _fail("error", error, 2)
  except KeyboardInterrupt:
    print("varl: interrupted", file=sys.stderr)
    return 130
  except (OSError, RuntimeError) as error:
    return _fail(type(error).__name__, error, 1)


def _fail(what: str, error: Exception, status: int) -> int:
  print(f"varl: {what}: {' '.join(str(error).split())}", file=sys.stderr)
  return status


def _run(argv: list[str]) -> int:
  if not argv:
    _parser().print_help()
    return 0
  name, *tokens = argv
  if name in _COMMANDS:
    return _COMMANDS[name](tokens)
  if name in ("-h", "--help", "--version"):
    _parser().parse_args([name])
  if name.startswith("-"):
    command = next((token for token in tokens if token in _COMMANDS), "COMMAND")
    raise ValueError(f"{name} comes before the command; flags follow it: varl {command} ... {name}")
  meant = next((command for command, others in SYNONYMS.items() if name.lower() in others), None)
  hint = nearest(name.lower(), _COMMANDS) if meant is None else f" (did you mean {meant!r}?)"
  raise ValueError(f"unknown command {name!r}{hint}; commands: {', '.join(_COMMANDS)}")


def _parser() -> Parser:
  """The page of all commands."""
  parser = Parser(
    prog="varl",
    description="Variational reinforcement learning in JAX.",
    epilog="""examples:
  varl train sac --env inverted_pendulum --out runs/pendulum
  varl eval runs/pendulum
  varl render runs/pendulum --out episode.html

exit status:
  0 for success, 1 for a failure, 2 for bad input; of a run that can be resumed 124 after --stop-after, 130 after
  Ctrl-C, 143 after SIGTERM""",
  )
  parser.add_argument("--version", action="version", version=f"varl {__version__}")
  commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
  for name, text in HELP.items():
    commands.add_parser(name, help=text)
  return parser


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
  if not issubclass(category, DeprecationWarning | FutureWarning):
    print(f"varl: warning: {message}", file=sys.stderr)


_COMMANDS = {
  "train": training.train,
  "sweep": training.sweep,
  "resume": training.resume,
  "eval": runs.evaluate,
  "rollout": runs.rollout,
  "render": runs.render,
  "export": runs.export,
  "plot": comparisons.plot,
  "compare": comparisons.compare,
  "report": comparisons.report,
  "map": comparisons.draw_map,
  "list": listings.listing,
  "presets": listings.presets,
  "check-env": listings.check_env,
  "doctor": listings.doctor,
}
