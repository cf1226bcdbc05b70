"""Conservative DPO: labels that may be wrong."""

from dataclasses import dataclass

from trueup.functional.policy_batch import branch_ratio
from trueup.functional.preference import logistic, margin_of_pairs, pair_loss
from trueup.objectives.preference.noisy import Noisy
from trueup.types import Loss, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class CDPO(Noisy):
    """`-(1 - e) log sigmoid(m) - e log sigmoid(-m)` per pair, in nats, with `m = beta (l_w - l_l)` as in DPO.

    Its gradient vanishes at `sigmoid(m) = 1 - e`, so that no pair is fitted for ever.

    **Source**: Mitchell, "A note on DPO with noisy preferences and relationship to IPO" (2023), eq. 3.
    **Deviations**: none. TRL 1.16 has dropped it: `label_smoothing` leaves its `sigmoid` loss as it is.
    **Limits**: `DPO` at `label_smoothing = 0`. Biased towards small margins, unlike `RobustDPO`.

    Args:
        beta: Strength of the KL regulariser.
        label_smoothing: e, the assumed share of wrong labels.

    >>> from trueup.objectives.example import two_preferences
    >>> [round(x, 4) for x in CDPO(beta=1, label_smoothing=0.25)(two_preferences(), {}).values.tolist()]
    [0.5697, 0.6931]
    """

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        reward = self.beta * branch_ratio(batch)
        values = logistic(margin_of_pairs(reward, batch), label_smoothing=self.label_smoothing)
        return pair_loss(values, reward, batch)
