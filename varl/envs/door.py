"""The door: every contract of an environment, looked at by tracing it and by running it."""

import time
from typing import Any, NamedTuple

from varl import checks
from varl.envs import registry, trace, trial
from varl.envs.contract import BROKEN, KEPT, Book, Finding, Stopped, raise_broken


class Report(NamedTuple):
  """What `check` found; printed, a line each.

  Attributes:
    env: what was looked at: a name, or the type of an object.
    findings: one or more for each contract that could be looked at, in the order of `varl.envs.contract.CONTRACTS`.
    seconds: how long it took.
  """

  env: str
  findings: tuple[Finding, ...]
  seconds: float

  @property
  def kept(self) -> bool:
    """Whether no contract is broken."""
    return not any(finding.severity == BROKEN for finding in self.findings)

  @property
  def notes(self) -> tuple[str, ...]:
    """What there is to know of contracts that are kept."""
    return tuple(finding.message for finding in self.findings if finding.severity not in (BROKEN, KEPT))

  def raise_broken(self) -> None:
    """Raises ValueError with the first broken contract's message, where one is broken."""
    raise_broken(self.findings)

  def __str__(self) -> str:
    broken = sum(finding.severity == BROKEN for finding in self.findings)
    said = f"{broken} contracts broken" if broken != 1 else "1 contract broken"
    lines = [f"{self.env}: {said if broken else 'all contracts kept'} ({self.seconds:.1f} s)"]
    return "\n".join(lines + [f"  {severity:6}  {name:12}  {message}" for name, severity, message in self.findings])


def check(
  env: Any,
  backend: str | None = None,
  *,
  reset: str = "pool",
  num_envs: int = 16,
  seconds: float = 3.0,
  seed: int = 0,
) -> Report:
  """Looks at every contract of an environment, or of anything that is given as one.

    print(varl.envs.check(MyEnvironment()))

  `reset` and `step` are traced, and a batch of environments is run twice with random actions, compiled once.

  Args:
    env: an environment, or a name as `make` takes it.
    backend: for a name, as in `make`.
    reset: where first states are to come from, as in `vectorize`.
    num_envs: environments in the batch.
    seconds: how long the batch may run, about, beside compiling; what takes no longer runs for `trial.STEPS` steps.
    seed: of the keys.

  Raises:
    ValueError: a name that nothing can be made of.
  """
  started, num_envs, seed = time.perf_counter(), checks.whole("num_envs", num_envs), checks.seed(seed)
  checks.arguments(least={"seconds": seconds})
  made = registry.build(env, backend)
  book = Book(type(made).__name__)
  try:
    traced = trace.look(made, book, reset)
    trial.look(made, traced, book, num_envs=num_envs, seconds=seconds, seed=seed)
  except Stopped:
    pass
  name = env if isinstance(env, str) else type(made).__name__
  return Report(name, book.findings(), time.perf_counter() - started)
