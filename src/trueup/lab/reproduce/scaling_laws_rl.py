"""Scaling laws of over-optimisation under RL, in the small language world.

**Source** Gao, Schulman, Hilton (2023), Scaling Laws for Reward Model Overoptimization, arXiv 2210.10760.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from trueup.lab.policy_runs import PolicyRun
from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce.gathering import RESAMPLING, Arm, gather, over_worlds
from trueup.lab.reproduce.policy_arms import KL_GRID, PolicyWorld, peak_of, reach, run_policies
from trueup.lab.reproduce.policy_pages import (
    UNIT,
    RunCurves,
    against_distance,
    estimates_at,
    gold_and_proxy_figure,
    optimization_settings,
    proxy_gain,
    run_curves,
    shared_distances,
)
from trueup.lab.reproduce.policy_plans import FREE, ordinary, plain
from trueup.lab.reproduce.scale import Scale, World, run_worlds
from trueup.lab.reproduce.scaling_laws import size_name
from trueup.lab.reproduce.scaling_laws_rl_claims import (
    MARGIN,
    form_claims,
    growth_claim,
    penalty_claims,
    penalty_name,
    rise_and_fall,
    size_claims,
    slower_than_best_of_n,
)
from trueup.measure.laws import LawFit, fit_curves
from trueup.report.evidence import Evidence
from trueup.report.frontier import Frontier, frontiers
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

KL_COEFFICIENTS = (0.05, 0.2)
BEST_OF_N = "best-of-n"


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """RLOO against the ordinary proxy, without and with a KL penalty, and against proxies of smaller sizes."""
    found = {FREE: plain(scale, seed)}
    for coefficient in KL_COEFFICIENTS:
        found[penalty_name(coefficient)] = plain(scale, seed, kl_coefficient=coefficient)
    for name, proxy in proxies(scale, seed).items():
        found.setdefault(name, plain(scale, seed, proxy=proxy))
    return found


def proxies(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """Proxies of every size, smallest first, by the arm that optimises them."""
    smaller = {
        size_name(shape.width): ProxyRun(plan=scale.proxy_plan(seed), trunk=scale.trunk(seed, shape))
        for shape in scale.trunks
    }
    return {**smaller, FREE: ordinary(scale, seed)}


def scaling_laws_rl(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_policies(scale, arms, progress=progress)
    scored = run_worlds(scale, proxies, progress=progress)
    return evidence(worlds, scored, scale=scale, command=command)


def evidence(worlds: Sequence[PolicyWorld], scored: Sequence[World], *, scale: Scale, command: str) -> Evidence:
    """The page, from what was run.

    Args:
        worlds: Optimised policies.
        scored: The same worlds' pools, scored by the proxies that were optimised.
        scale: What was run.
        command: The command that writes the page.
    """
    by_size = list(scored[0].proxies)
    d = shared_distances(worlds, [FREE])
    curves = {FREE: run_curves(worlds, FREE, d)}
    common = shared_distances(worlds, by_size)
    sized = {name: run_curves(worlds, name, common) for name in by_size}
    fit = _fit(curves[FREE])
    sizes = {name: scored[0].proxies[name].parameters for name in by_size}
    chosen = gather(scored, FREE)
    penalised = [penalty_name(coefficient) for coefficient in KL_COEFFICIENTS]
    claims = [
        *rise_and_fall(worlds, fit),
        *form_claims(curves[FREE]),
        *(size_claims(sized, sizes) if len(by_size) > 1 else ()),
        *(claim for coefficient in KL_COEFFICIENTS for claim in penalty_claims(worlds, coefficient)),
        growth_claim(worlds),
        *slower_than_best_of_n(worlds, scored, chosen),
    ]
    return Evidence(
        name="scaling-laws-rl",
        title="Do the scaling laws of over-optimisation hold under reinforcement learning?",
        lead=_LEAD,
        finding=f"gold's curve: {fit.verdict} (best near KL {fit.observed.d.value**2:.1f}); from there to KL "
        f"{fit.d_max**2:.0f} it loses {with_interval(fit.observed.fall)}",
        claims=claims,
        command=command,
        seeds=scale.seeds,
        settings=_settings(scale),
        sections=_sections(worlds, scored, {**{name: _fit(sized[name]) for name in by_size}, FREE: fit}, sizes=sizes),
        figures=_figures(worlds, chosen, by_size=by_size, penalised=penalised, fit=fit),
    )


_LEAD = (
    "Gold is the world's program. Proxies learn from gold's comparisons of the policy's own samples, and RLOO "
    "(the paper has PPO) optimises the policy against them, without a KL penalty unless one is named. Gold is in "
    "standard deviations of the start's samples to one prompt, above the start's mean; d is the square root of the KL "
    "of whole responses to the start, in nats, measured on the policy's own samples. Arms are compared at equal KL. "
    "Intervals are over worlds, each with its own text, policy, prompts, comparisons and proxies. "
    "[Best-of-n](scaling-laws.md) has a page of its own.\n\n"
    f"A claim that something makes no difference counts as reproduced where the interval lies within a margin: "
    f"{MARGIN:g} standard deviations of gold, and a quarter of its own mean for a coefficient of the law."
)


def _fit(curves: RunCurves) -> LawFit:
    return fit_curves(curves.d, curves.gold, form="rl", resampling=RESAMPLING, groups=curves.world)


def _settings(scale: Scale) -> dict[str, str]:
    how = plain(scale, scale.seeds[0]).how
    return {
        "method": "RLOO; the KL penalty is part of the reward, per nat of the response's log-ratio",
        **optimization_settings(scale, how),
        "fits": "least squares on 12 distances at equal steps, from 0.3 to the largest that all worlds reach; each "
        "world counts once",
    }


def _sections(
    worlds: Sequence[PolicyWorld], scored: Sequence[World], fits: Mapping[str, LawFit], *, sizes: Mapping[str, int]
) -> list[tuple[str, str]]:
    header = ("proxy", "parameters", "held-out accuracy", "alpha", "beta", "peak d", "gold there", "fall after",
              "fitted up to d", "curve")  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for name, fit in fits.items():
        accuracy = over_worlds([world.proxies[name].accuracy for world in scored])
        peak, fall = fit.observed.gold, fit.observed.fall
        rows.append((name, f"{sizes[name]:,}", accuracy, fit.alpha, fit.beta, fit.peak_d, peak, fall, fit.d_max,
                     fit.verdict))  # fmt: skip
    law = (
        "Coefficients of d (alpha - beta log d), and the highest point of the curve without any law: its place is "
        "chosen on half of the worlds and its height read on the others. An infinite peak means that the fitted law "
        "never turns.\n\n"
    )
    return [
        ("Fits", law + markdown_table(header, rows)),
        ("Gold at equal KL", _at_equal_kl(worlds)),
    ]


def _at_equal_kl(worlds: Sequence[PolicyWorld]) -> str:
    header = ("arm", *(f"KL {kl:g}" for kl in KL_GRID), "highest", "at KL", "largest KL")
    rows: list[tuple[Cell, ...]] = []
    for arm in worlds[0].looks:
        least = min(reach(world.looks[arm]) for world in worlds)
        known = [kl for kl in KL_GRID if kl <= least]
        gold: list[Cell] = [*estimates_at(worlds, arm, known), *(["–"] * (len(KL_GRID) - len(known)))]
        peaks = np.asarray([peak_of(world, arm) for world in worlds])
        ends = over_worlds([reach(world.looks[arm]) for world in worlds])
        rows.append((arm, *gold, over_worlds(peaks[:, 0].tolist()), over_worlds(peaks[:, 1].tolist()), ends))
    note = (
        "A dash: some world does not get so far. The highest look of a run is too high on average, as noise takes part "
        "in the choice.\n\n"
    )
    return note + markdown_table(header, rows)


def _figures(
    worlds: Sequence[PolicyWorld], chosen: Arm, *, by_size: Sequence[str], penalised: Sequence[str], fit: LawFit
) -> dict[str, str]:
    both = {
        "gold": {**against_distance(worlds, [FREE]), BEST_OF_N: _of_best_of_n(chosen, "gold")},
        "proxy": {**against_distance(worlds, [FREE], read=proxy_gain), BEST_OF_N: _of_best_of_n(chosen, "proxy")},
    }
    laws = {FREE: (fit.law.alpha, fit.law.beta)}
    figures = {
        "scaling-laws-rl-penalty.svg": gold_and_proxy_figure(worlds, [FREE, *penalised], laws=laws),
        "scaling-laws-rl-best-of-n.svg": frontiers(both, unit=UNIT),
    }
    if len(by_size) > 1:
        figures["scaling-laws-rl-size.svg"] = gold_and_proxy_figure(worlds, by_size)
    return figures


def _of_best_of_n(chosen: Arm, what: str) -> Frontier:
    return Frontier(d=chosen.d.tolist(), values=chosen.estimates(what))
