"""A-LoL with a ratio of its own for every token."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import clipped_ratio, is_outside, positive_advantage, weighted_loss
from trueup.functional.policy_batch import token_ratio
from trueup.functional.segments import branch_mean, branch_sum
from trueup.objectives.advantage.clipped import Clipped
from trueup.types import Loss, Need, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class ALolSeq(Clipped):
    """`-A+ sum_t rho_t log pi(y_t | .)` per response, with `rho_t = clamp(pi(y_t|.) / pi_ref(y_t|.), 1 -+ clip)`.

    `A+ = max(R - V(x), 0)`; no weight carries a gradient.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718), A-LoL sequence; LoL-RL, the authors'
    code, for the clip.
    **Deviations**: as `ALol`.
    **Limits**: `ALol` for responses of one token; `ALolRefFree` at the first step and at clip 0. It does not rewrite
    the ratio of the whole response, which is the product of its tokens': a heuristic, with less variance.

    Args:
        clip: How far each token's ratio may be from 1.

    >>> from dataclasses import replace
    >>> import torch
    >>> from trueup.objectives.example import two_groups
    >>> batch = replace(two_groups(), advantage=torch.tensor([1, 1, -1, 0.5, 0.5, 0.5], dtype=torch.float64))
    >>> [round(x, 4) for x in ALolSeq()(batch, {}).values.tolist()]
    [2.634, 0.0, 0.6585, 1.3516]
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "advantage"})

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        moved, count = token_ratio(batch).detach(), len(batch.prompt)
        weight = positive_advantage(batch)[batch.branch] * clipped_ratio(moved, clip=self.clip)
        values = branch_sum(weighted_loss(weight, batch.logprob), batch.branch, count)
        clipped = branch_mean(is_outside(moved, clip=self.clip), batch.branch, count)
        return Loss(values, batch.kept, metrics={"policy_clipped": clipped})
