"""Model-based policy optimisation: soft actor-critic on imagined rows (Janner et al. 2019, 1906.08253).

prior uniform × posterior direct (discrete: enumerated) × value regularised × temperature by an entropy target, beside a
learned model from whose short rollouts they learn; optionally a reward that charges for the model's error (Eysenbach
et al. 2020, 2006.13916).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from varl import components, models
from varl.checks import positive, unit_interval
from varl.types import Array, Design, Model, Spec


@dataclasses.dataclass(frozen=True)
class Config(components.CorrectionConfig, components.ModelConfig, components.SoftConfig):
  """Hyper-parameters of model-based policy optimisation, beside those of the configs that it extends.

  Attributes:
    rollout: the longest imagined rollout, in steps.
    grow_over: iterations of the loop over which the length grows from 1 to that; 0: at once.
    real_share: how much of each batch stays real.
  """

  rollout: int = 1
  grow_over: int = 0
  real_share: float = 0.05


@components.designs(Config)
def design(spec: Spec, config: Config, *, axis: str | None = None, model: Model | None = None) -> Design:
  """The design that model-based policy optimisation is.

  Args:
    spec: the environment's sizes.
    config: its hyper-parameters.
    axis: the mapped axis over which gradients are averaged, on several devices.
    model: in place of the learned ensemble.

  Raises:
    ValueError: a hyper-parameter out of range, or a policy that does not fit the action space.
  """
  axes = components.soft(spec, config)
  positive(config, "rollout", whole=True)
  positive(config, "grow_over", zero=True)
  unit_interval(config, "real_share")
  model = components.model(spec, config, model)
  at_once = isinstance(config.grow_over, int) and config.grow_over == 0
  return Design(
    *axes,
    axis,
    model=models.imagined(
      model,
      horizon=int(config.rollout),
      schedule=None if at_once else _growing(config.rollout, config.grow_over),
      real_share=config.real_share,
    ),
    reward=components.correction(spec, config),
  )


def _growing(longest: int, over: Any) -> models.Schedule:
  def length(rollouts: Array) -> Array:
    return 1.0 + (longest - 1) * jnp.minimum(rollouts / jnp.maximum(over, 1), 1.0)

  return length


make = components.maker(Config, design, components.policy_head)
