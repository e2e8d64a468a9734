"""Answers known in closed form or by enumeration, to hold learned ones against; no networks, no environments."""

from varl.exact import counterexamples, information, inverse, linear_quadratic, tabular, virel

__all__ = ["counterexamples", "information", "inverse", "linear_quadratic", "tabular", "virel"]
