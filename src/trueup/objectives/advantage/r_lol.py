"""R-LoL: A-LoL with the reward in the place of the advantage."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import clipped_ratio, is_outside, weighted_loss
from trueup.functional.policy_batch import branch_logprob, branch_ratio, given
from trueup.objectives.advantage.clipped import Clipped
from trueup.types import Loss, Need, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class RLol(Clipped):
    """`-R rho log pi(y | x)` per response, with `rho = clamp(pi(y|x) / pi_ref(y|x), 1 - clip, 1 + clip)`.

    Neither R nor rho carries a gradient.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718), R-LoL.
    **Deviations**: none.
    **Limits**: `WBC` at the first step and at clip 0. R must not be negative, or the response is pushed down without
    any bound.

    >>> from trueup.objectives.example import two_groups
    >>> [round(x, 4) for x in RLol()(two_groups(), {}).values.tolist()]
    [7.9019, 1.3863, 2.634, 7.9019]
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "reward"})

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        moved = branch_ratio(batch).detach()
        weight = given(batch.reward, "reward") * clipped_ratio(moved, clip=self.clip)
        values = weighted_loss(weight, branch_logprob(batch))
        return Loss(values, batch.kept, metrics={"policy_clipped": is_outside(moved, clip=self.clip)})
