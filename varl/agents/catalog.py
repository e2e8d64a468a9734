"""The names of the algorithms that come with varl, as a plain table: importing this imports nothing."""

AGENTS = {
  "sac": "soft actor-critic with an adapted temperature (1812.05905)",
  "sac_discrete": "soft actor-critic for discrete actions, expectations exact (1910.07207)",
  "sac_v1": "soft actor-critic with a state value and a fixed temperature (1801.01290)",
  "virel": "entropy in the policy's loss and none in the value, at a constant temperature (1811.01132)",
  "beta_virel": "VIREL with the critic's Bellman error as its temperature (1811.01132)",
  "sql": "soft Q-learning, actions by a Stein sampler or by importance (1702.08165)",
  "sql_discrete": "soft Q-learning for discrete actions, plain or Munchausen (1702.08165, 2007.14430)",
  "iterative_sac": "soft actor-critic with iterative amortised inference (2010.10670)",
  "mpo": "maximum a posteriori policy optimisation (1806.06920, 1812.02256)",
  "rerpi": "relative entropy regularised policy iteration, by exponential or rank-based weights (1812.02256)",
  "vmpo": "on-policy maximum a posteriori policy optimisation (1909.12238)",
  "reinforce": "policy gradient by the score function, with a baseline and the entropy's gradient",
  "maxent_pg": "policy gradient of the maximum-entropy return (1805.00909)",
  "erpg": "policy gradient of a return that pays for divergence from a learned prior (1704.06440)",
  "kl_pg": "policy gradient with a penalty on the KL to the previous policy, within a budget",
  "trpo": "natural policy gradient within a trust region (1502.05477)",
  "ppo": "proximal policy optimisation, for comparison (1707.06347)",
  "mbpo": "soft actor-critic on rows that a learned model imagines (1906.08253)",
  "smcp": "soft actor-critic that acts by sequential Monte Carlo planning in a learned model (Piché et al. 2019)",
  "svg": "stochastic value gradients of the maximum-entropy return through a learned model (1510.09142)",
  "svg_mpo": "a learned prior that follows stochastic value gradients (1806.06920, 1510.09142)",
  "smc_mpo": "a learned prior that follows sequential Monte Carlo plans (1806.06920; Piché et al. 2019)",
}
"""Names and what they are: each is a module of `varl.agents`."""
