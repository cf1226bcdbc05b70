"""Log-probabilities of given tokens, without ever holding the logits of all of them."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Logits = Callable[[Float[Tensor, "t d"]], Float[Tensor, "t v"]]
"""From hidden states to logits."""

# About 64 MiB of float32 logits at a time.
_ENTRIES = 2**24


def token_logprobs(
    hidden: Float[Tensor, "t d"], targets: Int[Tensor, " t"], logits: Logits, *, vocabulary: int
) -> Float[Tensor, " t"]:
    """Log softmax(logits(hidden_i))[target_i] in nats, float32 or wider.

    Logits are made a chunk of tokens at a time and made again in the backward pass, so that memory does not grow with
    tokens times vocabulary; where one chunk holds all, nothing is computed twice.

    Args:
        hidden: States that predict each target.
        targets: Token ids.
        logits: The model's output layer.
        vocabulary: Number of logits per token.
    """
    size = max(_ENTRIES // vocabulary, 1)
    if len(hidden) <= size:
        return _logprobs(hidden, targets, logits)
    chunks = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    return torch.cat([_again(part, wanted, logits) for part, wanted in chunks])


def _again(hidden: Tensor, targets: Tensor, logits: Logits) -> Tensor:
    if not torch.is_grad_enabled():
        return _logprobs(hidden, targets, logits)
    result: Tensor = checkpoint(_logprobs, hidden, targets, logits, use_reentrant=False)
    return result


def _logprobs(hidden: Tensor, targets: Tensor, logits: Logits) -> Tensor:
    scores = logits(hidden)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return scores.gather(-1, targets[:, None])[:, 0] - scores.logsumexp(-1)
