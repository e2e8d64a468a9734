"""Posteriors π(a|s): how actions are inferred."""

from varl.posteriors.boltzmann import (
  acting_by_prior,
  boltzmann,
  gaussian_proposal,
  prior_proposal,
  ranked,
  softmax,
  taken,
  uniform_proposal,
)
from varl.posteriors.discounting import discounting
from varl.posteriors.hierarchical import hierarchical
from varl.posteriors.iterative import iterative, iterative_inputs
from varl.posteriors.langevin import langevin
from varl.posteriors.options import options
from varl.posteriors.parametric import cloned, direct, enumerated
from varl.posteriors.planning import smc
from varl.posteriors.score import natural, score
from varl.posteriors.search import cem, gradient
from varl.posteriors.stein import stein

__all__ = [
  "acting_by_prior",
  "boltzmann",
  "cem",
  "cloned",
  "direct",
  "discounting",
  "enumerated",
  "gaussian_proposal",
  "gradient",
  "hierarchical",
  "iterative",
  "iterative_inputs",
  "langevin",
  "natural",
  "options",
  "prior_proposal",
  "ranked",
  "score",
  "smc",
  "softmax",
  "stein",
  "taken",
  "uniform_proposal",
]
