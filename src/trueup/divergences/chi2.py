"""Chi-squared divergence of given distributions, exactly.

Distributions are log-probabilities in the last dimension, -inf where there is none; leading dimensions are batches.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def chi2(p: Float[Tensor, "*b v"], q: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """`chi2(p || q) = sum (p - q)^2 / q = sum p^2 / q - 1`; infinite where q lacks something that p has.

    **Limits**: at least `e^KL(p || q) - 1`; Tsallis at q = 2.

    >>> halves, uneven = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    >>> round(chi2(halves, uneven).item(), 4)
    1.7778
    """
    present = (p > float("-inf")) | (q > float("-inf"))
    ratio = torch.where(present, p, 0) - torch.where(present, q, 0)
    # (p - q)(p/q - 1) has no negative part that could cancel.
    return torch.where(present, (p.exp() - q.exp()) * torch.expm1(ratio), 0).sum(-1)


def sqrt_chi2(p: Float[Tensor, "*b v"], q: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """`sqrt(chi2(p || q))`; at p = q, where it has a kink, its gradient is 0.

    **Source**: Laidlaw, Singhal, Dragan, "Correlated proxies" (arXiv 2403.03185), theorem 5.1, for its use.
    """
    squared = chi2(p, q)
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
