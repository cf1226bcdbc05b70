"""Kullback-Leibler divergence and entropy of given distributions, exactly.

Distributions are log-probabilities in the last dimension, -inf where there is none; leading dimensions are batches.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def kl(p: Float[Tensor, "*b v"], q: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """`KL(p || q) = sum p (log p - log q)`, in nats; infinite where q lacks something that p has.

    >>> halves, uneven = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    >>> round(kl(halves, uneven).item(), 4)
    0.5108
    """
    present = p > float("-inf")
    ratio = torch.where(present, p, 0) - torch.where(present, q, 0)
    return (p.exp() * ratio).sum(-1)


def entropy(p: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """`-sum p log p`, in nats.

    >>> round(entropy(torch.zeros(4).log_softmax(-1)).item(), 4)
    1.3863
    """
    return -(p.exp() * torch.where(p > float("-inf"), p, 0)).sum(-1)
