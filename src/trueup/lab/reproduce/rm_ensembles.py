"""Ensembles of reward models under best-of-n, in the small language world.

**Source** Coste, Anwar, Kirk, Krueger (2024), Reward Model Ensembles Help Mitigate Overoptimization, arXiv 2310.02743.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce.gathering import RESAMPLING, Arm, gather_scores, over_worlds
from trueup.lab.reproduce.scale import Scale, World, run_worlds
from trueup.measure.best_of_n import best_of_n
from trueup.measure.laws import LawFit, fit_curves
from trueup.report.curves import OptimizationCurve, gold_overlay
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell
from trueup.rewards.aggregates import Aggregate, Mean, UncertaintyWeighted, WorstCase

Array = np.ndarray
PAPER = "Coste et al. 2024"
AGGREGATES: Mapping[str, Aggregate] = {
    "mean": Mean(),
    "worst case": WorstCase(),
    "uncertainty-weighted": UncertaintyWeighted(coefficient=0.5),
}
SINGLE = "single"
_FROM_N = 64


def arms(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """Members on the same comparisons; seeds change the head and the order alone. With and without noise."""
    found = {}
    for flip in (0.0, scale.flip):
        for member in range(scale.members):
            # The first member is the proxy that the scaling laws use.
            data_seed = seed if member else None
            plan = replace(scale.proxy_plan(seed), seed=seed + 1000 * member, data_seed=data_seed, flip=flip)
            found[member_name(member, flip)] = ProxyRun(plan=plan)
    return found


def member_name(member: int, flip: float) -> str:
    """Arm of one member."""
    return f"member {member}, flip {flip:g}"


@dataclass(frozen=True, kw_only=True)
class Side:
    """All aggregates with or without noise.

    Args:
        arms: Gold and proxy by aggregate; `single` is the mean over the members of what each gives alone.
        wins: Share of prompts, by aggregate, world and n, on which it chooses better than a single model.
        spread: Standard deviation between members of what the mean chooses, relative to n = 1, by world and n.
    """

    arms: Mapping[str, Arm]
    wins: Mapping[str, Float[Array, "worlds ns"]]
    spread: Float[Array, "worlds ns"]


def rm_ensembles(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_worlds(scale, arms, progress=progress)
    sides = {flip: _side(worlds, scale, flip) for flip in (0.0, scale.flip)}
    claims = [claim for flip, side in sides.items() for claim in _claims(side, flip)]
    noisy = sides[scale.flip].arms
    gain = over_worlds((noisy["worst case"].by_world()[:, -1] - noisy[SINGLE].by_world()[:, -1]).tolist())
    return Evidence(
        name="rm-ensembles",
        title="Do conservative ensembles of reward models prevent over-optimisation under best-of-n?",
        lead=(
            f"{scale.members} proxies learn from the same comparisons; seeds change the head and the order of the "
            "data. Best-of-n picks by one member, by the mean, by the minimum (worst case), or by the mean minus half "
            "the variance (uncertainty-weighted; population variance). Members are used on their own scales, as in the "
            "paper. Gold is in standard deviations of the policy's samples to one prompt, above the policy's mean."
        ),
        finding=f"with {scale.flip:.0%} noise and n = {noisy[SINGLE].n[-1]}, worst case minus single: "
        f"{with_interval(gain)}",
        claims=claims,
        command=command,
        seeds=scale.seeds,
        settings={
            "members": str(scale.members),
            "comparisons": f"{scale.pairs[-1]:,}",
            "noise": f"{scale.flip:.0%} of labels turned round, the same for all members",
            "pool": f"{scale.setup.prompts} prompts with {scale.setup.samples} samples each",
            "uncertainty weight": "0.5",
        },
        sections=[_section(flip, side) for flip, side in sides.items()],
        figures={_figure_name(flip): _figure(side) for flip, side in sides.items()},
    )


def _side(worlds: Sequence[World], scale: Scale, flip: float) -> Side:
    stacks = [
        np.stack([world.proxies[member_name(member, flip)].score for member in range(scale.members)])
        for world in worlds
    ]
    singles = [gather_scores(worlds, [stack[member] for stack in stacks]) for member in range(scale.members)]
    found = {SINGLE: _mean_arm(singles)}
    for name, aggregate in AGGREGATES.items():
        chosen = [aggregate(stack.reshape(len(stack), -1)).reshape(stack.shape[1:]) for stack in stacks]
        found[name] = gather_scores(worlds, chosen)
    wins = {name: _wins(found[name], singles) for name in AGGREGATES}
    return Side(arms=found, wins=wins, spread=np.stack([_spread(stack, found["mean"].n) for stack in stacks]))


def _mean_arm(singles: Sequence[Arm]) -> Arm:
    first = singles[0]
    return Arm(
        n=first.n,
        gold=np.mean([one.gold for one in singles], axis=0),
        proxy=np.mean([one.proxy for one in singles], axis=0),
        world=first.world,
        accuracy=first.accuracy,
    )


def _wins(arm: Arm, singles: Sequence[Arm]) -> Float[Array, "worlds ns"]:
    """Share of prompts whose expected gold is higher than a member's; ties count one half."""
    better = np.mean(
        [(arm.gold > one.gold + 1e-9) + 0.5 * (np.abs(arm.gold - one.gold) <= 1e-9) for one in singles], axis=0
    )
    return np.stack([better[arm.world == number].mean(axis=0) for number in arm.worlds])


def _spread(stack: Float[Array, "members prompts samples"], n: Array) -> Float[Array, " ns"]:
    chosen = best_of_n(stack.mean(axis=0), stack.var(axis=0), n).mean(axis=0)
    relative: Float[Array, " ns"] = np.sqrt(chosen / chosen[0])
    return relative


def _claims(side: Side, flip: float) -> list[Claim]:
    noise = f"{flip:.0%} noise" if flip else "no noise"
    single = side.arms[SINGLE]
    late = single.n >= min(_FROM_N, single.n[-1])
    ran = f"{noise}, mean over n from {single.n[late][0]} to {single.n[-1]}, {len(single.worlds)} worlds"
    source = f"{PAPER}, figure {'3' if flip else '2'} and table 1"
    claims = []
    for name in AGGREGATES:
        gain = over_worlds((side.arms[name].by_world() - single.by_world())[:, late].mean(axis=1).tolist())
        rate = over_worlds(side.wins[name][:, -1].tolist())
        claims.append(
            Claim(
                f"The {name} of an ensemble gives higher gold than a single model ({noise}).",
                source,
                ran,
                f"gold {with_interval(gain)}; it wins on {with_interval(rate, 'percent', digits=0)} of prompts at the "
                "largest n",
                judge(gain, claimed=1),
            )
        )
    careful = side.arms["worst case"].by_world() - side.arms["mean"].by_world()
    claims.append(
        Claim(
            f"Worst case is at or above the mean at large n ({noise}).",
            source,
            f"{noise}, n = {single.n[-1]}, worst case minus mean",
            with_interval(over_worlds(careful[:, -1].tolist())),
            judge(over_worlds(careful[:, -1].tolist()), claimed=1),
        )
    )
    growth = over_worlds((side.spread[:, -1] - 1).tolist())
    claims.append(
        Claim(
            f"Members disagree more about what the mean chooses, the harder it is optimised ({noise}).",
            f"{PAPER}, section 5 (there under PPO)",
            f"{noise}, standard deviation between members at n = {single.n[-1]} relative to n = 1, minus 1",
            with_interval(growth),
            judge(growth, claimed=1),
        )
    )
    return claims


def _section(flip: float, side: Side) -> tuple[str, str]:
    sizes = [n for n in (1, 4, 16, 64, 256, 1024, 4096) if n in set(side.arms[SINGLE].n.tolist())]
    rows: list[tuple[Cell, ...]] = []
    for name, arm in side.arms.items():
        fit = _fit(arm)
        at = [arm.estimates()[int(np.searchsorted(arm.n, n))] for n in sizes]
        rows.append((name, *at, fit.observed.fall, fit.verdict))
    header = ("picked by", *(f"n = {n}" for n in sizes), "fall after the peak", "curve")
    heading = f"With {flip:.0%} of the labels turned round" if flip else "With clean labels"
    return heading, f"{markdown_table(header, rows)}\n\n![gold against distance]({_figure_name(flip)})"


def _fit(arm: Arm) -> LawFit:
    return fit_curves(arm.d, arm.gold, form="best_of_n", resampling=RESAMPLING, groups=arm.world)


def _figure_name(flip: float) -> str:
    return "rm-ensembles-noisy.svg" if flip else "rm-ensembles-clean.svg"


def _figure(side: Side) -> str:
    curves = {}
    for name, arm in side.arms.items():
        fit = _fit(arm)
        curves[name] = OptimizationCurve(
            n=tuple(int(n) for n in arm.n),
            d=tuple(float(d) for d in arm.d),
            proxy=arm.estimates("proxy"),
            gold=arm.estimates("gold"),
            law=(fit.law.alpha, fit.law.beta),
            verdict=fit.verdict,
        )
    return gold_overlay(curves)
