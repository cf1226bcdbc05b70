"""Bradley-Terry on rewards divided by their common norm."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.preference import logistic
from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class LogitNormalized:
    """`-log sigmoid((r_w - r_l) / sqrt(r_w^2 + r_l^2))` per pair, in nats.

    **Source**: BT-Norm of arXiv 2505.07271, after Wei et al., "Mitigating neural network overconfidence with logit
    normalization" (arXiv 2205.09310).
    **Deviations**: the norm is bounded below by `epsilon`, since the released form is 0/0 when both rewards are 0.
    **Limits**: unchanged when all rewards are multiplied by a > 0; bounded below by log(1 + exp(-sqrt 2)) = 0.21762.

    Args:
        epsilon: Smallest norm divided by, in reward units.

    >>> from trueup.objectives.example import two_pairs
    >>> round(LogitNormalized()(two_pairs(), {}).values.mean().item(), 5)
    0.43866
    """

    unit: ClassVar[Unit] = "pair"
    epsilon: float = 1e-12

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per pair."""
        # The bound goes under the root: the square root's own gradient is infinite at zero.
        norm = (batch.chosen.square() + batch.rejected.square()).clamp_min(self.epsilon**2).sqrt()
        return Loss(logistic((batch.chosen - batch.rejected) / norm))
