"""Batch-wise sum-to-zero in the small language world: four shifts, dispersion, and best-of-n.

**Source** Hong, Lee et al. (2025), On the Robustness of Reward Models for Language Model Alignment, arXiv 2505.07271.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np

from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce.gathering import RESAMPLING, Arm, gather, over_worlds
from trueup.lab.reproduce.scale import Scale, run_worlds, single_threaded
from trueup.lab.shift_runs import ShiftRun, run_shifts
from trueup.measure.laws import fit_curves
from trueup.measure.scored import Estimate
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.report.curves import OptimizationCurve, gold_overlay
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell
from trueup.types import RewardObjective

PAPER = "Hong et al. 2025"
SHIFTS = ("prompt_disjoint", "response_disjoint", "mutual_disjoint")
Table = Mapping[float, Sequence[Mapping[str, Mapping[str, float]]]]
"""By coefficient (0 is Bradley-Terry alone), then by world, then by split: measures."""


def terms_of(coefficient: float) -> tuple[RewardObjective, ...]:
    """Bradley-Terry, with sum-to-zero where the coefficient is not 0."""
    return (BradleyTerry(), BatchSumToZero(coefficient=coefficient)) if coefficient else (BradleyTerry(),)


def arm_name(coefficient: float) -> str:
    """What tables call a coefficient."""
    return f"BSR {coefficient:g}" if coefficient else "BT"


def arms(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """Proxies on the same comparisons with every coefficient."""
    plans = {c: replace(scale.proxy_plan(seed), terms=terms_of(c)) for c in (0.0, *scale.coefficients)}
    return {arm_name(c): ProxyRun(plan=plan) for c, plan in plans.items()}


def shift_table(scale: Scale) -> Table:
    """Every coefficient on every world."""
    runs = {
        (c, seed): ShiftRun(
            policy=scale.plan(seed).policy, terms=terms_of(c), seed=seed, fit=scale.shift_fit, train=scale.shift_prompts
        )
        for seed in scale.seeds
        for c in (0.0, *scale.coefficients)
    }
    if scale.workers > 1:
        context = get_context("spawn")
        with ProcessPoolExecutor(scale.workers, mp_context=context, initializer=single_threaded) as pool:
            list(pool.map(partial(run_shifts, folder=scale.folder), runs.values()))
    return {
        c: [run_shifts(runs[c, seed], folder=scale.folder) for seed in scale.seeds] for c in (0.0, *scale.coefficients)
    }


def bsr(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_worlds(scale, arms, progress=progress)
    table = shift_table(scale)
    found = {c: gather(worlds, arm_name(c)) for c in (0.0, *scale.coefficients)}
    matched = _matched(found, scale.coefficients)
    claims = [
        *_dispersion_claims(table, scale.coefficients),
        *(_tau_claim(table, split, matched) for split in SHIFTS),
        _accuracy_claim(table, matched),
        *_best_of_n_claims(found, matched),
    ]
    gain = _paired(table, matched, "mutual_disjoint", "tau")
    return Evidence(
        name="bsr",
        title="Does batch-wise sum-to-zero make reward models robust, in the small language world?",
        lead=(
            "Reward models begin from the world's language model and learn from pairs of the training writers' "
            "answers; gold labels them without noise. They are tested on other answers of the same writers "
            "(in-domain), on families of prompts that training has not seen, on fresh writers, and on both. A second "
            "set of models learns from comparisons of the policy's own samples and is optimised against by best-of-n. "
            "[On real preference data](bsr-real-data.md) the same questions are asked with more seeds."
        ),
        finding=f"mutual-disjoint tau, sum-to-zero at {matched:g} minus Bradley-Terry: {with_interval(gain, digits=3)}",
        claims=claims,
        command=command,
        seeds=scale.seeds,
        settings={
            "training pairs (four shifts)": f"{scale.shift_prompts:,}, {scale.shift_fit.epochs:g} epochs, "
            f"{scale.shift_fit.batch_size} pairs a step, AdamW {scale.shift_fit.learning_rate:g}",
            "comparisons (best-of-n)": f"{scale.pairs[-1]:,} of the policy's samples",
            "coefficients": ", ".join(f"{c:g}" for c in scale.coefficients),
            "matched": f"{matched:g}: the coefficient whose held-out accuracy is nearest to Bradley-Terry's",
        },
        sections=_sections(table, found),
        figures={"bsr-best-of-n.svg": _figure(found)},
    )


def _matched(found: Mapping[float, Arm], coefficients: Sequence[float]) -> float:
    """The coefficient whose proxies are as right in-domain as those without."""
    gap = {c: abs(float(np.mean(found[c].accuracy - found[0.0].accuracy))) for c in coefficients}
    return min(coefficients, key=lambda c: gap[c])


def _paired(table: Table, coefficient: float, split: str, measure: str) -> Estimate:
    """Difference to Bradley-Terry, world by world."""
    pairs = zip(table[coefficient], table[0.0], strict=True)
    return over_worlds([one[split][measure] - base[split][measure] for one, base in pairs])


def _dispersion_claims(table: Table, coefficients: Sequence[float]) -> list[Claim]:
    strongest = max(coefficients)
    ran = f"coefficient {strongest:g} against Bradley-Terry, mutual-disjoint answers"
    reward = _paired(table, strongest, "mutual_disjoint", "reward_std")
    norm = _paired(table, strongest, "mutual_disjoint", "norm_std")
    before = _paired(table, strongest, "mutual_disjoint", "before_norm_std")
    return [
        Claim(
            "Rewards of unseen prompts and responses spread less.",
            f"{PAPER}, section 4",
            ran + ", standard deviation of rewards",
            with_interval(reward),
            judge(reward, claimed=-1),
        ),
        Claim(
            "Hidden norms disperse less on unseen data.",
            f"{PAPER}, figures 2 and 3",
            ran + ", standard deviation of the norm of the vector that enters the head (after the final "
            "normalisation), and of the same before it",
            f"after {with_interval(norm)}, before {with_interval(before)}",
            judge(norm, claimed=-1),
        ),
    ]


def _tau_claim(table: Table, split: str, coefficient: float) -> Claim:
    gain = _paired(table, coefficient, split, "tau")
    return Claim(
        f"Rank correlation with gold is higher on {split.replace('_', '-')} data.",
        f"{PAPER}, table 5",
        f"coefficient {coefficient:g} against Bradley-Terry, Kendall's tau over four answers a prompt",
        with_interval(gain, digits=3),
        judge(gain, claimed=1),
    )


def _accuracy_claim(table: Table, coefficient: float) -> Claim:
    gain = _paired(table, coefficient, "in_domain", "accuracy")
    tied = abs(gain.value) < 0.02
    return Claim(
        "In-domain accuracy ties with Bradley-Terry's.",
        f"{PAPER}, table 5",
        f"coefficient {coefficient:g}, other answers of the training writers; a tie is a difference below 2 points",
        with_interval(gain, digits=3),
        "reproduced" if tied else "contradicted",
    )


def _best_of_n_claims(found: Mapping[float, Arm], coefficient: float) -> list[Claim]:
    bt, other = found[0.0], found[coefficient]
    late = bt.n >= min(64, bt.n[-1])
    gain = over_worlds((other.by_world() - bt.by_world())[:, late].mean(axis=1).tolist())
    accuracy = over_worlds((other.accuracy - bt.accuracy).tolist())
    return [
        Claim(
            "A policy optimised against the regularised proxy reaches higher gold.",
            f"{PAPER}, figure 5 (there under RLOO)",
            f"best-of-n, coefficient {coefficient:g} against Bradley-Terry at matched held-out accuracy (difference "
            f"{with_interval(accuracy, digits=3)}), mean over n from {bt.n[late][0]} to {bt.n[-1]}",
            with_interval(gain),
            judge(gain, claimed=1),
        )
    ]


def _sections(table: Table, found: Mapping[float, Arm]) -> list[tuple[str, str]]:
    header = ("loss", "train accuracy", "in-domain accuracy", *(f"tau {split.replace('_', '-')}" for split in SHIFTS))
    rows: list[tuple[Cell, ...]] = [
        (
            arm_name(c),
            _mean(table[c], "train", "accuracy"),
            _mean(table[c], "in_domain", "accuracy"),
            *(_mean(table[c], split, "tau") for split in SHIFTS),
        )
        for c in table
    ]
    spread_header = ("loss", "reward mean", "reward std, train", "reward std, mutual-disjoint", "norm std, train",
                     "norm std, mutual-disjoint", "before the final norm, mutual-disjoint")  # fmt: skip
    spread: list[tuple[Cell, ...]] = [
        (
            arm_name(c),
            _mean(table[c], "train", "reward_mean"),
            _mean(table[c], "train", "reward_std"),
            _mean(table[c], "mutual_disjoint", "reward_std"),
            _mean(table[c], "train", "norm_std"),
            _mean(table[c], "mutual_disjoint", "norm_std"),
            _mean(table[c], "mutual_disjoint", "before_norm_std"),
        )
        for c in table
    ]
    sizes = [n for n in (1, 4, 16, 64, 256, 1024, 4096) if n in set(found[0.0].n.tolist())]
    picked: list[tuple[Cell, ...]] = []
    for c, arm in found.items():
        at = [arm.estimates()[int(np.searchsorted(arm.n, n))] for n in sizes]
        picked.append((arm_name(c), over_worlds(arm.accuracy.tolist()), *at))
    return [
        ("Four shifts", markdown_table(header, rows, digits=3)),
        ("Dispersion", markdown_table(spread_header, spread)),
        (
            "Best-of-n",
            markdown_table(("proxy", "held-out accuracy", *(f"n = {n}" for n in sizes)), picked)
            + "\n\n![gold against distance](bsr-best-of-n.svg)",
        ),
    ]


def _mean(worlds: Sequence[Mapping[str, Mapping[str, float]]], split: str, measure: str) -> Estimate:
    return over_worlds([world[split][measure] for world in worlds])


def _figure(found: Mapping[float, Arm]) -> str:
    curves = {}
    for c, arm in found.items():
        fit = fit_curves(arm.d, arm.gold, form="best_of_n", resampling=RESAMPLING, groups=arm.world)
        curves[arm_name(c)] = OptimizationCurve(
            n=tuple(int(n) for n in arm.n),
            d=tuple(float(d) for d in arm.d),
            proxy=arm.estimates("proxy"),
            gold=arm.estimates("gold"),
            law=(fit.law.alpha, fit.law.beta),
            verdict=fit.verdict,
        )
    return gold_overlay(curves)
