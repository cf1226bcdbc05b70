"""How a coefficient changes with size: of the reward model, or of its data.

The paper finds that alpha rises and beta falls about linearly in the logarithm of the proxy's parameters.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.law_draws import mean_estimate
from trueup.measure.scored import Array, Estimate


@dataclass(frozen=True)
class Trend:
    """Change of a value with the logarithm of size.

    Args:
        slope: Least-squares slope: change of the value for ten times the size.
        rank_correlation: Spearman's rank correlation with size, the mean of those of the seeds.
    """

    slope: Estimate
    rank_correlation: Estimate


def trend(sizes: Float[Array, " sizes"], values: Float[Array, "seeds sizes"], *, resampling: Resampling) -> Trend:
    """Slope and rank correlation of a coefficient against size, with intervals over seeds.

    Args:
        sizes: Size of each column, positive: parameters, or comparisons.
        values: The coefficient of each seed at each size; a seed is one independent world with all its sizes.
        resampling: How many resamples, level and seed.

    Raises:
        RecipeError: Fewer than two different sizes, or no seeds.
        DataError: A size is not positive, or a value is not finite.
    """
    if len(np.unique(sizes)) < 2 or len(values) == 0:
        raise RecipeError(
            f"a trend needs two different sizes and a seed, got {len(np.unique(sizes))} and {len(values)}"
        )
    if not np.all(sizes > 0) or not np.all(np.isfinite(sizes)):
        raise DataError("a size is not positive", field="sizes", expected="numbers of parameters or comparisons")
    if not np.all(np.isfinite(values)):
        seed, size = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"the value of seed {seed + 1} at size {sizes[size]:g} is not finite", field="values")
    centred = np.log10(sizes) - np.mean(np.log10(sizes))
    slopes = values @ centred / np.sum(centred**2)
    ranks = np.array([_rank_correlation(sizes, row) for row in values])
    return Trend(mean_estimate(slopes, resampling=resampling), _bounded(mean_estimate(ranks, resampling=resampling)))


def _rank_correlation(sizes: Float[Array, " sizes"], row: Float[Array, " sizes"]) -> float:
    """Spearman's; 0 where the value does not change at all."""
    a, b = stats.rankdata(sizes), stats.rankdata(row)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.sum(a**2) * np.sum(b**2))
    return float(a @ b / scale) if scale > 0 else 0.0


def _bounded(estimate: Estimate) -> Estimate:
    """Student's factor may lead beyond what a correlation can be."""
    return Estimate(estimate.value, max(estimate.low, -1.0), min(estimate.high, 1.0), estimate.n)
