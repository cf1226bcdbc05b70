"""Reward against drift over worlds: what an arm reaches within a KL, at a step, and the picture of it."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.policy_arms import KL_GRID, PolicyWorld, final_of, gold_gain, over_known
from trueup.lab.reproduce.policy_pages import proxy_spread
from trueup.measure.scored import Estimate
from trueup.report.evidence import Claim, judge
from trueup.report.frontier import over_steps
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

Array = np.ndarray


def drift(looks: Looks) -> Float[Array, " looks"]:
    """Mean sequence KL to the start at each look, nats, as it was measured: it falls where a policy goes back."""
    return np.asarray(looks.kl.mean(axis=(1, 2)))


def unit_of(world: PolicyWorld, arm: str, what: str) -> float:
    """Standard deviation of gold or of the proxy within a prompt, over the initial policy's responses."""
    return world.scale if what == "gold" else proxy_spread(world, arm)


def gains(world: PolicyWorld, arm: str, what: str) -> Float[Array, " looks"]:
    """Mean gold or proxy at each look, above the start's, in standard deviations of the start's."""
    values = getattr(world.looks[arm], what).astype(float).mean(axis=(1, 2))
    return np.asarray((values - values[0]) / unit_of(world, arm, what))


def best_within(world: PolicyWorld, arm: str, kl: float, *, what: str) -> float:
    """The best of an arm at all looks with a KL of at most so many nats: its front.

    The best of noisy looks is too high, the more so the more looks there are, and an arm that goes back has more of
    them at a small KL. So half of the prompts choose the look, the other half are what is measured, and in turn.
    """
    looks = world.looks[arm]
    values = getattr(looks, what).astype(float).mean(axis=2)
    allowed: Bool[Array, " looks"] = drift(looks) <= kl
    allowed[0] = True
    halves = [values[:, half::2].mean(axis=1) for half in (0, 1)] if values.shape[1] > 1 else [values[:, 0]] * 2
    found = []
    for chooses, measured in (halves, halves[::-1]):
        best = int(np.where(allowed, chooses, -np.inf).argmax())
        found.append(measured[best] - measured[0])
    return float(np.mean(found)) / unit_of(world, arm, what)


def highest(world: PolicyWorld, arm: str) -> float:
    """Gold's gain at an arm's best look, which half of the prompts choose for the other half."""
    return best_within(world, arm, np.inf, what="gold")


def fall_of(world: PolicyWorld, arm: str) -> float:
    """Gold lost from that look to the last."""
    return highest(world, arm) - final_of(world, arm)


def paired(
    worlds: Sequence[PolicyWorld], one: str, other: str, *, read: Callable[[PolicyWorld, str], float]
) -> Estimate:
    """One arm minus another, over the worlds in which both are defined."""
    return over_known([read(world, one) - read(world, other) for world in worlds])


def directed_claim(statement: str, effect: Estimate, *, source: str, ran: str, claimed: Literal[1, -1] = 1) -> Claim:
    """A claim that an effect has a direction, judged by its interval over worlds."""
    shown = f"{with_interval(effect)}, {effect.n} worlds"
    return Claim(statement, source, ran, shown, judge(effect, claimed=claimed))


def common_step(world: PolicyWorld, arms: Sequence[str], *, without: int | None = None) -> int:
    """The last step after the start at which all arms were looked at; 0 where there is none.

    Args:
        world: One world.
        arms: Some of them ended early.
        without: Steps that are multiples of this are passed over: there arms have just gone back.
    """
    steps = set.intersection(*(set(world.looks[arm].step.tolist()) for arm in arms))
    kept = [step for step in steps if without is None or step % without]
    return max(kept, default=0)


def at_step(world: PolicyWorld, arm: str, step: int, *, what: str) -> float:
    """Gain in gold or proxy, or the KL in nats, at the look after a step; NaN at step 0 or where there is no look."""
    place = np.flatnonzero(world.looks[arm].step == step)
    if step == 0 or not len(place):
        return float("nan")
    values = drift(world.looks[arm]) if what == "kl" else gains(world, arm, what)
    return float(values[place[0]])


def front_table(worlds: Sequence[PolicyWorld], arms: Sequence[str], *, what: str) -> str:
    """Best of each arm within each KL, over worlds."""
    rows: list[tuple[Cell, ...]] = [
        (arm, *(over_known([best_within(world, arm, kl, what=what) for world in worlds]) for kl in KL_GRID))
        for arm in arms
    ]
    return markdown_table(("arm", *(f"KL ≤ {kl:g}" for kl in KL_GRID)), rows)


def kl_table(
    worlds: Sequence[PolicyWorld], arms: Sequence[str], *, read: Callable[[PolicyWorld, str, float], float] = gold_gain
) -> str:
    """What each arm has where it first reaches each KL, over the worlds in which it does."""
    rows: list[tuple[Cell, ...]] = [
        (arm, *(over_known([read(world, arm, kl) for world in worlds]) for kl in KL_GRID)) for arm in arms
    ]
    return markdown_table(("arm", *(f"KL {kl:g}" for kl in KL_GRID)), rows)


def step_figure(worlds: Sequence[PolicyWorld], arms: Sequence[str]) -> str:
    """KL, gold and proxy of each arm along its steps, as far as at least half of the worlds go."""
    quantities = {"KL to the start, nats": "kl", "gold, std above the start": "gold",
                  "proxy, std above the start": "proxy"}  # fmt: skip
    return over_steps(
        {name: {arm: _steps(worlds, arm, what=what) for arm in arms} for name, what in quantities.items()}
    )


def _steps(worlds: Sequence[PolicyWorld], arm: str, *, what: str) -> tuple[list[float], list[Estimate]]:
    steps, values = [0.0], [Estimate(0.0, 0.0, 0.0, len(worlds))]
    for step in sorted(set().union(*(world.looks[arm].step.tolist() for world in worlds)) - {0}):
        found = over_known([at_step(world, arm, step, what=what) for world in worlds])
        if 2 * found.n >= len(worlds):
            steps.append(float(step))
            values.append(found)
    return steps, values
