"""The contracts of an environment, and what is found of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

BROKEN, NOTE, KEPT = "broken", "note", "kept"
"""What a finding says: the contract is broken; it is kept, with something to know; it is kept."""

CONTRACTS = {
  "object": "is one environment, with what it needs",
  "wrappers": "leaves batches and resets to varl",
  "actions": "says how many actions it takes, and of which kind",
  "bounds": "has an action range that actions can be scaled to, or none",
  "time_limit": "names its time limit as a whole number, or none",
  "reset": "resets by a pure function of a key, to a pytree of arrays",
  "observation": "gives observations that are one vector of numbers",
  "reward": "gives rewards that are one number",
  "done": "says by one number whether the episode ended by itself",
  "metrics": "keeps metrics and info in dicts",
  "step": "steps by a pure function of state and action, also under vmap",
  "structure": "keeps the structure and shapes of its state",
  "dtypes": "keeps the dtypes of its state",
  "keys": "draws its noise from keys that varl can draw anew",
  "runs": "runs, jitted and in a batch",
  "pure": "does the same again where it gets the same",
  "first_states": "begins with finite observations, which differ with the key",
  "finite": "stays finite",
  "ends": "gives the observation that the last step of an episode led to",
}
"""Each contract by name: "an environment ...". In the order of a report; from "runs" on, it takes running to tell."""


class Finding(NamedTuple):
  """One contract, and how an environment stands to it.

  Attributes:
    contract: its name, of `CONTRACTS`.
    severity: `BROKEN`, `NOTE` or `KEPT`.
    message: what was found; where the contract is broken, what is allowed and the way out.
  """

  contract: str
  severity: str
  message: str


class Stopped(Exception):
  """A contract is broken without which the rest cannot be looked at."""


class Book:
  """Takes down what is found of an environment, contract by contract.

  Args:
    who: the environment's type, for messages.
  """

  def __init__(self, who: str) -> None:
    self.who = who
    self._reached: list[str] = []
    self._noted: list[Finding] = []

  def come_to(self, *contracts: str) -> None:
    """From here on these contracts count as looked at: kept, if nothing else is said of them."""
    self._reached += [name for name in contracts if name not in self._reached]

  def broken(self, contract: str, message: str) -> None:
    """Takes down that a contract is broken."""
    self._noted.append(Finding(contract, BROKEN, message))

  def note(self, contract: str, message: str) -> None:
    """Takes down what there is to know of a contract that is kept."""
    self._noted.append(Finding(contract, NOTE, message))

  def attempt(self, contract: str, function: Callable[[], Any]) -> Any:
    """What `function` returns; None, and the contract broken, where it raises ValueError."""
    try:
      return function()
    except ValueError as error:
      self.broken(contract, str(error))
      return None

  def stop(self, contract: str, message: str, cause: BaseException | None = None) -> None:
    """Takes down that a contract is broken, and raises `Stopped`."""
    self.broken(contract, message)
    raise Stopped from cause

  def stop_if_broken(self) -> None:
    """Raises `Stopped` where a contract is broken."""
    if any(finding.severity == BROKEN for finding in self._noted):
      raise Stopped

  def findings(self) -> tuple[Finding, ...]:
    """All that was found, in the order of `CONTRACTS`."""
    found: list[Finding] = []
    for contract in CONTRACTS:
      if contract in self._reached:
        mine = [finding for finding in self._noted if finding.contract == contract]
        found += mine or [Finding(contract, KEPT, CONTRACTS[contract])]
    return tuple(found)


def raise_broken(findings: tuple[Finding, ...]) -> None:
  """Raises ValueError with the first broken contract's message, where one is broken."""
  broken = [finding.message for finding in findings if finding.severity == BROKEN]
  if broken:
    more = f" (and {len(broken) - 1} more: varl.envs.check tells all)" if len(broken) > 1 else ""
    raise ValueError(broken[0] + more)
