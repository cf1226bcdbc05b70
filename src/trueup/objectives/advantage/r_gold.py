"""R-GOLD: GOLD with the response's reward in the place of its likelihood as a reward."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import share, weighted_loss
from trueup.functional.policy_batch import given
from trueup.functional.segments import branch_sum
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class RGold:
    """`-R sum_t max(pi(y_t | .), floor) log pi(y_t | .)` per response; no weight carries a gradient.

    The token's own probability stands for the ratio pi / pi_data, with pi_data taken as constant.

    **Source**: the baseline R-GOLD of Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718); Pang & He (ICLR
    2021), Text generation by learning from demonstrations (arXiv 2009.07839).
    **Deviations**: none.
    **Limits**: `WBC` at floor 1. R must not be negative, or the response is pushed down without any bound.

    Args:
        floor: Smallest weight of a token.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in RGold()(two_groups(), {}).values.tolist()]
    [2.0794, 0.3466, 0.6931, 1.3863]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reward"})
    floor: float = 0.1

    def __post_init__(self) -> None:
        share("floor", self.floor)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        reward = given(batch.reward, "reward")[batch.branch]
        weight = reward * batch.logprob.detach().exp().clamp(min=self.floor)
        return Loss(branch_sum(weighted_loss(weight, batch.logprob), batch.branch, len(batch.prompt)), batch.kept)
