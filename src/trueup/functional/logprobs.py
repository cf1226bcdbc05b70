"""What logits say of given tokens, without ever holding the logits of all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class OtherStates:
    """Another model's states for the same tokens, to be compared with; nothing of it carries a gradient.

    Args:
        hidden: States that predict each token, in the same order.
        logits: That model's output layer.
    """

    hidden: Float[Tensor, "t e"]
    logits: Logits


@dataclass(frozen=True)
class Readings:
    """What is read from each token's logits, in nats, float32 or wider.

    Args:
        logprob: log p(target).
        entropy: -sum_v p_v log p_v, where asked for.
        forward_kl: KL(q || p) = sum_v q_v (log q_v - log p_v), where another model q was given.
    """

    logprob: Float[Tensor, " t"]
    entropy: Float[Tensor, " t"] | None = None
    forward_kl: Float[Tensor, " t"] | None = None


def token_logprobs(
    hidden: Float[Tensor, "t d"], targets: Int[Tensor, " t"], logits: Logits, *, vocabulary: int
) -> Float[Tensor, " t"]:
    """Log softmax(logits(hidden_i))[target_i] in nats, float32 or wider; see `read_tokens`."""
    return read_tokens(hidden, targets, logits, vocabulary=vocabulary).logprob


def read_tokens(
    hidden: Float[Tensor, "t d"],
    targets: Int[Tensor, " t"],
    logits: Logits,
    *,
    vocabulary: int,
    entropy: bool = False,
    other: OtherStates | None = None,
) -> Readings:
    """Log-probabilities of tokens and, in the same pass over their logits, entropy and divergence.

    Logits are made a chunk of tokens at a time and made again in the backward pass, so that memory does not grow with
    tokens times vocabulary; where one chunk holds all, nothing is computed twice.

    Args:
        hidden: States that predict each target.
        targets: Token ids.
        logits: The model's output layer.
        vocabulary: Number of logits per token.
        entropy: Whether to compute it.
        other: The model q of `forward_kl`, over the same vocabulary; None to leave it out.
    """
    tables = 1 + entropy + 2 * (other is not None)
    size = max(_ENTRIES // (vocabulary * tables), 1)
    read = _Reader(logits, entropy=entropy, other=other)
    if len(hidden) <= size:
        return Readings(*read(hidden, targets, slice(None)))
    starts = range(0, len(hidden), size)
    # Split once: the gradient of a slice is as large as what it was cut from.
    chunks = zip(torch.split(hidden, size), torch.split(targets, size), starts, strict=True)
    found = [_again(read, part, wanted, slice(start, start + size)) for part, wanted, start in chunks]
    logprob, disorder, divergence = zip(*found, strict=True)
    return Readings(torch.cat(logprob), _joined(disorder), _joined(divergence))


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


@dataclass(frozen=True)
class _Reader:
    """Reads one chunk of tokens."""

    logits: Logits
    entropy: bool
    other: OtherStates | None

    def __call__(self, hidden: Tensor, targets: Tensor, where: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
        compared = None
        if self.other is not None:
            with torch.no_grad():
                compared = self.other.logits(self.other.hidden[where])
        scores = self.logits(hidden)
        found: tuple[Tensor, Tensor | None, Tensor | None] = _Read.apply(scores, targets, compared, self.entropy)  # type: ignore[no-untyped-call]
        return found


def _again(read: _Reader, hidden: Tensor, targets: Tensor, where: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if not torch.is_grad_enabled():
        return read(hidden, targets, where)
    found: tuple[Tensor, Tensor | None, Tensor | None] = checkpoint(read, hidden, targets, where, use_reentrant=False)
    return found


class _Read(torch.autograd.Function):
    """The readings, with one table of tokens by vocabulary kept for the backward pass, and one of another model's."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, targets: Tensor, compared: Tensor | None, entropy: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        ctx.set_materialize_grads(False)
        wide = torch.promote_types(scores.dtype, torch.float32)
        logprobs = scores.log_softmax(-1, dtype=wide)
        disorder = -_weighted(logprobs.exp(), logprobs.clone()).sum(-1) if entropy else None
        weight = divergence = None
        if compared is not None:
            theirs = compared.log_softmax(-1, dtype=wide)
            weight = theirs.exp()
            # sum_v q log(q / p) + p - q: no term is negative, and rounding of the normalisers cancels.
            terms = _weighted(weight, theirs.sub_(logprobs))
            divergence = terms.add_(logprobs.exp()).sub_(weight).sum(-1)
        ctx.save_for_backward(logprobs, targets, disorder, weight)
        ctx.dtype = scores.dtype
        return logprobs.gather(-1, targets[:, None])[:, 0], disorder, divergence

    @staticmethod
    @once_differentiable  # type: ignore[misc, untyped-decorator, unused-ignore]
    def backward(
        ctx: Any, of_logprob: Tensor | None, of_entropy: Tensor | None, of_kl: Tensor | None
    ) -> tuple[Tensor | None, None, None, None]:
        """Gradient with respect to the logits.

        d log p(target) / d score_v = 1[v = target] - p_v
        d H / d score_v             = -p_v (log p_v + H)
        d KL(q || p) / d score_v    = p_v - q_v
        """
        logprobs, targets, disorder, weight = ctx.saved_tensors
        slope = logprobs.exp()
        factor = slope.new_zeros(1, 1) if of_logprob is None else -of_logprob[:, None]
        if of_kl is not None:
            factor = factor + of_kl[:, None]
        if of_entropy is not None:
            factor = factor - of_entropy[:, None] * (logprobs + disorder[:, None])
            factor.masked_fill_(slope == 0, 0)  # 0 log 0
        slope.mul_(factor)
        if of_kl is not None:
            slope.addcmul_(weight, of_kl[:, None], value=-1)
        if of_logprob is not None:
            slope.scatter_add_(1, targets[:, None], of_logprob[:, None])
        return slope.to(ctx.dtype), None, None, None


def _weighted(weight: Float[Tensor, "t v"], values: Float[Tensor, "t v"]) -> Float[Tensor, "t v"]:
    """Terms weight_v value_v, where a weight of zero makes its term zero; overwrites the values."""
    return values.mul_(weight).masked_fill_(weight == 0, 0)
