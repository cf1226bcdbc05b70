"""Exponentials that stay finite."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def continued_expm1(x: Float[Tensor, "*n"], limit: float = 10.0) -> Float[Tensor, "*n"]:
    """`e^x - 1`, continued along its tangent where x exceeds `limit`; precise near 0.

    >>> [round(x, 4) for x in continued_expm1(torch.tensor([0.0, 2.0]), limit=1.0).tolist()]
    [0.0, 4.4366]
    """
    return torch.expm1(x.clamp(max=limit)) + math.exp(limit) * torch.relu(x - limit)


def continued_exp(x: Float[Tensor, "*n"], limit: float = 10.0) -> Float[Tensor, "*n"]:
    """`e^x`, continued along its tangent where x exceeds `limit`."""
    return torch.exp(x.clamp(max=limit)) + math.exp(limit) * torch.relu(x - limit)
