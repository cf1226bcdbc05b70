"""Plackett-Luce: the likelihood of a whole ranking."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from trueup.types import Loss, RewardBatch, Stats, Unit


@dataclass(frozen=True, kw_only=True)
class PlackettLuce:
    """`-sum_k log( exp r_(k) / sum_{j >= k} exp r_(j) )` per prompt, (1) the best response, in nats.

    **Source**: Plackett (1975), Luce (1959); as a reward-model loss Zhu et al. (arXiv 2301.11270), eq. 6.
    **Deviations**: none. Prompts without a ranking of at least two responses are masked.
    **Limits**: Bradley-Terry when a prompt has two responses.

    >>> from trueup.objectives.example import two_pairs
    >>> round(PlackettLuce()(two_pairs(), {}).values.mean().item(), 6)
    0.313262
    """

    unit: ClassVar[Unit] = "prompt"

    def __call__(self, batch: RewardBatch, stats: Stats, /) -> Loss:
        """Return one value per prompt."""
        prompts = int(batch.prompt.max()) + 1 if len(batch.prompt) else 0
        ranks = int(batch.rank.max()) + 1 if len(batch.rank) else 0
        ranked = batch.rank >= 0
        table = batch.reward.new_full((prompts, max(ranks, 1)), float("-inf"))
        table = table.index_put((batch.prompt[ranked], batch.rank[ranked]), batch.reward[ranked])
        present = table > float("-inf")
        # log-sum-exp over a response and all that are ranked below it
        below = torch.logcumsumexp(table.flip(1), dim=1).flip(1)
        terms = torch.where(present, below - table.where(present, 0.0), 0.0)
        return Loss(terms.sum(1), mask=present.sum(1) >= 2)
