"""What was measured of each algorithm, for its page."""

from experiments.pages import learning, oracles
from experiments.pages.read import RESULTS, each, runs, shell, table
from varl import agents


def snippets() -> dict[str, str]:
  """A Markdown text by algorithm."""
  exact = oracles.recorded()
  found = {}
  for name in agents.AGENTS:
    body = []
    commands = []
    for folder in ("curves", *learning.LONG):
      for env in sorted(path.name for path in (RESULTS / folder).iterdir()):
        run = runs(folder, env).get(name)
        if run is not None:
          curves = list(run.curves.values())
          what = env if folder == "curves" else f"{env} ({folder})"
          body.append([what, f"{curves[0].steps[-1]:,}", each(c.best for c in curves), each(c.last for c in curves)])
          commands.append(run.command)
    parts = []
    if body:
      parts += ["Returns, by seed ([curves](../learning.md)):\n", table(["environment", "steps", "best", "last"], body)]
    if name in exact:
      lines = [line[1:] for line in oracles.summary(name, exact[name])]
      parts += ["Against exact answers ([all](../oracles.md)):\n", table(oracles.HEAD[1:], lines)]
      commands.append(exact[name]["command"])
    missing = [what for what, there in (("a learning curve", body), ("exact answers", name in exact)) if not there]
    if missing:
      parts.append(f"Not recorded yet: {' and '.join(missing)}.\n")
    if commands:
      parts += ["Reproduce:\n", shell("\n".join(dict.fromkeys(commands)))]
    found[name] = "\n".join(parts)
  return found
