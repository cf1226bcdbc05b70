"""What the page on H-DPO runs, and what it reads off the runs.

**Source** Omura, Fujita, Kataoka (2024), Entropy controllable direct preference optimization, arXiv 2411.07595.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from trueup.lab.arithmetic.worlds import Watched, WorldPlan, set_up_world
from trueup.lab.offline_runs import OfflineTraining
from trueup.lab.reproduce.scale import Scale, single_threaded
from trueup.measure.bootstrap import Resampling
from trueup.measure.pass_at_k import best_temperature
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.h_dpo import HDPO

ALPHAS = (0.8, 0.9, 1.0, 1.1, 1.2)
SHARPER = tuple(alpha for alpha in ALPHAS if alpha < 1)
OTHERS = tuple(alpha for alpha in ALPHAS if alpha != 1)
TEMPERATURES = (0.6, 0.8, 1.0, 1.2)
BETA, WEAK_BETA = 1.0, 0.1
RATE = 1e-4
_FULL_STEPS = 100

Found = TypeVar("Found")


def arm(alpha: float) -> str:
    """Arm of H-DPO; at 1 it is DPO."""
    return f"alpha {alpha:g}"


def scaled(alpha: float) -> str:
    """Arm of DPO with alpha beta."""
    return f"DPO, {alpha:g} beta"


def weak(alpha: float) -> str:
    """Arm of H-DPO with a beta of the size that papers train large models with."""
    return f"alpha {alpha:g}, beta {WEAK_BETA:g}"


PLAIN = arm(1.0)


def world_plan(scale: Scale, seed: int) -> WorldPlan:
    """A world of arithmetic whose sizes follow the scale's."""
    full, share = WorldPlan(), min(scale.policy_steps / _FULL_STEPS, 1.0)
    learned = min(full.policy.problems, 2 * scale.setup.policy.prompts)
    return replace(
        full,
        policy=replace(full.policy, problems=learned, seed=seed),
        problems=max(round(full.problems * share), 8),
        watched=2 * scale.setup.prompts,
        samples=max(scale.setup.samples // 4, 4),
    )


def arms(scale: Scale, seed: int) -> dict[str, OfflineTraining]:
    """H-DPO over alpha with two betas, and DPO whose beta is multiplied by alpha instead."""
    how = OfflineTraining(terms=(DPO(beta=BETA),), steps=2 * scale.policy_steps, learning_rate=RATE, seed=seed)
    found = {arm(alpha): replace(how, terms=(HDPO(beta=BETA, alpha=alpha),)) for alpha in ALPHAS}
    found |= {scaled(alpha): replace(how, terms=(DPO(beta=alpha * BETA),)) for alpha in OTHERS}
    return found | {weak(alpha): replace(how, terms=(HDPO(beta=WEAK_BETA, alpha=alpha),)) for alpha in ALPHAS}


@dataclass(frozen=True, kw_only=True)
class HDpoWorld:
    """What one world gave.

    Args:
        seed: Its seed.
        start: The policy that all arms start from, at temperature 1.
        pairs: Comparisons that they learned from.
        looks: Each arm by temperature.
    """

    seed: int
    start: Watched
    pairs: int
    looks: Mapping[str, Mapping[float, Watched]]

    def entropy(self, name: str, *, temperature: float = 1.0) -> float:
        """Entropy of an arm's workings, nats."""
        return self.looks[name][temperature].entropy

    def solved(self, name: str, k: int, *, temperature: float = 1.0, hard: bool = False) -> float:
        """pass@k of an arm, over all problems or over the hard ones."""
        return self.looks[name][temperature].pass_at(k, hard=hard)

    def at_best(self, name: str, k: int, *, hard: bool = False) -> float:
        """The same, each half of the problems at the temperature that is best for the other half."""
        return self._best[name, hard][k]

    @cached_property
    def _best(self) -> dict[tuple[str, bool], dict[int, float]]:
        every = [name for name, looks in self.looks.items() if looks.keys() >= set(TEMPERATURES)]
        return {(name, hard): self._best_of(name, hard=hard) for name in every for hard in (False, True)}

    def _best_of(self, name: str, *, hard: bool) -> dict[int, float]:
        looks = [self.looks[name][temperature] for temperature in TEMPERATURES]
        ks = sizes_of_k([self])
        found = best_temperature(
            np.stack([one.correct[one.hard] if hard else one.correct for one in looks]),
            looks[0].samples,
            temperatures=TEMPERATURES,
            ks=ks,
            resampling=Resampling(resamples=1, seed=self.seed),
        )
        return {k: rate.value for k, rate in zip(ks, found.rate, strict=True)}


def sizes_of_k(worlds: Sequence[HDpoWorld]) -> tuple[int, ...]:
    """Numbers of samples that all worlds have, up to 64."""
    return tuple(k for k in (1, 4, 16, 64) if k <= min(world.start.samples for world in worlds))


def temperatures_of(name: str) -> tuple[float, ...]:
    """Temperatures at which an arm is looked at; DPO also at those that stand in for alpha."""
    if name == PLAIN:
        return tuple(sorted({*TEMPERATURES, *ALPHAS}))
    return TEMPERATURES if name in map(arm, ALPHAS) else (1.0,)


def run_world(scale: Scale, seed: int) -> HDpoWorld:
    """Every arm of one world; what an earlier run has done is read."""
    world = set_up_world(world_plan(scale, seed), folder=scale.folder)
    rows = world.preferences()
    trained = {name: world.train(how, rows) for name, how in arms(scale, seed).items()}
    looks = {
        name: {temperature: world.watch(policy, temperature=temperature) for temperature in temperatures_of(name)}
        for name, policy in trained.items()
    }
    return HDpoWorld(seed=seed, start=world.watch(world.start), pairs=len(rows), looks=looks)


def over_seeds(job: Callable[[Scale, int], Found], scale: Scale, *, progress: bool = False) -> list[Found]:
    """The same for each seed of a scale, in its processes."""
    run, bar = partial(job, scale), partial(tqdm, total=len(scale.seeds), desc="worlds", disable=not progress)
    if scale.workers == 1:
        return [run(seed) for seed in bar(scale.seeds)]
    context = get_context("spawn")
    with ProcessPoolExecutor(scale.workers, mp_context=context, initializer=single_threaded) as pool:
        return list(bar(pool.map(run, scale.seeds)))
