"""Intervals by resampling the units that are independent: prompts, most often.

Responses of one prompt share its difficulty, so a measure over pairs or responses is a function of per-prompt
sums, and what is resampled is prompts. A statistic therefore takes *counts*: how often each unit was drawn.
Means and ratios become one matrix product per chunk of resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

from trueup.errors import RecipeError
from trueup.measure.scored import Array, Estimate

Statistic = Callable[[Float[Array, "resamples units"]], Float[Array, "resamples measures"]]
"""From how often each unit was drawn to the measures, one row for each resample."""

_CHUNK_ENTRIES = 2**21


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals are made. Equal settings give equal draws, so measures of one split share their
    resamples.

    Args:
        resamples: Number of bootstrap resamples.
        level: Coverage that the intervals aim at, in (0, 1).
        seed: Seed of the draws.
    """

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise RecipeError(f"resamples must be at least 1, got {self.resamples}")
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, got {self.level}")


def resampled_counts(
    units: int, *, resampling: Resampling, strata: Int[Array, " units"] | None = None
) -> Iterator[Float[Array, "chunk units"]]:
    """Counts of `resampling.resamples` bootstrap draws of the units, a chunk of resamples at a time.

    Args:
        units: Number of units.
        resampling: How many resamples, from which seed.
        strata: Stratum of each unit; each stratum is resampled to its own size. None for one stratum.
    """
    generator = np.random.default_rng(resampling.seed)
    labels = np.zeros(units, np.int64) if strata is None else np.asarray(strata)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chunk = max(1, _CHUNK_ENTRIES // max(units, 1))
    for start in range(0, resampling.resamples, chunk):
        rows = min(chunk, resampling.resamples - start)
        if len(members) == 1:
            yield _draw(units, rows, generator)
            continue
        counts = np.zeros((rows, units))
        for inside in members:
            counts[:, inside] = _draw(len(inside), rows, generator)
        yield counts


def _draw(units: int, rows: int, generator: np.random.Generator) -> Float[Array, "rows units"]:
    indices = generator.integers(0, units, size=(rows, units), dtype=np.int32)
    indices += np.arange(rows, dtype=np.int32)[:, None] * np.int32(units)
    return np.bincount(indices.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def bootstrap(
    statistic: Statistic,
    units: int,
    *,
    resampling: Resampling,
    strata: Int[Array, " units"] | None = None,
    n: Sequence[int] | None = None,
) -> list[Estimate]:
    """Expanded percentile intervals of a statistic over independent units.

    The percentile interval is too narrow for few units. Its tail `(1 - level) / 2` is replaced by
    `Phi(-sqrt(n / (n - 1)) * t)`, with `t` the Student quantile of n - 1 degrees of freedom; the correction
    vanishes as n grows. Resamples in which a measure is undefined are left out; below two units the interval
    is NaN.

    **Source** Hesterberg (2015), What Teachers Should Know About the Bootstrap, arXiv 1411.5279, section 5.1.

    Args:
        statistic: From counts to measures.
        units: Number of units.
        resampling: How many resamples, level and seed.
        strata: Stratum of each unit, or None.
        n: Units that each measure rests on; all of them when None.

    Returns:
        One estimate for each measure.
    """
    point = statistic(np.ones((1, units)))[0]
    rests_on = [units] * len(point) if n is None else list(n)
    if units < 2:
        return [Estimate(float(value), np.nan, np.nan, int(k)) for value, k in zip(point, rests_on, strict=True)]
    chunks = resampled_counts(units, resampling=resampling, strata=strata)
    draws = np.concatenate([statistic(counts) for counts in chunks])
    return [
        _interval(float(value), column, level=resampling.level, n=int(k))
        for value, column, k in zip(point, draws.T, rests_on, strict=True)
    ]


def _interval(value: float, draws: Float[Array, " resamples"], *, level: float, n: int) -> Estimate:
    kept = draws[np.isfinite(draws)]
    if n < 2 or not len(kept) or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, n)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1))
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n)


def divide(numerators: Num[Array, "..."], denominators: Num[Array, "..."]) -> Float[Array, "..."]:
    """Quotient of arrays that broadcast, NaN where the denominator is zero or negative."""
    out = np.full(np.broadcast_shapes(np.shape(numerators), np.shape(denominators)), np.nan)
    return np.divide(numerators, denominators, out=out, where=np.asarray(denominators) > 0)


def ratios(
    numerators: Num[Array, "units columns"],
    denominators: Num[Array, "units columns"],
    *,
    resampling: Resampling,
    strata: Int[Array, " units"] | None = None,
    combination: Float[Array, "measures columns"] | None = None,
) -> list[Estimate]:
    """Ratios of sums over units, `sum numerator / sum denominator`, one for each column.

    Args:
        numerators: Contributions of each unit.
        denominators: Their non-negative weights; a unit that does not count in a column has zero in both.
        resampling: How many resamples, level and seed.
        strata: Stratum of each unit, or None.
        combination: Weights of the ratios in each measure, for measures such as means of accuracies; None for
            the ratios themselves.
    """
    columns = numerators.shape[1]
    table = np.concatenate([numerators, denominators], axis=1).astype(np.float64)
    weights = np.eye(columns) if combination is None else combination

    def statistic(counts: Float[Array, "resamples units"]) -> Float[Array, "resamples measures"]:
        sums = counts @ table
        return _combine(divide(sums[:, :columns], sums[:, columns:]), weights)

    used = (np.asarray(denominators) > 0).astype(np.float64) @ (weights != 0).T
    n = np.count_nonzero(used, axis=0).tolist()
    return bootstrap(statistic, len(table), resampling=resampling, strata=strata, n=n)


def _combine(
    values: Float[Array, "resamples columns"], weights: Float[Array, "measures columns"]
) -> Float[Array, "resamples measures"]:
    """Weighted sums that are NaN exactly where a column with weight is NaN."""
    missing = np.isnan(values)
    out: Float[Array, "resamples measures"] = np.where(missing, 0.0, values) @ weights.T
    out[(missing.astype(np.float64) @ (weights != 0).T) > 0] = np.nan
    return out


def proportions(
    successes: Num[Array, "units columns"],
    trials: Num[Array, "units columns"],
    *,
    resampling: Resampling,
    strata: Int[Array, " units"] | None = None,
    combination: Float[Array, "measures columns"] | None = None,
) -> list[Estimate]:
    """Success rates; where all units agree (0% or 100%), Wilson's interval instead of one of no width.

    Arguments are those of `ratios`.
    """
    rates = ratios(successes, trials, resampling=resampling, strata=strata, combination=combination)
    return [_not_degenerate(rate, resampling.level) for rate in rates]


def _not_degenerate(rate: Estimate, level: float) -> Estimate:
    unanimous = rate.n > 0 and min(abs(rate.value), abs(rate.value - 1)) < 1e-9
    return wilson(round(rate.value) * float(rate.n), rate.n, level=level) if unanimous else rate


def mean(values: Float[Array, " units"], *, resampling: Resampling) -> Estimate:
    """Mean of one value for each unit; NaN values are left out and not counted in `n`."""
    known = np.isfinite(values)
    return ratios(np.where(known, values, 0.0)[:, None], known[:, None].astype(np.float64), resampling=resampling)[0]


def paired_difference(a: Float[Array, " units"], b: Float[Array, " others"], *, resampling: Resampling) -> Estimate:
    """Mean of `b - a` over paired units (seeds, prompts); pairs in which either is NaN are left out."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"paired values must have one shape, got {np.shape(a)} and {np.shape(b)}")
    return mean(np.asarray(b, np.float64) - np.asarray(a, np.float64), resampling=resampling)


def wilson(successes: float, n: int, *, level: float = 0.95) -> Estimate:
    """Wilson's score interval for a proportion of `n` independent trials."""
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    z = float(stats.norm.ppf((1 + level) / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Estimate(rate, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)


def sum_by(
    values: Num[Array, " rows *measures"], group: Int[Array, " rows"], groups: int
) -> Float[Array, "groups measures"]:
    """Column sums of the rows of each group."""
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    columns = [np.bincount(group, weights=column, minlength=groups).astype(np.float64) for column in table.T]
    return np.stack(columns, axis=1) if columns else np.zeros((groups, 0))
