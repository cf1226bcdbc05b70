"""Bradley-Terry with a margin that the chosen response must lead by."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.errors import RecipeError
from trueup.functional.preference import logistic
from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class Margin:
    """`-log sigmoid(r_w - r_l - m)` per pair, m a constant plus the margin of the row.

    **Source**: Touvron et al., "Llama 2" (arXiv 2307.09288), eq. 2; the code of arXiv 2505.07271.
    **Deviations**: none.
    **Limits**: Bradley-Terry at `constant = 0` on data without margins.

    Args:
        constant: Margin asked of every pair, in reward units.
        from_data: Whether each row's own margin is added.

    >>> from trueup.objectives.example import two_pairs
    >>> round(Margin(constant=1.0)(two_pairs(), {}).values.mean().item(), 6)
    0.693147
    """

    unit: ClassVar[Unit] = "pair"
    constant: float = 0.0
    from_data: bool = True

    def __post_init__(self) -> None:
        if self.constant < 0:
            raise RecipeError(f"constant must not be negative, got {self.constant}")

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        margin = batch.margin + self.constant if self.from_data else self.constant
        return Loss(logistic(batch.chosen - batch.rejected - margin))
