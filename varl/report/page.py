"""A run as one self-contained page: its curves, what inference did, its values against what came, its configuration."""

import html
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from varl import files
from varl.report import plots
from varl.report.render import GENERATOR, check_path

Rows = Sequence[Mapping[str, Any]]


class Panel(NamedTuple):
  """A chart of the page.

  Attributes:
    title: its heading.
    metrics: what it draws, those of them that the run has; a `*` at the start or the end stands for any text.
    note: what to look for.
    log: whether its axis is logarithmic.
  """

  title: str
  metrics: tuple[str, ...]
  note: str
  log: bool = False


PANELS = (
  Panel("Return", ("eval/episode_reward",), "of the policy's mode, mean and one standard deviation over episodes"),
  Panel("Episode length", ("eval/avg_episode_length",), "in environment steps"),
  Panel("Temperature", ("training/alpha",), "scaled reward per nat", log=True),
  Panel(
    "Entropy",
    ("training/entropy", "training/entropy_target", "training/improved_entropy", "training/prior_entropy"),
    "in nats; where the temperature is adapted, it comes to its target",
  ),
  Panel(
    "Divergence",
    ("training/kl", "training/policy_kl", "training/*_measured", "training/divergence"),
    "KL in nats, of an update or from the prior",
  ),
  Panel("Budget used", ("training/*_budget_used",), "KL over its bound; near 1 where the dual keeps up"),
  Panel(
    "Effective samples",
    ("training/effective_samples", "training/plan_effective_samples", "training/reward_effective"),
    "of weighted actions; 1 means that a single one decides",
  ),
  Panel(
    "Bellman residual",
    ("training/critic_loss", "training/value_loss", "training/residual"),
    "the value's loss: what is left between it and its target",
    log=True,
  ),
  Panel("Values", ("training/q", "training/target_q", "training/v"), "scaled reward; far above any return: too high"),
  Panel("Other losses", ("training/*_loss",), "of every gradient step, signs as they are"),
  Panel("Gradients", ("training/*_grad_norm",), "norms before clipping", log=True),
  Panel("Speed", ("training/sps",), "environment steps per second"),
  Panel("Non-finite steps", ("training/nan_resets", "eval/nan_episodes"), "left out and counted"),
)
POINTS = 1_000
"""Of values against returns, at most."""
_SEEN_ELSEWHERE = ("training/critic_loss", "training/value_loss")

_STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6875; --line: #dfe4e9; --paper: #ffffff; --card: #f7f9fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.02rem; margin: 0; }
p { margin: .1rem 0 .5rem; color: var(--soft); font-size: .87rem; }
.facts { display: flex; flex-wrap: wrap; gap: 10px 34px; margin: 18px 0 26px; }
.facts div { min-width: 90px; } .facts b { display: block; font-size: 1.22rem; font-weight: 600; }
.facts span { color: var(--soft); font-size: .82rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: 18px; }
section { border: 1px solid var(--line); border-radius: 8px; padding: 14px 14px 6px; background: var(--card);
  min-width: 0; }
section svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-size: .85rem; } td { padding: 2px 18px 2px 0; vertical-align: top; }
td:first-child { color: var(--soft); } details { margin-top: 26px; } summary { cursor: pointer; font-weight: 600; }
"""


def page(
  rows: Rows,
  *,
  title: str,
  facts: Mapping[str, str] | None = None,
  tables: Mapping[str, Mapping[str, Any]] | None = None,
  returns: tuple[Any, Any] | None = None,
) -> str:
  """A page that needs no other file.

  Args:
    rows: the rows of metrics.
    title: its heading.
    facts: short values by what they are, shown on top.
    tables: values by name, by the heading of each table, such as the configuration.
    returns: realised discounted returns and the values that were expected of them, each `[N]`, which are drawn against
      each other.

  Raises:
    ValueError: there are no rows.
  """
  if not rows:
    raise ValueError("a report is of at least one row of metrics, and there is none")
  charts = [
    _section(panel.title, panel.note, _lines(rows, names, panel)) for panel in PANELS if (names := _names(rows, panel))
  ]
  if returns is not None:
    note = "what came, discounted, and what the value said; a regularised value lies below by the price of divergence"
    charts.insert(1, _section("Value against realised return", note, _scatter(*returns)))
  above = "".join(
    f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in (facts or {}).items()
  )
  below = "".join(_table(name, values) for name, values in (tables or {}).items())
  return (
    f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR}'
    f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
    f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>"
    f'<div class="facts">{above}</div><div class="charts">{"".join(charts)}</div>{below}</body></html>\n'
  )


def _names(rows: Rows, panel: Panel) -> list[str]:
  """What a panel draws of these rows: metrics with a finite value, and counts only where one is above 0."""
  known = sorted({name for row in rows for name in row})
  found: list[str] = []
  for pattern in panel.metrics:
    start, star, end = pattern.partition("*")
    fits = [
      name
      for name in known
      if (name == pattern or (star and name.startswith(start) and name.endswith(end)))
      and not (star and name in _SEEN_ELSEWHERE)
    ]
    found += [
      name for name in fits if name not in found and any(math.isfinite(row.get(name, math.nan)) for row in rows)
    ]
  if panel.title == "Non-finite steps":
    found = [name for name in found if any(row.get(name, 0.0) > 0 for row in rows)]
  return found


def _lines(rows: Rows, names: list[str], panel: Panel) -> str:
  axes = plots.canvas(size=(4.6, 2.7))
  for number, name in enumerate(names):
    points = [(row["env_steps"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    steps, values = zip(*points, strict=True)
    marker = "o" if len(steps) <= 30 else ""
    label = name.partition("/")[2]
    axes.plot(steps, values, color=f"C{number % 10}", linewidth=1.6, marker=marker, markersize=2.5, label=label)
    spread = {row["env_steps"]: row.get(f"{name}_std", math.nan) for row in rows}
    if all(math.isfinite(spread[step]) for step in steps):
      low, high = zip(*((v - spread[s], v + spread[s]) for s, v in points), strict=True)
      axes.fill_between(steps, low, high, color=f"C{number % 10}", alpha=0.18, linewidth=0)
  positive = all(row[name] > 0 for name in names for row in rows if math.isfinite(row.get(name, math.nan)))
  if panel.log and positive:
    axes.set_yscale("log")
  if len(names) > 1:
    axes.legend(frameon=False, fontsize=6.5 if len(names) > 4 else 8, ncols=2 if len(names) > 4 else 1)
  return _svg(axes, "environment steps")


def _scatter(realised: Any, expected: Any) -> str:
  every = -(-len(expected) // POINTS)
  realised, expected = realised[::every], expected[::every]
  axes = plots.canvas(size=(4.6, 2.7))
  axes.scatter(expected, realised, s=7, alpha=0.4, linewidths=0)
  low, high = (pick(*(pick(float(x) for x in side) for side in (realised, expected))) for pick in (min, max))
  axes.plot([low, high], [low, high], color="0.55", linewidth=1.0)
  axes.set_ylabel("realised")
  return _svg(axes, "expected by the value")


def _svg(axes: Any, along: str) -> str:
  import matplotlib.ticker

  axes.set_xlabel(along, fontsize=8)
  axes.tick_params(labelsize=8)
  axes.grid(True, color="0.9", linewidth=0.7)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
  axes.figure.patch.set_alpha(0.0)
  axes.patch.set_alpha(0.0)
  content = io.StringIO()
  axes.figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
  text = content.getvalue()
  return text[text.index("<svg") :]


def _section(title: str, note: str, chart: str) -> str:
  return f"<section><h2>{html.escape(title)}</h2><p>{html.escape(note)}</p>{chart}</section>"


def _table(title: str, values: Mapping[str, Any]) -> str:
  cells = "".join(
    f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>" for name, value in values.items()
  )
  return f"<details><summary>{html.escape(title)}</summary><table>{cells}</table></details>"


def write(path: str | os.PathLike[str], content: str, *, overwrite: bool = False) -> pathlib.Path:
  """Writes a page in one step.

  Raises:
    ValueError: `path` is no FILE.html, or another file's, as `check_path` has it.
    OSError: it cannot be written.
  """
  path = check_path(path, overwrite=overwrite, what="a report is")
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(path, content.encode())
  return path
