"""Named algorithms: each file is one algorithm's `Config` and the `Design` that it is. And algorithms of one's own.

Importing this imports nothing heavy, so that listing names is quick.
"""

from varl.agents.algorithm import Algorithm
from varl.agents.catalog import AGENTS
from varl.agents.registry import (
  check_name,
  config_from,
  descriptions,
  is_object,
  load,
  names,
  of_record,
  register,
)

__all__ = [
  "AGENTS",
  "Algorithm",
  "check_name",
  "config_from",
  "descriptions",
  "is_object",
  "load",
  "names",
  "of_record",
  "register",
]
