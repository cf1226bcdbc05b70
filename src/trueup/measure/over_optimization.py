"""Over-optimisation seen from one pool: every measure of best-of-n by several proxies, in one documented mapping.

The schema is in docs/best_of_n.md. All functions here work on scores that have been computed already.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trueup.divergences.best_of_n import nominal_kl
from trueup.divergences.pool_scores import checked_n, checked_scores
from trueup.errors import DataError, RecipeError, TrueupError
from trueup.measure.best_of_n import best_of_n_many, curve, n_grid
from trueup.measure.bootstrap import Resampling, ratios
from trueup.measure.forecasts import hacking_threshold, tilt_forecast
from trueup.measure.laws import LawFit, compare_forms, fit_curves, held_out
from trueup.measure.over_optimization_verdict import verdict
from trueup.measure.plain import plain
from trueup.measure.proxy_gold import Agreement, hacking
from trueup.measure.scored import Array, Estimate

SCHEMA = "trueup.best_of_n/1"

_FEWEST_FORECAST = 8
_LARGEST_LOG_N = 700.0


@dataclass(frozen=True, kw_only=True)
class PoolScores:
    """Scores of one reward on all samples of a pool.

    Args:
        name: What reports call the reward; unique among the proxies.
        reward: The scores.
        signals: Further values of each sample that this reward gives, such as its members' disagreement.
    """

    name: str
    reward: Float[Array, "prompts samples"]
    signals: Mapping[str, Float[Array, "prompts samples"]] = field(default_factory=dict)


def over_optimization(
    proxies: Sequence[PoolScores],
    gold: PoolScores | None = None,
    *,
    signals: Mapping[str, Float[Array, "prompts samples"]] | None = None,
    n: Int[Array, " ns"] | None = None,
    resampling: Resampling,
    created_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure best-of-n by each proxy on one pool.

    Args:
        proxies: What selects; at least one.
        gold: What judges; None where nothing does, and then only proxies, KL and drift are measured.
        signals: Values of each sample that need no gold: tokens, repetition, whether it was finished.
        n: Sizes; `n_grid` when None. 1 is always among them.
        resampling: How intervals are made.
        created_by: Provenance that the mapping shall hold.

    Returns:
        The mapping of schema `trueup.best_of_n/1`, ready for JSON.

    Raises:
        DataError: A score is missing or not finite, or shapes differ.
        RecipeError: No proxies, two of one name, or an n that the pool cannot answer.
    """
    names = [proxy.name for proxy in proxies]
    if not names or len(set(names)) < len(names):
        raise RecipeError(f"proxies must have different names, at least one, got {names}; write LABEL=place")
    shape = checked_scores(proxies[0].reward, proxies[0].name).shape
    for one in (*proxies, *(() if gold is None else (gold,))):
        checked_scores(one.reward, one.name, shape=shape)
    sizes = n_grid(shape[1]) if n is None else np.unique(np.r_[1, checked_n(n, samples=shape[1])])
    results = {
        proxy.name: _result(proxy, gold, signals={**(signals or {}), **proxy.signals}, n=sizes, resampling=resampling)
        for proxy in proxies
    }
    kl = nominal_kl(sizes)
    measured = {
        "schema": SCHEMA,
        "created_by": dict(created_by or {}),
        "intervals": {"level": resampling.level, "resamples": resampling.resamples, "seed": resampling.seed},
        "prompts": shape[0],
        "samples": shape[1],
        "n": sizes,
        "kl": kl,
        "d": np.sqrt(kl),
        "gold": None if gold is None else {"name": gold.name, "std_within": spread_within(gold.reward)},
        "results": results,
    }
    whole: dict[str, Any] = plain(measured)
    for result in whole["results"].values():
        result["verdict"] = plain(verdict(result, whole))
    return whole


def spread_within(reward: Float[Array, "prompts samples"]) -> float:
    """Standard deviation of a prompt's samples, root mean square over prompts: the unit of what selection gains."""
    return float(np.sqrt(reward.var(axis=1, dtype=np.float64).mean()))


def _result(
    proxy: PoolScores,
    gold: PoolScores | None,
    *,
    signals: Mapping[str, Float[Array, "prompts samples"]],
    n: Int[Array, " ns"],
    resampling: Resampling,
) -> dict[str, Any]:
    judged = None if gold is None else gold.reward
    measured = curve(proxy.reward, judged, n=n, resampling=resampling)
    drifts = best_of_n_many(proxy.reward, list(signals.values()), n) if signals else ()
    result: dict[str, Any] = {
        "std_within": spread_within(proxy.reward),
        "kl_ties": measured.kl_ties,
        "proxy": measured.proxy,
        "proxy_gain": gains(measured.proxy_by_prompt, resampling),
        "signals": {
            name: {"values": means(table, resampling), "change": gains(table, resampling)}
            for name, table in zip(signals, drifts, strict=True)
        },
        "gold": measured.gold,
        "gold_gain": None,
        "absent": {},
    }
    if measured.gold_by_prompt is None or judged is None:
        return {**result, "absent": {"gold": "no gold was given"}}
    by_prompt = measured.gold_by_prompt
    d = np.sqrt(measured.kl)
    near = _near(d)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "law": lambda: law_values(fit_curves(d, by_prompt, form="best_of_n", resampling=resampling)),
        "forms": lambda: dict(vars(compare_forms(d, by_prompt, resampling=resampling))),
        "held_out": lambda: _held_out(d, by_prompt, up_to=near[-1], resampling=resampling),
        "agreement": lambda: _agreement(proxy.reward, judged, n=n, resampling=resampling),
        "forecasts": lambda: _forecasts(proxy.reward, judged, size=int(n[near[-1]]), resampling=resampling),
    }
    result["gold_gain"] = gains(by_prompt, resampling)
    for name, part in parts.items():
        try:
            result[name] = part()
        except TrueupError as error:
            result[name], result["absent"][name] = None, str(error)
    return result


def means(by_prompt: Float[Array, "prompts ns"], resampling: Resampling) -> list[Estimate]:
    """Mean over prompts at each n."""
    return ratios(by_prompt, np.ones_like(by_prompt), resampling=resampling)


def gains(by_prompt: Float[Array, "prompts ns"], resampling: Resampling) -> list[Estimate]:
    """Mean over prompts of the change from n = 1, each prompt against itself."""
    return means(by_prompt - by_prompt[:, :1], resampling)


def _near(d: Float[Array, " ns"]) -> Int[Array, " near"]:
    """Points up to half of the largest KL: what a forecast is made from."""
    return np.flatnonzero(d**2 <= d[-1] ** 2 / 2)


def law_values(fit: LawFit) -> dict[str, Any]:
    """A fitted law as a mapping; the peak also as a size n. Ends of intervals that have no bound are null."""
    at = fit.peak_d
    values = {name: value for name, value in vars(fit).items() if name != "law"}
    peak_n = Estimate(size_at(at.value), size_at(at.low), size_at(at.high), at.n)
    return {**values, "peak_n": peak_n, "observed": vars(fit.observed)}


def size_at(d: float) -> float:
    """The n whose nominal KL is `d**2`; infinite where d is, or too large to tell."""
    if not np.isfinite(d):
        return d
    low, high = 0.0, _LARGEST_LOG_N
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if middle + np.expm1(-middle) < d * d else (low, middle)
    return float(np.exp(low)) if high < _LARGEST_LOG_N else np.inf


def _held_out(
    d: Float[Array, " ns"], gold: Float[Array, "prompts ns"], *, up_to: np.integer, resampling: Resampling
) -> dict[str, Any]:
    found = held_out(d, gold, form="best_of_n", fit_up_to=float(d[up_to]), resampling=resampling)
    law = {"alpha": found.law.alpha, "beta": found.law.beta}
    return {**vars(found), "law": law, "relative_rms": found.relative_rms}


def _agreement(
    proxy: Float[Array, "prompts samples"],
    gold: Float[Array, "prompts samples"],
    *,
    n: Int[Array, " ns"],
    resampling: Resampling,
) -> dict[str, Any]:
    found = hacking(proxy, gold, n=n, resampling=resampling)
    return {
        "pooled": _agreement_values(found.pooled),
        "within": _agreement_values(found.within),
        "selected_pooled": found.selected_pooled,
        "selected_within": found.selected_within,
        "hacked": found.verdict,
        "chi2": found.chi2,
        "least_gain_pooled": found.bounds_pooled.tight,
        "least_gain_within": found.bounds_within.tight,
    }


def _agreement_values(found: Agreement) -> dict[str, Any]:
    return {"pearson": found.pearson, "spearman": found.spearman}


def _forecasts(
    proxy: Float[Array, "prompts samples"],
    gold: Float[Array, "prompts samples"],
    *,
    size: int,
    resampling: Resampling,
) -> dict[str, Any]:
    """What the first few samples of each prompt foretell of all of them."""
    if size < _FEWEST_FORECAST:
        raise DataError(f"a forecast from {size} samples of each prompt says nothing", cure="draw more samples")
    few, judged = proxy[:, :size], gold[:, :size]
    threshold = hacking_threshold(few, judged, resampling=resampling)
    tilt = tilt_forecast(few, judged, resampling=resampling)
    peak = tilt.peak
    return {
        "samples": size,
        "threshold": vars(threshold),
        "tilt": {
            "outcome": tilt.outcome,
            "trusted_kl": tilt.kl[: tilt.trusted][-1] if tilt.trusted else None,
            "peak_kl": None if peak is None else tilt.kl[peak],
            "peak_gain": None if peak is None else tilt.gold[peak].value - tilt.gold[0].value,
        },
    }
