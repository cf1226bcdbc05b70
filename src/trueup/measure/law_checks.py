"""Whether a law holds where it was not fitted, and which of the two fits better."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from trueup.errors import RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.law_draws import Curves, curves, root_mean_square
from trueup.measure.law_forms import Basis, Form, Law, basis, solver
from trueup.measure.scored import Array, Estimate


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A forecast of the far part of a curve from its near part.

    Intervals of an rms lean upward where noise is as large as the error, as an rms is never negative.

    Args:
        law: The law fitted to the near part.
        fit_up_to: Largest distance that was fitted on, sqrt(nats).
        fitted: Number of points with `d > 0` that were fitted.
        predicted: Number of points that were predicted.
        rms: Root mean square error over the predicted points, gold units.
        end_error: Predicted minus measured gold at the largest distance.
        gold_range: Largest minus smallest gold of the mean curve; `rms / gold_range` is the relative error.
        cubic_rms: The same error of a cubic through zero; NaN with fewer than three fitted points.
        constant_rms: The same error of gold staying at its last fitted value.
        gain_over_cubic: `cubic_rms - rms`; positive where the law is better.
        gain_over_constant: `constant_rms - rms`; positive where the law is better.
    """

    law: Law
    fit_up_to: float
    fitted: int
    predicted: int
    rms: Estimate
    end_error: Estimate
    gold_range: float
    cubic_rms: Estimate
    constant_rms: Estimate
    gain_over_cubic: Estimate
    gain_over_constant: Estimate

    @property
    def relative_rms(self) -> float:
        """Error of the forecast in units of the curve's range."""
        return self.rms.value / self.gold_range if self.gold_range > 0 else np.nan


def held_out(
    d: Float[Array, " points"],
    gold: Float[Array, "units points"],
    *,
    form: Form,
    fit_up_to: float,
    resampling: Resampling,
    groups: Int[Array, " units"] | None = None,
) -> HeldOut:
    """Fit a law on `d <= fit_up_to` and compare its forecast of the rest with what was measured.

    Args:
        d: Distances, sqrt(nats); one of them is 0, the initial policy.
        gold: Gold of each unit at each distance.
        form: `best_of_n` or `rl`.
        fit_up_to: Largest distance to fit on.
        resampling: How many resamples, level and seed.
        groups: Group of each unit; see `fit_curves`.

    Raises:
        RecipeError: Nothing is left to fit or to predict.
    """
    given = curves(d, gold, resampling=resampling, groups=groups)
    near = given.d <= fit_up_to
    if np.all(near):
        raise RecipeError(f"fit_up_to = {fit_up_to:.4g} leaves nothing to predict; d ends at {given.d[-1]:.4g}")
    coefficients = solver(given.d[near], form) @ given.mean[near]
    stacked = np.concatenate([given.mean[None], given.draws])
    law = forecast_errors(stacked, given.d, near, form=form)
    cubic = forecast_errors(stacked, given.d, near, form="cubic")
    constant = stacked[:, near][:, -1:] - stacked[:, ~near]
    errors = [root_mean_square(each) for each in (law, cubic, constant)]
    return HeldOut(
        law=Law(form, float(coefficients[0]), float(coefficients[1])),
        fit_up_to=fit_up_to,
        fitted=int(np.count_nonzero(near & (given.d > 0))),
        predicted=int(np.count_nonzero(~near)),
        rms=_estimate(given, errors[0]),
        end_error=_estimate(given, law[:, -1]),
        gold_range=float(np.ptp(given.mean)),
        cubic_rms=_estimate(given, errors[1]),
        constant_rms=_estimate(given, errors[2]),
        gain_over_cubic=_estimate(given, errors[1] - errors[0]),
        gain_over_constant=_estimate(given, errors[2] - errors[0]),
    )


def _estimate(given: Curves, values: Float[Array, " rows"]) -> Estimate:
    """First the point estimate, then the resamples."""
    return given.estimate(float(values[0]), values[1:])


def forecast_errors(
    gold: Float[Array, "rows points"], d: Float[Array, " points"], near: Bool[Array, " points"], *, form: Basis
) -> Float[Array, "rows far"]:
    """Forecast minus measurement beyond the points fitted on; NaN for a cubic with fewer than three of them."""
    if form == "cubic" and len(np.unique(d[near & (d > 0)])) < 3:
        return np.full((len(gold), np.count_nonzero(~near)), np.nan)
    coefficients = gold[:, near] @ solver(d[near], form).T
    return coefficients @ basis(d[~near], form).T - gold[:, ~near]


@dataclass(frozen=True, kw_only=True)
class FormComparison:
    """Which law fits the whole curve better; both have two coefficients.

    Args:
        best_of_n: Root mean square residual of the best-of-n law, gold units.
        rl: The same of the RL law.
        cubic: The same of a cubic through zero, which has three; NaN with fewer than three points.
        difference: `rl - best_of_n`; positive where the best-of-n law fits better.
        better: The law that the interval of the difference favours.
    """

    best_of_n: float
    rl: float
    cubic: float
    difference: Estimate
    better: Literal["best_of_n", "rl", "cannot tell"]


def compare_forms(
    d: Float[Array, " points"],
    gold: Float[Array, "units points"],
    *,
    resampling: Resampling,
    groups: Int[Array, " units"] | None = None,
) -> FormComparison:
    """Fit both laws to the same mean curve and compare their residuals.

    Args:
        d: Distances, sqrt(nats); one of them is 0, the initial policy.
        gold: Gold of each unit at each distance.
        resampling: How many resamples, level and seed.
        groups: Group of each unit; see `fit_curves`.
    """
    given = curves(d, gold, resampling=resampling, groups=groups)
    stacked = np.concatenate([given.mean[None], given.draws])
    best_of_n, rl, cubic = (_residual(stacked, given.d, form) for form in ("best_of_n", "rl", "cubic"))
    difference = _estimate(given, rl - best_of_n)
    better: Literal["best_of_n", "rl", "cannot tell"] = "cannot tell"
    if difference.low > 0:
        better = "best_of_n"
    elif difference.high < 0:
        better = "rl"
    return FormComparison(
        best_of_n=float(best_of_n[0]), rl=float(rl[0]), cubic=float(cubic[0]), difference=difference, better=better
    )


def _residual(gold: Float[Array, "rows points"], d: Float[Array, " points"], form: Basis) -> Float[Array, " rows"]:
    if form == "cubic" and len(np.unique(d[d > 0])) < 3:
        return np.full(len(gold), np.nan)
    away = d > 0
    fitted = gold @ solver(d, form).T @ basis(d, form).T
    return root_mean_square((fitted - gold)[:, away])


@dataclass(frozen=True, kw_only=True)
class AgainstRival:
    """How far a law and a rival are from what was measured.

    Args:
        rms: Root mean square error of the law, gold units.
        rival_rms: The same of the rival.
        gain: `rival_rms - rms`, resample by resample; positive where the law is better.
    """

    rms: Estimate
    rival_rms: Estimate
    gain: Estimate


def against_rival(
    d: Float[Array, " points"],
    gold: Float[Array, "units points"],
    *,
    form: Form,
    rival: Basis,
    resampling: Resampling,
    groups: Int[Array, " units"] | None = None,
    fit_up_to: float | None = None,
) -> AgainstRival:
    """Fit a law and a rival to the same curve, and compare their errors.

    Args:
        d: Distances, sqrt(nats); one of them is 0, the initial policy.
        gold: Gold of each unit at each distance.
        form: `best_of_n` or `rl`.
        rival: What it is compared with.
        resampling: How many resamples, level and seed.
        groups: Group of each unit; see `fit_curves`.
        fit_up_to: Largest distance to fit on; the errors are then those of the forecast beyond it. None to fit and
            compare over the whole curve.

    Raises:
        RecipeError: Nothing is left to fit or to predict.
    """
    given = curves(d, gold, resampling=resampling, groups=groups)
    near = np.ones(len(given.d), bool) if fit_up_to is None else given.d <= fit_up_to
    judged = given.d > 0 if fit_up_to is None else ~near
    if not np.any(judged):
        raise RecipeError(f"fit_up_to = {fit_up_to} leaves nothing to predict; d ends at {given.d[-1]:.4g}")
    stacked = np.concatenate([given.mean[None], given.draws])
    rms, rival_rms = (
        root_mean_square(
            stacked[:, near] @ solver(given.d[near], one).T @ basis(given.d[judged], one).T - stacked[:, judged]
        )
        for one in (form, rival)
    )
    return AgainstRival(
        rms=_estimate(given, rms), rival_rms=_estimate(given, rival_rms), gain=_estimate(given, rival_rms - rms)
    )
