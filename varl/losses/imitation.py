"""Imitation's equations: what a discriminator pays, its loss, and inverse soft Q-learning's objective."""

import jax
import jax.numpy as jnp

from varl.types import Array

PAYOFFS = ("softplus", "log", "log_odds", "forward")


def payoff(logit: Array, form: str) -> Array:
  """What a discriminator of logit l = log D - log(1 - D) pays the policy.

    softplus:  -log(1 - D) = softplus(l) >= 0, which pays for survival (GAIL)
    log:       log D = -softplus(-l) <= 0, which pays for an end
    log_odds:  l, of either sign (AIRL)
    forward:   -l e^l, whose mean under the policy is -KL(ρ_E ‖ ρ_π) at the best D (FAIRL)

  Args:
    logit: `[...]`.
    form: one of these.

  Returns:
    `[...]`.

  Raises:
    ValueError: an unknown form.

  Reference: Ho and Ermon 2016, 1606.03476, Eq. 16; Fu et al. 2018, 1710.11248, section 4; Ghasemipour et al. 2019,
    1911.02256, section 3.
  """
  forms = {
    "softplus": jax.nn.softplus,
    "log": jax.nn.log_sigmoid,
    "log_odds": lambda x: x,
    "forward": lambda x: -x * jnp.exp(x),
  }
  if form not in forms:
    raise ValueError(f"form is one of {', '.join(PAYOFFS)}; got {form!r}")
  return forms[form](logit)


def discriminator_loss(logit: Array, expert: bool) -> Array:
  """-log D of the expert's rows, -log(1 - D) of the policy's.

  Args:
    logit: `[...]`, of D, the probability that a row is the expert's.
    expert: whose rows these are.

  Returns:
    `[...]`.

  Reference: Ho and Ermon 2016, 1606.03476, Eq. 17.
  """
  return jax.nn.softplus(-logit) if expert else jax.nn.softplus(logit)


def norm_penalty(gradient: Array, target: Array | float = 1.0) -> Array:
  """(‖g‖ - c)², the penalty on a critic's gradient with respect to its input.

  Its own gradient is that of a norm, and 0 where the norm is.

  Args:
    gradient: `[..., d]`.
    target: c.

  Returns:
    `[...]`.

  Reference: Gulrajani et al. 2017, 1704.00028, Eq. 3.
  """
  square = jnp.sum(jnp.square(gradient), axis=-1)
  norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
  return jnp.square(norm - target)


def inverse_soft_q(reward: Array, regularisation: Array | float) -> Array:
  """φ of the χ² regulariser, at the reward that a value implies: what inverse soft Q-learning maximises on the expert.

    φ(r) = r - r²/(4α),    r = Q(s, a) - γ m V(s')

  The whole objective is  J(Q) = E_expert[φ(r)] - E[V(s) - γ m V(s')], whose second term is (1 - γ) E[V(s_0)] over any
  policy's visits.

  Args:
    reward: r, `[...]`.
    regularisation: α > 0; without end, φ(r) = r.

  Returns:
    `[...]`.

  Reference: Garg et al. 2021, 2106.12142, section 4 and appendix B.
  """
  return reward - jnp.square(reward) / (4.0 * regularisation)
