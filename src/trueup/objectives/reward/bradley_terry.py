"""Bradley-Terry: the likelihood of a choice between two responses."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.errors import RecipeError
from trueup.functional.preference import logistic
from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """`-log sigmoid(r_w - r_l)` per pair, in nats.

    **Source**: Bradley & Terry (1952); as a reward-model loss Ouyang et al., "Training language models to follow
    instructions with human feedback" (arXiv 2203.02155), eq. 1.
    **Deviations**: none. With `label_smoothing` e the label is believed with probability 1 - e (conservative BT).
    **Limits**: unchanged when a constant is added to all rewards of a prompt.

    Args:
        label_smoothing: Assumed share of wrong labels, in [0, 0.5).

    >>> from trueup.objectives.example import two_pairs
    >>> round(BradleyTerry()(two_pairs(), {}).values.mean().item(), 6)
    0.313262
    """

    unit: ClassVar[Unit] = "pair"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 0.5:
            raise RecipeError(f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing}")

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        return Loss(logistic(batch.chosen - batch.rejected, label_smoothing=self.label_smoothing))
