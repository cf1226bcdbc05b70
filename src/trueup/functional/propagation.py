"""Weights that a token takes from the losses of the tokens after it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trueup.functional.segments import branch_sum, reverse_cumsum


def future_weights(
    loss: Float[Tensor, " t"], branch: Int[Tensor, " t"], count: int, *, gamma: float
) -> Float[Tensor, " t"]:
    """`w_i = T c_i / sum_k c_k` with `c_i = sum_{j >= i} gamma^(j - i) l_j`, over the T tokens of a branch.

    They are differentiable and sum to T. At gamma 0 they are 1, which is no limit of theirs: that would be `T l_i /
    sum_k l_k`. Where all losses of a branch are 0, so are its weights.

    Args:
        loss: l_i, not negative.
        branch: Number of each token's branch.
        count: Number of branches.
        gamma: How far ahead is looked, from 0 to 1.

    >>> losses, branch = torch.tensor([1.0, 0.5, 2.0, 0.2]), torch.tensor([0, 0, 0, 0])
    >>> [round(w, 3) for w in future_weights(losses, branch, 1, gamma=0.95).tolist()]
    [1.639, 1.226, 1.04, 0.095]
    """
    if gamma == 0:
        return torch.ones_like(loss)
    ahead = reverse_cumsum(loss, branch, decay=gamma)
    total = branch_sum(ahead, branch, count).clamp(min=torch.finfo(loss.dtype).tiny)
    length = branch.bincount(minlength=count).to(loss.dtype)
    return ahead / total[branch] * length[branch]
