"""Rewards less a penalty for each step, from the log-ratio of two occupancies that a discriminator estimates.

With d = log(mu / mu_reference) at a step and c the coefficient, the penalised reward is `R - c p(d)`:

    kl         p = d
    chi2       p = exp(d) - 1
    sqrt_chi2  p = (exp(d) - 1) / sqrt(X),  X = mean of exp(d) - 1 over the batch, its tails trimmed; X <= 0 counts as 1
    tv         p = sign(d)

Held fixed in a policy-gradient step, they give the gradients of KL, of half of chi-squared, of sqrt(chi2), and of the
L1 distance (twice the total variation).

**Source** Laidlaw, Singhal, Dragan (2025), arXiv 2403.03185, and its released code. **Deviations** what is not finite
is clipped, never set to zero: zero would lift the penalty where it is largest.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

PenaltyKind = Literal["kl", "chi2", "sqrt_chi2", "tv"]
KINDS: tuple[PenaltyKind, ...] = get_args(PenaltyKind)


@dataclass(frozen=True, kw_only=True)
class Penalized:
    """Rewards after the penalty.

    Args:
        reward: Reward of each step less its penalty.
        clipped: Share of the batch whose penalty was clipped; to be logged, as clipping blunts the penalty.
    """

    reward: Float[Tensor, " steps"]
    clipped: float


def penalize(
    reward: Float[Tensor, " steps"],
    log_ratio: Float[Tensor, " steps"],
    *,
    kind: PenaltyKind,
    coefficient: float,
    clip: float = 1000.0,
    trim: float = 0.01,
    weight: Float[Tensor, " steps"] | None = None,
) -> Penalized:
    """Take the penalty off each step's reward.

    Args:
        reward: The proxy's reward of each step that the policy took.
        log_ratio: The discriminator's logit of each step.
        kind: Which penalty.
        coefficient: c, in units of the reward.
        clip: Largest size of a penalty before it is multiplied by c; infinite ratios end there.
        trim: Share of the batch left out at each end when X is averaged.
        weight: How often each step occurs in the batch; once by default.

    Raises:
        ValueError: There is no such kind, or a setting is out of range.
        FloatingPointError: A log-ratio is NaN.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no penalty {kind!r}; known: {', '.join(KINDS)}")
    if coefficient < 0 or not clip > 0 or not 0 <= trim < 0.5:
        raise ValueError(
            "coefficient must be at least 0, clip positive and trim at least 0 and below 0.5, "
            f"got {coefficient}, {clip} and {trim}"
        )
    if bool(log_ratio.isnan().any()):
        raise FloatingPointError("a log-ratio is NaN: the discriminator has diverged; lower its learning rate")
    weight = torch.ones_like(log_ratio) if weight is None else weight
    penalty = step_penalty(log_ratio, kind)
    if kind == "sqrt_chi2":
        middle = trimmed_mean(penalty.clamp(-clip, clip), weight, trim=trim)
        penalty = penalty / middle.sqrt() if float(middle) > 0 else penalty
    beyond = weight[penalty.abs() > clip].sum() / weight.sum()
    return Penalized(reward=reward - coefficient * penalty.clamp(-clip, clip), clipped=float(beyond))


def step_penalty(log_ratio: Float[Tensor, " steps"], kind: PenaltyKind) -> Float[Tensor, " steps"]:
    """The penalty before scaling and clipping; that of `sqrt_chi2` is that of `chi2`."""
    if kind == "kl":
        return log_ratio
    return log_ratio.sign() if kind == "tv" else log_ratio.expm1()


def trimmed_mean(values: Float[Tensor, " steps"], weight: Float[Tensor, " steps"], *, trim: float) -> Float[Tensor, ""]:
    """Weighted mean without the lowest and the highest `trim` of the weight; a value on the edge counts in part.

    >>> float(trimmed_mean(torch.tensor([9.0, 1.0, 2.0, -50.0]), torch.ones(4), trim=0.25))
    1.5
    """
    order = values.argsort()
    share = weight[order] / weight.sum()
    upper = share.cumsum(0)
    kept = (upper.clamp(max=1 - trim) - (upper - share).clamp(min=trim)).clamp_min(0.0)
    return (kept * values[order]).sum() / kept.sum()
