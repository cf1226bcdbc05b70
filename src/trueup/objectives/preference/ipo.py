"""IPO: a bounded margin, without a model of rewards."""

from dataclasses import dataclass

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import margin_of_pairs, pair_loss, squared
from trueup.objectives.preference.implied_reward import ImpliedReward
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class IPO(ImpliedReward):
    """`(l_w - l_l - 1 / (2 beta))^2` per pair, in squared nats, with l as in DPO: of whole responses.

    The implied reward beta l is, in population, the probability of being preferred to a response of whoever drew the
    pairs, up to a constant of the prompt.

    **Source**: Azar et al., "A general theoretical paradigm to understand learning from human preferences"
    (arXiv 2310.12036), eq. 17, where beta is called tau.
    **Deviations**: none; the paper writes the log-probability of the whole response. TRL's `ipo` divides it by the
    number of tokens, which it says the authors do too: that is `IPOMean`.
    **Limits**: `INPO` at `tau = eta = beta`. `1 / (4 beta^2)` at pi = pi_ref.

    Args:
        beta: Strength of the KL regulariser; 1 / (2 beta) is in nats per response.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in IPO(beta=1)(two_preferences(), {}).values.tolist()]
    [0.7855, 0.25]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        ratio = branch_ratio(batch)
        values = squared(margin_of_pairs(ratio, batch), target=1 / (2 * self.beta))
        return pair_loss(values, self.beta * ratio, batch)
