"""A-LoL: the likelihood of responses that did better than the reference would have, weighted by how much better."""

from dataclasses import dataclass
from typing import ClassVar

from trueup.functional.cloning import clipped_ratio, is_outside, positive_advantage, weighted_loss
from trueup.functional.policy_batch import branch_logprob, branch_ratio
from trueup.objectives.advantage.clipped import Clipped
from trueup.types import Loss, Need, PolicyBatch, Stats


@dataclass(frozen=True, kw_only=True)
class ALol(Clipped):
    """`-A+ rho log pi(y | x)` per response, with `rho = clamp(pi(y|x) / pi_ref(y|x), 1 - clip, 1 + clip)`.

    `A+ = max(R - V(x), 0)`; neither it nor rho carries a gradient, and log pi is summed over the response's tokens.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch: Advantage-based Offline Reinforcement Learning for Language
    Models (arXiv 2305.14718); LoL-RL, the authors' code, for the clip.
    **Deviations**: a response whose advantage is not positive counts in the mean, with 0, unless it was left out of
    the data as the authors do.
    **Limits**: at the first step rho is 1, and A-LoL is `ALolRefFree`; so it is at clip 0, and with all advantages 1
    as well the likelihood of whole responses. The clip is a clamp on a weight, unlike PPO's: beyond it the gradient
    goes on, with the bound for a weight.

    >>> from dataclasses import replace
    >>> import torch
    >>> from trueup.objectives.example import two_groups
    >>> batch = replace(two_groups(), advantage=torch.tensor([1, 1, -1, 0.5, 0.5, 0.5], dtype=torch.float64))
    >>> [round(x, 4) for x in ALol()(batch, {}).values.tolist()]
    [2.634, 0.0, 0.6585, 1.9755]
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "advantage"})

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        moved = branch_ratio(batch).detach()
        weight = positive_advantage(batch) * clipped_ratio(moved, clip=self.clip)
        values = weighted_loss(weight, branch_logprob(batch))
        return Loss(values, batch.kept, metrics={"policy_clipped": is_outside(moved, clip=self.clip)})
