"""Forecasts of gold along optimisation, from samples of the base policy alone: baselines for fitted laws.

Both need a labelled pool (proxy and gold of the same responses) and no optimised policy. A forecast sees nothing that
the pool does not hold: responses far out of the base policy's reach are not in it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Num
from scipy import integrate, optimize

from trueup.divergences.best_of_n import nominal_kl
from trueup.divergences.pool_scores import checked_scores
from trueup.errors import RecipeError
from trueup.measure.best_of_n import in_order_of
from trueup.measure.bootstrap import Resampling, ratios, resampled_counts
from trueup.measure.scored import Array, Estimate

Rule = Literal["best_of_n", "best_of_poisson"]
"""How one of several responses is selected."""

Outcome = Literal["peaks", "still rising", "falls from the start", "flat"]
"""What forecast gold does within the range that was looked at."""

# Below this many effective samples per prompt a reweighted mean is mostly one response.
FEW_EFFECTIVE = 10.0
_POINTS_PER_OCTAVE = 16


@dataclass(frozen=True, kw_only=True)
class TiltForecast:
    """Forecast for the policy that KL-regularised optimisation tends to.

    Args:
        strength: Strengths lambda, inverse of the KL penalty, per unit of proxy.
        kl: KL from the base policy, mean over prompts; nats.
        proxy: Expected proxy, with its interval over prompts.
        gold: Expected gold, likewise.
        effective_samples: Effective number of samples, mean over prompts.
        trusted: How many leading strengths keep `FEW_EFFECTIVE` effective samples (half of them, in smaller pools).
        outcome: What gold does over the trusted strengths.
        peak: Index of the trusted strength with the highest gold; None unless gold peaks between the ends.
    """

    strength: Float[Array, " strengths"]
    kl: Float[Array, " strengths"]
    proxy: tuple[Estimate, ...]
    gold: tuple[Estimate, ...]
    effective_samples: Float[Array, " strengths"]
    trusted: int
    outcome: Outcome
    peak: int | None


@dataclass(frozen=True, kw_only=True)
class HackingThreshold:
    """Where selecting harder by the proxy stops to raise gold.

    Args:
        rule: How responses are selected.
        outcome: What forecast gold does between no selection and the largest size looked at.
        size: Mean number of responses drawn at the threshold; None unless gold peaks.
        kl: KL at the threshold without ties, in nats; None unless gold peaks.
        gain: Forecast gold above the base policy at the threshold; None unless gold peaks.
        low: Lower end of the interval of the best size, by resampling prompts.
        high: Its upper end; resamples that still rise count as the largest size looked at.
        peaking: Share of the resamples in which gold peaks between the ends.
    """

    rule: Rule
    outcome: Outcome
    size: float | None
    kl: float | None
    gain: float | None
    low: float
    high: float
    peaking: float


def default_strengths(proxy: Num[Array, "prompts samples"]) -> Float[Array, " strengths"]:
    """Zero, then strengths spaced evenly in log lambda from 0.05 to 20 over the proxy's spread within prompts."""
    spread = float(np.sqrt(checked_scores(proxy, "proxy").var(axis=1, dtype=np.float64).mean()))
    return np.r_[0.0, np.geomspace(0.05, 20.0, 40) / spread] if spread > 0 else np.zeros(1)


def tilt_forecast(
    proxy: Num[Array, "prompts samples"],
    gold: Num[Array, "rows columns"],
    *,
    strength: Float[Array, " strengths"] | None = None,
    resampling: Resampling,
) -> TiltForecast:
    """Gold under the exponential tilt `pi_lambda ~ pi_base exp(lambda proxy)`, the optimum of KL-regularised training.

    Each prompt's samples are reweighted by `w ~ exp(lambda proxy)`, and
    `KL = lambda E_lambda[proxy] - log E_base[exp(lambda proxy)]`. The weights are self-normalised: with N samples the
    KL cannot exceed log N, and the forecast is useless once few samples carry the weight, which
    `effective_samples = 1 / sum w^2` tells.

    Args:
        proxy: Scores that are optimised.
        gold: Scores that judge, of the same responses.
        strength: Strengths, ascending and not negative; `default_strengths` when None.
        resampling: How intervals are made.
    """
    proxy = checked_scores(proxy, "proxy")
    gold = checked_scores(gold, "gold", shape=proxy.shape)
    strengths = default_strengths(proxy) if strength is None else np.asarray(strength, np.float64)
    if not len(strengths) or np.any(strengths < 0) or np.any(np.diff(strengths) <= 0):
        raise RecipeError(f"strengths must ascend from 0 or above, got {strengths.tolist()}")
    by_prompt = np.stack([_tilted(proxy, gold, one) for one in strengths], axis=2)
    bands = [tuple(ratios(table, np.ones_like(table), resampling=resampling)) for table in by_prompt[:2]]
    kl, effective = by_prompt[2:].mean(axis=1)
    trusted = int(np.argmin(np.r_[effective >= min(FEW_EFFECTIVE, proxy.shape[1] / 2), False]))
    outcome, peak = _outcome(by_prompt[1, :, :trusted].mean(axis=0))
    return TiltForecast(
        strength=strengths,
        kl=kl,
        proxy=bands[0],
        gold=bands[1],
        effective_samples=effective,
        trusted=trusted,
        outcome=outcome,
        peak=peak if outcome == "peaks" else None,
    )


def _tilted(
    proxy: Float[Array, "prompts samples"], gold: Float[Array, "prompts samples"], strength: float
) -> Float[Array, "4 prompts"]:
    """Expected proxy and gold, KL and effective samples of each prompt."""
    top = proxy.max(axis=1, keepdims=True)
    raw = np.exp(strength * (proxy - top).astype(np.float64))
    weight = raw / raw.sum(axis=1, keepdims=True)
    below_top = np.einsum("ps,ps->p", weight, (proxy - top).astype(np.float64))
    kl = strength * below_top - np.log(raw.mean(axis=1))
    expected = np.einsum("ps,ps->p", weight, gold)
    return np.stack([below_top + top[:, 0], expected, np.maximum(kl, 0.0), 1 / np.square(weight).sum(axis=1)])


def hacking_threshold(
    proxy: Num[Array, "prompts samples"],
    gold: Num[Array, "rows columns"],
    *,
    rule: Rule = "best_of_n",
    largest: float | None = None,
    resampling: Resampling,
) -> HackingThreshold:
    """Size at which the expected gold of the selected response is highest: root of its derivative.

    With u the proxy's quantile within its prompt and q_theta its density after selection, gold's derivative is
    `E[gold(u) d log q_theta(u) / d theta]` under q_theta. For best-of-n `q = n u^(n-1)` and the derivative of log q is
    `1/n + log u`; n is taken as real. For best-of-Poisson, which draws 1 + Poisson(mu) responses,
    `q = (1 + mu u) exp(mu (u - 1))`. Both are integrated exactly over each sample's share (i-1)/N..i/N of the
    quantiles, tied samples sharing theirs. Sizes near N rest on the top samples alone.

    **Source** Khalaf et al. (2025), Inference-Time Reward Hacking in Large Language Models, arXiv 2506.19248: the
    threshold, the two rules, and the search for a root (there HedgeTune). Its definitions were read in summaries; the
    densities are derived again here, and the search, on a grid and then by Brent's method, is ours.

    Args:
        proxy: Scores that select.
        gold: Scores that judge, of the same responses.
        rule: How responses are selected.
        largest: Largest mean number of responses looked at; N when None.
        resampling: How the interval is made.
    """
    proxy = checked_scores(proxy, "proxy")
    gold = checked_scores(gold, "gold", shape=proxy.shape)
    end = float(proxy.shape[1] if largest is None else largest)
    if not 1 <= end <= proxy.shape[1]:
        raise RecipeError(f"largest must lie between 1 and the pool's {proxy.shape[1]} samples, got {end:g}")
    ordered = in_order_of(proxy, gold)
    sizes = np.geomspace(1.0, end, int(np.ceil(np.log2(end) * _POINTS_PER_OCTAVE)) + 1)
    curves = ordered @ np.stack([_shares(proxy.shape[1], size, rule) for size in sizes], axis=1)
    outcome, place = _outcome(curves.mean(axis=0))
    profile = ordered.mean(axis=0)
    size = _refine(profile, sizes, place, rule) if outcome == "peaks" else None
    peaking, low, high = _best_sizes(curves, sizes, resampling)
    return HackingThreshold(
        rule=rule,
        outcome=outcome,
        size=size,
        kl=None if size is None else _kl(size, rule),
        gain=None if size is None else float(profile @ _shares(len(profile), size, rule) - profile.mean()),
        low=low,
        high=high,
        peaking=peaking,
    )


def _shares(samples: int, size: float, rule: Rule) -> Float[Array, " samples"]:
    """Probability that the selected quantile lies in each of N equal cells.

    The distribution functions are `u^n` and `u exp(mu (u - 1))` with `mu = size - 1`.
    """
    u = np.arange(samples + 1) / samples
    cdf = u**size if rule == "best_of_n" else u * np.exp((size - 1) * (u - 1))
    return np.diff(cdf)


def _slopes(samples: int, size: float, rule: Rule) -> Float[Array, " samples"]:
    """Derivative of `_shares` with respect to the size: differences of `u^n log u` or `u (u - 1) exp(mu (u - 1))`."""
    u = np.arange(samples + 1) / samples
    if rule == "best_of_n":
        return np.diff(np.r_[0.0, u[1:] ** size * np.log(u[1:])])
    return np.diff(u * (u - 1) * np.exp((size - 1) * (u - 1)))


def _outcome(gold: Float[Array, " points"]) -> tuple[Outcome, int]:
    """What a curve does, and where it is highest."""
    place = int(np.argmax(gold)) if len(gold) else 0
    if not len(gold) or np.ptp(gold) <= 1e-12 * np.abs(gold).max():
        return "flat", 0
    if place == 0:
        return "falls from the start", 0
    return ("still rising" if place == len(gold) - 1 else "peaks"), place


def _refine(profile: Float[Array, " samples"], sizes: Float[Array, " points"], place: int, rule: Rule) -> float:
    """Root of the derivative next to the highest point of the grid."""

    def slope(size: float) -> float:
        return float(profile @ _slopes(len(profile), size, rule))

    low, high = sizes[place - 1], sizes[place + 1]
    if slope(low) > 0 > slope(high):
        return float(optimize.brentq(slope, low, high, xtol=1e-10, rtol=1e-12))
    return float(sizes[place])


def _best_sizes(
    curves: Float[Array, "prompts points"], sizes: Float[Array, " points"], resampling: Resampling
) -> tuple[float, float, float]:
    """Share of resamples that peak inside, and the interval of the best size."""
    draws = resampled_counts(len(curves), resampling=resampling)
    best = np.concatenate([np.argmax(counts @ curves, axis=1) for counts in draws])
    inside = float(np.mean((best > 0) & (best < len(sizes) - 1)))
    tail = (1 - resampling.level) / 2
    low, high = np.quantile(sizes[best], [tail, 1 - tail])
    return inside, float(low), float(high)


def _kl(size: float, rule: Rule) -> float:
    if rule == "best_of_n":
        return float(nominal_kl(size))
    mu = size - 1

    def integrand(u: float) -> float:
        log_density = np.log1p(mu * u) + mu * (u - 1)
        return float(np.exp(log_density) * log_density)

    return float(integrate.quad(integrand, 0.0, 1.0, points=[max(0.0, 1 - 10 / size)], limit=200)[0])
