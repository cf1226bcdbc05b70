"""Scaling laws of over-optimisation under best-of-n, in the small language world.

**Source** Gao, Schulman, Hilton (2023), Scaling Laws for Reward Model Overoptimization, arXiv 2210.10760.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce.gathering import RESAMPLING, Arm, gather, over_worlds
from trueup.lab.reproduce.scale import Scale, World, run_worlds
from trueup.measure.laws import LawFit, fit_curves, held_out, trend
from trueup.measure.scored import Estimate
from trueup.report.curves import OptimizationCurve, gold_overlay
from trueup.report.evidence import Claim, Evidence, Verdict, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Gao et al. 2023"
_FIT_UP_TO_N = 100


def arms(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """Proxies of every size with all comparisons; the policy's size with every amount; and with noisy labels."""
    found = {}
    for shape in scale.trunks:
        found[size_name(shape.width)] = ProxyRun(plan=scale.proxy_plan(seed), trunk=scale.trunk(seed, shape))
    for pairs in scale.pairs:
        found[pairs_name(pairs)] = ProxyRun(plan=replace(scale.proxy_plan(seed), pairs=pairs))
    found["noisy"] = ProxyRun(plan=replace(scale.proxy_plan(seed), flip=scale.flip))
    return found


def deep_arms(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """The policy's size with all comparisons, for the deep pool."""
    return {pairs_name(scale.pairs[-1]): ProxyRun(plan=scale.proxy_plan(seed))}


def size_name(width: int) -> str:
    """Arm of a smaller proxy."""
    return f"width {width}"


def pairs_name(pairs: int) -> str:
    """Arm of an amount of comparisons."""
    return f"{pairs} pairs"


def scaling_laws(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_worlds(scale, arms, progress=progress)
    found = {name: gather(worlds, name) for name in worlds[0].proxies}
    fits = {name: fit_curves(a.d, a.gold, form="best_of_n", resampling=RESAMPLING, groups=a.world)
            for name, a in found.items()}  # fmt: skip
    main = pairs_name(scale.pairs[-1])
    deep = gather(run_worlds(scale.with_deep_pool(), deep_arms, progress=progress), main) if scale.deep else None
    by_size = [*(size_name(shape.width) for shape in scale.trunks), main]
    by_data = [pairs_name(pairs) for pairs in scale.pairs]
    claims = [
        *_rises_and_falls(found[main], fits[main], pairs=scale.pairs[-1]),
        _forecast(deep or found[main]),
        *(_size_claims(worlds, found, by_size) if len(by_size) > 1 else ()),
        *(_data_claims(found, by_data, scale.pairs) if len(by_data) > 1 else ()),
        _noise_claim(found[main], found["noisy"], flip=scale.flip),
    ]
    return Evidence(
        name="scaling-laws",
        title="Does gold rise and then fall under best-of-n, as the scaling laws say?",
        lead=(
            "Gold is the world's program. Proxies learn from gold's comparisons of the policy's own samples, and "
            "best-of-n picks by proxy. Gold is in standard deviations of the policy's samples to one prompt, above the "
            "policy's mean; d is the square root of the nominal KL, log n - (n - 1) / n, in nats. Intervals are over "
            "worlds, each with its own text, policy, prompts, comparisons and proxies."
        ),
        finding=_finding(fits[main], found[main]),
        claims=claims,
        command=command,
        seeds=scale.seeds,
        settings=_settings(scale, worlds),
        sections=_sections(worlds, found, fits, by_size=by_size, by_data=by_data),
        figures=_figures(found, fits, by_size=by_size, by_data=by_data),
    )


def _finding(fit: LawFit, arm: Arm) -> str:
    at = int(arm.n[np.argmin(np.abs(arm.d - fit.observed.d.value))])
    fall = with_interval(fit.observed.fall)
    return f"gold's curve: {fit.verdict} (best near n = {at}); from there to n = {arm.n[-1]} it loses {fall}"


def _rises_and_falls(arm: Arm, fit: LawFit, *, pairs: int) -> list[Claim]:
    ran = f"proxies of the policy's size, {pairs} comparisons, n up to {arm.n[-1]}, {len(arm.worlds)} worlds"
    rise = over_worlds(arm.by_world().max(axis=1).tolist())
    at_four = over_worlds(arm.by_world()[:, np.searchsorted(arm.n, 4)].tolist())
    return [
        Claim(
            "Gold rises at first as best-of-n optimises the proxy.",
            f"{PAPER}, figure 1",
            ran,
            f"gold at n = 4: {with_interval(at_four)} (highest point of each world's curve: {with_interval(rise)})",
            judge(at_four, claimed=1),
        ),
        Claim(
            "Beyond a peak gold falls while the proxy goes on rising.",
            f"{PAPER}, figure 1",
            ran,
            f"fall from the peak, chosen on other prompts, to the end: {with_interval(fit.observed.fall)}; "
            f"verdict on the curve: {fit.verdict}",
            judge(fit.observed.fall, claimed=1),
        ),
    ]


def _forecast(arm: Arm) -> Claim:
    near = np.sqrt(np.log(_FIT_UP_TO_N) - (_FIT_UP_TO_N - 1) / _FIT_UP_TO_N)
    test = held_out(arm.d, arm.gold, form="best_of_n", fit_up_to=float(near), resampling=RESAMPLING, groups=arm.world)
    return Claim(
        f"d (alpha - beta d), fitted for n up to about {_FIT_UP_TO_N}, predicts gold at larger n.",
        f"{PAPER}, section 3.1",
        f"fitted on {test.fitted} points, predicted {test.predicted}, up to n = {arm.n[-1]}",
        f"error (rms) {with_interval(test.rms)} on a range of {test.gold_range:.2f}; a cubic errs by "
        f"{with_interval(test.cubic_rms)}, staying at the last value by {with_interval(test.constant_rms)}; "
        f"gain over staying {with_interval(test.gain_over_constant)}",
        judge(test.gain_over_constant, claimed=1),
    )


def _size_claims(worlds: Sequence[World], found: Mapping[str, Arm], names: Sequence[str]) -> list[Claim]:
    sizes = np.asarray([worlds[0].proxies[name].parameters for name in names], float)
    alpha, beta = (np.stack([_coefficients(found[name])[:, k] for name in names], axis=1) for k in (0, 1))
    ran = f"{len(names)} sizes, {int(sizes.min()):,} to {int(sizes.max()):,} parameters, the same comparisons"
    claims = []
    directions: tuple[tuple[str, np.ndarray, Literal[1, -1]], ...] = (("alpha", alpha, 1), ("beta", beta, -1))
    for name, values, claimed in directions:
        found_trend = trend(sizes, values, resampling=RESAMPLING)
        way = "rises" if claimed > 0 else "falls"
        claims.append(
            Claim(
                f"{name} {way} with the logarithm of the proxy's parameters.",
                f"{PAPER}, figure 3",
                ran,
                f"slope for ten times the size: {with_interval(found_trend.slope, digits=3)}; "
                f"rank correlation {with_interval(found_trend.rank_correlation)}",
                judge(found_trend.slope, claimed=claimed),
            )
        )
    return claims


def _coefficients(arm: Arm) -> np.ndarray:
    """Alpha and beta of each world's own curve."""
    curves = arm.by_world()
    basis = np.stack([arm.d, -(arm.d**2)], axis=1)[1:]
    solved: np.ndarray = np.linalg.lstsq(basis, (curves - curves[:, :1])[:, 1:].T, rcond=None)[0].T
    return solved


def _data_claims(found: Mapping[str, Arm], names: Sequence[str], pairs: Sequence[int]) -> list[Claim]:
    at_end = np.stack([found[name].by_world()[:, -1] for name in names], axis=1)
    most = trend(np.asarray(pairs, float), at_end, resampling=RESAMPLING)
    few = found[names[0]]
    best = over_worlds((few.by_world().max(axis=1) - few.by_world()[:, 0]).tolist())
    return [
        Claim(
            "More comparisons are always better.",
            f"{PAPER}, section 3.4",
            f"{', '.join(f'{count:,}' for count in pairs)} comparisons, proxies of the policy's size, gold at the "
            f"largest n ({few.n[-1]})",
            f"slope of gold for ten times the comparisons: {with_interval(most.slope)}; "
            f"rank correlation {with_interval(most.rank_correlation)}",
            judge(most.slope, claimed=1),
        ),
        Claim(
            "With too few comparisons a proxy is near chance, and optimising it gains nothing.",
            f"{PAPER}, section 3.4",
            f"{pairs[0]:,} comparisons; held-out accuracy {with_interval(over_worlds(few.accuracy.tolist()))}",
            f"highest point of each world's gold curve: {with_interval(best)}; "
            f"gold at the largest n: {with_interval(over_worlds(few.by_world()[:, -1].tolist()))}",
            _gains_nothing(over_worlds(few.by_world()[:, -1].tolist())),
        ),
    ]


def _gains_nothing(gain: Estimate) -> Verdict:
    """A claim of no gain is contradicted by a clear one; an interval that holds 0, or a loss, agrees with it."""
    return "contradicted" if gain.low > 0 else "reproduced"


def _noise_claim(clean: Arm, noisy: Arm, *, flip: float) -> Claim:
    difference = over_worlds((noisy.by_world()[:, -1] - clean.by_world()[:, -1]).tolist())
    return Claim(
        "Noise in the labels makes over-optimisation worse.",
        "Coste et al. 2024, figure 3 (25% of the labels turned round)",
        f"{flip:.0%} of the labels turned round, otherwise the same; gold at n = {clean.n[-1]}, noisy minus clean",
        with_interval(difference),
        judge(difference, claimed=-1),
    )


def _settings(scale: Scale, worlds: Sequence[World]) -> dict[str, str]:
    setup = scale.setup
    quality = _policy_quality(worlds)
    return {
        "policy": f"Llama-shaped, {quality}",
        "pool": f"{setup.prompts} prompts with {setup.samples} samples each, temperature 1",
        "deep pool, for the forecast": f"{scale.deep.prompts} of these prompts with {scale.deep.samples} samples each"
        if scale.deep
        else "none",
        "comparisons": f"two samples each; gold's choice, ties left out; {setup.held_out} held out",
        "proxies": f"begin from a language model of the world's text; AdamW {scale.proxy.learning_rate:g}, "
        f"{scale.proxy.batch_size} pairs a step, {scale.proxy.epochs:g} epochs",
        "gold": "the world's program, deterministic labels",
    }


def _policy_quality(worlds: Sequence[World]) -> str:
    found = [json.loads((world.setup.policy / "quality.json").read_text(encoding="utf-8")) for world in worlds]
    grammar = float(np.mean([one["grammatical_sentences"] for one in found]))
    gold = float(np.mean([one["gold_mean"] for one in found]))
    return f"{found[0]['parameters']:,} parameters, {grammar:.0%} of its sentences grammatical, mean gold {gold:.2f}"


def _sections(
    worlds: Sequence[World],
    found: Mapping[str, Arm],
    fits: Mapping[str, LawFit],
    *,
    by_size: Sequence[str],
    by_data: Sequence[str],
) -> list[tuple[str, str]]:
    header = (
        "proxy",
        "parameters",
        "held-out accuracy",
        "alpha",
        "beta",
        "peak d",
        "gold there",
        "fall after",
        "curve",
    )
    rows: list[tuple[Cell, ...]] = []
    shown = tuple(dict.fromkeys([*by_size, *by_data, "noisy"]))
    for name in shown:
        fit, arm = fits[name], found[name]
        rows.append(
            (
                name,
                f"{worlds[0].proxies[name].parameters:,}",
                over_worlds(arm.accuracy.tolist()),
                fit.alpha,
                fit.beta,
                fit.peak_d,
                fit.observed.gold,
                fit.observed.fall,
                fit.verdict,
            )
        )
    sizes = [n for n in (1, 4, 16, 64, 256, 1024, 4096) if n in set(found[by_data[-1]].n.tolist())]
    golds: list[tuple[Cell, ...]] = [
        (name, *(found[name].estimates()[int(np.searchsorted(found[name].n, n))] for n in sizes)) for name in shown
    ]
    law = (
        "The law's coefficients, and the highest point of the curve without any law: its place is chosen on half of "
        "the prompts and its height measured on the other half, so that it is not biased upward. An infinite peak "
        "means that the fitted law never turns.\n\n"
    )
    return [
        ("Fits", law + markdown_table(header, rows)),
        ("Gold by n", markdown_table(("proxy", *(f"n = {n}" for n in sizes)), golds)),
    ]


def _figures(
    found: Mapping[str, Arm], fits: Mapping[str, LawFit], *, by_size: Sequence[str], by_data: Sequence[str]
) -> dict[str, str]:
    """Gold against distance, by size and by amount of data."""

    def overlay(names: Sequence[str]) -> str:
        return gold_overlay({name: _curve(found[name], fits[name]) for name in names})

    figures = {"scaling-laws-data.svg": overlay([*by_data, "noisy"])}
    if len(by_size) > 1:
        figures["scaling-laws-size.svg"] = overlay(by_size)
    return figures


def _curve(arm: Arm, fit: LawFit) -> OptimizationCurve:
    return OptimizationCurve(
        n=tuple(int(n) for n in arm.n),
        d=tuple(float(d) for d in arm.d),
        proxy=arm.estimates("proxy"),
        gold=arm.estimates("gold"),
        law=(fit.law.alpha, fit.law.beta),
        verdict=fit.verdict,
    )
