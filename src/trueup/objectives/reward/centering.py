"""Hold each pair's rewards around zero."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.errors import RecipeError
from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class Centering:
    """`c (r_w + r_l)^2` per pair.

    **Source**: Eisenstein et al., "Helping or herding?" (arXiv 2312.09244), section 2; TRL's
    `center_rewards_coefficient`.
    **Deviations**: none.
    **Limits**: equals batch-wise sum-to-zero of coefficient 4c when each batch is a single pair.

    Args:
        coefficient: c above.

    >>> from trueup.objectives.example import two_pairs
    >>> round(Centering(coefficient=0.01)(two_pairs(), {}).values.mean().item(), 6)
    0.13
    """

    unit: ClassVar[Unit] = "pair"
    coefficient: float = 0.01

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise RecipeError(f"coefficient must not be negative, got {self.coefficient}")

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        return Loss(self.coefficient * (batch.chosen + batch.rejected).square())
