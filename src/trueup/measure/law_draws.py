"""Mean curves and their resamples: what every interval about a law is read from.

A unit is a prompt with its own gold at every distance; where the units come from several groups (seeds, worlds), the
groups' mean curves are the units, so that each world counts once and nothing is claimed beyond the number of worlds.
Drawing whole groups is the hierarchical scheme whose variance is right: the scatter of group means already holds the
scatter of prompts within them, and drawing prompts a second time would count it twice.

**Source** Davison & Hinkley (1997), Bootstrap Methods and their Application, section 3.8 (strategy 1).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling, resampled_counts
from trueup.measure.law_forms import check_distances
from trueup.measure.scored import Array, Estimate


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Gold curves of independent units, and resamples of their mean.

    Args:
        d: Distances, increasing, 0 first.
        units: Gold of each unit minus its own gold at 0.
        mean: Mean over units.
        draws: Resampled means, expanded for few units (`expanded_draws`); no rows for a single unit.
        level: Coverage that intervals aim at.
    """

    d: Float[Array, " points"]
    units: Float[Array, "units points"]
    mean: Float[Array, " points"]
    draws: Float[Array, "resamples points"]
    level: float

    def estimate(self, value: float, draws: Float[Array, " resamples"]) -> Estimate:
        """A measure with the interval that its resamples give."""
        return interval(value, draws, level=self.level, n=len(self.units))


def curves(
    d: Float[Array, " points"],
    gold: Float[Array, "units points"],
    *,
    resampling: Resampling,
    groups: Int[Array, " units"] | None = None,
    up_to: float | None = None,
) -> Curves:
    """Check, sort and shift curves, and resample their mean.

    Args:
        d: Distances, sqrt(nats); one of them is 0, the initial policy.
        gold: Gold of each unit at each distance, on any scale: each unit's own gold at `d = 0` is subtracted, which
            leaves the mean curve as it is and takes the difficulty of prompts out of the noise.
        resampling: How many resamples, level and seed.
        groups: Group of each unit; None, or one group, for independent units.
        up_to: Points beyond this distance are left out.

    Raises:
        DataError: A value is not finite, or the initial policy is missing.
        RecipeError: No units.
    """
    check_distances(d)
    _check_gold(d, gold)
    order = np.argsort(d, kind="stable")
    if up_to is not None:
        order = order[d[order] <= up_to]
    if len(order) == 0 or d[order[0]] > 0:
        raise DataError(
            "the initial policy is missing",
            field="d",
            expected="a point with d = 0 (n = 1, or the policy before the first step)",
            cure="gold is measured from the initial policy's mean, never from the first checkpoint's",
        )
    shifted = gold[:, order] - gold[:, order[:1]]
    units = shifted if groups is None else _group_means(shifted, groups)
    mean = units.mean(axis=0)
    draws = expanded_draws(units, resampling=resampling)
    return Curves(d=d[order], units=units, mean=mean, draws=draws, level=resampling.level)


def _check_gold(d: Float[Array, " points"], gold: Float[Array, "units points"]) -> None:
    if len(gold) == 0:
        raise RecipeError("a curve needs at least one unit (prompt), got none")
    bad = ~np.isfinite(gold)
    if np.any(bad):
        unit, point = np.argwhere(bad)[0]
        raise DataError(
            f"gold is {gold[unit, point]} for unit {unit + 1} at d = {d[point]:.4g} ({np.count_nonzero(bad)} in all)",
            field="gold",
            expected="finite numbers",
            cure="score the missing responses or leave the unit out",
        )


def _group_means(values: Float[Array, "units points"], groups: Int[Array, " units"]) -> Float[Array, "groups points"]:
    labels = np.unique(groups)
    return values if len(labels) == 1 else np.stack([values[groups == label].mean(axis=0) for label in labels])


def expanded_draws(units: Float[Array, "units points"], *, resampling: Resampling) -> Float[Array, "resamples points"]:
    """Bootstrap means, moved away from the mean by `sqrt(n / (n - 1)) t / z` so that few units get honest intervals.

    `t` and `z` are the Student (n - 1 degrees of freedom) and normal quantiles of the level. Percentile intervals of
    the mean then have the width of Student's interval, and so has everything that is a function of the mean: the
    factor acts on the curve, before peaks are computed from it. For three units the plain percentile interval ends at
    the smallest and the largest of them and covers at most 75%.
    """
    n = len(units)
    if n < 2:
        return np.empty((0, units.shape[1]))
    mean = units.mean(axis=0)
    tail = (1 + resampling.level) / 2
    factor = np.sqrt(n / (n - 1)) * stats.t.ppf(tail, n - 1) / stats.norm.ppf(tail)
    # deviations and not values are averaged: a constant column then has no spread at all
    deviations = units - mean
    chunks = [counts @ deviations / n for counts in resampled_counts(n, resampling=resampling)]
    return mean + factor * np.concatenate(chunks)


def interval(value: float, draws: Float[Array, " resamples"], *, level: float, n: int) -> Estimate:
    """Percentile interval that keeps infinite draws: an end may be infinite, which says that there is no bound."""
    if len(draws) == 0 or np.isnan(value) or np.any(np.isnan(draws)):
        return Estimate(float(value), np.nan, np.nan, n)
    rank = (1 - level) / 2 * (len(draws) - 1)
    ordered = np.sort(draws)
    return Estimate(float(value), float(ordered[int(rank)]), float(ordered[len(draws) - 1 - int(rank)]), n)


def mean_estimate(values: Float[Array, " units"], *, resampling: Resampling) -> Estimate:
    """Mean of one value for each unit, with an interval that is honest down to two units."""
    draws = expanded_draws(values[:, None], resampling=resampling)[:, 0]
    return interval(float(values.mean()), draws, level=resampling.level, n=len(values))


def root_mean_square(errors: Float[Array, "*draws points"]) -> Float[Array, "*draws"]:
    """Root of the mean square over the last axis."""
    return np.asarray(np.sqrt(np.mean(errors**2, axis=-1)))


def counted(d: Float[Array, " points"], weights: Float[Array, " points"] | None) -> Bool[Array, " points"]:
    """Points on which a residual can differ from zero: every law is 0 at `d = 0`."""
    return d > 0 if weights is None else (d > 0) & (weights > 0)
