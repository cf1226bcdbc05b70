"""Win rate at equal length: what is left of it once the preference for length is taken out.

    P(policy wins | d) = sigmoid(theta + phi tanh(d / s)),    controlled rate = sigmoid(theta)

with d the length of the policy's response minus that of the reference's, and s the standard deviation of d. The rate
of the fitted model at d = 0 is reported.

**Source** Dubois, Galambosi, Liang, Hashimoto (2024), Length-Controlled AlpacaEval, arXiv 2404.04475, section 3.

**Deviations** There is no term for the difficulty of an instruction: it is fitted there to the comparisons of many
policies with one reference, and here there is one.

**Limits** With no effect of length (phi = 0) it is the plain win rate; where length alone decides (theta = 0) it is
1/2. Where the policy's responses are nearly always the longer ones, the rate at equal length is an extrapolation:
look at `shorter`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.special import expit

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling, bootstrap
from trueup.measure.logistic import fit_logistic
from trueup.measure.preference_oracle import by_prompt
from trueup.measure.scored import Array, Estimate


class LengthControlled(NamedTuple):
    """Win rate without the effect of length.

    Args:
        rate: Win rate at equal length; NaN where all differences of length are equal but not zero, so that length and
            quality cannot be told apart.
        plain: Win rate as it is.
        change: `rate - plain`; negative where length had helped the policy.
        effect: phi: log-odds of winning, in nats, that a response far longer than the reference's has over one of
            equal length; NaN where all differences are equal.
        scale: s, in the unit of lengths.
        shorter: Share of comparisons in which the policy's response is not the longer one.
        longer: Share of comparisons in which it is not the shorter one.
    """

    rate: Estimate
    plain: Estimate
    change: Estimate
    effect: Estimate
    scale: float
    shorter: float
    longer: float


def length_controlled(
    win: Float[Array, " comparisons"],
    difference: Num[Array, " comparisons"],
    *,
    prompt: Int[Array, " comparisons"],
    resampling: Resampling,
    penalty: float = 1e-3,
) -> LengthControlled:
    """Fit the effect of length and take it out; intervals refit the model to resampled prompts.

    Args:
        win: `win_rate.wins` or `win_rate.decisions` of each comparison, 0 to 1.
        difference: Length of the policy's response minus that of the reference's, tokens or characters.
        prompt: Prompt of each comparison.
        resampling: How intervals are made.
        penalty: Ridge on phi, `penalty / 2 phi^2` beside the summed cross-entropy; keeps the fit finite where length
            separates wins from losses.

    Raises:
        DataError: A value is missing or outside its range.
        RecipeError: The penalty is not positive.
    """
    if not 0 < penalty < np.inf:
        raise RecipeError(f"penalty must be positive and finite, got {penalty}")
    _check(win, difference)
    length = difference.astype(np.float64)
    scale = float(length.std())
    flat = np.ptp(length) == 0
    curved = np.zeros_like(length) if flat else np.tanh(length / scale)
    unidentified = bool(flat and length[0] != 0)
    unit, units = by_prompt(prompt)

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples 4"]:
        return np.stack([_fit(win, curved, weights=row[unit], penalty=penalty) for row in counts])

    found = bootstrap(statistic, units, resampling=resampling)
    missing = Estimate(np.nan, np.nan, np.nan, units)
    rate, change = (missing, missing) if unidentified else (found[0], found[2])
    return LengthControlled(
        rate=rate,
        plain=found[1],
        change=change,
        effect=missing if flat else found[3],
        scale=scale,
        shorter=float(np.mean(length <= 0)),
        longer=float(np.mean(length >= 0)),
    )


def _fit(
    win: Float[Array, " comparisons"],
    curved: Float[Array, " comparisons"],
    *,
    weights: Float[Array, " comparisons"],
    penalty: float,
) -> Float[Array, " 4"]:
    """Controlled rate, plain rate, their difference and phi."""
    fit = fit_logistic(curved[:, None], win, point_weights=weights, penalty=penalty)
    controlled, plain = float(expit(fit.bias)), float(np.average(win, weights=weights))
    return np.array([controlled, plain, controlled - plain, fit.weights[0]])


def _check(win: Float[Array, " comparisons"], difference: Num[Array, " comparisons"]) -> None:
    if not len(win):
        raise DataError("there are no comparisons", expected="at least one")
    bad = np.flatnonzero(~((win >= 0) & (win <= 1)))
    if len(bad):
        raise DataError(f"{win[bad[0]]} for comparison {bad[0]}", field="win", expected="a number from 0 to 1")
    bad = np.flatnonzero(~np.isfinite(difference))
    if len(bad):
        raise DataError(f"{difference[bad[0]]} for comparison {bad[0]}", field="difference", expected="a finite number")
