"""Values: what actions are worth, and how that is learned."""

from varl.values.actions import q_value, state_value
from varl.values.corrections import Correction, n_step, retrace
from varl.values.distributions import Returns, categorical, hl_gauss, quantile
from varl.values.expansions import Expansion, mve, steve
from varl.values.inverse import inverse_soft_q, none
from varl.values.modified import munchausen, out_of_bounds_penalty
from varl.values.options import option_value
from varl.values.states import lambda_value

__all__ = [
  "Correction",
  "Expansion",
  "Returns",
  "categorical",
  "hl_gauss",
  "inverse_soft_q",
  "lambda_value",
  "munchausen",
  "mve",
  "n_step",
  "none",
  "option_value",
  "out_of_bounds_penalty",
  "q_value",
  "quantile",
  "retrace",
  "state_value",
  "steve",
]
