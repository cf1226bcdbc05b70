"""What the page on H-DPO claims, from what was run.

**Source** Omura, Fujita, Kataoka (2024), Entropy controllable direct preference optimization, arXiv 2411.07595.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.h_dpo_runs import (
    ALPHAS,
    PLAIN,
    SHARPER,
    WEAK_BETA,
    HDpoWorld,
    arm,
    scaled,
    sizes_of_k,
    weak,
)
from trueup.lab.reproduce.superhf_runs import order
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, judge
from trueup.report.tables import with_interval

PAPER = "Omura et al. 2024"
ASKED = "asked here"
Read = Callable[[HDpoWorld], float]


def h_dpo_claims(worlds: Sequence[HDpoWorld]) -> list[Claim]:
    """All claims."""
    return [*_entropy_claims(worlds), *_solved_claims(worlds), *_control_claims(worlds)]


def over(worlds: Sequence[HDpoWorld], read: Read) -> Estimate:
    """Mean of what is read off each world, with an interval over worlds."""
    return over_worlds([read(world) for world in worlds])


def _claim(
    statement: str, source: str, ran: str, effect: Estimate, *, claimed: Literal[1, -1], percent: bool = True
) -> Claim:
    words = with_interval(effect, "percent", digits=1) if percent else with_interval(effect)
    return Claim(statement, source, ran, words, judge(effect, claimed=claimed))


def entropy_ends(world: HDpoWorld) -> float:
    """Entropy at the smallest alpha minus that at the largest, nats."""
    return world.entropy(arm(ALPHAS[0])) - world.entropy(arm(ALPHAS[-1]))


def solved_ends(world: HDpoWorld) -> float:
    """pass@1 at the smallest alpha minus that at the largest."""
    return world.solved(arm(ALPHAS[0]), 1) - world.solved(arm(ALPHAS[-1]), 1)


def beyond_temperature(world: HDpoWorld) -> float:
    """pass@1 of H-DPO at temperature 1 minus that of DPO at temperature alpha, mean over alphas below 1."""
    return _mean([_beyond(world, a, 1) for a in SHARPER])


def _beyond(world: HDpoWorld, alpha: float, k: int, *, hard: bool = False) -> float:
    """pass@k of H-DPO at temperature 1 minus that of DPO at temperature alpha."""
    return world.solved(arm(alpha), k, hard=hard) - world.solved(PLAIN, k, temperature=alpha, hard=hard)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _entropy_claims(worlds: Sequence[HDpoWorld]) -> list[Claim]:
    return [
        _rising(
            worlds,
            f"The policy's entropy rises with alpha{words}.",
            lambda world, name: world.entropy(name),
            name=name,
            source=source,
        )
        for words, name, source in (
            ("", arm, f"{PAPER}, the objective"),
            (f", with beta {WEAK_BETA:g} as well", weak, f"{PAPER}, the objective; beta as in large models"),
        )
    ]


def _rising(
    worlds: Sequence[HDpoWorld],
    statement: str,
    read: Callable[[HDpoWorld, str], float],
    *,
    source: str,
    name: Callable[[float], str] = arm,
    claimed: Literal[1, -1] = 1,
    percent: bool = False,
) -> Claim:
    """A claim that something rises, or falls, with alpha."""
    tau = over_worlds([order([read(world, name(alpha)) for alpha in ALPHAS]) for world in worlds])
    ends = over_worlds([read(world, name(ALPHAS[-1])) - read(world, name(ALPHAS[0])) for world in worlds])
    change = with_interval(ends, "percent", digits=1) if percent else f"{with_interval(ends)} nats"
    ran = f"temperature 1, Kendall's tau over alpha of {', '.join(f'{a:g}' for a in ALPHAS)}"
    return _claim(statement, source, f"{ran}; the last minus the first {change}", tau, claimed=claimed, percent=False)


def _solved_claims(worlds: Sequence[HDpoWorld]) -> list[Claim]:
    claims = [
        _rising(worlds, "pass@1 rises as alpha falls.", lambda world, name: world.solved(name, 1),
                source=f"{PAPER}, abstract", claimed=-1, percent=True)
    ]  # fmt: skip
    for k in sizes_of_k(worlds):
        hard = k > 1
        which = "hard problems" if hard else "all problems"
        for alpha in SHARPER:
            found = [world.at_best(arm(alpha), k, hard=hard) - world.at_best(PLAIN, k, hard=hard) for world in worlds]
            claims.append(
                _claim(
                    f"alpha {alpha:g} has a higher pass@{k} than DPO.",
                    f"{PAPER}, abstract",
                    f"{which}, each at its best temperature, chosen on the other half of them",
                    over_worlds(found),
                    claimed=1,
                )
            )
    most, wide = sizes_of_k(worlds)[-1], arm(ALPHAS[-1])
    wider = [world.solved(wide, most, hard=True) - world.solved(PLAIN, most, hard=True) for world in worlds]
    claims.append(
        _claim(
            f"alpha {ALPHAS[-1]:g}, more diverse, has a higher pass@{most} than DPO at the same temperature.",
            f"{PAPER}, alpha above 1",
            "hard problems, temperature 1",
            over_worlds(wider),
            claimed=1,
        )
    )
    return claims


def _control_claims(worlds: Sequence[HDpoWorld]) -> list[Claim]:
    most = sizes_of_k(worlds)[-1]
    wide = [a for a in ALPHAS if a > 1]
    return [
        _claim(
            "Below 1, H-DPO solves more than DPO that is decoded at temperature alpha.",
            ASKED,
            f"pass@1 of H-DPO at temperature 1 minus DPO's at temperature alpha, mean over alpha of "
            f"{', '.join(f'{a:g}' for a in SHARPER)}",
            over(worlds, beyond_temperature),
            claimed=1,
        ),
        _claim(
            "Above 1, H-DPO solves more in many samples than DPO that is decoded at temperature alpha.",
            ASKED,
            f"pass@{most} of hard problems, likewise, mean over alpha of {', '.join(f'{a:g}' for a in wide)}",
            over(worlds, lambda world: _mean([_beyond(world, a, most, hard=True) for a in wide])),
            claimed=1,
        ),
        _claim(
            "alpha is not a smaller beta: below 1, H-DPO gives a sharper policy than DPO with alpha beta.",
            f"{PAPER}, the objective",
            "entropy of H-DPO minus that of DPO with alpha beta, nats, mean over alphas below 1",
            over(worlds, lambda world: _mean([world.entropy(arm(a)) - world.entropy(scaled(a)) for a in SHARPER])),
            claimed=-1,
            percent=False,
        ),
        _claim(
            "Below 1, H-DPO solves more than DPO with alpha beta.",
            ASKED,
            "pass@1 at temperature 1, likewise",
            over(worlds, lambda world: _mean([world.solved(arm(a), 1) - world.solved(scaled(a), 1) for a in SHARPER])),
            claimed=1,
        ),
    ]
