"""What a run's policy does: evaluated, rendered as a page or a film, or reported with all that its run recorded."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varl import checks
from varl.demonstrations import Demonstrations
from varl.design import scaled
from varl.loop.evaluate import collect, evaluator
from varl.report import film, page, records
from varl.report import render as pages
from varl.run import configure, export

Row = dict[str, Any]


def rollout(
  out: str | os.PathLike[str],
  *,
  episodes: int = 10,
  stochastic: bool = False,
  seed: int = 0,
  algorithm: Any = None,
  env: Any = None,
) -> Demonstrations:
  """Episodes of the policy that a run left, as demonstrations.

  Args:
    out: the run's directory.
    episodes: how many, in parallel.
    stochastic: whether the policy explores; by default it gives its mode.
    seed: of the episodes' key.
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.

  Raises:
    ValueError: fewer than one episode; `out` is no run, or has no readable policy; an episode turned non-finite.
  """
  episodes, seed = checks.whole("episodes", episodes), checks.seed(seed)
  run = configure.read(out, algorithm)
  made = configure.environment_of(run, env)
  policy = export.load_policy(out, algorithm=algorithm)
  settings = run.settings
  found = collect(
    made, policy.agent, policy.params, jax.random.key(seed), episodes=episodes, episode_length=settings.episode_length,
    action_repeat=settings.action_repeat, stochastic=stochastic,
  )  # fmt: skip
  about = {"algorithm": run.algorithm, "env": run.env, "backend": run.backend, "run_seed": run.seed, "seed": seed}
  return found._replace(source={**about, "stochastic": stochastic, "action_repeat": settings.action_repeat})


def evaluate(
  out: str | os.PathLike[str],
  *,
  algorithm: Any = None,
  env: Any = None,
  episodes: int = 32,
  stochastic: bool = False,
  seed: int = 0,
) -> Row:
  """Evaluates the policy that a run left.

  Args:
    out: the run's directory.
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.
    episodes, stochastic: as in `varl.evaluator`.
    seed: of the evaluation's key.

  Returns:
    The evaluator's metrics as floats.

  Raises:
    ValueError: fewer than one episode; `out` is no run, or has no readable policy.
  """
  episodes, seed = checks.whole("episodes", episodes), checks.seed(seed)
  run = configure.read(out, algorithm)
  made = configure.environment_of(run, env)
  policy = export.load_policy(out, algorithm=algorithm)
  evaluate_params = evaluator(
    made,
    policy.agent,
    episodes=episodes,
    episode_length=run.settings.episode_length,
    action_repeat=run.settings.action_repeat,
    stochastic=stochastic,
  )
  metrics = jax.jit(evaluate_params)(policy.params, jax.random.key(seed))
  return {name: float(value) for name, value in metrics.items()}


def render(
  out: str | os.PathLike[str],
  path: str | os.PathLike[str],
  *,
  algorithm: Any = None,
  env: Any = None,
  seed: int = 0,
  overwrite: bool = False,
  width: int = 480,
  fps: float | None = None,
) -> tuple[int, float]:
  """Renders one episode of a run's policy, deterministic: as a page that a browser plays offline, or as a film.

  Args:
    out: the run's directory.
    path: the file: FILE.html (Brax environments), FILE.gif or FILE.mp4 (all that can be drawn; `varl.report.film`).
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.
    seed: of the episode's key.
    overwrite: whether `path` may replace any file, and not only a page that varl wrote.
    width: pixels of a film, which is square.
    fps: its pictures a second; None: in real time, at most 30.

  Returns:
    The episode's length in environment steps, and its return.

  Raises:
    ValueError: `path` is no name for a page or a film, or another file's; `out` is no run or has no readable policy, or
      its environment cannot be drawn.
  """
  path = film.check(path, overwrite=overwrite, width=width, fps=fps)
  filmed, seed = path.suffix.lower() in film.ENDINGS, checks.seed(seed)
  run = configure.read(out, algorithm)
  made = configure.environment_of(run, env)
  policy = export.load_policy(out, algorithm=algorithm)
  settings, key = run.settings, jax.random.key(seed)
  if not filmed:
    pages.brax_of(made)
  elif getattr(made, "vectorized", None) is None and not film.can_draw(made):
    film.frames(made, [])  # which says why
  if getattr(made, "vectorized", None) is not None:  # on the host
    pictures, length, total, dt = made.play(policy, key, settings.episode_length, settings.action_repeat)
    shown, fps = film.thinned(pictures, dt, fps)
    film.write(iter(shown), path, fps)
    return length, total
  states, total = pages.episode(
    made, policy.step, key, settings.episode_length, action_repeat=settings.action_repeat,
    carry=policy.agent.carry(1),
  )  # fmt: skip
  title = f"{run.algorithm} on {run.env}: {len(states) - 1} steps, return {total:.2f}"
  if filmed:
    shown, fps = film.thinned(states, getattr(pages.innermost(made), "dt", None), fps)
    film.write(film.frames(made, shown, width=width, height=width), path, fps)
  else:
    pages.page(made, states, path, title=title, overwrite=overwrite)
  return len(states) - 1, total


def report(
  out: str | os.PathLike[str],
  path: str | os.PathLike[str],
  *,
  algorithm: Any = None,
  env: Any = None,
  episodes: int = 8,
  seed: int = 0,
  overwrite: bool = False,
) -> pathlib.Path:
  """Writes one self-contained page of a run: its curves, what inference did, its values, its configuration.

  Where the run has a policy, and values of actions or states, some episodes are acted, and what the value says of each
  step is drawn against the discounted reward that came: without the price of divergence, which a regularised value
  takes off, and with the value itself where a time limit cut the episode.

  Args:
    out: the run's directory.
    path: the page to write, FILE.html.
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.
    episodes: how many are acted; 0: none, and the environment is not needed.
    seed: of their key.
    overwrite: whether `path` may replace any file, and not only a page that varl wrote.

  Raises:
    ValueError: `path` is no name for a page or another file's; `out` is no run, or has no row of metrics yet.
  """
  path = pages.check_path(path, overwrite=overwrite, what="a report is a page, FILE.html")
  episodes, seed = checks.whole("episodes", episodes, least=0), checks.seed(seed)
  run = configure.read(out, algorithm)
  rows = records.read(out)
  if not rows:
    raise ValueError(f"the run in {out} has no row of metrics yet")
  body = json.loads((pathlib.Path(out) / configure.FILE).read_text())
  returns = [row["eval/episode_reward"] for row in rows]
  facts = {
    "last return": f"{returns[-1]:,.2f}",
    "best return": f"{max(returns):,.2f}",
    "environment steps": f"{rows[-1][records.STEPS]:,}",
    "minutes": f"{rows[-1].get('training/walltime', float('nan')) / 60:,.1f}",
    "seed": str(run.seed),
    "evaluations": str(len(rows)),
  }
  tables = {
    "Hyper-parameters": dataclasses.asdict(run.config),
    "Settings of the loop": dataclasses.asdict(run.settings),
    "Machine and versions": {
      name: value for name, value in body.items() if name not in (*run._fields, "config", "settings", "schema")
    },
    "Last row of metrics": {name: f"{value:.6g}" for name, value in rows[-1].items()},
  }
  content = page.page(
    rows,
    title=f"{run.algorithm} on {run.env}, seed {run.seed}",
    facts=facts,
    tables=tables,
    returns=_returns(out, run, algorithm, env, episodes, seed) if episodes else None,
  )
  return page.write(path, content, overwrite=overwrite)


def _returns(
  out: str | os.PathLike[str], run: configure.RunConfig, algorithm: Any, env: Any, episodes: int, seed: int
) -> tuple[Any, Any] | None:
  """Discounted scaled reward from each step of some episodes on, and Q or V there; None where no value says it."""
  gamma, scale = getattr(run.config, "gamma", None), getattr(run.config, "reward_scale", None)
  if gamma is None or scale is None or not (pathlib.Path(out) / "policy").is_dir():
    return None
  policy, design = export.load_design(out, algorithm=algorithm)
  if design is None:
    return None
  of_states, of_actions = design.value.v, design.value.q
  valued = of_states is not None or design.value.backup is not None
  if not valued or design.reward is not None or jax.tree.leaves(policy.agent.carry(1)):
    return None
  made = configure.environment_of(run, env)
  rows = collect(
    made, policy.agent, policy.params, jax.random.key(seed), episodes=episodes,
    episode_length=run.settings.episode_length, action_repeat=run.settings.action_repeat, stochastic=True,
  )  # fmt: skip

  def value(obs: Any, action: Any) -> Any:
    seen = scaled(policy.params, obs)
    return of_actions(policy.params, seen, action[None])[0] if of_states is None else of_states(policy.params, seen)

  expected = np.asarray(jax.jit(value)(jnp.asarray(rows.obs), jnp.asarray(rows.raw_action)))
  realised, after = np.zeros(len(expected)), 0.0
  for at in reversed(range(len(expected))):
    last = at + 1 == len(expected) or rows.episode[at + 1] != rows.episode[at]
    if last:  # of an episode that a limit cut, the value of the step itself stands for what would have come
      realised[at] = scale * rows.reward[at] if rows.discount[at] == 0 else expected[at]
    else:
      realised[at] = scale * rows.reward[at] + gamma * after
    after = realised[at]
  return realised, expected
