"""Quantities whose gradient is that of a policy's expected return."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trueup.functional.exponential import continued_exp

# Beyond e^20 a ratio says only that something broke; its tangent keeps it, and its gradient, finite.
_LARGEST_LOG_RATIO = 20.0


def clipped_surrogate(
    log_ratio: Float[Tensor, " n"], advantage: Float[Tensor, " n"], *, clip: float | None
) -> Float[Tensor, " n"]:
    """`min(w A, clamp(w, 1 - clip, 1 + clip) A)` with the ratio `w = e^log_ratio`: to be maximised.

    At w = 1 its gradient is `A grad log pi`, REINFORCE's. It is 0 once w has moved beyond the clip in the direction
    of the advantage. Where the log-ratio exceeds 20, w goes on along its tangent.

    **Source**: Schulman et al., "Proximal policy optimization algorithms" (arXiv 1707.06347), eq. 7.

    Args:
        log_ratio: log pi - log of the policy that drew, nats; of tokens or of whole responses.
        advantage: Carries no gradient.
        clip: None for the plain `w A`.

    >>> ratio = torch.tensor([1.5, 1.5, 0.5])
    >>> [round(x, 6) for x in clipped_surrogate(ratio.log(), torch.tensor([1.0, -1.0, 1.0]), clip=0.2).tolist()]
    [1.2, -1.5, 0.5]
    """
    ratio = continued_exp(log_ratio, _LARGEST_LOG_RATIO)
    if clip is None:
        return ratio * advantage
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def is_clipped(
    log_ratio: Float[Tensor, " n"], advantage: Float[Tensor, " n"], *, clip: float | None
) -> Bool[Tensor, " n"]:
    """Where `clipped_surrogate` has no gradient because the ratio has moved beyond the clip."""
    if clip is None:
        return torch.zeros_like(log_ratio, dtype=torch.bool)
    ratio = continued_exp(log_ratio, _LARGEST_LOG_RATIO)
    return ((ratio > 1 + clip) & (advantage > 0)) | ((ratio < 1 - clip) & (advantage < 0))


def with_score(
    value: Float[Tensor, " n"], weight: Float[Tensor, " n"], logprob: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The given value, whose gradient is `weight * grad logprob` and nothing else.

    Estimates of a divergence under the policy's own samples y have the gradient `E[w(y) grad log pi(y)]`, which
    differentiating the estimate does not give, as it takes the samples for fixed.
    """
    return value.detach() + weight.detach() * (logprob - logprob.detach())
