"""Robust DPO: unbiased under labels flipped at a known rate."""

from dataclasses import dataclass

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import margin_of_pairs, pair_loss, unbiased_logistic
from trueup.objectives.preference.noisy import Noisy
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class RobustDPO(Noisy):
    """`(-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2e)` per pair, in nats, with `m = beta (l_w - l_l)`.

    Where each label is flipped with probability e, its mean is DPO's loss on the true labels.

    **Source**: Chowdhury, Kini, Natarajan, "Provably robust DPO" (arXiv 2403.00409), L_rDPO.
    **Deviations**: none.
    **Limits**: `DPO` at `label_smoothing = 0`. Without a lower bound as m grows: stop early.

    Args:
        beta: Strength of the KL regulariser.
        label_smoothing: e, the rate of flipped labels.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in RobustDPO(beta=1, label_smoothing=0.25)(two_preferences(), {}).values.tolist()]
    [-0.47, 0.6931]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * branch_ratio(batch)
        values = unbiased_logistic(margin_of_pairs(reward, batch), flipped=self.label_smoothing)
        return pair_loss(values, reward, batch)
