"""What people look at: a run's record, curves, pages of episodes, diagnostics of inference.

Importing this imports nothing.
"""
