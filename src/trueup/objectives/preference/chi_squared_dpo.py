"""f-DPO with the chi-squared divergence alone."""

from dataclasses import dataclass

from trueup.functional.exponential import continued_expm1
from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import LARGEST_LOG_RATIO, logistic, margin_of_pairs, pair_loss
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class ChiSquaredDPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l)` per pair, in nats, with `r = beta f'(u) = beta (u - 1)` and `u = pi / pi_ref`.

    `f(u) = (u - 1)^2 / 2`, half of Pearson's chi-squared E_ref[(u - 1)^2], as Huang et al. have it; for Pearson's own
    (f' = 2u - 2), give half of its coefficient.

    **Source**: the recipe of Wang et al. (arXiv 2309.16240), theorem 1, for this f.
    **Deviations**: that theorem wants f' to have no lower bound. Here r > -beta: a response that should earn less is
    pushed down for ever, which is why Huang et al. (arXiv 2407.13399) add a KL: `ChiSquaredPO`. u goes on along its
    tangent above e^20.
    **Limits**: its minimiser over all policies maximises `E r - beta E_ref[(u - 1)^2] / 2` where labels follow
    Bradley-Terry with rewards r, if that leaves every response some probability. `ChiSquaredPO` as `kl_weight` falls.

    Args:
        beta: Strength of the regulariser; ratios of whole responses are far from 1, so small values suit.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in ChiSquaredDPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.0486, 0.6931]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * continued_expm1(branch_ratio(batch), LARGEST_LOG_RATIO)
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
