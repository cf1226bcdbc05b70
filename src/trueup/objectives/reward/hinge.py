"""A hard margin: no gradient once a pair is apart."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.errors import RecipeError
from trueup.functional.preference import hinge
from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """`max(m - (r_w - r_l), 0)` per pair, in reward units.

    **Source**: BT-Hinge of Hong, Lee et al., "On the Robustness of Reward Models for Language Model Alignment"
    (arXiv 2505.07271).
    **Deviations**: the released code has margin 0, which has no gradient as soon as a pair is ordered; ours is 1.
    **Limits**: zero on any batch whose margins exceed `margin`.

    Args:
        margin: Lead at which a pair stops counting, in reward units.

    >>> from trueup.objectives.example import two_pairs
    >>> Hinge(margin=1.5)(two_pairs(), {}).values.mean().item()
    0.5
    """

    unit: ClassVar[Unit] = "pair"
    margin: float = 1.0

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise RecipeError(f"margin must not be negative, got {self.margin}")

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        return Loss(hinge(batch.chosen - batch.rejected, target=self.margin))
