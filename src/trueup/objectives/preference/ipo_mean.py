"""IPO on log-ratios per token."""

from dataclasses import dataclass

from trueup.functional.policy_batch import token_ratio
from trueup.functional.preference import margin_of_pairs, pair_loss, squared
from trueup.functional.segments import branch_mean
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class IPOMean(ImpliedReward):
    """`(l_w / |y_w| - l_l / |y_l| - 1 / (2 beta))^2` per pair, in squared nats per token.

    **Source**: TRL's `ipo`, whose authors say that those of IPO (arXiv 2310.12036, eq. 17) confirmed the division by
    the number of tokens; their paper does not mention it.
    **Deviations**: TRL logs beta times the sum of log-ratios as rewards; here it is their mean, which the loss uses.
    **Limits**: `IPO` where every response has one token.

    Args:
        beta: Strength of the KL regulariser; 1 / (2 beta) is in nats per token.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in IPOMean(beta=1)(two_preferences(), {}).values.tolist()]
    [0.0373, 0.0235]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        ratio = branch_mean(token_ratio(batch), batch.branch, len(batch.prompt))
        values = squared(margin_of_pairs(ratio, batch), target=1 / (2 * self.beta))
        return pair_loss(values, self.beta * ratio, batch)
