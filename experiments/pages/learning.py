"""The page of learning curves."""

from experiments.pages.read import RESULTS, Recorded, each, picture, runs, shell, table

ENVIRONMENTS = {
  "inverted_pendulum": "The highest return is 1000. A run counts as solved at 950.",
  "cartpole": "gymnax' CartPole-v1. The highest return is 500. A run counts as solved at 475.",
  "pendulum": "gymnax' Pendulum-v1. A run counts as solved at -200.",
  "gymnasium-Pendulum-v1": "Gymnasium's own Pendulum-v1, stepped on the host. A run counts as solved at -200.",
  "playground-CartpoleBalance": "MuJoCo Playground's CartpoleBalance, on a CPU. The highest return is 1000.",
  "inverted_double_pendulum": "The highest return is 9360.",
  "reacher": "SAC takes half an update per step, `mbpo` and `smcp` one, and fewer steps: neither learns sooner, and both end lower.",
  "halfcheetah": "A first look on a CPU: at this length most algorithms have not begun to learn. The settings of the runs differ; "
  "each algorithm's `summary.json` holds its command. SAC, VIREL and β-VIREL run with a learning rate at which SAC does "
  "not learn this task, so the table is no comparison of what they can do.",
  "linear_quadratic": "The toy regulator, on which the trust region of MPO is measured.",
}
LONG = {
  "long": "As long as three seeds take in an hour.",
  "long_small_replay": "The same task with a replay of the last 200,000 steps alone, which forgets the falls of the beginning.",
}
PICTURES = {
  "return": "return over environment steps",
  "kl_used_mean": "share of the mean's KL budget",
  "kl_used_covariance": "share of the covariance's KL budget",
}


def page() -> str:
  parts = [
    "# Learning curves\n\nEvery algorithm with its preset. A figure per seed; bands in the pictures span the seeds. Each row of a table "
    "is read from the `metrics.csv` of its runs.\n"
  ]
  for env, note in ENVIRONMENTS.items():
    parts.append(section("curves", env, note))
  parts.append("# Longer runs\n")
  for folder, note in LONG.items():
    for env in sorted(path.name for path in (RESULTS / folder).iterdir()):
      parts.append(section(folder, env, note))
  return "\n".join(parts)


def section(folder: str, env: str, note: str) -> str:
  """A table of all algorithms recorded on an environment, its pictures, and the commands."""
  found = runs(folder, env)
  title = env if folder == "curves" else f"{env} ({folder})"
  out = [f"## {title}\n", *([f"{note}\n"] if note else []), rows(found)]
  names = PICTURES if any(env == name for name in ("linear_quadratic",)) else {"return": PICTURES["return"]}
  out += [
    picture(f"{folder}/{env}/{name}.png", text)
    for name, text in names.items()
    if (RESULTS / folder / env / f"{name}.png").is_file()
  ]
  commands = dict.fromkeys(run.command for run in found.values())
  out.append(shell("\n".join(commands)))
  return "\n".join(out)


def rows(found: dict[str, Recorded]) -> str:
  """One row per algorithm."""
  target = next(iter(found.values())).target
  head = ["algorithm", "steps", "best return, by seed", "last return, by seed"]
  if target is not None:
    head[2:2] = [f"first step at ≥ {target:g}", "evaluations below it afterwards"]
  body = []
  for name, run in found.items():
    curves = list(run.curves.values())
    cells = [f"[{name}](../algorithms/{name}.md)", f"{curves[0].steps[-1]:,}"]
    if target is not None:
      cells += [each(c.first(target) for c in curves), each(c.below_after(target) for c in curves)]
    body.append([*cells, each(c.best for c in curves), each(c.last for c in curves)])
  return table(head, body)
