"""SuperHF: imitate the best of one's own responses."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trueup.functional.policy_batch import given, kept_tokens, positive
from trueup.types import Loss, Need, PolicyBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class SuperHF:
    """`-log pi(y_t | x, y_<t)` per token of the k best responses to each prompt.

    Its prior is a term of its own, `ForwardKLPriorSum` as released.

    **Source**: Mukobi et al., "SuperHF" (arXiv 2310.16763), and its released code: ties in the filter go by order.
    **Deviations**: no token that pads is a label.
    **Limits**: with k of at least the number of responses, the expected gradient on policy is 0.

    Args:
        k: How many responses to each prompt are kept.

    >>> from trueup.objectives.example import two_groups
    >>> superhf = SuperHF()
    >>> batch = superhf.prepare(two_groups())
    >>> batch.kept.tolist(), [round(x, 4) for x in superhf(batch, {}).values[:2].tolist()]
    ([True, False, True, False], [0.6931, 0.6931])
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[Need]] = frozenset()
    k: int = 1

    def __post_init__(self) -> None:
        positive("k", self.k)

    def prepare(self, batch: PolicyBatch, /) -> PolicyBatch:
        """Say which branches are kept."""
        return replace(batch, kept=best_of_each(given(batch.reward, "reward"), batch.prompt, self.k))

    def __call__(self, batch: PolicyBatch, stats: Stats, /) -> Loss:
        """Return one value per token; those of branches that are not kept are masked."""
        return Loss(-batch.logprob, kept_tokens(batch))


def best_of_each(
    reward: Float[Tensor, " branches"], prompt: Int[Tensor, " branches"], k: int
) -> Bool[Tensor, " branches"]:
    """Whether each branch is among its prompt's k best; of equal ones the first are kept.

    >>> best_of_each(torch.tensor([1.0, 2.0, 2.0, 0.0]), torch.tensor([0, 0, 0, 1]), 1).tolist()
    [False, True, False, True]
    """
    best_first = reward.argsort(descending=True, stable=True)
    order = best_first[prompt[best_first].argsort(stable=True)]
    size = prompt.bincount()
    start = size.cumsum(0) - size
    place = torch.arange(len(reward), device=reward.device) - start[prompt[order]]
    return torch.zeros_like(prompt, dtype=torch.bool).index_put((order,), place < k)
