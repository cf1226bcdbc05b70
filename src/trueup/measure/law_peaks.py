"""The peak of a curve without any law, and without the winner's curse.

The largest of several noisy means is biased upward, because the noise takes part in the choice. Here the location is
chosen on one part of the units and the height read on the rest, in every fold of a few random splits. What is
estimated without bias is the gold at the location that such data choose: never above the true peak, and a little
below it while the location is uncertain.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from trueup.measure.bootstrap import Resampling
from trueup.measure.law_draws import Curves, curves, mean_estimate
from trueup.measure.scored import Array, Estimate

FOLDS = 5
SPLITS = 10
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
        groups: Group of each unit; with several groups a fold is made of whole groups.
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
        gold=mean_estimate(best, resampling=resampling),
        fall=mean_estimate(best - units[:, -1], resampling=resampling),
        rise=mean_estimate(units[:, -1] - earlier, resampling=resampling),
        naive=float(np.max(given.mean)),
    )


def cross_fitted(
    units: Float[Array, "units points"], *, candidates: Bool[Array, " points"], seed: int
) -> Float[Array, " units"]:
    """Value of each unit at the candidate point that is highest on average over the units outside its fold.

    Ten random splits into five folds are averaged; up to ten units are left out one at a time. A single unit has no
    others to choose for it: NaN.
    """
    n = len(units)
    if n < 2:
        return np.full(n, np.nan)
    allowed = units[:, candidates]
    generator = np.random.default_rng(seed)
    splits = [np.arange(n)] if n <= 2 * FOLDS else [generator.permutation(n) % FOLDS for _ in range(SPLITS)]
    out = np.zeros(n)
    for fold in splits:
        members = (fold == np.arange(fold.max() + 1)[:, None]).astype(np.float64)
        outside = (1 - members) @ allowed / (n - members.sum(axis=1, keepdims=True))
        out += allowed[np.arange(n), np.argmax(outside, axis=1)[fold]] / len(splits)
    return out
