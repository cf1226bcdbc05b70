"""What the methods have in common that take some labels to be wrong."""

from dataclasses import dataclass

from trueup.functional.preference import require
from trueup.objectives.preference.implied_reward import ImpliedReward


@dataclass(frozen=True, kw_only=True)
class Noisy(ImpliedReward):
    """A loss of pairs of which some are taken to be labelled the wrong way round.

    Args:
        beta: Strength of the regulariser.
        label_smoothing: The share of them.
    """

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        cure = "where more than half of the labels are wrong, exchange chosen and rejected"
        smoothing = self.label_smoothing
        require(0 <= smoothing < 0.5, "label_smoothing", smoothing, must="lie in [0, 0.5)", cure=cure)
