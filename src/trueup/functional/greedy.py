"""The most likely tokens."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

# About 64 MiB of float32 logits at a time, as where log-probabilities are read.
_ENTRIES = 2**24


@torch.no_grad()
def most_likely(
    hidden: Float[Tensor, "t d"], logits: Callable[[Tensor], Tensor], *, vocabulary: int
) -> Int[Tensor, " t"]:
    """`argmax_v logits(hidden_i)_v`, a chunk of tokens at a time; the first of equals.

    Args:
        hidden: States that predict each token.
        logits: The model's output layer.
        vocabulary: Number of logits per token.

    >>> most_likely(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), lambda hidden: hidden, vocabulary=2).tolist()
    [1, 0]
    """
    return torch.cat([logits(part).argmax(-1) for part in torch.split(hidden, max(_ENTRIES // vocabulary, 1))])
