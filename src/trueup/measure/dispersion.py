"""How widely rewards and hidden-state norms spread, and which of the two factors of the reward spreads them.

With a bias-free head, `reward = |W| * |h| * cos(psi)`. Where norms disperse on unseen inputs, rewards grow
extreme.

**Source** Hong, Lee et al. (2025), On the Robustness of Reward Models for Language Model Alignment, arXiv
2505.07271, section 3 and figures 1-3. The variance shares are ours.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from trueup.measure.bootstrap import Resampling, bootstrap, divide, sum_by
from trueup.measure.scored import Array, Estimate, ScoredSplit


class Moments(NamedTuple):
    """Mean, standard deviation (divisor N), std / |mean| and skewness of a quantity over responses."""

    mean: Estimate
    std: Estimate
    cv: Estimate
    skew: Estimate


def moments(values: Float[Array, " responses"], prompt: Int[Array, " responses"], *, resampling: Resampling) -> Moments:
    """Moments of a quantity over responses, with intervals that resample prompts."""
    centre, scale = float(np.mean(values)), float(np.std(values))
    unit = scale if scale > 1e-12 * abs(centre) else 0.0
    z = (values - centre) / (unit or 1.0)
    sums = sum_by(np.stack([np.ones_like(z), z, z**2, z**3], axis=1), prompt, int(prompt.max()) + 1)

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples 4"]:
        total, first, second, third = (counts @ sums).T
        m1, m2, m3 = (divide(moment, total) for moment in (first, second, third))
        variance = np.maximum(m2 - m1**2, 0.0)
        average, std = centre + unit * m1, unit * np.sqrt(variance)
        skew = divide(m3 - 3 * m1 * m2 + 2 * m1**3, variance**1.5) if unit else np.full_like(m1, np.nan)
        return np.stack([average, std, divide(std, np.abs(average)), skew], axis=1)

    return Moments(*bootstrap(statistic, len(sums), resampling=resampling))


def within_prompt_std(split: ScoredSplit, *, resampling: Resampling) -> Estimate:
    """Pooled std of rewards around their prompt's mean, `sqrt(sum (r - mean)^2 / sum (K - 1))`."""
    sizes = np.bincount(split.prompt, minlength=split.prompts)
    averages = divide(sum_by(split.reward, split.prompt, split.prompts)[:, 0], sizes)
    squares = sum_by((split.reward - averages[split.prompt]) ** 2, split.prompt, split.prompts)[:, 0]
    freedom = np.maximum(sizes - 1, 0)

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples 1"]:
        return np.sqrt(divide(counts @ squares, counts @ freedom))[:, None]

    n = [int(np.count_nonzero(freedom))]
    return bootstrap(statistic, split.prompts, resampling=resampling, n=n)[0]


def hidden_norm(hidden: Float[Array, "responses d"]) -> Float[Array, " responses"]:
    """Euclidean norm of each row, accumulated in float64."""
    return np.sqrt(np.einsum("nd,nd->n", hidden, hidden, dtype=np.float64))


class Histogram(NamedTuple):
    """Counts between consecutive edges."""

    edges: Float[Array, " bins_plus_one"]
    counts: Int[Array, " bins"]


def common_edges(parts: list[Float[Array, " _"]], *, bins: int = 40) -> Float[Array, " edges"]:
    """Equal-width edges that cover all the arrays, so that their histograms can be laid over one another."""
    low, high = min(part.min() for part in parts), max(part.max() for part in parts)
    room = max(1e-9 * max(abs(low), abs(high)), 1e-12)
    return np.linspace(low - room, high + room, bins + 1)


def histogram(values: Float[Array, " responses"], edges: Float[Array, " edges"]) -> Histogram:
    """Counts of the values between the edges."""
    return Histogram(edges, np.histogram(values, bins=edges)[0])


class Drift(NamedTuple):
    """How a quantity's distribution moves from a reference split to another.

    Args:
        mean_shift_in_std: (mean - reference mean) / reference std; NaN where the reference is constant.
        std_ratio: std / reference std; NaN likewise.
        distance: Kolmogorov-Smirnov distance, the largest gap between the two distribution functions, in [0,
            1].
    """

    mean_shift_in_std: float
    std_ratio: float
    distance: float


def drift(reference: Float[Array, " responses"], other: Float[Array, " others"]) -> Drift:
    """Shift of `other` against `reference`."""
    scale = float(np.std(reference))
    shift = (float(np.mean(other)) - float(np.mean(reference))) / scale if scale > 0 else np.nan
    ratio = float(np.std(other)) / scale if scale > 0 else np.nan
    return Drift(shift, ratio, float(stats.ks_2samp(reference, other, method="asymp").statistic))


class Decomposition(NamedTuple):
    """`reward = |W| * norm * cos`, factor by factor.

    Args:
        head_norm: |W|.
        norm_mean: Mean of |h|.
        norm_std: Its standard deviation.
        cos_mean: Mean of cos(psi).
        cos_std: Its standard deviation.
        norm_share: Share of the reward's variance that goes with the norm at mean cosine.
        cos_share: Share that goes with the cosine at mean norm.
        joint_share: The rest, from both deviating together; the three sum to 1.
        unexplained: Largest |reward - W.h|, zero up to rounding for a bias-free linear head.
    """

    head_norm: float
    norm_mean: Estimate
    norm_std: Estimate
    cos_mean: Estimate
    cos_std: Estimate
    norm_share: Estimate
    cos_share: Estimate
    joint_share: Estimate
    unexplained: float


def decomposition(split: ScoredSplit, *, resampling: Resampling) -> Decomposition:
    """Decompose rewards into head norm, hidden norm and cosine.

    With n the norm, c the cosine, bars for means and deltas for deviations, r/|W| = n c expands exactly into
    `n̄ c̄ + c̄ δn + n̄ δc + δn δc`. Each share is the covariance of one of the last three terms with n c,
    over Var(n c). No logarithm is taken, so rewards near zero do no harm.

    Raises:
        ValueError: If the split has no hidden states or no head.
    """
    if split.hidden is None or split.head is None:
        raise ValueError("the decomposition needs hidden states and the head's weight")
    head_norm = float(np.linalg.norm(split.head.astype(np.float64)))
    projected = split.hidden @ split.head.astype(np.float64)
    norm = hidden_norm(split.hidden)
    cos = np.nan_to_num(divide(projected, norm * head_norm))
    n, c = (moments(factor, split.prompt, resampling=resampling) for factor in (norm, cos))
    by_norm, by_cos, joint = _variance_shares(norm, cos, split=split, resampling=resampling)
    gap = float(np.abs(split.reward - projected).max())
    return Decomposition(head_norm, n.mean, n.std, c.mean, c.std, by_norm, by_cos, joint, gap)


def _variance_shares(
    norm: Float[Array, " responses"],
    cos: Float[Array, " responses"],
    *,
    split: ScoredSplit,
    resampling: Resampling,
) -> list[Estimate]:
    n = norm / (norm.mean() or 1.0)
    terms = [np.ones_like(n), n, cos, n * cos, n * n * cos, n * cos * cos, (n * cos) ** 2]
    sums = sum_by(np.stack(terms, axis=1), split.prompt, split.prompts)

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples 3"]:
        totals = counts @ sums
        n1, c1, nc, nnc, ncc, square = divide(totals[:, 1:], totals[:, :1]).T
        variance = square - nc**2
        by_norm = divide(c1 * (nnc - n1 * nc), variance)
        by_cos = divide(n1 * (ncc - c1 * nc), variance)
        return np.stack([by_norm, by_cos, 1 - by_norm - by_cos], axis=1)

    return bootstrap(statistic, split.prompts, resampling=resampling)
