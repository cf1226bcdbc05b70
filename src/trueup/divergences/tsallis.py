"""Tsallis divergence of given distributions, exactly.

Distributions are log-probabilities in the last dimension, -inf where there is none; leading dimensions are batches.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.divergences.kl import kl
from trueup.errors import RecipeError


def tsallis(p: Float[Tensor, "*b v"], q: Float[Tensor, "*b v"], *, index: float) -> Float[Tensor, "*b"]:
    """`D_k(p || q) = (sum p^k q^(1-k) - 1) / (k - 1)` with `k = index`, never negative.

    **Source**: the divergence of Zhu et al., "Generalized Munchausen reinforcement learning with Tsallis KL
    divergence" (arXiv 2301.11476), where k is called q and q is the anchor.
    **Limits**: KL(p || q) at index 1, chi2(p || q) at index 2.

    Args:
        p: The distribution that is held.
        q: The one it is held to.
        index: k above, positive.

    Raises:
        RecipeError: The index is not positive.

    >>> halves, uneven = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    >>> round(tsallis(halves, uneven, index=2).item(), 4)
    1.7778
    """
    if not index > 0:
        raise RecipeError(f"index must be positive, got {index}")
    if index == 1:
        return kl(p, q)
    present = p > float("-inf")
    ratio = torch.where(present, p, 0) - torch.where(present, q, 0)
    return (p.exp() * torch.expm1((index - 1) * ratio)).sum(-1) / (index - 1)
