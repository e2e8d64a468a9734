"""Posteriors π(a|s): how actions are inferred."""

from varl.posteriors.parametric import direct, enumerated

__all__ = ["direct", "enumerated"]
