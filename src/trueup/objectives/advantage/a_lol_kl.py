"""A-LoL with a KL term in the place of the ratio."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from trueup.functional.cloning import positive_advantage
from trueup.functional.policy_batch import branch_logprob, branch_ratio, not_negative
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class ALolKL:
    """`-A log pi(y | x) + beta (log pi(y | x) - log pi_ref(y | x))` per response whose A = R - V(x) is positive.

    The others are left out, KL and all. The net weight on `grad log pi(y | x)` is A - beta.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718), A-LoL KL; in LoL-RL, the authors' code,
    `a_lol` with a beta and no clip.
    **Deviations**: as `ALol`; the authors' beta is not known, the default is ours.
    **Limits**: `ALolRefFree` at beta 0. Responses with an advantage below beta are pushed down, without any bound: the
    term is the KL to the reference only for responses that are drawn from the policy, and these are not.

    Args:
        beta: Strength of the KL term, in reward a nat.

    >>> from dataclasses import replace
    >>> import torch
    >>> from trueup.objectives.example import two_groups
    >>> batch = replace(two_groups(), advantage=torch.tensor([1, 1, -1, 0.5, 0.5, 0.5], dtype=torch.float64))
    >>> [round(x, 4) for x in ALolKL(beta=0.5)(batch, {}).values.tolist()]
    [2.0794, 0.0, 0.6931, 1.3863]
    """

    unit: ClassVar[Unit] = "branch"
    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "advantage"})
    beta: float = 0.1

    def __post_init__(self) -> None:
        not_negative("beta", self.beta)

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per branch."""
        advantage = positive_advantage(batch)
        values = self.beta * branch_ratio(batch) - advantage * branch_logprob(batch)
        return Loss(torch.where(advantage == 0, 0, values), batch.kept)
