"""Reductions over branches of a flat row of tokens.

Tokens of one branch follow one another; `branch` numbers each token's, from 0. All of it is differentiable.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def branch_sum(values: Float[Tensor, " t"], branch: Int[Tensor, " t"], count: int) -> Float[Tensor, " branches"]:
    """Sum over each branch's tokens; 0 for a branch without any.

    >>> branch_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 1]), 3).tolist()
    [3.0, 4.0, 0.0]
    """
    return values.new_zeros(count).index_add(0, branch, values)


def branch_mean(values: Float[Tensor, " t"], branch: Int[Tensor, " t"], count: int) -> Float[Tensor, " branches"]:
    """Mean over each branch's tokens; 0 for a branch without any."""
    return branch_sum(values, branch, count) / branch.bincount(minlength=count).clamp(min=1).to(values.dtype)


def shared_value(values: Float[Tensor, " t"], branch: Int[Tensor, " t"], count: int) -> Float[Tensor, " branches"]:
    """The one value that all tokens of a branch hold, exactly; 0 for a branch without tokens."""
    return values.new_zeros(count).scatter_reduce(0, branch, values, "amax", include_self=False)


def last_token(branch: Int[Tensor, " t"]) -> Bool[Tensor, " t"]:
    """Whether each token is the last one of its branch.

    >>> last_token(torch.tensor([0, 0, 1])).tolist()
    [False, True, True]
    """
    end = branch.new_ones(min(len(branch), 1), dtype=torch.bool)
    return torch.cat([branch[1:] != branch[:-1], end])


def reverse_cumsum(
    values: Float[Tensor, " t"], branch: Int[Tensor, " t"], *, decay: float = 1.0
) -> Float[Tensor, " t"]:
    """What is still to come at each token of its branch: `sum_{k >= 0} decay^k values_{t + k}`.

    The span that is summed doubles with each round, so that a row takes as many rounds as the binary logarithm of its
    longest branch.

    >>> reverse_cumsum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 1])).tolist()
    [3.0, 2.0, 4.0]
    """
    total, span, factor = values, 1, decay
    while span < len(values):
        together = branch[span:] == branch[:-span]
        if not bool(together.any()):
            break
        beyond = torch.where(together, total[span:], 0)
        total = torch.cat([total[:-span] + factor * beyond, total[-span:]])
        span, factor = 2 * span, factor * factor
    return total
