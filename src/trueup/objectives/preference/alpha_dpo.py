"""f-DPO with an alpha-divergence."""

from dataclasses import dataclass
from math import inf

from trueup.functional.exponential import continued_expm1
from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import LARGEST_LOG_RATIO, logistic, margin_of_pairs, pair_loss, require
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class AlphaDPO(ImpliedReward):
    """`-log sigmoid(r_w - r_l)` per pair, in nats, with `r = beta f'(u) = beta (1 - u^-alpha) / alpha`.

    u is pi / pi_ref, and `f(u) = (u^(1 - alpha) - (1 - alpha) u - alpha) / (alpha (alpha - 1))` lies between the
    reverse and the forward KL.

    **Source**: Wang et al., "Beyond reverse KL: generalizing direct preference optimization with diverse divergence
    constraints" (arXiv 2309.16240), theorem 1.
    **Deviations**: any positive alpha, where the paper has alpha < 1; u^-alpha goes on along its tangent above e^20.
    **Beware**: TRL 1.16's `f_alpha_divergence_coef` is 1 - alpha. Its rewards are DPO's; here they are r.
    **Limits**: `DPO` as alpha falls to 0, `ForwardKLDPO` at `alpha = 1`. It is neither `HDPO` nor the method of Wu et
    al. (2024) called alpha-DPO.

    Args:
        beta: Strength of the regulariser.
        alpha: Of the divergence.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in AlphaDPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.3133, 0.6931]
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.alpha < inf, "alpha", self.alpha, must="be positive", cure="at 0 it is `dpo`")

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = -self.beta / self.alpha * continued_expm1(-self.alpha * branch_ratio(batch), LARGEST_LOG_RATIO)
        return pair_loss(logistic(margin_of_pairs(reward, batch)), reward, batch)
