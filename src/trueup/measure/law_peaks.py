"""The peak of a curve without any law, and without the winner's curse.

The largest of several noisy means is biased upward, because the noise takes part in the choice. Here the location is
chosen on one random half of the units and the height read on the other, both ways round, averaged over random
splits. What is estimated without bias is the gold at the location that half of such data choose: never above the true
peak on average, and a little below it while the location is uncertain.

Halves, and not more folds: with more of them the parts that choose overlap, and on flat curves the choices then share
their noise. In simulations of flat curves (40 units, 17 points of independent noise) a nominal 95% interval of the
height missed in 10% of data sets with five folds, in 40% with one unit left out at a time, and in 3% with halves.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from trueup.measure.bootstrap import Resampling
from trueup.measure.law_draws import Curves, curves
from trueup.measure.scored import Array, Estimate

SPLITS = 20
EARLIER = 0.75
"""A curve still rises if its end lies above the best point of this first part of its range of d."""


@dataclass(frozen=True, kw_only=True)
class ObservedPeak:
    """Where a curve is highest, and how high it is there.

    Args:
        d: Distance of the highest point of the mean curve, sqrt(nats); its interval is over resamples.
        gold: Gold above the initial policy's at the chosen location, cross-fitted.
        fall: Gold at the chosen location minus gold at the largest distance, paired by unit and cross-fitted.
        rise: Gold at the largest distance minus gold at the best point of the first three quarters of the range of d,
            paired and cross-fitted.
        naive: Height of the highest point on the data that chose it, biased upward; for comparison.
    """

    d: Estimate
    gold: Estimate
    fall: Estimate
    rise: Estimate
    naive: float


def observed_peak(
    d: Float[Array, " points"],
    gold: Float[Array, "units points"],
    *,
    resampling: Resampling,
    groups: Int[Array, " units"] | None = None,
) -> ObservedPeak:
    """The highest observed point of the mean curve, evaluated on units that did not choose it.

    Args:
        d: Distances, sqrt(nats); one of them is 0, the initial policy.
        gold: Gold of each unit at each distance.
        resampling: How many resamples, level and seed (of the splits as well).
        groups: Group of each unit; with several groups a half is made of whole groups.
    """
    return peak_of(curves(d, gold, resampling=resampling, groups=groups), resampling=resampling)


def peak_of(given: Curves, *, resampling: Resampling) -> ObservedPeak:
    """`observed_peak` of curves that are already resampled."""
    d, units = given.d, given.units
    chosen = given.estimate(float(d[np.argmax(given.mean)]), d[np.argmax(given.draws, axis=1)])
    best = cross_fitted(units, candidates=np.ones(len(d), bool), seed=resampling.seed)
    earlier = cross_fitted(units, candidates=d <= EARLIER * d[-1], seed=resampling.seed)
    return ObservedPeak(
        d=chosen,
        gold=_student(best, level=resampling.level),
        fall=_student(best - units[:, -1], level=resampling.level),
        rise=_student(units[:, -1] - earlier, level=resampling.level),
        naive=float(np.max(given.mean)),
    )


def cross_fitted(
    units: Float[Array, "units points"], *, candidates: Bool[Array, " points"], seed: int
) -> Float[Array, "splits units"]:
    """Value of each unit at the candidate point that is highest on average over the half without it, for each split.

    A single unit has no others to choose for it: NaN.
    """
    n = len(units)
    if n < 2:
        return np.full((SPLITS, n), np.nan)
    generator = np.random.default_rng(seed)
    first = np.stack([generator.permutation(n) for _ in range(SPLITS)]) < n // 2
    allowed = units[:, candidates]
    by_first, by_second = (np.argmax(half.astype(np.float64) @ allowed, axis=1)[:, None] for half in (first, ~first))
    return allowed[np.arange(n), np.where(first, by_second, by_first)]


def _student(values: Float[Array, "splits units"], *, level: float) -> Estimate:
    """Mean over units and splits, with Student's interval from the spread of units within a split.

    Averaging a unit over splits first would hide spread: its values there come from different points.
    """
    n = values.shape[1]
    if n < 2:
        return Estimate(float(values.mean()), np.nan, np.nan, n)
    value = float(values.mean())
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.sqrt(values.var(axis=1, ddof=1).mean() / n))
    return Estimate(value, value - half, value + half, n)
