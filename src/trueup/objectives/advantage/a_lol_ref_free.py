"""A-LoL without a reference in training."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import positive_advantage, weighted_loss
from trueup.functional.policy_batch import branch_logprob
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ALolRefFree:
    """`-A+ log pi(y | x)` per response, with `A+ = max(R - V(x), 0)`.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718), A-LoL (ref. free).
    **Deviations**: as `ALol`.
    **Limits**: `ALol` at clip 0. A policy that can be anything ends at pi(y | x) proportional to pi_data(y | x) A+(x,
    y); where rows are drawn in proportion to A+ as well, to its square.

    >>> from dataclasses import replace
    >>> import torch
    >>> from trueup.objectives.example import two_groups
    >>> batch = replace(two_groups(), advantage=torch.tensor([1, 1, -1, 0.5, 0.5, 0.5], dtype=torch.float64))
    >>> [round(x, 4) for x in ALolRefFree()(batch, {}).values.tolist()]
    [1.3863, 0.0, 0.3466, 1.0397]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"advantage"})

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        return Loss(weighted_loss(positive_advantage(batch), branch_logprob(batch)), batch.kept)
