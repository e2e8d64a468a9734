"""The training loop as pure functions: interact, learn, evaluate; all of it jitted, none of it knows an algorithm.

Importing this imports nothing: `settings` has to be light.
"""
