"""Small batches for docstrings and tests."""

from collections.abc import Sequence

import torch

from trueup.types import PolicyBatch, RewardBatch


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


def two_groups(*, dtype: torch.dtype = torch.float64) -> PolicyBatch:
    """Two prompts with two responses each, just drawn; rewards 3, 1 and 2, 2.

    The policy is twice as sure as the reference of each token but two: responses' log-ratios are log 4, 0, log 2 and
    log 2. What carries a gradient is a leaf that records it.
    """
    logprob = torch.tensor([0.5, 0.5, 0.25, 0.5, 0.5, 0.25], dtype=dtype).log()
    old_value = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], dtype=dtype)
    return PolicyBatch(
        logprob=logprob.clone().requires_grad_(),
        branch=torch.tensor([0, 0, 1, 2, 3, 3]),
        prompt=torch.tensor([0, 0, 1, 1]),
        behaviour=logprob,
        reference=torch.full_like(logprob, 0.25).log(),
        reward=torch.tensor([3.0, 1.0, 2.0, 2.0], dtype=dtype),
        token_reward=torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0, 2.0], dtype=dtype),
        finished=torch.ones(4, dtype=torch.bool),
        value=old_value.clone().requires_grad_(),
        old_value=old_value,
        entropy=torch.full_like(logprob, 0.5).requires_grad_(),
        forward_kl=torch.tensor([0.1, 0.3, 0.0, 0.4, 0.2, 0.2], dtype=dtype).requires_grad_(),
    )


def two_preferences(*, dtype: torch.dtype = torch.float64) -> PolicyBatch:
    """The responses of `two_groups` as two pairs, chosen first, at the start of a round.

    The pairs' log-ratios differ by log 4 and 0; the rewards that other objectives give, by 2 and 0.
    """
    drawn = two_groups(dtype=dtype)
    return PolicyBatch(
        logprob=drawn.logprob,
        branch=drawn.branch,
        prompt=drawn.prompt,
        reference=drawn.reference,
        pairs=torch.tensor([[0, 1], [2, 3]]),
        previous=drawn.behaviour,
        reward=drawn.reward,
    )
