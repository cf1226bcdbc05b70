"""Hinge loss on log-ratios."""

from dataclasses import dataclass

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import hinge, margin_of_pairs, pair_loss
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class HingeDPO(ImpliedReward):
    """`max(1 - beta (l_w - l_l), 0)` per pair, with l as in DPO.

    **Source**: Liu et al., "Statistical rejection sampling improves preference optimization" (arXiv 2309.06657),
    hinge-norm: the calibration loss of SLiC (arXiv 2305.10425) on log-ratios.
    **Deviations**: without SLiC's likelihood of the chosen response; add `sft` for that.
    **Limits**: no gradient once a pair's margin is 1.

    Args:
        beta: Reward per nat; 1 / beta is the margin, in nats, at which a pair is let go.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in HingeDPO(beta=0.5)(two_preferences(), {}).values.tolist()]
    [0.3069, 1.0]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * branch_ratio(batch)
        return pair_loss(hinge(margin_of_pairs(reward, batch), target=1.0), reward, batch)
