"""Calibration of pairs: how far sigmoid(margin) says how often the reward is right.

For every pair, `p = sigmoid(r_chosen - r_rejected)`, the confidence is max(p, 1 - p), the probability that
the model gives to the side it prefers, and the model is right where the margin is positive. A margin of
exactly zero is a coin
toss: confidence 0.5, right half the time (pair accuracy, in contrast, counts a tie as not won).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from trueup.measure.bootstrap import Resampling, bootstrap, divide, sum_by
from trueup.measure.scored import Array, Estimate, ScoredSplit


class ReliabilityBin(NamedTuple):
    """Pairs of similar confidence: mean confidence, share that is right (with interval), and their number."""

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


class Calibration(NamedTuple):
    """Calibration of pairwise confidence.

    Args:
        ece: Expected calibration error, `sum_b n_b / n |confidence_b - accuracy_b|`. It is biased upwards in
            small samples, so compare it with `ece_if_calibrated`.
        ece_if_calibrated: The error that sampling noise alone gives a perfectly calibrated model in these
            bins.
        confidence: Mean confidence.
        overconfidence: Mean confidence minus accuracy; positive when the model claims too much.
        nll: Mean of -log sigmoid(margin), in nats.
        curve: The reliability curve, by rising confidence.
    """

    ece: Estimate
    ece_if_calibrated: float
    confidence: Estimate
    overconfidence: Estimate
    nll: Estimate
    curve: tuple[ReliabilityBin, ...]


def bin_edges(confidence: Float[Array, " pairs"], *, bins: int = 10, adaptive: bool = True) -> Float[Array, " edges"]:
    """Edges of confidence bins in [0.5, 1]: of equal mass when `adaptive`, else of equal width."""
    if not adaptive:
        return np.linspace(0.5, 1.0, bins + 1)
    inner = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    return np.unique(np.r_[0.5, inner, 1.0])


def calibration(split: ScoredSplit, *, resampling: Resampling, bins: int = 10, adaptive: bool = True) -> Calibration:
    """Reliability curve, expected calibration error, over-confidence and likelihood of a split's pairs.

    **Source** Guo et al. (2017), On Calibration of Modern Neural Networks, arXiv 1706.04599, equations 2-5.
    **Deviations** bins of equal mass by default; confidence is two-sided, so it starts at 0.5.

    Raises:
        ValueError: If the split has no pairs.
    """
    if not len(split.pairs):
        raise ValueError("calibration needs pairs")
    margin = split.margin
    confidence = expit(np.abs(margin))
    right = np.where(margin == 0, 0.5, margin > 0)
    edges = bin_edges(confidence, bins=bins, adaptive=adaptive)
    place = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, len(edges) - 2)
    sums = _bin_sums(split, place=place, bins=len(edges) - 1, columns=(confidence, right))
    likelihood = sum_by(np.logaddexp(0, -margin), split.prompt[split.pairs[:, 0]], split.prompts)
    headline, curve = _estimates(sums, likelihood, resampling)
    floor = _noise_floor(confidence, place, len(edges) - 1)
    ece, claimed, over, nll = headline
    return Calibration(ece, floor, claimed, over, nll, curve)


def _bin_sums(
    split: ScoredSplit,
    *,
    place: Int[Array, " pairs"],
    bins: int,
    columns: tuple[Float[Array, " pairs"], Float[Array, " pairs"]],
) -> Float[Array, "prompts three_bins"]:
    """Per prompt and bin: pairs, summed confidence, summed rightness."""
    cell = split.prompt[split.pairs[:, 0]] * bins + place
    parts = [
        np.bincount(cell, weights=weight, minlength=split.prompts * bins).reshape(-1, bins)
        for weight in (None, *columns)
    ]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _estimates(
    sums: Float[Array, "prompts three_bins"], nll: Float[Array, "prompts 1"], resampling: Resampling
) -> tuple[list[Estimate], tuple[ReliabilityBin, ...]]:
    bins = sums.shape[1] // 3

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples measures"]:
        totals = counts @ sums
        n, confidence, right = totals[:, :bins], totals[:, bins : 2 * bins], totals[:, 2 * bins :]
        pairs = n.sum(axis=1)
        error = np.abs(confidence - right).sum(axis=1)
        claimed, true = confidence.sum(axis=1), right.sum(axis=1)
        heads = [error, claimed, claimed - true, (counts @ nll)[:, 0]]
        return np.concatenate([divide(np.stack(heads, axis=1), pairs[:, None]), divide(right, n)], axis=1)

    held = sums[:, :bins]
    inside = [int(np.count_nonzero(held.sum(axis=1)))] * 4 + np.count_nonzero(held, axis=0).tolist()
    estimates = bootstrap(statistic, len(sums), resampling=resampling, n=inside)
    totals = sums.sum(axis=0)
    curve = tuple(
        ReliabilityBin(totals[bins + b] / totals[b], rate.value, rate.low, rate.high, int(totals[b]))
        for b, rate in enumerate(estimates[4:])
        if totals[b]
    )
    return estimates[:4], curve


def _noise_floor(confidence: Float[Array, " pairs"], place: Int[Array, " pairs"], bins: int) -> float:
    """`sum_b sqrt(2 / pi * sum_{i in b} p_i (1 - p_i)) / n`, mean absolute Gaussian noise of bins."""
    variance = np.bincount(place, weights=confidence * (1 - confidence), minlength=bins)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(confidence))
