"""Gradients that are not those of the value they come with."""

from jaxtyping import Float
from torch import Tensor


def scale_gradient(tensor: Float[Tensor, "..."], factor: float) -> Float[Tensor, "..."]:
    """The same values, exactly, whose gradient is multiplied by `factor` on its way back.

    >>> import torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> scale_gradient(x, 5.0).square().backward()
    >>> x.grad.item()
    20.0
    """
    return tensor + (factor - 1) * (tensor - tensor.detach())
