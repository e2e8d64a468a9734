"""Models q(s', r, m | s, a): what the world is believed to do, learned or known."""

from varl.models.ensemble import ensemble
from varl.models.imagination import Schedule, imagined
from varl.models.known import known

__all__ = ["Schedule", "ensemble", "imagined", "known"]
