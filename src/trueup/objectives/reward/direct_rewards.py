"""Push absolute rewards apart: chosen above zero, rejected below."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.preference import logistic
from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class DirectRewards:
    """`-log sigmoid(r_w) - log sigmoid(-r_l)` per pair, in nats; added to Bradley-Terry it is BT-DR.

    **Source**: Yuan et al., "Advancing LLM reasoning generalists with preference trees" (Eurus, arXiv 2404.02078);
    BT-DR of arXiv 2505.07271.
    **Deviations**: none in the value; a stable log-sigmoid where released code overflows.
    **Limits**: minimised by r_w -> inf, r_l -> -inf; 2 log 2 at r = 0.

    Args:
        coefficient: Weight of the term; the paper's sum has 1.

    >>> import torch
    >>> from trueup.objectives.example import pairs
    >>> round(DirectRewards()(pairs([1.0], [0.0]), {}).values.sum().item(), 6)
    1.006409
    """

    unit: ClassVar[Unit] = "pair"
    coefficient: float = 1.0

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        return Loss(self.coefficient * (logistic(batch.chosen) + logistic(-batch.rejected)))
