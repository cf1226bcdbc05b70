"""Log-probabilities of given tokens, without ever holding the logits of all of them."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    result: Tensor = _LogSoftmaxAt.apply(logits(hidden), targets)  # type: ignore[no-untyped-call]
    return result


class _LogSoftmaxAt(torch.autograd.Function):
    """log softmax(scores_i)[target_i], with one table of tokens by vocabulary kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: Tensor) -> Tensor:
        logprobs = scores.log_softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        ctx.save_for_backward(logprobs, targets)
        ctx.dtype = scores.dtype
        return logprobs.gather(-1, targets[:, None])[:, 0]

    @staticmethod
    @once_differentiable  # type: ignore[misc, untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # d log p(target) / d score_v = 1[v = target] - p(v)
        logprobs, targets = ctx.saved_tensors
        slope = logprobs.exp().mul_(-grad[:, None]).scatter_add_(1, targets[:, None], grad[:, None])
        return slope.to(ctx.dtype), None
