"""Fits of the over-optimisation laws to gold curves, with intervals, and what the data say about a peak.

A verdict needs two witnesses. *The law*: the share of resamples whose fitted maximum over the observed range lies
before its end. *The data without any law*: the paired difference between gold at the best point, chosen on other
units, and gold at the end.

- "peaks": the share is at least the level (95%) and the interval of the fall lies above 0;
- "still rising": the share is at most 1 - level, and the end lies above the best point of the first three quarters of
  the range, interval above 0, and shows no fall;
- "cannot tell": everything else.

Measured over simulated data sets: curves that rise to a plateau are called "peaks" in about 2% of them, wherever the
plateau begins, and Gaussian errors of the proxy, under which gold only rises, in none of 400. A curve whose plateau
begins in the last quarter of the range may be called "still rising". Best-of-n to n = 512 under a heavy-tailed error
(0.7 times Student's t of 2.5 degrees of freedom) is called "peaks" in 88% of data sets with 30 prompts, and in all
with 100.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from trueup.measure.bootstrap import Resampling
from trueup.measure.law_checks import AgainstRival, FormComparison, HeldOut, against_rival, compare_forms, held_out
from trueup.measure.law_draws import Curves, counted, curves, root_mean_square
from trueup.measure.law_forms import Basis, Form, Law, at_distances, basis, fit, peaks, solver
from trueup.measure.law_peaks import ObservedPeak, observed_peak, peak_of
from trueup.measure.law_trend import Trend, trend
from trueup.measure.scored import Array, Estimate

__all__ = [
    "AgainstRival",
    "Form",
    "FormComparison",
    "HeldOut",
    "Law",
    "LawFit",
    "LawVerdict",
    "ObservedPeak",
    "Trend",
    "against_rival",
    "at_distances",
    "compare_forms",
    "fit",
    "fit_curves",
    "held_out",
    "observed_peak",
    "trend",
]

LawVerdict = Literal["peaks", "still rising", "cannot tell"]
"""What the data say about a peak within the observed range."""


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """A law fitted to the mean of many curves.

    Args:
        form: `best_of_n` or `rl`.
        law: The fitted law.
        alpha: Its first coefficient.
        beta: Its second.
        peak_d: Location of the law's maximum, sqrt(nats). Infinite where the law never turns; an infinite upper end
            says that the data do not bound it.
        peak_gold: The law's gold there, in the same sense.
        rms: Root mean square residual over points with `d > 0`, gold units.
        noise: Root mean square standard error of those points; an `rms` near it leaves nothing to explain.
        verdict: What the data say about a peak within the observed range.
        inside: Share of resamples whose fitted maximum lies before the end of the range.
        observed: The peak without any law.
        alternatives: `rms` of the other law and of a cubic through zero (one coefficient more).
        points: Number of points with `d > 0` that were fitted.
        d_max: End of the observed range, sqrt(nats).
    """

    form: Form
    law: Law
    alpha: Estimate
    beta: Estimate
    peak_d: Estimate
    peak_gold: Estimate
    rms: float
    noise: float
    verdict: LawVerdict
    inside: float
    observed: ObservedPeak
    alternatives: Mapping[str, float]
    points: int
    d_max: float


def fit_curves(
    d: Float[Array, " ns"],
    gold: Float[Array, "units ns"],
    *,
    form: Form,
    resampling: Resampling,
    groups: Int[Array, " units"] | None = None,
    fit_up_to: float | None = None,
    weights: Float[Array, " ns"] | None = None,
) -> LawFit:
    """Fit a law to the mean curve of many units, with intervals over units or over groups of them.

    Args:
        d: Distances, sqrt(nats) of sequence-level KL; one of them is 0, the initial policy.
        gold: Expected gold of each unit (prompt) at each distance, on any scale; each unit's own gold at `d = 0` is
            subtracted. The fit is that of the mean curve, which is the mean of the units' fits.
        form: `best_of_n` or `rl`.
        resampling: How many resamples, level and seed.
        groups: Seed or world of each unit. With more than one, whole groups are resampled and each counts once;
            the interval then speaks of new worlds, provided that the groups do not share prompts, policy or gold.
        fit_up_to: Points beyond this distance are treated as not observed; see `held_out` for how they compare.
        weights: Weight of each point; zeros leave points out of the fit (not out of the verdict).

    Raises:
        DataError: A value is not finite, or the initial policy is missing.
        RecipeError: Too few points or no units.
    """
    given = curves(d, gold, resampling=resampling, groups=groups, up_to=fit_up_to)
    if weights is not None:
        weights = weights[np.argsort(d, kind="stable")][: len(given.d)]
    coefficients = solver(given.d, form, weights=weights)
    point, draws = coefficients @ given.mean, given.draws @ coefficients.T
    (peak_d, peak_gold), (peak_d_draws, peak_gold_draws) = peaks(point, form), peaks(draws, form)
    observed = peak_of(given, resampling=resampling)
    inside = float(np.mean(_maximum(draws, given.d[-1], form) < given.d[-1])) if len(draws) else np.nan
    kept = counted(given.d, weights)
    return LawFit(
        form=form,
        law=Law(form, float(point[0]), float(point[1])),
        alpha=given.estimate(float(point[0]), draws[:, 0]),
        beta=given.estimate(float(point[1]), draws[:, 1]),
        peak_d=given.estimate(float(peak_d), peak_d_draws),
        peak_gold=given.estimate(float(peak_gold), peak_gold_draws),
        rms=_rms(given, form, weights),
        noise=_noise(given.units[:, kept]),
        verdict=_verdict(inside, observed, level=resampling.level),
        inside=inside,
        observed=observed,
        alternatives={other: _rms(given, other, weights) for other in _others(form)},
        points=int(np.count_nonzero(kept)),
        d_max=float(given.d[-1]),
    )


def _maximum(coefficients: Float[Array, "draws 2"], d_max: float, form: Form) -> Float[Array, " draws"]:
    """Where each law is highest on [0, d_max]; one that never turns is highest at one of the ends."""
    location, _ = peaks(coefficients, form)
    at_end = coefficients @ basis(np.array(d_max), form)
    return np.where(np.isinf(location) & (at_end < 0), 0.0, np.minimum(location, d_max))


def _verdict(inside: float, observed: ObservedPeak, *, level: float) -> LawVerdict:
    falls = observed.fall.low > 0
    if inside >= level and falls:
        return "peaks"
    if 1 - inside >= level and observed.rise.low > 0 and not falls:
        return "still rising"
    return "cannot tell"


def _others(form: Form) -> tuple[Basis, Basis]:
    return ("rl" if form == "best_of_n" else "best_of_n", "cubic")


def _rms(given: Curves, form: Basis, weights: Float[Array, " points"] | None) -> float:
    """Residual of the mean curve; NaN where a cubic has too few points."""
    kept = counted(given.d, weights)
    if np.count_nonzero(kept) < (3 if form == "cubic" else 2):
        return np.nan
    fitted = basis(given.d, form) @ (solver(given.d, form, weights=weights) @ given.mean)
    return float(root_mean_square((fitted - given.mean)[kept]))


def _noise(units: Float[Array, "units points"]) -> float:
    if len(units) < 2:
        return np.nan
    return float(np.sqrt(np.mean(units.var(axis=0, ddof=1) / len(units))))
