"""Likelihood of given responses under weights that carry no gradient: behaviour cloning that is weighted."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from trueup.errors import RecipeError
from trueup.functional.policy_batch import given
from trueup.functional.segments import shared_value
from trueup.types import PolicyBatch


def share(name: str, number: float) -> None:
    """Refuse a hyper-parameter outside [0, 1].

    Raises:
        RecipeError: It is outside, or not a number.
    """
    if not 0 <= number <= 1:
        raise RecipeError(f"{name} must lie in [0, 1], got {number}")


def positive_advantage(batch: PolicyBatch) -> Float[Tensor, " branches"]:
    """`A+ = max(A, 0)` of each response."""
    return shared_value(given(batch.advantage, "advantage"), batch.branch, len(batch.prompt)).clamp(min=0)


def clipped_ratio(log_ratio: Float[Tensor, " n"], *, clip: float) -> Float[Tensor, " n"]:
    """`clamp(e^l, 1 - clip, 1 + clip)` without a gradient, clamped before the exponential, so that none overflows.

    A weight, not a surrogate: what it is multiplied by keeps its gradient beyond the clip too.

    Args:
        log_ratio: l, log pi - log pi_ref in nats; of tokens or of whole responses.
        clip: 0 makes every ratio 1; from 1 on there is no lower bound.

    >>> [round(x, 6) for x in clipped_ratio(torch.tensor([1e9, 0.5, 0.0]), clip=0.9).tolist()]
    [1.9, 1.648721, 1.0]
    """
    return log_ratio.detach().clamp(*_bounds(clip)).exp()


def is_outside(log_ratio: Float[Tensor, " n"], *, clip: float) -> Float[Tensor, " n"]:
    """1 where `clipped_ratio` gives a bound in the ratio's place, else 0."""
    low, high = _bounds(clip)
    return ((log_ratio < low) | (log_ratio > high)).to(log_ratio.dtype)


def weighted_loss(weight: Float[Tensor, " n"], logprob: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """`-weight * logprob`; a weight of 0 leaves nothing, whatever the log-probability."""
    return torch.where(weight == 0, 0, -weight * logprob)


def _bounds(clip: float) -> tuple[float, float]:
    return math.log1p(-clip) if clip < 1 else -math.inf, math.log1p(clip)
