"""Proxy against gold: how they correlate under the base policy and after best-of-n, and whether hacking has occurred.

A proxy is *r-correlated* if its Pearson correlation with gold under the reference policy is r > 0. Hacking has occurred
if optimising such a proxy has brought gold below the reference: `J(pi, gold) < J(reference, gold)`. Prompts are states
and responses actions; prompts are drawn the same way under every policy, so a policy's divergence from the reference is
its mean divergence over prompts, and what differs between prompts alone cannot change an improvement. Hence two
versions of everything: *pooled* over prompts and responses, which is the definition, and *within* prompts, where each
prompt's mean under the reference is taken off both rewards. The guarantee holds for both; within is what selection
among responses to one prompt can use.

**Source** Laidlaw, Singhal, Dragan (2025), Correlated Proxies: A New Definition and Improved Mitigation for Reward
Hacking, arXiv 2403.03185, definitions 4.1 and 4.2 and theorem 5.1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

from trueup.divergences.best_of_n import chi2_with_ties
from trueup.divergences.pool_scores import Ns, checked_n, checked_scores
from trueup.measure.best_of_n import best_of_n_many
from trueup.measure.bootstrap import Resampling, bootstrap, divide, ratios
from trueup.measure.scored import Array, Estimate

Hacked = Literal["yes", "no", "cannot tell"]

# A variance this much smaller than the mean square is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How proxy and gold agree over a set of responses.

    Args:
        pearson: Pearson's correlation, the r of the definition.
        spearman: Correlation of the ranks; ranks are taken once, not in every resample.
        sigma_proxy: Standard deviation of the proxy.
        sigma_gold: Standard deviation of gold.
    """

    pearson: Estimate
    spearman: Estimate
    sigma_proxy: float
    sigma_gold: float

    @property
    def penalty(self) -> float:
        """Coefficient of the sqrt-chi-squared penalty that the guarantee asks for: `sigma_proxy sqrt(1 - r^2)`."""
        return float(self.sigma_proxy * np.sqrt(1 - self.pearson.value**2))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the correlation guarantees at each n, in gold units above the reference.

    Args:
        theorem: The theorem's lower bound on gold's change; NaN where r is not positive.
        tight: The attainable lower bound.
    """

    theorem: Float[Array, " ns"]
    tight: Float[Array, " ns"]


@dataclass(frozen=True, kw_only=True)
class Hacking:
    """Whether best-of-n by the proxy has hacked it.

    Args:
        n: Sizes.
        chi2: Chi-squared of best-of-n from the base policy, with the pool's ties, mean over prompts.
        proxy_change: Proxy above the base policy.
        gold_change: Gold above the base policy.
        verdict: For each n, whether the definition of hacking is met.
        pooled: Agreement under the base policy over all responses.
        within: The same within prompts.
        bounds_pooled: Guaranteed change of gold from `pooled`.
        bounds_within: Guaranteed change of gold from `within`.
        selected_pooled: Pearson's correlation among the responses that best-of-n selects.
        selected_within: The same within prompts; NaN at n = N, where one response is left.
    """

    n: Int[Array, " ns"]
    chi2: Float[Array, " ns"]
    proxy_change: tuple[Estimate, ...]
    gold_change: tuple[Estimate, ...]
    verdict: tuple[Hacked, ...]
    pooled: Agreement
    within: Agreement
    bounds_pooled: Bounds
    bounds_within: Bounds
    selected_pooled: tuple[Estimate, ...]
    selected_within: tuple[Estimate, ...]


def agreement(
    proxy: Num[Array, "prompts samples"], gold: Num[Array, "rows columns"], *, resampling: Resampling
) -> Agreement:
    """Agreement over all responses of all prompts; intervals resample prompts."""
    proxy, gold = _checked(proxy, gold)
    return _agreement(_centred(proxy, axis=None), _centred(gold, axis=None), resampling=resampling, axis=None)


def agreement_within(
    proxy: Num[Array, "prompts samples"], gold: Num[Array, "rows columns"], *, resampling: Resampling
) -> Agreement:
    """Agreement of what is left after each prompt's mean is taken off; ranks too are ranks within the prompt."""
    proxy, gold = _checked(proxy, gold)
    return _agreement(_centred(proxy, axis=1), _centred(gold, axis=1), resampling=resampling, axis=1)


def _checked(
    proxy: Num[Array, "prompts samples"], gold: Num[Array, "rows columns"]
) -> tuple[Float[Array, "prompts samples"], Float[Array, "prompts samples"]]:
    first = checked_scores(proxy, "proxy")
    second = checked_scores(gold, "gold", shape=first.shape)
    return first.astype(np.float64, copy=False), second.astype(np.float64, copy=False)


def _centred(reward: Float[Array, "prompts samples"], *, axis: int | None) -> Float[Array, "prompts samples"]:
    """The reward without its mean; exactly zero where it is constant, as rounding must not pass for variation."""
    constant = np.ptp(reward, axis=axis, keepdims=True) == 0
    return np.where(constant, 0.0, reward - reward.mean(axis=axis, keepdims=True))


def _agreement(
    proxy: Float[Array, "prompts samples"],
    gold: Float[Array, "prompts samples"],
    *,
    resampling: Resampling,
    axis: int | None,
) -> Agreement:
    ranks = [stats.rankdata(reward, axis=axis).reshape(reward.shape) for reward in (proxy, gold)]
    middle = (proxy.size if axis is None else proxy.shape[1]) / 2 + 0.5
    return Agreement(
        pearson=_pearson(_moments(proxy, gold), resampling)[0],
        spearman=_pearson(_moments(ranks[0] - middle, ranks[1] - middle), resampling)[0],
        sigma_proxy=float(proxy.std()),
        sigma_gold=float(gold.std()),
    )


def _moments(a: Float[Array, "prompts samples"], b: Float[Array, "prompts samples"]) -> Float[Array, "5 prompts 1"]:
    """Each prompt's means of a, b, a^2, b^2 and ab."""
    return np.stack([each.mean(axis=1, keepdims=True) for each in (a, b, a * a, b * b, a * b)])


def _pearson(moments: Float[Array, "5 prompts measures"], resampling: Resampling) -> list[Estimate]:
    """Pearson's correlations from each prompt's moments; NaN where a variance is zero."""
    _, prompts, measures = moments.shape
    table = np.moveaxis(moments, 0, 1).reshape(prompts, 5 * measures)

    def statistic(counts: Float[Array, "resamples prompts"]) -> Float[Array, "resamples measures"]:
        sums = (counts @ table) / counts.sum(axis=1, keepdims=True)
        a, b, aa, bb, ab = np.moveaxis(sums.reshape(len(counts), 5, measures), 1, 0)
        spreads = [np.where(m2 - m * m > _ROUNDING * m2, m2 - m * m, 0.0) for m, m2 in ((a, aa), (b, bb))]
        return np.clip(divide(ab - a * b, np.sqrt(spreads[0] * spreads[1])), -1.0, 1.0)

    return bootstrap(statistic, prompts, resampling=resampling)


def hacking(
    proxy: Num[Array, "prompts samples"], gold: Num[Array, "rows columns"], *, n: Ns, resampling: Resampling
) -> Hacking:
    """Apply the definition to best-of-n, for every n.

    Changes are unbiased estimates of the base policy's best-of-n, chi-squared and r are the pool's; so at sizes near
    the pool's a bound may fail by their noise.

    Raises:
        DataError: A score is missing or not finite, or the shapes differ.
        RecipeError: An n is below 1 or above the number of samples.
    """
    proxy, gold = _checked(proxy, gold)
    sizes = checked_n(n, samples=proxy.shape[1])
    pooled, within = (make(proxy, gold, resampling=resampling) for make in (agreement, agreement_within))
    a, b = _centred(proxy, axis=1), _centred(gold, axis=1)
    moments = best_of_n_many(proxy, [a, b, a * a, b * b, a * b], sizes)
    moments[:2, :, sizes == 1] = 0.0
    gains = [ratios(change, np.ones_like(change), resampling=resampling) for change in moments[:2]]
    chi2 = chi2_with_ties(proxy, sizes).mean(axis=0)
    rise = np.array([estimate.value for estimate in gains[0]])
    return Hacking(
        n=sizes,
        chi2=chi2,
        proxy_change=tuple(gains[0]),
        gold_change=tuple(gains[1]),
        verdict=tuple(hacked(pooled.pearson, change) for change in gains[1]),
        pooled=pooled,
        within=within,
        bounds_pooled=_bounds(pooled, rise, chi2),
        bounds_within=_bounds(within, rise, chi2),
        selected_pooled=tuple(_pearson(_uncentred(moments, proxy, gold), resampling)),
        selected_within=tuple(_pearson(_conditional(moments), resampling)),
    )


def _uncentred(
    moments: Float[Array, "5 prompts ns"], proxy: Float[Array, "prompts samples"], gold: Float[Array, "prompts samples"]
) -> Float[Array, "5 prompts ns"]:
    """Moments about the pool's mean, from those about each prompt's."""
    a, b, aa, bb, ab = moments
    s, t = (reward.mean(axis=1, keepdims=True) - reward.mean() for reward in (proxy, gold))
    return np.stack([a + s, b + t, aa + 2 * s * a + s * s, bb + 2 * t * b + t * t, ab + s * b + t * a + s * t])


def _conditional(moments: Float[Array, "5 prompts ns"]) -> Float[Array, "5 prompts ns"]:
    """Moments about each prompt's mean after selection."""
    a, b, aa, bb, ab = moments
    spreads = [np.where(m2 - m * m > _ROUNDING * m2, m2 - m * m, 0.0) for m, m2 in ((a, aa), (b, bb))]
    return np.stack([np.zeros_like(a), np.zeros_like(b), *spreads, ab - a * b])


def _bounds(reference: Agreement, rise: Float[Array, " ns"], chi2: Float[Array, " ns"]) -> Bounds:
    r, sigma = reference.pearson.value, reference.sigma_gold
    gain = divide(rise, np.asarray(reference.sigma_proxy))
    return Bounds(
        theorem=sigma * improvement_bound(gain, chi2, r=r), tight=sigma * tight_improvement_bound(gain, chi2, r=r)
    )


def improvement_bound(
    proxy_gain: Float[Array, " ns"] | float, chi2: Float[Array, " ns"] | float, *, r: float
) -> Float[Array, "*ns"]:
    """The theorem: gold's improvement is at least `(A - sqrt((1 - r^2) chi2)) / r` gold standard deviations.

    Args:
        proxy_gain: The proxy's improvement A over the reference, in proxy standard deviations.
        chi2: Chi-squared of the policy's distribution from the reference's.
        r: Correlation under the reference; the bound is NaN unless it is positive.
    """
    slack = np.asarray(proxy_gain) - np.sqrt(max(0.0, 1 - r * r) * np.asarray(chi2))
    return np.asarray(slack / r if r > 0 else np.full(np.shape(slack), np.nan))


def tight_improvement_bound(
    proxy_gain: Float[Array, " ns"] | float, chi2: Float[Array, " ns"] | float, *, r: float
) -> Float[Array, "*ns"]:
    """The attainable bound `r A - sqrt(1 - r^2) sqrt(chi2 - A^2)`, for any r; arguments of `improvement_bound`.

    `chi2 >= A^2` for every policy; an estimate that falls short of it counts as equal.

    **Source** arXiv 2604.12086, as a worst case over all gold rewards with correlation r.
    """
    gain = np.asarray(proxy_gain)
    rest = np.sqrt(np.maximum(np.asarray(chi2) - gain * gain, 0.0))
    return np.asarray(r * gain - np.sqrt(max(0.0, 1 - r * r)) * rest)


def hacked(correlation: Estimate, gold_change: Estimate) -> Hacked:
    """Whether a proxy has been hacked: r > 0 under the reference, and gold below the reference.

    "yes" needs both intervals beyond zero; "no" needs one of them to rule it out: gold has not fallen, or the proxy is
    not correlated with gold in the first place (a useless proxy is not a hacked one).
    """
    if correlation.low > 0 and gold_change.high < 0:
        return "yes"
    return "no" if gold_change.low >= 0 or correlation.high <= 0 else "cannot tell"
