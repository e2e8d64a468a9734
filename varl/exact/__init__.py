"""Answers known in closed form or by enumeration, to hold learned ones against; no networks, no environments."""

from varl.exact import counterexamples, inverse, linear_quadratic, tabular, virel

__all__ = ["counterexamples", "inverse", "linear_quadratic", "tabular", "virel"]
