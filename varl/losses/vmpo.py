"""V-MPO: which of the actions taken are followed, and how much (Song et al. 2019, 1909.12238)."""

import jax
import jax.numpy as jnp

from varl import checks
from varl.types import Array


def top_weights(
  advantage: Array, eta: Array | float, *, share: float | Array = 0.5, axis: str | None = None
) -> tuple[Array, Array]:
  """Weights of the E-step over the rows of a batch.

    ψ_b = exp(A_b/η) / Σ_{b' in D̃} exp(A_b'/η)  for b in D̃, 0 elsewhere,   D̃ = the rows of the largest advantages

  Args:
    advantage: `[B]`, in units of return.
    eta: η > 0, in return per nat.
    share: of the rows that D̃ holds; rows that tie with the last of them are in it, too.
    axis: a mapped axis whose members' rows are one batch: D̃ and the sum are over all of them.

  Returns:
    (log ψ `[B]`, -inf outside D̃; log of the number of rows in D̃).

  Raises:
    ValueError: a share outside (0, 1].

  Reference: 1909.12238, Eq. 3, with D̃ the better half, as the paper takes it.
  """
  checks.share("share", share, lower_open=True)
  everyone = advantage if axis is None else jax.lax.all_gather(advantage, axis, tiled=True)
  kept = jnp.clip(jnp.floor(share * everyone.size).astype(jnp.int32), 1, everyone.size)
  threshold = jnp.sort(everyone)[everyone.size - kept]
  total = jax.nn.logsumexp(jnp.where(everyone >= threshold, everyone / eta, -jnp.inf))
  log_count = jnp.log(jnp.sum(everyone >= threshold).astype(advantage.dtype))
  return jnp.where(advantage >= threshold, advantage / eta - total, -jnp.inf), log_count
