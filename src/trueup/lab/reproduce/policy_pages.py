"""What pages about optimised policies share: curves over distance, figures of them, and settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trueup.errors import RecipeError
from trueup.lab.optimizing import Optimization
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.policy_arms import KL_GRID, PolicyWorld, at_kl, gold_gain, prompts_at, reach
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.report.frontier import Frontier, frontiers

Array = np.ndarray

UNIT = "standard deviations above the start"
_NEAR, _POINTS = 0.3, 12


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """Gold along one arm of all worlds, at common distances.

    Args:
        d: Distances, sqrt(nats); 0, the start, is the first.
        gold: Gold of each watched prompt of every world, above its world's start, in standard deviations.
        world: World of each prompt.
    """

    d: Float[Array, " points"]
    gold: Float[Array, "units points"]
    world: Int[Array, " units"]

    def by_world(self) -> Float[Array, "worlds points"]:
        """Mean gold of each world."""
        return np.stack([self.gold[self.world == number].mean(axis=0) for number in np.unique(self.world)])


def shared_distances(worlds: Sequence[PolicyWorld], arms: Sequence[str]) -> Float[Array, " points"]:
    """0, and distances at equal steps up to the largest that these arms reach in every world, sqrt(nats).

    Below 0.3 the noise of a measured KL dominates, so that the first step leads there.

    Raises:
        RecipeError: A policy did not move.
    """
    end = _shared_end(worlds, arms)
    if not end > 0:
        raise RecipeError("a policy did not move away from its start; give it more optimiser steps")
    return np.concatenate([[0.0], np.linspace(min(_NEAR, end / 4), end, _POINTS)])


def _shared_end(worlds: Sequence[PolicyWorld], arms: Sequence[str]) -> float:
    return float(np.sqrt(min(reach(world.looks[arm]) for world in worlds for arm in arms)))


def run_curves(worlds: Sequence[PolicyWorld], arm: str, d: Float[Array, " points"]) -> RunCurves:
    """One arm read off at distances that it reaches in every world."""
    # squaring a root may end beyond it
    kls = [np.minimum(d**2, reach(world.looks[arm])) for world in worlds]
    gold = [
        (prompts_at(world.looks[arm], kl.tolist()) - float(world.looks[arm].gold[0].mean())) / world.scale
        for world, kl in zip(worlds, kls, strict=True)
    ]
    number = [np.full(len(one), place) for place, one in enumerate(gold)]
    return RunCurves(d=d, gold=np.concatenate(gold), world=np.concatenate(number))


def proxy_spread(world: PolicyWorld, arm: str) -> float:
    """Standard deviation, within a prompt, of the proxy over the start's watched responses, in its own unit."""
    return float(np.sqrt(world.looks[arm].proxy[0].var(axis=1, ddof=1).mean()))


def proxy_gain(world: PolicyWorld, arm: str, kl: float) -> float:
    """What is optimised, at a KL, above the start's, in its standard deviations within a prompt."""
    looks = world.looks[arm]
    return (at_kl(looks, kl, what="proxy") - float(looks.proxy[0].mean())) / proxy_spread(world, arm)


def against_distance(
    worlds: Sequence[PolicyWorld],
    arms: Sequence[str],
    *,
    read: Callable[[PolicyWorld, str, float], float] = gold_gain,
    laws: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Frontier]:
    """Each arm against distance, mean over worlds with intervals, as far as the arm goes in every world."""
    found = {}
    for arm in arms:
        d = shared_distances(worlds, [arm]) if _shared_end(worlds, [arm]) > 0 else np.zeros(1)
        least = min(reach(world.looks[arm]) for world in worlds)
        values = [over_worlds([read(world, arm, min(one**2, least)) for world in worlds]) for one in d.tolist()]
        found[arm] = Frontier(d=d.tolist(), values=values, law=(laws or {}).get(arm))
    return found


def gold_and_proxy_figure(
    worlds: Sequence[PolicyWorld], arms: Sequence[str], *, laws: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """Gold and what is optimised against distance, one line for each arm."""
    panels = {
        "gold": against_distance(worlds, arms, laws=laws),
        "proxy": against_distance(worlds, arms, read=proxy_gain),
    }
    return frontiers(panels, unit=UNIT)


def estimates_at(
    worlds: Sequence[PolicyWorld],
    arm: str,
    kls: Sequence[float],
    *,
    read: Callable[[PolicyWorld, str, float], float] = gold_gain,
) -> list[Estimate]:
    """One arm at several KLs that it reaches in every world."""
    return [over_worlds([read(world, arm, kl) for world in worlds]) for kl in kls]


def named_kls(kls: Sequence[float]) -> str:
    """Where arms are compared, in words."""
    if not kls:
        return f"some run does not reach KL {KL_GRID[0]:g}, so nothing is compared"
    return f"mean over KL {', '.join(f'{kl:g}' for kl in kls)}"


def optimization_settings(scale: Scale, how: Optimization) -> dict[str, str]:
    """How policies were optimised and looked at, for the table of settings."""
    return {
        "optimisation": f"at most {how.steps} steps of AdamW {how.learning_rate:g}, {how.rhythm.prompts} prompts with "
        f"{how.rhythm.samples} samples each a step, responses of at most {how.max_new_tokens} tokens; a run ends "
        f"beyond {how.kl_limit:g} nats",
        "looks": f"every {how.every} steps, {how.samples} responses to each of {scale.setup.prompts} prompts that "
        "neither the proxies nor the optimisation learn from, judged by gold and by the proxy",
        "distance": "KL of whole responses to the start, nats, mean log-ratio of the policy's own samples; between "
        "looks by straight lines in its root, where the run first gets there",
        "comparisons": f"{scale.pairs[-1]:,} for each proxy, two samples of the start each; gold's choice, ties left "
        "out",
        "gold": "the world's program, deterministic labels; in standard deviations of the start's samples to a prompt",
    }
