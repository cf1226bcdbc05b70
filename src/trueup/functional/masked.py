"""Reductions that select masked entries away, so that infinities there do no harm."""

from jaxtyping import Bool, Float
from torch import Tensor


def masked_sum(values: Float[Tensor, " units"], mask: Bool[Tensor, " units"] | None) -> Float[Tensor, ""]:
    """Sum of the entries that count."""
    return values.sum() if mask is None else values[mask].sum()
