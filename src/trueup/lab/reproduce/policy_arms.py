"""Optimised policies of many worlds, compared at equal KL to the policy that they started from."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from trueup.lab.gold_proxy import Setup, set_up
from trueup.lab.optimizing import Looks
from trueup.lab.policy_runs import PolicyRun, run_policy
from trueup.lab.reproduce.gathering import over_worlds
from trueup.lab.reproduce.scale import Scale, single_threaded
from trueup.measure.scored import Estimate
from trueup.report.evidence import Verdict

Array = np.ndarray

KL_GRID = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Distances, in nats, at which arms are compared."""

PolicyArms = Callable[[Scale, int], Mapping[str, PolicyRun]]
"""The runs of one world, by the name of their arm."""


@dataclass(frozen=True, kw_only=True)
class PolicyWorld:
    """What one world gave.

    Args:
        seed: Its seed.
        setup: Its policy, prompts and comparisons.
        looks: What was seen along each run, by arm.
    """

    seed: int
    setup: Setup
    looks: Mapping[str, Looks]

    @property
    def scale(self) -> float:
        """Standard deviation of gold within a prompt, over the initial policy's samples."""
        return float(self.setup.gold.std(axis=1).mean())


def run_policies(scale: Scale, arms: PolicyArms, *, progress: bool = False) -> list[PolicyWorld]:
    """Carry out every arm of every world; what an earlier run has done is read."""
    jobs = [(seed, name) for seed in scale.seeds for name in arms(scale, seed)]
    if scale.workers > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(scale.workers, mp_context=context, initializer=single_threaded) as pool:
            # A world's first run prepares what its others share.
            for part in _in_turns(jobs):
                waiting = [pool.submit(_fill, scale, arms, *job) for job in part]
                for done in tqdm(as_completed(waiting), total=len(waiting), desc="runs", disable=not progress):
                    done.result()
    return [_world(scale, arms, seed) for seed in tqdm(scale.seeds, desc="worlds", disable=not progress, leave=False)]


def _in_turns(jobs: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    first = {seed: name for seed, name in reversed(jobs)}
    early = list(first.items())
    return [early, [job for job in jobs if job not in early]]


def _fill(scale: Scale, arms: PolicyArms, seed: int, name: str) -> None:
    run_policy(set_up(scale.plan(seed), folder=scale.folder), arms(scale, seed)[name], folder=scale.folder)


def _world(scale: Scale, arms: PolicyArms, seed: int) -> PolicyWorld:
    setup = set_up(scale.plan(seed), folder=scale.folder)
    looks = {name: run_policy(setup, run, folder=scale.folder) for name, run in arms(scale, seed).items()}
    return PolicyWorld(seed=seed, setup=setup, looks=looks)


def kl_path(looks: Looks) -> Float[Array, " looks"]:
    """Mean sequence KL to the start at each look, nats; never below what it was before, as noise would have it."""
    path: Float[Array, " looks"] = np.maximum.accumulate(np.maximum(looks.kl.mean(axis=(1, 2)), 0.0))
    return path


def at_kl(looks: Looks, kl: float, *, what: str = "gold") -> float:
    """A mean over watched responses where the run first reaches a KL, between looks by straight lines in sqrt(KL).

    Args:
        looks: The run.
        kl: Nats.
        what: Which of the run's arrays.

    Returns:
        The mean, or NaN where the run never gets so far.
    """
    return float(weights_at(looks, kl) @ getattr(looks, what).astype(float).mean(axis=(1, 2)))


def prompts_at(looks: Looks, kl: Sequence[float], *, what: str = "gold") -> Float[Array, "prompts kls"]:
    """`at_kl` of each watched prompt on its own, at several KLs; NaN where the run never gets so far."""
    weights = np.stack([weights_at(looks, one) for one in kl])
    return np.asarray((weights @ getattr(looks, what).astype(float).mean(axis=2)).T)


def weights_at(looks: Looks, kl: float) -> Float[Array, " looks"]:
    """Weight of each look in what is read off where the run first reaches a KL; NaN where it never does."""
    path, d = np.sqrt(kl_path(looks)), kl**0.5
    if path[-1] < d:
        return np.full(len(path), np.nan)
    weights, after = np.zeros(len(path)), int(np.argmax(path >= d))
    weights[after] = 1.0
    if after > 0:
        share = (d - path[after - 1]) / (path[after] - path[after - 1])
        weights[after - 1 : after + 1] = 1 - share, share
    return weights


def reach(looks: Looks) -> float:
    """The largest KL that a run gets to, nats."""
    return float(kl_path(looks)[-1])


def gold_gain(world: PolicyWorld, arm: str, kl: float) -> float:
    """Gold at a KL above the start's, in standard deviations of gold within a prompt."""
    looks = world.looks[arm]
    return (at_kl(looks, kl) - float(looks.gold[0].mean())) / world.scale


def peak_of(world: PolicyWorld, arm: str) -> tuple[float, float]:
    """Highest mean gold along a run, above the start's in standard deviations, and the KL where it is.

    The highest of noisy looks is too high on average; differences between arms looked at equally often are not.
    """
    looks = world.looks[arm]
    gold = (looks.gold.mean(axis=(1, 2)) - looks.gold[0].mean()) / world.scale
    best = int(gold.argmax())
    return float(gold[best]), float(kl_path(looks)[best])


def final_of(world: PolicyWorld, arm: str) -> float:
    """Gold at the last look, above the start's in standard deviations."""
    looks = world.looks[arm]
    return float((looks.gold[-1].mean() - looks.gold[0].mean()) / world.scale)


def difference_at(worlds: Sequence[PolicyWorld], one: str, other: str, kl: float) -> Estimate | None:
    """Gold of one arm minus another at equal KL, over worlds in which both get so far; None for fewer than two."""
    found = [gold_gain(world, one, kl) - gold_gain(world, other, kl) for world in worlds]
    known = [value for value in found if np.isfinite(value)]
    return over_worlds(known) if len(known) >= 2 else None


def shared_kls(worlds: Sequence[PolicyWorld], arms: Sequence[str]) -> tuple[float, ...]:
    """Those of KL_GRID that these arms reach in every world; it may be none."""
    least = min(reach(world.looks[arm]) for world in worlds for arm in arms)
    return tuple(kl for kl in KL_GRID if kl <= least)


def paired_at(
    worlds: Sequence[PolicyWorld],
    one: str,
    other: str,
    *,
    kls: Sequence[float],
    read: Callable[[PolicyWorld, str, float], float] = gold_gain,
) -> Estimate:
    """One arm minus another at equal KL, mean over several KLs, over worlds.

    Args:
        worlds: What was run.
        one: An arm.
        other: What it is compared with.
        kls: Nats; a world in which either arm does not reach all of them is left out. None of them, no estimate.
        read: What is compared, from a world, an arm and a KL.
    """
    if not kls:
        return over_known([])
    return over_known(
        [float(np.mean([read(world, one, kl) - read(world, other, kl) for kl in kls])) for world in worlds]
    )


def over_known(values: Sequence[float]) -> Estimate:
    """Mean over the worlds in which something is defined, with an interval over these."""
    known = [value for value in values if np.isfinite(value)]
    return over_worlds(known) if known else Estimate(np.nan, np.nan, np.nan, 0)


def judge_equal(effect: Estimate, *, margin: float) -> Verdict:
    """What an interval says of a claim that something makes no difference.

    Args:
        effect: The difference.
        margin: Differences up to this size count as none.

    Returns:
        `reproduced` where the interval lies within the margin, `contradicted` where it excludes 0 and leaves the
        margin, otherwise `not at this scale`.
    """
    if -margin <= effect.low and effect.high <= margin:
        return "reproduced"
    return "contradicted" if effect.low > 0 or effect.high < 0 else "not at this scale"
