"""Reward against drift over worlds: what an arm reaches within a KL, at a step, and the picture of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.policy_arms import KL_GRID, PolicyWorld, at_kl, over_known
from trueup.measure.scored import Estimate
from trueup.report.frontier import Frontier, frontiers, over_steps
from trueup.report.tables import markdown_table
from trueup.report.text import Cell

Array = np.ndarray


def drift(looks: Looks) -> Float[Array, " looks"]:
    """Mean sequence KL to the start at each look, nats, as it was measured: it falls where a policy goes back."""
    return np.asarray(looks.kl.mean(axis=(1, 2)))


def unit_of(world: PolicyWorld, arm: str, what: str) -> float:
    """Standard deviation of gold or of the proxy within a prompt, over the initial policy's responses."""
    return world.scale if what == "gold" else float(world.looks[arm].proxy[0].std(axis=1).mean()) or 1.0


def gains(world: PolicyWorld, arm: str, what: str) -> Float[Array, " looks"]:
    """Mean gold or proxy at each look, above the start's, in standard deviations of the start's."""
    values = getattr(world.looks[arm], what).astype(float).mean(axis=(1, 2))
    return np.asarray((values - values[0]) / unit_of(world, arm, what))


def gain_at(world: PolicyWorld, arm: str, kl: float, *, what: str) -> float:
    """The same where the arm first reaches a KL; NaN where it never does."""
    looks = world.looks[arm]
    start = float(getattr(looks, what)[0].mean())
    return (at_kl(looks, kl, what=what) - start) / unit_of(world, arm, what)


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


def front_difference(
    worlds: Sequence[PolicyWorld], one: str, other: str, *, kls: Sequence[float], what: str
) -> Estimate:
    """Best of one arm within each KL minus the other's, mean over the KLs, over worlds."""
    found = [
        [best_within(world, one, kl, what=what) - best_within(world, other, kl, what=what) for kl in kls]
        for world in worlds
    ]
    return over_known([float(np.mean(values)) for values in found])


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


def gold_table(worlds: Sequence[PolicyWorld], arms: Sequence[str], *, what: str = "gold") -> str:
    """What each arm has where it first reaches each KL, over the worlds in which it does."""
    rows: list[tuple[Cell, ...]] = [
        (arm, *(over_known([gain_at(world, arm, kl, what=what) for world in worlds]) for kl in KL_GRID)) for arm in arms
    ]
    return markdown_table(("arm", *(f"KL {kl:g}" for kl in KL_GRID)), rows)


def kl_figure(worlds: Sequence[PolicyWorld], arms: Sequence[str]) -> str:
    """Gold and proxy of each arm against sqrt(KL), at the KLs that it reaches in at least half of the worlds."""
    panels = {what: {arm: _line(worlds, arm, what=what) for arm in arms} for what in ("gold", "proxy")}
    return frontiers(panels, unit="std above the start")


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


def _line(worlds: Sequence[PolicyWorld], arm: str, *, what: str) -> Frontier:
    d, values = [0.0], [Estimate(0.0, 0.0, 0.0, len(worlds))]
    for kl in KL_GRID:
        found = over_known([gain_at(world, arm, kl, what=what) for world in worlds])
        if 2 * found.n >= len(worlds) and found.n:
            d.append(kl**0.5)
            values.append(found)
    return Frontier(d=d, values=values)
