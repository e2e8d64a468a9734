"""What a run's policy does: evaluated, or rendered as a page."""

import os
from typing import Any

import jax

from varl.demonstrations import Demonstrations
from varl.loop.evaluate import collect, evaluator
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
  if episodes < 1:
    raise ValueError(f"a rollout is of at least one episode, got episodes={episodes}")
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
    ValueError: `out` is no run, or has no readable policy.
  """
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
) -> tuple[int, float]:
  """Renders one episode of a run's policy, deterministic, as a page that a browser plays offline.

  Args:
    out: the run's directory.
    path: the page to write, FILE.html.
    algorithm, env: the algorithm and the environment, where the run was given an object and not a name.
    seed: of the episode's key.
    overwrite: whether `path` may replace any file, and not only a page that varl wrote.

  Returns:
    The episode's length in environment steps, and its return.

  Raises:
    ValueError: `path` is no name for a page or another file's, `out` is no run or has no readable policy, or its
      environment is not Brax's.
  """
  path = pages.check_path(path, overwrite=overwrite)
  run = configure.read(out, algorithm)
  made = configure.environment_of(run, env)
  pages.brax_of(made)
  policy = export.load_policy(out, algorithm=algorithm)
  settings = run.settings
  states, total = pages.episode(
    made, policy, jax.random.key(seed), settings.episode_length, action_repeat=settings.action_repeat
  )
  title = f"{run.algorithm} on {run.env}: {len(states) - 1} steps, return {total:.2f}"
  pages.page(made, states, path, title=title, overwrite=overwrite)
  return len(states) - 1, total
