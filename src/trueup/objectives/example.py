"""Small batches for docstrings and tests."""

from collections.abc import Sequence

import torch

from trueup.types import RewardBatch


def pairs(chosen: Sequence[float], rejected: Sequence[float], *, dtype: torch.dtype = torch.float64) -> RewardBatch:
    """One pair per prompt, with the given rewards as leaves that record gradients."""
    count = len(chosen)
    reward = torch.tensor([value for pair in zip(chosen, rejected, strict=True) for value in pair], dtype=dtype)
    branch = torch.arange(2 * count)
    return RewardBatch(
        reward=reward.requires_grad_(),
        hidden=reward.detach()[:, None],
        prompt=branch // 2,
        pairs=branch.view(count, 2),
        margin=torch.zeros(count, dtype=dtype),
        order=torch.arange(count),
        step_pairs=count,
        rank=branch % 2,
    )


def two_pairs() -> RewardBatch:
    """Two pairs whose margins are both 1: chosen 1 and 3, rejected 0 and 2."""
    return pairs([1.0, 3.0], [0.0, 2.0])
