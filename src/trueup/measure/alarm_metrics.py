"""Measures of warnings over points that come in dependent units: AUROC and its differences, and calibration."""

import numpy as np
from jaxtyping import Float, Int

from trueup.measure.bootstrap import Resampling, bootstrap, divide, sum_by
from trueup.measure.calibration import ReliabilityBin
from trueup.measure.scored import Array, Estimate


def auroc_estimate(
    scores: Float[Array, " points"],
    labels: Int[Array, " points"],
    unit: Int[Array, " points"],
    *,
    resampling: Resampling,
) -> Estimate:
    """Share of pairs of a positive and a negative in which the positive is higher; ties count half.

    Args:
        scores: Higher should mean positive.
        labels: 1 or 0.
        unit: Unit of each point, from 0.
        resampling: How the interval is made: units are resampled, and resamples without pairs are left out.

    Returns:
        From 0 to 1; NaN if there are no pairs.
    """
    units = int(unit.max()) + 1
    wins, pairs = _wins(scores, labels, unit, units), _pairs(labels, unit, units)

    def statistic(counts: Float[Array, "resamples units"]) -> Float[Array, "resamples 1"]:
        return divide(_quadratic(counts, wins), _quadratic(counts, pairs))[:, None]

    return bootstrap(statistic, units, resampling=resampling)[0]


def auroc_difference(
    scores: tuple[Float[Array, " points"], Float[Array, " points"]],
    labels: Int[Array, " points"],
    unit: Int[Array, " points"],
    *,
    resampling: Resampling,
) -> Estimate:
    """AUROC of the first scores minus that of the second, of the same points; both see the same resamples."""
    units = int(unit.max()) + 1
    first, second = (_wins(each, labels, unit, units) for each in scores)
    pairs = _pairs(labels, unit, units)

    def statistic(counts: Float[Array, "resamples units"]) -> Float[Array, "resamples 1"]:
        return divide(_quadratic(counts, first - second), _quadratic(counts, pairs))[:, None]

    return bootstrap(statistic, units, resampling=resampling)[0]


def _wins(
    scores: Float[Array, " points"], labels: Int[Array, " points"], unit: Int[Array, " points"], units: int
) -> Float[Array, "units units"]:
    """Pairs won by positives of the row's unit against negatives of the column's."""
    positive, negative = labels == 1, labels == 0
    won = np.zeros((units, units))
    for column in range(units):
        ascending = np.sort(scores[negative & (unit == column)])
        below, up_to = (np.searchsorted(ascending, scores[positive], side=side) for side in ("left", "right"))
        won[:, column] = sum_by((below + up_to) / 2, unit[positive], units)[:, 0]
    return won


def _pairs(labels: Int[Array, " points"], unit: Int[Array, " points"], units: int) -> Float[Array, "units units"]:
    positives, negatives = (np.bincount(unit[labels == label], minlength=units) for label in (1, 0))
    return np.outer(positives, negatives).astype(np.float64)


def _quadratic(
    counts: Float[Array, "resamples units"], table: Float[Array, "units units"]
) -> Float[Array, " resamples"]:
    return np.einsum("ru,uv,rv->r", counts, table, counts, optimize=True)


def reliability(
    probability: Float[Array, " points"],
    labels: Int[Array, " points"],
    unit: Int[Array, " points"],
    *,
    bins: int,
    resampling: Resampling,
) -> tuple[Estimate, tuple[ReliabilityBin, ...]]:
    """Expected calibration error `sum_b n_b / n |mean probability - share of positives|`, and the bins.

    Bins hold about equal numbers of points. The error is biased upwards where points or units are few.

    Args:
        probability: What was claimed.
        labels: 1 or 0.
        unit: Unit of each point, from 0, for the intervals.
        bins: Most bins.
        resampling: How intervals are made.
    """
    inner = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    place, units = np.searchsorted(inner, probability, side="right"), int(unit.max()) + 1
    width = len(inner) + 1
    sums = np.concatenate(
        [
            np.bincount(unit * width + place, weights=weight, minlength=units * width).reshape(units, width)
            for weight in (np.ones(len(labels)), probability, labels.astype(np.float64))
        ],
        axis=1,
    )

    def statistic(counts: Float[Array, "resamples units"]) -> Float[Array, "resamples measures"]:
        n, claimed, true = np.split(counts @ sums, 3, axis=1)
        error = divide(np.abs(claimed - true).sum(axis=1), n.sum(axis=1))
        return np.concatenate([error[:, None], divide(true, n)], axis=1)

    inside = [units, *np.count_nonzero(sums[:, :width], axis=0).tolist()]
    error, *shares = bootstrap(statistic, units, resampling=resampling, n=inside)
    n, claimed, _ = np.split(sums.sum(axis=0), 3)
    curve = tuple(
        ReliabilityBin(float(claimed[b] / n[b]), share.value, share.low, share.high, int(n[b]))
        for b, share in enumerate(shares)
        if n[b]
    )
    return error, curve
