"""Answers known in closed form or by enumeration, to hold learned ones against; no networks, no environments."""
