"""Runs on the host: configuration, checkpoints, metrics, signals, devices and processes around the pure loop.

Importing this imports nothing.
"""
