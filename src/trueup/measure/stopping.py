"""When to stop optimising: pure rules on the history of a watched run.

A rule takes the whole history and returns a reason to stop now, in words, or None. None of them changes anything, so
they can be tried on finished runs as well.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from trueup.data.watched import Watched
from trueup.errors import DataError, RecipeError
from trueup.measure.alarms import Alarm
from trueup.measure.bootstrap import Resampling
from trueup.measure.laws import LawFit, fit_curves, observed_peak
from trueup.measure.run_signals import run_signals
from trueup.measure.scored import Array, Estimate
from trueup.measure.shipped_alarm import shipped_alarm

NEAR = 0.3
"""Below this distance, sqrt(nats), the RL law is nearly vertical and the noise of KL counts most."""


@runtime_checkable
class StopRule(Protocol):
    """Anything that says when to stop."""

    def __call__(self, watched: Watched, /) -> str | None:
        """A reason to stop after the last point, or None."""
        ...


@dataclass(frozen=True)
class KLBudget:
    """Stop once the policy is as far from where it started as it may go.

    Args:
        nats: Largest mean KL of whole responses to the initial policy, nats: summed over tokens, never per token.
    """

    nats: float

    def __post_init__(self) -> None:
        if not (self.nats > 0 and np.isfinite(self.nats)):
            raise RecipeError(f"the KL budget must be positive, in nats a response, got {self.nats}")

    def __call__(self, watched: Watched, /) -> str | None:
        """Compare the last point's mean KL."""
        kl = watched.mean_kl
        if kl is None or len(kl) == 0 or not kl[-1] >= self.nats:
            return None
        return f"KL to the initial policy is {kl[-1]:.2f} nats a response; the budget is {self.nats:g}"


@dataclass(frozen=True, kw_only=True)
class GoldPeaked:
    """Stop once gold has been below its best for some time, by more than noise.

    At each of the last `patience` points the fall from the best point so far, paired by prompt, must have its whole
    interval above 0. The best point is chosen on one half of the prompts and compared on the other, both ways round
    (`trueup.measure.law_peaks`): the highest of several noisy means is too high on the data that chose it, and would
    stop runs that are flat.

    Args:
        patience: Points in a row that must be below the best.
        level: Coverage of the intervals.
        seed: Seed of the halves.
    """

    patience: int = 2
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise RecipeError(f"patience must be at least 1, got {self.patience}")
        Resampling(level=self.level, seed=self.seed)

    def __call__(self, watched: Watched, /) -> str | None:
        """Compare the last points with the best before them."""
        gold = watched.by_prompt("gold")
        if gold is None:
            return None
        finite = np.all(np.isfinite(gold), axis=1)
        if not finite[-1:].any():
            return None
        steps, units = watched.steps[finite], gold[finite]
        first = len(units) - self.patience
        if first < 1:
            return None
        falls = [self.fall(units[: k + 1]) for k in range(first, len(units))]
        if not all(fall.low > 0 for fall in falls):
            return None
        best, last = int(np.argmax(units.mean(axis=1))), falls[-1]
        return (
            f"gold peaked near step {steps[best]} and has been clearly lower for {self.patience} watched "
            f"{'point' if self.patience == 1 else 'points'}: by {last.value:.3g} ({last.low:.3g} to {last.high:.3g})"
        )

    def fall(self, gold: Float[Array, "points prompts"]) -> Estimate:
        """Gold at the best point so far minus gold at the last, paired by prompt and cross-fitted."""
        order = np.arange(len(gold), dtype=np.float64)
        return observed_peak(order, gold.T, resampling=Resampling(resamples=1, level=self.level, seed=self.seed)).fall


@dataclass(frozen=True, kw_only=True)
class LawPeakPassed:
    """Stop once the law `R(d) = d (alpha - beta log d)`, fitted to the run so far, has its peak behind the policy.

    The policy must be beyond the fitted peak by the margin and beyond the upper end of the peak's interval. Points
    with `d` below 0.3 sqrt(nats) are left out of the fit.

    **Source** Gao, Schulman, Hilton (2023), arXiv 2210.10760.

    Args:
        margin: How far beyond the peak, as a share of the peak's distance.
        points: Points with `d` of 0.3 or more that a fit needs.
        level: Coverage of the peak's interval over prompts.
        resamples: Bootstrap resamples behind it.
        seed: Their seed.
    """

    margin: float = 0.1
    points: int = 4
    level: float = 0.95
    resamples: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 3 or not self.margin >= 0:
            raise RecipeError(f"points must be at least 3 and margin 0 or more, got {self.points} and {self.margin}")

    def __call__(self, watched: Watched, /) -> str | None:
        """Fit and compare."""
        resampling = Resampling(resamples=self.resamples, level=self.level, seed=self.seed)
        try:
            law = fit_run(watched, resampling=resampling, points=self.points)
        except (DataError, RecipeError):
            return None
        now, peak = float(watched.distance[-1]) if watched.distance is not None else np.nan, law.peak_d
        if not (now > (1 + self.margin) * peak.value and now > peak.high):
            return None
        return (
            f"the law fitted to gold peaks at KL {peak.value**2:.2f} nats (up to {peak.high**2:.2f}), and the policy "
            f"is at {now**2:.2f}"
        )


def fit_run(watched: Watched, *, resampling: Resampling, points: int = 3) -> LawFit:
    """The RL law fitted to gold along a run; intervals are over prompts.

    Args:
        watched: A history with gold, KL and the initial policy (step 0).
        resampling: How intervals are made.
        points: Points with `d` of 0.3 or more that are needed.

    Raises:
        DataError: Gold, KL or the initial policy is missing.
        RecipeError: Too few points.
    """
    d, gold = watched.distance, watched.by_prompt("gold")
    if d is None or gold is None:
        missing = "gold" if gold is None else "kl"
        raise DataError(f"{'no gold' if gold is None else 'no KL'} is known", field=missing)
    used = np.isfinite(d) & np.all(np.isfinite(gold), axis=1)
    d, units = d[used], gold[used].T
    # a point of the policy's own start is at 0; others that noise has clipped to 0 say nothing of the law
    kept = (watched.steps[used] == 0) | (d > 0)
    d, units = d[kept], units[:, kept]
    weights = (d >= NEAR).astype(np.float64)
    if np.count_nonzero(weights) < points:
        raise RecipeError(
            f"a law needs {points} points at least {NEAR} sqrt(nats) away, got {np.count_nonzero(weights)}"
        )
    return fit_curves(d, units, form="rl", resampling=resampling, weights=weights)


@dataclass(frozen=True, kw_only=True)
class AlarmFired:
    """Stop once the alarm that sees no gold says that gold has probably fallen.

    The alarm that is shipped was tuned on best-of-n in a small language world, where it told falls no better than KL
    alone. Along a run it is a hint; use it where there is no gold, beside a KL budget.

    Args:
        threshold: Probability at which it stops; None for the alarm's own threshold, set for a rate of false alarms.
        alarm: The alarm; the shipped one when None.
    """

    threshold: float | None = None
    alarm: Alarm | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise RecipeError(f"threshold must lie between 0 and 1, got {self.threshold}")

    def __call__(self, watched: Watched, /) -> str | None:
        """Ask the alarm about the last point."""
        alarm = self.alarm or shipped_alarm()
        try:
            seen = run_signals(watched)
            model = alarm.model_for(seen)
        except DataError:
            return None
        chance = float(model.probability(seen)[-1])
        if not (model.log_odds(seen)[-1] > model.threshold if self.threshold is None else chance > self.threshold):
            return None
        return (
            f"the alarm without gold puts the chance that gold has fallen at {100 * chance:.0f}%, from "
            f"{', '.join(model.signals).replace('_', ' ')}; it was tuned on best-of-n, so this is a hint"
        )
