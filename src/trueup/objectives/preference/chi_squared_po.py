"""Chi-squared preference optimisation."""

from dataclasses import dataclass
from math import inf

from trueup.functional.exponential import continued_exp
from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import LARGEST_LOG_RATIO, logistic, margin_of_pairs, pair_loss, require
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class ChiSquaredPO(ImpliedReward):
    """`-log sigmoid(clip(r_w - r_l, -2R, 2R))` per pair, in nats, with `r = beta (u + g log u)` and `u = pi / pi_ref`.

    It is DPO with the link u + g log u for log u: that of `beta E_ref[(u - 1)^2] / 2 + g beta KL(pi || pi_ref)`.

    **Source**: Huang et al., "Correcting the mythos of KL-regularization: direct alignment without overoptimization
    via chi-squared preference optimization" (arXiv 2407.13399), algorithm 1, with g = 1; other g as in its appendix.
    **Deviations**: u goes on along its tangent above e^20, where the authors' u stays at that. Without `reward_limit`
    nothing is clipped; the guarantees are for the clipped loss, which has no gradient beyond 2R, on either side.
    **Limits**: its minimiser over all policies maximises `E r` less the regulariser where labels follow Bradley-Terry
    with rewards r. `ChiSquaredDPO` as g falls to 0; DPO with beta g as g grows and beta g stays.

    Args:
        beta: Strength of the regulariser; the authors' are 0.05 and 0.005.
        kl_weight: g above.
        reward_limit: R above, the largest reward that a response may truly earn, in nats; None clips nothing.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in ChiSquaredPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.0124, 0.6931]
    """

    beta: float = 0.05
    kl_weight: float = 1.0
    reward_limit: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        cure = "for no KL at all take the method `chi_squared_dpo`"
        require(0 < self.kl_weight < inf, "kl_weight", self.kl_weight, must="be positive", cure=cure)
        if self.reward_limit is not None:
            cure = "leave it out for no clipping"
            require(self.reward_limit > 0, "reward_limit", self.reward_limit, must="be positive", cure=cure)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        ratio = branch_ratio(batch)
        reward = self.beta * (continued_exp(ratio, LARGEST_LOG_RATIO) + self.kl_weight * ratio)
        margin = margin_of_pairs(reward, batch)
        if self.reward_limit is not None:
            margin = margin.clamp(-2 * self.reward_limit, 2 * self.reward_limit)
        return pair_loss(logistic(margin), reward, batch)
