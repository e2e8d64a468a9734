"""Brax's fluid model on a JAX whose `clip` no longer takes `a_min`, the name that it gives the lower bound by."""

import inspect
import sys
import types

import jax.numpy as jnp

from varl.types import Array


def mend() -> None:
  """Gives `brax.fluid`, where it is loaded, a `jax.numpy` whose `clip` takes `a_min`, unless JAX's own does."""
  fluid = sys.modules.get("brax.fluid")
  if fluid is not None and "a_min" not in inspect.signature(jnp.clip).parameters:
    fluid.__dict__["jp"] = types.SimpleNamespace(**{**vars(jnp), "clip": _clip})


def _clip(x: Array, a_min: float) -> Array:
  return jnp.clip(x, a_min)
